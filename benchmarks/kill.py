"""The kill test: a collector is killed 20 times at random moments while 2,000 flows/s arrive; then every flow is accounted for.

Run: .venv/bin/python -m benchmarks.kill [KILLS]. Exit code 1 if a flow is stored twice, or missing without a declared gap.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import stand
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS

RATE = 2_000


def main() -> None:
    """Measure and print."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    running: Any = stand.peers()
    chance = random.Random(time.time_ns())
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        nodes = [stack.enter_context(running.hubble_node(folder, name=f"test/node-{n}", rate=RATE / 2, ring=4_095)) for n in range(2)]
        wanted = stand.settings(folder, {"bench": [node.address for node in nodes]}, flush_every="2s")
        command = [sys.executable, "-m", "hindcast", "collect", "--config", str(folder / "hindcast.yaml")]

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        for _ in range(kills):
            collector = start()
            time.sleep(chance.uniform(2.0, 7.0))
            collector.kill()
            collector.wait()
        start("--for", "8s").wait()
        lake = Lake.open(wanted.lake)
        stored: list[str] = lake.read(FLOWS, ["uuid"])["uuid"].to_pylist()
        known = set(stored)
        declared = [row for row in lake.read(COVERAGE).to_pylist() if row["state"] in ("gap", "lost")]
        sent = missing = undeclared = 0
        for node in nodes:
            logged = list(node.flows_logged().items())
            stored_places = [place for place, (uuid, _) in enumerate(logged) if uuid in known]
            spans = [(row["from"].timestamp(), row["to"].timestamp()) for row in declared if row["node_name"] == node.name]
            for uuid, time_ns in logged[stored_places[0] : stored_places[-1] + 1]:
                sent += 1
                if uuid not in known:
                    missing += 1
                    undeclared += not any(first - 1e-3 <= time_ns / 1e9 < last + 1e-3 for first, last in spans)
    print(f"{kills} kills, {sent:,} flows sent: {len(known):,} stored, {len(stored) - len(known)} of them twice")
    print(f"{missing:,} missing, all in {len(declared)} gaps that coverage declares but for {undeclared}")
    print(f"ratio of flows stored or declared to flows sent: {(sent - undeclared) / sent:.6f}")
    sys.exit(1 if undeclared or len(stored) != len(known) else 0)


if __name__ == "__main__":
    main()
