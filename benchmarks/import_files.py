"""Lines a second of `hindcast import`, beside Python's json and protobuf's json_format on the same lines.

Run: .venv/bin/python -m benchmarks.import_files. Simulated flows as an exporter writes them.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from google.protobuf import json_format

from benchmarks import stand
from collectors.hubble_api.observer import observer_pb2
from collectors.importing.importer import Target, import_file
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.lake.tables import Lake

LINES = 20_000
GOAL_LINES = 30_000


def lines_a_second(work: Callable[[], object]) -> float:
    """By CPU time of this process."""
    began = time.process_time()
    work()
    return LINES / (time.process_time() - began)


def main() -> None:
    """Measure and print."""
    now = dt.datetime.now(dt.UTC)
    flows = itertools.islice(Traffic(build_fleet(1, ("c1",)), 1, now, 1_000.0).flows(), LINES)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "events.log"
        with file.open("w") as sink:
            for flow in flows:
                event = observer_pb2.ExportEvent(flow=flow, node_name=flow.node_name, time=flow.time)
                sink.write(json_format.MessageToJson(event, indent=None, preserving_proto_field_name=True) + "\n")
        lines = file.read_bytes().splitlines()
        ours = []
        for run in range(stand.RUNS):
            lake = Lake.open(config.Lake(url=f"{name}/lake-{run}"))
            ours.append(lines_a_second(lambda lake=lake: import_file(Target(lake=lake, cluster="c1", recorded=now), file)))  # type: ignore[misc]
        plain = [lines_a_second(lambda: [json.loads(line) for line in lines]) for _ in range(stand.RUNS)]
        parsed = [
            lines_a_second(lambda: [json_format.Parse(line, observer_pb2.ExportEvent()) for line in lines]) for _ in range(stand.RUNS)
        ]
    mine = stand.median(ours)
    print(f"{LINES:,} lines; lines a CPU-second, medians of {stand.RUNS}")
    print(f"import {mine:10,.0f}   json.loads alone {stand.median(plain):10,.0f}   json_format.Parse alone {stand.median(parsed):10,.0f}")
    print(f"ratio: {mine / stand.median(parsed):.2f} of json_format alone; {mine / GOAL_LINES:.2f} of the goal of {GOAL_LINES:,}")


if __name__ == "__main__":
    main()
