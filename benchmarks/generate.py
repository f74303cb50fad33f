"""Generates a lake of simulated flows for benchmarks, as collectors leave it: 5 clusters, 200 namespaces, 7 days, skewed.

Run: .venv/bin/python -m benchmarks.generate --flows 100000000 --out DIR. Two processes, one cluster after another. The ratio is
the time taken to the limit: ten minutes for 100 M flows.
"""

from __future__ import annotations

import argparse
import datetime as dt
import multiprocessing
import sys
import time
from pathlib import Path

from collectors.simulator.bulk import Plan, generate
from pipelines.maintenance import compaction, rollup, upkeep
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

LIMIT_SECONDS, LIMIT_FLOWS = 600.0, 100_000_000
SINCE = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)


def main() -> None:
    """Generate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=2_000_000)
    parser.add_argument("--out", type=Path, required=True, help="The lake's folder, which must not exist yet.")
    parser.add_argument("--rows-per-file", type=int, default=20_000)
    parser.add_argument("--maintained", action="store_true", help="Then compact and roll up, as the DAGs leave a lake.")
    given = parser.parse_args()
    if given.out.exists():
        sys.exit(f"{given.out} exists")
    print(f"{fill(given.out, given.flows, given.rows_per_file):.2f} of the limit of ten minutes for 100 M flows")
    if given.maintained:
        maintained(given.out)


def fill(folder: Path, flows: int, rows_per_file: int = 20_000) -> float:
    """Generate the lake; return the ratio of the time taken to the limit, in proportion to the flows."""
    plan = Plan(flows=flows, since=SINCE)
    lake = Lake.open(config.Lake(url=str(folder)))
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        work = [(str(folder), plan, cluster, rows_per_file) for cluster in plan.clusters]
        made, seconds = zip(*pool.imap_unordered(_cluster, work, chunksize=1), strict=True)
    took = time.monotonic() - began
    size, files = lake.size(FLOWS)
    cost = sum(seconds) / sum(made) * 1e6
    print(f"{sum(made):,} flows in {files:,} files, {size / sum(made):.1f} bytes a flow; {took:.0f} s, {cost:.1f} us CPU a flow")
    return took / LIMIT_SECONDS * LIMIT_FLOWS / sum(made)


def maintained(folder: Path) -> None:
    """Compact and roll up a lake, in two processes, as the DAGs leave it once all its days are closed."""
    lake = Lake.open(config.Lake(url=str(folder)))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_maintained, [(str(folder), cluster) for cluster in lake.clusters(FLOWS)], chunksize=1)
    upkeep.checkpoint(lake)


def _maintained(work: tuple[str, str]) -> None:
    folder, cluster = work
    lake, closed = Lake.open(config.Lake(url=folder)), SINCE + dt.timedelta(days=30)
    compaction.compact_closed_hours(lake, now=closed, clusters=frozenset([cluster]))
    rollup.roll_up_closed_hours(lake, config.Rollups(), now=closed, clusters=frozenset([cluster]))


def compacted(folder: Path, flows: int) -> Path:
    """Make a lake of so many flows, and compact it as it is once all its days are closed; return its folder."""
    fill(folder, flows)
    compaction.compact_closed_hours(Lake.open(config.Lake(url=str(folder))), now=SINCE + dt.timedelta(days=30))
    return folder


def _cluster(work: tuple[str, Plan, str, int]) -> tuple[int, float]:
    folder, plan, cluster, rows_per_file = work
    began = time.process_time()
    made = generate(Lake.open(config.Lake(url=folder)), plan, cluster, rows_per_file=rows_per_file)
    return made, time.process_time() - began


if __name__ == "__main__":
    main()
