"""Ingest, from gRPC to committed Parquet, beside `hubble observe --all -o jsonpb > file` of the same flows.

Real Cilium nodes serve full rings of flows of about 1.3 KB; one collector process reads them all. CPU time is compared,
since the machine is shared: flows per second and core. Run: .venv/bin/python -m benchmarks.ingest
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import stand

NODES = 4
RING = 65_535


def collector_us(folder: Path, addresses: list[str]) -> tuple[float, float]:
    """Return CPU microseconds per flow, and flows per second of wall time, of one collector."""
    folder.mkdir()
    wanted = stand.settings(folder, {"bench": addresses})
    total = NODES * (RING - 1)
    cpu, wall = time.process_time(), time.monotonic()
    with stand.collecting(wanted) as collector:
        stand.wait_for(lambda: collector.flows_stored + sum(i.pending_rows for i in collector._intakes.values()) >= total)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    flows = stand.stored(wanted)
    assert flows >= total, flows
    return cpu / flows * 1e6, flows / wall


def hubble_us(hubble: Path, folder: Path, address: str) -> tuple[float, float]:
    """Return the same for the command line, from one node."""
    output = folder / "hubble.jsonl"
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with output.open("wb") as sink:
        command = [str(hubble), "observe", "--server", address, "--all", "-o", "jsonpb"]
        subprocess.run(command, stdout=sink, check=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - wall
    flows = sum(1 for _ in output.open("rb"))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu / flows * 1e6, flows / wall


def main() -> None:
    """Measure and print."""
    running: Any = stand.peers()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        nodes = [
            stack.enter_context(running.hubble_node(folder, name=f"test/node-{number}", rate=0, count=RING + 1, ring=RING))
            for number in range(NODES)
        ]
        for node in nodes:
            node.wait_fed()
        addresses = [node.address for node in nodes]
        ours = [collector_us(folder / f"run-{number}", addresses) for number in range(stand.RUNS)]
        theirs = [hubble_us(running.program("hubble"), folder, addresses[0]) for _ in range(stand.RUNS)]
    mine, peer = (stand.median([cpu for cpu, _ in runs]) for runs in (ours, theirs))
    print(f"{NODES * RING:,} flows of about 1.3 KB; medians of {stand.RUNS}")
    print(f"{'':34}{'CPU us/flow':>12} {'flows/s a core':>15} {'flows/s, wall':>14}")
    for label, cpu, runs in (("collector: gRPC to Delta commit", mine, ours), ("hubble observe -o jsonpb > file", peer, theirs)):
        print(f"{label:34}{cpu:12.1f} {1e6 / cpu:15,.0f} {stand.median([wall for _, wall in runs]):14,.0f}")
    print(f"ratio: {peer / mine:.2f} x the flows per CPU-second (goal 2.5); {1e6 / mine / 60_000:.2f} of the goal of 60,000 a core")


if __name__ == "__main__":
    main()
