"""Makes the owner report for 50 owners on a generated lake, two at a time. The ratio is the time taken to the limit.

Run: .venv/bin/python -m benchmarks.owner_reports --flows 2000000. The limit is five minutes on a lake of 100 M flows. The lake is compacted
first, as the DAG lake_daily leaves it; `--lake` names one that benchmarks.generate made.
"""

from __future__ import annotations

import argparse
import datetime as dt
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import generate
from pipelines.evidence.reports import making, subjects
from pipelines.evidence.reports.asked import ReportOf
from pipelines.maintenance import compaction
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.lake.tables import Lake
from warehouse.questions.count_questions import namespaces
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter

OWNERS, LIMIT_SECONDS, LIMIT_FLOWS = 50, 300.0, 100_000_000
WINDOW = dt.timedelta(days=3)
FORMATS = ("html", "csv", "json")


def main() -> None:
    """Make the reports and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flows", type=int, default=2_000_000)
    parser.add_argument("--lake", type=Path, help="A lake made by benchmarks.generate, instead of a new one.")
    parser.add_argument("--owners", type=int, default=OWNERS, help="For how many owners reports are made; the ratio is for 50.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = given.lake or Path(folder) / "lake"
        if given.lake is None:
            generate.fill(place, given.flows)
            compaction.compact_closed_hours(Lake.open(config.Lake(url=str(place))), now=generate.SINCE + dt.timedelta(days=9))
        measure(place, given.owners)


def measure(place: Path, owners: int) -> None:
    """Make a report for each owner of a namespace, from the busiest to the quietest, and print the ratio."""
    lake = Lake.open(config.Lake(url=str(place)))
    flows = lake.rows(generate.FLOWS)
    wanted = FlowFilter(since=generate.SINCE, until=generate.SINCE + dt.timedelta(days=7))
    counts: dict[str, int] = {}
    for row in Door(lake, config.Ownership()).answer(OPERATOR, namespaces(wanted, buckets=1)).rows.to_pylist():
        counts[row["namespace"]] = counts.get(row["namespace"], 0) + row["flows"]
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    owned = ordered[:: max(1, len(ordered) // owners)][:owners]
    began = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        seconds = list(pool.imap_unordered(_report, [(str(place), name) for name in owned], chunksize=1))
    took = time.monotonic() - began
    print(
        f"{len(owned)} owner reports of {WINDOW.days} days, and the {WINDOW.days} before, on {flows:,} flows: {took:.1f} s; each "
        f"{statistics.median(seconds):.1f} s in the middle, {max(seconds):.1f} s at most; load {os.getloadavg()[0]:.1f}"
    )
    ratio = took / len(owned) * OWNERS / LIMIT_SECONDS
    print(f"{ratio:.2f} of the limit of {LIMIT_SECONDS:g} s for {OWNERS} owners on {LIMIT_FLOWS // 1_000_000} M flows")


def _report(work: tuple[str, str]) -> float:
    folder, namespace = work
    began = time.monotonic()
    settings = config.Config(
        ownership=config.Ownership(grants=(config.Grant(subject="owner", role="namespace-owner", namespaces=(namespace,)),))
    )
    until = generate.SINCE + dt.timedelta(days=7)
    request = ReportOf(
        name="owner", since=until - WINDOW, until=until, known=dt.datetime.now(dt.UTC), subject=subjects.principal_of("owner")
    )
    making.make(settings, Lake.open(config.Lake(url=folder)), request, formats=FORMATS, stem="owner", by="benchmark")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
