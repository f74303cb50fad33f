"""How many commits a second the table of flows takes, from 1, 4 and 8 processes that append to it at once.

It is the limit of how many collectors can share a lake, since each flush is a commit, and commits to one table come one after the other.
Each commit adds a file for each of two clusters of the process's own. A commit that fails is printed and made again, as collectors do.
Ratios are to the commits that 100 collectors make (one each 10 s).
Run: .venv/bin/python -m benchmarks.commits [SECONDS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from benchmarks import stand, units
from warehouse import config
from warehouse.errors import LakeError
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

PROCESSES = (1, 4, 8)
WANTED = 10.0


def main() -> None:
    """Measure and print."""
    seconds = sys.argv[1] if len(sys.argv) > 1 else "20"
    rates = {}
    for processes in PROCESSES:
        with tempfile.TemporaryDirectory() as name:
            lake = Lake.open(config.Lake(url=f"{name}/lake"))
            go = Path(name, "go")
            command = [sys.executable, "-m", "benchmarks.commits", "append", f"{name}/lake", str(go), seconds]
            running = [subprocess.Popen([*command, str(number)], cwd=stand.ROOT) for number in range(processes)]
            stand.wait_for(lambda go=go, n=processes: len(list(go.parent.glob("ready-*"))) == n, seconds=600)  # type: ignore[misc]
            before = lake.version(FLOWS)
            go.touch()
            assert not any(process.wait() for process in running)
            rates[processes] = (lake.version(FLOWS) - before) / float(seconds)
            print(f"{processes} processes: {rates[processes]:.1f} commits/s, {rates[processes] / WANTED:.1f} times those of 100 collectors")
    units.note("commits_per_second", min(rates.values()), "commits/s", f"least of {PROCESSES} processes, one table, local disk")


def append(url: str, go: str, seconds: str, number: str) -> None:
    """Append as often as possible."""
    lake, clusters = Lake.open(config.Lake(url=url)), [f"c{number}-{part}" for part in "ab"]
    now = datetime.now(UTC)
    rows = pa.Table.from_pylist(
        [{"cluster": cluster, "date": now.date(), "time": now} for cluster in clusters for _ in range(10)], schema=FLOWS.schema
    )
    Path(go).with_name(f"ready-{number}").touch()
    stand.wait_for(Path(go).exists, seconds=600)
    end, sequence = time.monotonic() + float(seconds), 0
    while time.monotonic() < end:
        try:
            lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={f"bench:{number}": sequence + 1}, metadata={})
            sequence += 1
        except LakeError as error:
            print(f"a commit of process {number} failed: {error}", flush=True)


if __name__ == "__main__":
    append(*sys.argv[2:]) if sys.argv[1:2] == ["append"] else main()
