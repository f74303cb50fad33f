"""Bytes per flow in fresh, uncompacted files, beside the JSON lines an exporter writes, plain and gzip, of the same flows.

Run: .venv/bin/python -m benchmarks.size. The simulator's traffic, flushed as a collector does: every 10 s.
"""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import tempfile

from google.protobuf import json_format

from benchmarks import units
from collectors.decoding.decode import decode
from collectors.hubble_api.observer import observer_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

FLOWS_PER_FLUSH = 10_000  # 1,000 flows/s
FLUSHES = 4
GOAL_BYTES = 110


def main() -> None:
    """Measure and print."""
    start = dt.datetime(2026, 3, 2, 14, tzinfo=dt.UTC)
    flows = list(itertools.islice(Traffic(build_fleet(1, ("c1",)), 1, start, 1_000.0).flows(), FLOWS_PER_FLUSH * FLUSHES))
    lines = b"".join(
        json_format.MessageToJson(
            observer_pb2.ExportEvent(flow=flow, node_name=flow.node_name, time=flow.time), indent=None, preserving_proto_field_name=True
        ).encode()
        + b"\n"
        for flow in flows
    )
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(config.Lake(url=folder))
        for batch in range(FLUSHES):
            some = [flow.SerializeToString() for flow in flows[batch * FLOWS_PER_FLUSH : (batch + 1) * FLOWS_PER_FLUSH]]
            rows = decode(some, cluster="c1", recorded=start).rows
            lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})
        ours = lake.size(FLOWS)[0] / len(flows)
    units.note("fresh_bytes_per_flow", ours, "bytes", f"simulated flows, files of {FLOWS_PER_FLUSH:,}")
    plain, packed = len(lines) / len(flows), len(gzip.compress(lines, 6)) / len(flows)
    print(f"{len(flows):,} simulated flows, files of {FLOWS_PER_FLUSH:,}; bytes a flow")
    print(f"fresh Parquet {ours:8.1f}   JSON lines {plain:8.1f}   gzip of them {packed:8.1f}")
    print(f"ratio: {plain / ours:.1f} x smaller than JSON, {packed / ours:.1f} x than its gzip")
    print(f"       {ours / GOAL_BYTES:.2f} of the goal of {GOAL_BYTES}")


if __name__ == "__main__":
    main()
