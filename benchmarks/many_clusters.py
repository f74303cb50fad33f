"""One collector with 1,000 quiet clusters: memory beside the limit of 1,500 MB, the log's growth, CPU and freshness.

Each cluster is a simulated node, a real gRPC server on loopback, in processes of their own.
Run: .venv/bin/python -m benchmarks.many_clusters [CLUSTERS] [FLOWS/S OF EACH] [MINUTES]. Exit code 1 if a limit is missed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks import stand, units
from collectors.hubble_api.flow import flow_pb2
from collectors.simulator import ring
from collectors.simulator.fleet import build_fleet
from collectors.simulator.node import SimulatedNode
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS

CLUSTERS, RATE, MINUTES = 1_000, 0.2, 4.0
PROCESSES = 4
LIMIT_MB = 1_500.0
TEMPLATES = 200


def main() -> None:
    """Measure and print."""
    arguments = [float(text) for text in sys.argv[1:4]]
    clusters, rate, minutes = [*arguments, *(CLUSTERS, RATE, MINUTES)[len(arguments) :]]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, count = Path(name), int(clusters)
        addresses: dict[str, str] = {}
        for number in range(PROCESSES):
            names = [f"cluster-{place:04}" for place in range(number, count, PROCESSES)]
            stack.enter_context(_nodes(folder / f"nodes-{number}.json", names, rate))
        for number in range(PROCESSES):
            written = folder / f"nodes-{number}.json"
            stand.wait_for(written.exists)
            addresses |= json.loads(written.read_text())
        wanted = stand.settings(folder, {name: [address] for name, address in sorted(addresses.items())})
        _collect(folder, wanted, count, minutes)


def _collect(folder: Path, wanted: config.Config, count: int, minutes: float) -> None:
    command = [sys.executable, "-m", "hindcast", "collect", "--no-merge", "--config", str(folder / "hindcast.yaml")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as running:
        process, lake = psutil.Process(running.pid), Lake.open(wanted.lake)
        try:
            began = time.monotonic()
            stand.wait_for(lambda: len(_newest(lake)) >= 0.95 * count, seconds=600)
            print(f"{count} clusters: flows of 95 % of them were stored after {time.monotonic() - began:.0f} s", flush=True)
            before = (time.monotonic(), _cpu(process), lake.version(FLOWS), lake.version(COVERAGE), lake.rows(FLOWS))
            most, threads = 0.0, process.num_threads()
            while time.monotonic() < before[0] + minutes * 60:
                time.sleep(1)
                most = max(most, process.memory_info().rss / 1e6)
            passed, cpu = time.monotonic() - before[0], _cpu(process) - before[1]
            commits, ledger, rows = lake.version(FLOWS) - before[2], lake.version(COVERAGE) - before[3], lake.rows(FLOWS) - before[4]
            late = max((datetime.now(UTC) - last).total_seconds() for last in _newest(lake).values())
        finally:
            running.terminate()
            running.wait()
    print(
        f"{rows:,} flows in {passed:.0f} s; {60 * commits / passed:.1f} commits of flows a minute, {60 * ledger / passed:.1f} of coverage"
    )
    print(f"{threads} threads, {100 * cpu / passed:.1f} % of a core; of no cluster is the newest flow older than {late:.0f} s")
    print(f"ratio of the greatest memory to the limit of {LIMIT_MB:,.0f} MB: {most / LIMIT_MB:.2f} ({most:,.0f} MB)")
    units.note("collector_memory_mb_per_quiet_cluster", most / count, "MB", f"{count} clusters of {rows / passed / count:.2f} flows/s")
    sys.exit(most > LIMIT_MB)


def _newest(lake: Lake) -> dict[str, datetime]:
    newest: dict[str, datetime] = {}
    for file in lake.contents(FLOWS):
        if file.last is not None and file.partition["cluster"] is not None:
            newest[file.partition["cluster"]] = max(file.last, newest.get(file.partition["cluster"], file.last))
    return newest


@contextlib.contextmanager
def _nodes(file: Path, names: list[str], rate: float) -> Iterator[None]:
    """Run nodes of these clusters in a process, which writes the address of each to the file."""
    command = [sys.executable, "-m", "benchmarks.many_clusters", "nodes", str(file), str(rate), *names]
    with subprocess.Popen(command, cwd=stand.ROOT) as process:
        try:
            yield
        finally:
            process.kill()


def nodes(file: str, rate: str, *names: str) -> None:
    """Serve one node for each cluster, which report so many flows a second each."""
    ring.WAIT_SECONDS = 5.0  # flows wake the streams; only a node that stops is noticed later
    made = build_fleet(1, ("template",), 1)
    templates = list(itertools.islice(Traffic(made, 1, datetime.now(UTC), 1_000.0).flows(), TEMPLATES))
    served = [SimulatedNode(f"{name}/node", capacity=1_023) for name in names]
    for node in served:
        node.start()
    unfinished = Path(file).with_suffix(".new")
    unfinished.write_text(json.dumps({node.name.partition("/")[0]: node.address for node in served}))
    unfinished.rename(file)
    chance, due = random.Random(file), time.time()
    while True:
        for node in served:
            due += 1.0 / float(rate) / len(served)
            time.sleep(max(0.0, due - time.time()))
            flow = flow_pb2.Flow()
            flow.CopyFrom(chance.choice(templates))
            flow.uuid, flow.node_name = str(uuid.UUID(int=chance.getrandbits(128))), node.name
            flow.time.FromNanoseconds(time.time_ns())
            node.observe(flow)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    nodes(*sys.argv[2:]) if sys.argv[1:2] == ["nodes"] else main()
