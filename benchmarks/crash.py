"""Crash test of maintenance: jobs are killed at random moments while a writer appends 10 files a second and a reader checks sums.

Run: .venv/bin/python -m benchmarks.crash [MOMENTS] [VICTIM ...] [--store s3]. With `--store s3` the lake is in a bucket of a server that
is killed and started again at random moments; jobs, appends and reads may then fail, and appends are repeated. Exit code 1 if a flow is
lost or duplicated, a reader fails or sees half a commit, or the lake is not in its final state after one undisturbed run. VICTIMS lists
what can be killed.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from benchmarks.bucket import Bucket, bucket
from pipelines.maintenance import merging
from pipelines.maintenance.compaction import plan, plan_days
from warehouse import config
from warehouse.errors import HindcastError
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS, TIMELINE_1M

EACH = 20
VISIBLE_SECONDS = 1.5
"""Another handle on a lake in object storage sees a commit within a second (`Lake`); the reader waits longer before it reads."""
SOURCES = ("shop", "bank", None)
START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS, HOURS = 3, 24


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A job to kill: statements that run it once, and the condition the lake must meet after an undisturbed run."""

    statements: str
    is_done: Callable[[Lake], bool]


def _nothing_due(lake: Lake) -> bool:
    return not plan(lake, now=datetime.now(UTC)) and not plan_days(lake, now=datetime.now(UTC))


VICTIMS: Mapping[str, Victim] = {
    "compact": Victim(
        statements="""
            from pipelines.maintenance.compaction import compact_closed_hours
            compact_closed_hours(lake, now=datetime.now(UTC))
        """,
        is_done=_nothing_due,
    ),
    "merge": Victim(  # treats the hours that are written to as still open
        statements="""
            from pipelines.maintenance.merging import merge
            for hour in range(72):
                merge(lake, now=datetime(2026, 3, 2, 0, 59, tzinfo=UTC) + timedelta(hours=hour))
        """,
        is_done=lambda lake: all(not merging.plan(lake, FLOWS, now=START + timedelta(hours=hour, minutes=59)) for hour in range(72)),
    ),
    "rollup": Victim(
        statements="""
            from pipelines.maintenance.rollup import roll_up_closed_hours
            roll_up_closed_hours(lake, config.Rollups(), now=datetime.now(UTC))
        """,
        is_done=lambda lake: _summed_up(lake) == lake.rows(FLOWS),
    ),
}
PROGRAM = """
    import sys
    from datetime import UTC, datetime, timedelta
    from warehouse import config
    from warehouse.lake.tables import Lake
    import pipelines.maintenance.compaction, pipelines.maintenance.rollup

    lake = Lake.open(config.Lake.model_validate_json(sys.argv[1]))
    print("ready", flush=True)
"""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("moments", nargs="?", type=int, default=30)
    parser.add_argument("victims", nargs="*", default=list(VICTIMS), help=", ".join(VICTIMS))
    parser.add_argument("--store", choices=["disk", "s3"], default="disk")
    given = parser.parse_args()
    failed = False
    for name in given.victims:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            store = stack.enter_context(bucket(Path(folder))) if given.store == "s3" else None
            settings = store.settings() if store else config.Lake(url=f"{folder}/lake")
            problems, summary = Crash(settings, VICTIMS[name], store).run(given.moments)
        failed |= bool(problems)
        print(f"{name}: {summary}; {len(problems)} problems", flush=True)
        for problem in problems[:10]:
            print(f"  {problem}")
    sys.exit(failed)


class Crash:
    """One lake, a writer, a reader, and the job that is killed repeatedly."""

    def __init__(self, settings: config.Lake, victim: Victim, store: Bucket | None) -> None:
        self._settings, self._victim, self._store = settings, victim, store
        self._lake = Lake.open(settings)
        self._stop = threading.Event()
        self._appended = self._reads = 0
        self._problems: list[str] = []

    def run(self, moments: int) -> tuple[list[str], str]:
        """Kill the job this many times; return the problems found, and a line about the run."""
        threads = [threading.Thread(target=work) for work in (self._write, self._read)]
        for thread in threads:
            thread.start()
        chance, died = random.Random(time.time_ns()), 0
        began = time.monotonic()
        try:
            usual = self._once(None) or 0.0
            with self._store.failing() if self._store else contextlib.nullcontext():
                for _ in range(moments):
                    died += self._once(chance.uniform(0, max(1.0, usual))) is not None
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        seconds = time.monotonic() - began
        self._once(None)
        self._check("after all")
        if not self._victim.is_done(self._lake):
            self._problems.append("not done after an undisturbed run")
        files = self._appended / seconds
        outages = f", {self._store.outages} outages of the store" if self._store else ""
        done = f"{files:.1f} files/s appended, {self._reads} reads"
        return self._problems, f"killed at {moments} moments, {died} of them at work{outages}; {done}"

    def _once(self, kill_after: float | None) -> float | None:
        """Run the job; return its seconds until it finished or was killed, or None if it failed earlier."""
        program = textwrap.dedent(PROGRAM) + textwrap.dedent(self._victim.statements) + '\nprint("done", flush=True)\n'
        with subprocess.Popen(
            [sys.executable, "-c", program, self._settings.model_dump_json()], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            began = time.monotonic()
            if kill_after is None:
                if process.stdout.readline().strip() != "done":
                    self._problems.append("it failed without being killed")
                return time.monotonic() - began
            time.sleep(kill_after)
            process.kill()
            return None if "done" in process.stdout.read() else kill_after

    def _write(self) -> None:
        """Append a file every 100 ms, each of one closed hour, including hours that are already compacted and rolled up."""
        chance = random.Random(1)
        while not self._stop.is_set():
            due = time.monotonic() + 0.1
            at = START + timedelta(days=chance.randrange(DAYS), hours=chance.randrange(HOURS), seconds=chance.randrange(3_000))
            rows, number = _rows(self._appended, at), self._appended + 1
            try:
                if (self._lake.transaction_version(FLOWS, "writer") or 0) < number:
                    self._lake.commit(FLOWS, self._lake.write_files(FLOWS, rows), transactions={"writer": number}, metadata={})
                self._appended += 1
            except HindcastError as error:
                if self._store is None:
                    self._problems.append(f"an append failed: {error}")
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _read(self) -> None:
        lake = Lake.open(self._settings)
        before = 0
        while not self._stop.is_set():
            before = self._check("while it ran", lake, before)

    def _check(self, when: str, lake: Lake | None = None, before: int = 0) -> int:
        """Check that every append is complete, present once, and never disappears; return the number of files."""
        known = self._appended
        if self._store is not None and lake is not None:
            time.sleep(VISIBLE_SECONDS)
        try:
            uuids = (lake or self._lake).read(FLOWS, ["uuid"])["uuid"].to_pylist()
        except HindcastError as error:
            if self._store is None or lake is None:
                self._problems.append(f"a read failed {when}: {error}")
            return before
        self._reads += 1
        distinct, whole = len(set(uuids)), len(uuids) // EACH
        if distinct != len(uuids) or len(uuids) % EACH or whole < max(before, known):
            self._problems.append(f"{when}: {len(uuids)} flows, {distinct} distinct, of {known} files of {EACH}; {before} files before")
        return whole


def _rows(number: int, at: datetime) -> pa.Table:
    """Return a file's flows."""
    rows = [
        {
            "cluster": "c1", "date": at.date(), "time": at + timedelta(seconds=place), "uuid": f"{number}-{place}", "flow_count": 1,
            "verdict": "FORWARDED", "source_namespace": SOURCES[place % 3], "destination_namespace": SOURCES[place % 2],
            "source_labels": [f"k8s:app={place % 4}"], "node_name": "c1/n1", "recorded_lag_ms": 1,
        }
        for place in range(EACH)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=FLOWS.schema)


def _summed_up(lake: Lake) -> int:
    """Return the number of flows in the rollup of minutes."""
    return int(sum(lake.read(TIMELINE_1M, ["flows"])["flows"].to_pylist()))


if __name__ == "__main__":
    main()
