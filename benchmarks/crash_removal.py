"""Crash test of removals: retention, erasure and vacuum are killed at random moments beside a writer and a reader.

A writer appends 10 files a second; a reader sums up all the time. Run: .venv/bin/python -m benchmarks.crash_removal [MOMENTS]
[VICTIM]. Exit code 1 if a flow that should stay is lost or duplicated, a reader fails or sees half a commit, or rows that should
be removed are still present after one undisturbed run.
"""

from __future__ import annotations

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

from warehouse import config
from warehouse.errors import HindcastError
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

DAYS, EACH, BATCH, FILES = 6, 50, 20, 40
PROGRAM = """
    import sys
    from datetime import UTC, datetime, timedelta
    from pipelines.maintenance import erasure, retention, upkeep
    from warehouse import config
    from warehouse.lake.tables import Lake

    lake, now = Lake.open(config.Lake(url=sys.argv[1])), datetime.now(UTC)
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
    moments = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    victims = sys.argv[2:] or ["retain", "erase", "vacuum"]
    failed = False
    for victim in victims:
        with tempfile.TemporaryDirectory() as folder:
            problems, summary = Crash(folder, victim).run(moments)
        failed |= bool(problems)
        print(f"{victim}: {summary}; {len(problems)} problems")
        for problem in problems[:10]:
            print(f"  {problem}")
    sys.exit(failed)


class Crash:
    """One lake, a writer, a reader, and the job that is killed repeatedly."""

    def __init__(self, folder: str, victim: str) -> None:
        self._url, self._victim = f"{folder}/lake", victim
        self._lake = Lake.open(config.Lake(url=self._url))
        self._stop = threading.Event()
        self._batches = self._rounds = self._reads = 0
        self._problems: list[str] = []

    def run(self, moments: int) -> tuple[list[str], str]:
        """Kill the job this many times; return the problems found, and a line about the run."""
        threads = [threading.Thread(target=work) for work in (self._write, self._read)]
        for thread in threads:
            thread.start()
        killed_at_work = 0
        try:
            self._set_up()
            usual = self._once(None)
            for _ in range(moments):
                self._set_up()
                killed_at_work += self._once(random.Random(time.time_ns()).uniform(0, usual)) is not None
            self._once(None)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        self._check_end()
        summary = (
            f"killed at {moments} moments, {killed_at_work} of them at work of {usual:.2f} s, {self._batches} appends, {self._reads} reads"
        )
        return self._problems, summary

    def _once(self, kill_after: float | None) -> float | None:
        """Run the job; return its seconds until it finished or was killed, or None if it ended earlier."""
        command = [sys.executable, "-c", textwrap.dedent(PROGRAM), self._url, self._victim]
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
        now = datetime.now(UTC)
        written = [file for n in range(FILES) for file in self._lake.write_files(FLOWS, _rows("x", f"x{n}", 1, now, cluster="c2"))]
        self._lake.commit(FLOWS, written, transactions={}, metadata={})
        old = [file for file in self._lake.contents(FLOWS) if file.partition["cluster"] == "c2"]
        with mock.patch("time.time_ns", return_value=time.time_ns() - 7_200 * 10**9):
            self._lake.replace(FLOWS, old, self._lake.write_files(FLOWS, _rows("x", "x", 1, now, cluster="c2")), guard="compact:c2")
        for orphan in self._lake.write_files(FLOWS, _rows("lost", "lost", 1, now)):
            os.utime(Path(self._lake.address(FLOWS), orphan.path), (time.time() - 7_200,) * 2)

    def _write(self) -> None:
        while not self._stop.is_set():
            self._append(_rows("keep", f"keep-{self._batches}", BATCH, datetime.now(UTC)))
            self._batches += 1
            self._stop.wait(0.1)

    def _append(self, rows: pa.Table) -> None:
        try:
            self._lake.commit(FLOWS, self._lake.write_files(FLOWS, rows), transactions={}, metadata={})
        except HindcastError as error:
            self._problems.append(f"an append failed: {error}")

    def _read(self) -> None:
        """Check that each commit is complete: batches of 20, days of 50, no duplicates, and preserved rows never decrease."""
        lake, before = Lake.open(config.Lake(url=self._url)), Counter[str]()
        while not self._stop.is_set():
            try:
                rows = lake.read(FLOWS, ["uuid", "source_namespace"], clusters=["c1"])
            except HindcastError as error:
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
        lake = Lake.open(config.Lake(url=self._url))
        counts = Counter(lake.read(FLOWS, ["source_namespace"])["source_namespace"].to_pylist())
        expected: Counter[str] = Counter({"keep": self._batches * BATCH})
        if self._victim == "vacuum":
            expected["x"] = 1
            on_disk = {str(path.relative_to(lake.address(FLOWS))) for path in Path(lake.address(FLOWS)).rglob("cluster=*/**/*.parquet")}
            left = on_disk - {file.path for file in lake.contents(FLOWS)}
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
