"""Makes the owner report for 50 owners on a generated lake in two processes, as the DAG does. The ratio is the time taken to the limit.

Run: .venv/bin/python -m benchmarks.owner_reports --flows 2000000. The limit is five minutes on a lake of 100 M flows. The lake is compacted
and rolled up first, as the DAGs leave it; `--lake` names one that benchmarks.generate made with --maintained.
"""

from __future__ import annotations

import argparse
import datetime as dt
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

from benchmarks import generate
from pipelines.evidence.reports import scheduling
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.lake.tables import Lake
from warehouse.questions.count_questions import namespaces
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import FLOWS

OWNERS, LIMIT_SECONDS, LIMIT_FLOWS = 50, 300.0, 100_000_000
WINDOW = dt.timedelta(days=3)


def main() -> None:
    """Make the reports and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=2_000_000)
    parser.add_argument("--lake", type=Path, help="A lake made by benchmarks.generate --maintained, instead of a new one.")
    parser.add_argument("--owners", type=int, default=OWNERS, help="For how many owners reports are made; the ratio is for 50.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = given.lake or Path(folder) / "lake"
        if given.lake is None:
            generate.fill(place, given.flows)
            generate.maintained(place)
        measure(place, given.owners)


def measure(place: Path, owners: int) -> None:
    """Make a report for each owner of a namespace, from the busiest to the quietest, and print the ratio."""
    lake = Lake.open(config.Lake(url=str(place)))
    flows = lake.rows(FLOWS)
    wanted = FlowFilter(since=generate.SINCE, until=generate.SINCE + dt.timedelta(days=7))
    counts: dict[str, int] = {}
    for row in Door(lake, config.Ownership()).answer(OPERATOR, namespaces(wanted, buckets=1)).rows.to_pylist():
        counts[row["namespace"]] = counts.get(row["namespace"], 0) + row["flows"]
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    owned = ordered[:: max(1, len(ordered) // owners)][:owners]
    schedule = config.Schedule(name="benchmark", report="owner", cron="0 6 * * 1", window=WINDOW, subjects=tuple(owned))
    grants = tuple(config.Grant(subject=name, role="namespace-owner", namespaces=(name,)) for name in owned)
    settings = config.Config(
        lake=config.Lake(url=str(place)), ownership=config.Ownership(grants=grants), reports=config.Reports(schedules=(schedule,))
    )
    work = [(settings, schedule, batch) for batch in scheduling.batches(owned)]
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        seconds = pool.starmap(_reports, work, chunksize=1)
    took = time.monotonic() - began
    print(
        f"{len(owned)} owner reports of {WINDOW.days} days, and the {WINDOW.days} before, on {flows:,} flows: {took:.1f} s, "
        f"{sum(seconds) / len(owned):.2f} s of CPU each; load {os.getloadavg()[0]:.1f}"
    )
    ratio = took / len(owned) * OWNERS / LIMIT_SECONDS
    print(f"{ratio:.2f} of the limit of {LIMIT_SECONDS:g} s for {OWNERS} owners on {LIMIT_FLOWS // 1_000_000} M flows")


def _reports(settings: config.Config, schedule: config.Schedule, owners: list[str]) -> float:
    """Make the reports of a batch, as one task of the DAG does; return the CPU seconds."""
    scheduling.run_batch(settings, schedule, owners, at=generate.SINCE + dt.timedelta(days=7))
    return time.process_time()


if __name__ == "__main__":
    main()
