"""The cost and gain of compaction: CPU and memory for hour files and for closed days, and bytes per flow of each.

Run: .venv/bin/python -m benchmarks.compaction --lake DIR, with a lake made by benchmarks.generate. It is not changed: its
files are linked into DIR-compacted, which benchmarks.questions then reads. Uses one core: pyarrow's threads are off. Ratios are
to the goals (CPU as flows per second and core) and to the fresh files.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import resource
import shutil
import sys
import time
from pathlib import Path

import pyarrow as pa

from benchmarks import units
from pipelines.maintenance.compaction import compact, plan, plan_days
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

GOAL_BYTES = {"hours": 50.0, "days": 35.0}
GOAL_SPEED = {"hours": 120_000, "days": 100_000}
GOAL_MEMORY = 2e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path, required=True)
    given = parser.parse_args()
    copy = given.lake.with_name(given.lake.name + "-compacted")
    if copy.exists():
        sys.exit(f"{copy} exists")
    shutil.copytree(given.lake, copy, copy_function=os.link)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    lake = Lake.open(config.Lake(url=str(copy)))
    newest = lake.span(FLOWS)[1]
    assert newest is not None
    now = newest + dt.timedelta(hours=1)  # so that the newest day consists of hour files, as it would in practice
    rows, fresh = lake.rows(FLOWS), lake.size(FLOWS)
    print(f"{rows:,} flows; fresh: {fresh[1]:,} files, {fresh[0] / rows:.1f} bytes a flow", flush=True)
    total: dict[str, list[float]] = {"hours": [0.0, 0.0, 0.0], "days": [0.0, 0.0, 0.0]}
    for cluster in sorted({file.partition["cluster"] for file in lake.contents(FLOWS)}):
        for unit, due in (("hours", plan), ("days", plan_days)):
            tasks = due(lake, now=now, clusters=frozenset([cluster]))
            began = time.process_time()
            done = [one for task in tasks if (one := compact(lake, task))]
            spent = time.process_time() - began
            flows, size = sum(task.rows for task in tasks), sum(one.bytes_after for one in done)
            total[unit] = [sum(pair) for pair in zip(total[unit], (flows, size, spent), strict=True)]
            print(f"{cluster} {unit}: {size / flows:.1f} bytes a flow, {spent / flows * 1e6:.1f} us CPU a flow", flush=True)
    for unit, (moved, bytes_after, seconds) in total.items():
        each, speed = bytes_after / moved, moved / seconds
        print(
            f"{unit}: {each:.1f} bytes a flow: {each / GOAL_BYTES[unit]:.2f} of the goal, {fresh[0] / rows / each:.1f} x smaller than fresh"
        )
        print(f"{unit}: {speed:,.0f} flows/s a core: {speed / GOAL_SPEED[unit]:.2f} of the goal")
    basis = f"{rows:,} simulated flows of 5 clusters"
    units.note("day_bytes_per_flow", total["days"][1] / total["days"][0], "bytes", f"{basis}, closed days in their final layout")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    both = sum(seconds / moved for moved, _, seconds in total.values()) * 1e6
    units.note("compaction_cpu_us_per_flow", both, "us of CPU", f"{basis}, into hours and then into days")
    print(f"both: {both:.1f} us CPU a flow; greatest memory {peak / 1e6:,.0f} MB, {peak / GOAL_MEMORY:.2f} of the limit")


if __name__ == "__main__":
    main()
