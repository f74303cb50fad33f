"""Crash test of removals: retention, erasure and vacuum are killed at random moments beside a writer and a reader.

A writer appends 10 files a second; a reader sums up all the time. Run: .venv/bin/python -m benchmarks.crash_removal [MOMENTS]
[VICTIM ...] [--store s3]. With `--store s3` the lake is in a bucket of a server that is killed and started again at random moments;
jobs, appends and reads may then fail, and appends are repeated. Exit code 1 if a flow that should stay is lost or duplicated, a reader
fails or sees half a commit, or rows that should be removed are still present after one undisturbed run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pyarrow as pa

from benchmarks.bucket import Bucket, bucket
from warehouse import config
from warehouse.errors import HindcastError
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

DAYS, EACH, BATCH, FILES = 6, 50, 20, 40
VICTIMS = ("retain", "erase", "vacuum")
PROGRAM = """
    import sys
    from datetime import UTC, datetime, timedelta
    from pipelines.maintenance import erasure, retention, upkeep
    from warehouse import config
    from warehouse.lake.tables import Lake

    lake, now = Lake.open(config.Lake.model_validate_json(sys.argv[1])), datetime.now(UTC)
    settings = config.Retention(flows=timedelta(days=300), overrides=[config.RetentionOverride(namespace="lab", flows=timedelta(days=1))])
    print("ready", flush=True)
    if sys.argv[2] == "retain":
        retention.retain(lake, settings, now=now)
    elif sys.argv[2] == "erase":
        erasure.erase(lake, erasure.Request(cluster="c1", namespace="lab", reason="test"), (), now=now)
    else:
        upkeep.vacuum(lake, older_than=timedelta(hours=1))
    print("done", flush=True)
"""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("moments", nargs="?", type=int, default=30)
    parser.add_argument("victims", nargs="*", default=list(VICTIMS), help=", ".join(VICTIMS))
    parser.add_argument("--store", choices=["disk", "s3"], default="disk")
    given = parser.parse_args()
    failed = False
    for victim in given.victims:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            store = stack.enter_context(bucket(Path(folder))) if given.store == "s3" else None
            settings = store.settings() if store else config.Lake(url=f"{folder}/lake")
            files = Path(folder, "objects", "bucket", "lake") if store else Path(folder, "lake")
            problems, summary = Crash(settings, files, victim, store).run(given.moments)
        failed |= bool(problems)
        print(f"{victim}: {summary}; {len(problems)} problems", flush=True)
        for problem in problems[:10]:
            print(f"  {problem}")
    sys.exit(failed)


class Crash:
    """One lake, a writer, a reader, and the job that is killed repeatedly."""

    def __init__(self, settings: config.Lake, files: Path, victim: str, store: Bucket | None) -> None:
        """`files` is the folder on this machine's disk where the lake's files end up."""
        self._settings, self._files, self._victim, self._store = settings, files / FLOWS.name, victim, store
        self._lake = Lake.open(settings)
        self._stop = threading.Event()
        self._appending = threading.Lock()
        self._appends = self._batches = self._rounds = self._reads = 0
        self._problems: list[str] = []
        self._to_vacuum: set[str] = set()
        """The files that vacuum must have deleted in the end."""

    def run(self, moments: int) -> tuple[list[str], str]:
        """Kill the job this many times; return the problems found, and a line about the run."""
        threads = [threading.Thread(target=work) for work in (self._write, self._read)]
        for thread in threads:
            thread.start()
        killed_at_work = 0
        try:
            self._set_up()
            usual = self._once(None) or 0.0
            with self._store.failing() if self._store else contextlib.nullcontext():
                for _ in range(moments):
                    self._set_up()
                    killed_at_work += self._once(random.Random(time.time_ns()).uniform(0, usual)) is not None
            self._once(None)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        self._check_end()
        outages = f", {self._store.outages} outages of the store" if self._store else ""
        killed = f"killed at {moments} moments, {killed_at_work} of them at work of {usual:.2f} s{outages}"
        return self._problems, f"{killed}, {self._batches} appends, {self._reads} reads"

    def _once(self, kill_after: float | None) -> float | None:
        """Run the job; return its seconds until it finished or was killed, or None if it ended earlier."""
        command = [sys.executable, "-c", textwrap.dedent(PROGRAM), self._settings.model_dump_json(), self._victim]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            began = time.monotonic()
            if kill_after is None:
                if process.stdout.readline().strip() != "done":
                    self._problems.append(f"{self._victim} failed without being killed")
                return time.monotonic() - began
            time.sleep(kill_after)
            process.kill()
            return None if "done" in process.stdout.read() else kill_after

    def _set_up(self) -> None:
        """Add work: old days with rows to remove and rows to preserve, and files that left the table two hours ago."""
        self._rounds += 1
        if self._victim != "vacuum":
            parts = []
            for day in range(DAYS):
                at = datetime.now(UTC) - timedelta(days=5 + day)
                parts += [_rows("lab", f"lab-{self._rounds}-{day}", EACH, at), _rows("shop", f"shop-{self._rounds}-{day}", EACH, at)]
            self._append(pa.concat_tables(parts))
            return
        while not self._has_replaced_files():
            self._stop.wait(0.5)

    def _has_replaced_files(self) -> bool:
        """Commit files and replace them as of two hours ago, and leave a file that no commit has; False if the store was away."""
        now = datetime.now(UTC)
        try:
            written = [file for n in range(FILES) for file in self._lake.write_files(FLOWS, _rows("x", f"x{n}", 1, now, cluster="c2"))]
            self._lake.commit(FLOWS, written, transactions={}, metadata={})
            old = [file for file in self._lake.contents(FLOWS) if file.partition["cluster"] == "c2"]
            with mock.patch("time.time_ns", return_value=time.time_ns() - 7_200 * 10**9):
                self._lake.replace(FLOWS, old, self._lake.write_files(FLOWS, _rows("x", "x", 1, now, cluster="c2")), guard="compact:c2")
            self._to_vacuum |= {file.path for file in old}
            for orphan in self._lake.write_files(FLOWS, _rows("lost", "lost", 1, now)):
                os.utime(self._files / orphan.path, (time.time() - 7_200,) * 2)
                self._to_vacuum.add(orphan.path)
        except HindcastError as error:
            if self._store is None:
                self._problems.append(f"an append failed: {error}")
            return self._store is None
        return True

    def _write(self) -> None:
        while not self._stop.is_set():
            self._append(_rows("keep", f"keep-{self._batches}", BATCH, datetime.now(UTC)))
            self._batches += 1
            self._stop.wait(0.1)

    def _append(self, rows: pa.Table) -> None:
        """Append rows once; while a store is away it is tried again, and the number of the append prevents that they are stored twice."""
        with self._appending:
            self._appends += 1
            while True:
                try:
                    if (self._lake.transaction_version(FLOWS, "writer") or 0) < self._appends:
                        written = self._lake.write_files(FLOWS, rows)
                        self._lake.commit(FLOWS, written, transactions={"writer": self._appends}, metadata={})
                    return
                except HindcastError as error:
                    if self._store is None:
                        self._problems.append(f"an append failed: {error}")
                        return
                    time.sleep(0.2)

    def _read(self) -> None:
        """Check that each commit is complete: batches of 20, days of 50, no duplicates, and preserved rows never decrease."""
        lake, before = Lake.open(self._settings), Counter[str]()
        while not self._stop.is_set():
            try:
                rows = lake.read(FLOWS, ["uuid", "source_namespace"], clusters=["c1"])
            except HindcastError as error:
                if self._store is None:
                    self._problems.append(f"a read failed: {error}")
                continue
            self._reads += 1
            self._check(rows, before)

    def _check(self, rows: pa.Table, before: Counter[str]) -> None:
        uuids: list[str] = rows["uuid"].to_pylist()
        counts = Counter(rows["source_namespace"].to_pylist())
        if len(uuids) != len(set(uuids)):
            self._problems.append(f"{len(uuids) - len(set(uuids))} flows twice")
        wrong = counts["keep"] % BATCH or counts["lab"] % EACH or counts["shop"] % (DAYS * EACH) or counts["lost"]
        if wrong or counts["keep"] < before["keep"] or counts["shop"] < before["shop"]:
            self._problems.append(f"half a commit: {dict(counts)}, before {dict(before)}")
        before.update({name: counts[name] - before[name] for name in ("keep", "shop")})

    def _check_end(self) -> None:
        lake = Lake.open(self._settings)
        counts = Counter(lake.read(FLOWS, ["source_namespace"])["source_namespace"].to_pylist())
        expected: Counter[str] = Counter({"keep": self._batches * BATCH})
        if self._victim == "vacuum":
            expected["x"] = 1
            on_disk = {str(path.relative_to(self._files)) for path in self._files.rglob("cluster=*/**/*.parquet")}
            left = on_disk - {file.path for file in lake.contents(FLOWS)}
            if self._store is not None:
                left &= self._to_vacuum  # an append that fails while the store is away may leave files, which are too young for vacuum
            if left:
                self._problems.append(f"{len(left)} files are left on the disk")
        else:
            expected["shop"] = self._rounds * DAYS * EACH
        if counts != expected:
            self._problems.append(f"at the end {dict(counts)}, not {dict(expected)}")


def _rows(namespace: str, name: str, count: int, at: datetime, *, cluster: str = "c1") -> pa.Table:
    row = {"cluster": cluster, "date": at.date(), "time": at, "source_namespace": namespace, "verdict": "FORWARDED", "flow_count": 1}
    return pa.Table.from_pylist([row | {"uuid": f"{name}-{number}"} for number in range(count)], schema=FLOWS.schema)


if __name__ == "__main__":
    main()
