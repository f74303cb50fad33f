"""Freshness at 5,000 flows/s: the age of a flow when SQL first sees it, p50 and p99, beside the limit of 15 s, and what a flush takes.

Run: .venv/bin/python -m benchmarks.freshness [SECONDS] [--store s3] [--flush-every 10s]. Two real Cilium nodes, the default flush of 10 s;
with `--store s3` the lake is in a bucket. A flush is from the end of a batch to the end of its commit, with rows of the ledger.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from benchmarks import stand
from benchmarks.bucket import bucket
from collectors.streaming import metrics
from warehouse import config
from warehouse.access import access_log
from warehouse.access.principals import OPERATOR
from warehouse.engine import Limits
from warehouse.lake.tables import Lake
from warehouse.questions import flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter

RATE = 5_000
LIMIT_SECONDS = 15.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=60.0)
    parser.add_argument("--store", choices=["disk", "s3"], default="disk")
    parser.add_argument("--flush-every", default="10s")
    given = parser.parse_args()
    running: Any = stand.peers()
    ages: list[np.ndarray[Any, Any]] = []
    flushes: list[float] = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        nodes = [stack.enter_context(running.hubble_node(folder, name=f"test/node-{n}", rate=RATE / 2, ring=65_535)) for n in range(2)]
        lake = stack.enter_context(bucket(folder)).settings() if given.store == "s3" else None
        wanted = stand.settings(folder, {"bench": [node.address for node in nodes]}, lake=lake, flush_every=given.flush_every)
        door = Door(Lake.open(wanted.lake), config.Ownership())
        stack.enter_context(mock.patch.object(metrics, "flushed", lambda seconds, **_state: flushes.append(seconds)))
        with stand.collecting(wanted):
            began, newest = time.monotonic(), datetime.now(UTC)
            while time.monotonic() - began < given.seconds:
                time.sleep(0.5)
                window = FlowFilter(since=newest - timedelta(seconds=30), until=datetime.now(UTC) + timedelta(hours=1))
                rows = door.answer(OPERATOR, flow_questions.newest(window, columns=["time", "uuid"], limits=Limits(rows=1_000_000))).rows
                seen_at = time.time()
                times = rows["time"].cast(pa.int64()).to_numpy() / 1e6
                fresh = times[times > newest.timestamp()]
                if fresh.size:
                    ages.append(seen_at - fresh)
                    newest = datetime.fromtimestamp(float(fresh.max()), UTC)
        access_log.flush()
    all_ages = np.concatenate(ages)
    p50, p99 = np.percentile(all_ages, [50, 99])
    print(f"{all_ages.size:,} flows at {RATE:,} flows/s: visible to SQL after p50 {p50:.1f} s, p99 {p99:.1f} s")
    print(f"{len(flushes)} flushes: p50 {np.median(flushes):.2f} s, p99 {np.percentile(flushes, 99):.2f} s, longest {max(flushes):.2f} s")
    print(f"ratio to the limit of {LIMIT_SECONDS:g} s: {p99 / LIMIT_SECONDS:.2f}")


if __name__ == "__main__":
    main()
