"""A quiet fleet: the cost of 50 clusters of 20 flows/s each, and how small the lake stays while their flows arrive.

Run: .venv/bin/python -m benchmarks.quiet_fleet [MINUTES] [FLOWS_A_SECOND_EACH] [CLUSTERS]. Prints every minute, and at the end each
measure beside its goal. The collector runs as `hindcast collect --no-merge`, and the maintainer, which usually runs inside it, in
its own process, so that the share of a core of each is visible. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil

from benchmarks import stand
from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.node import SimulatedNode
from collectors.simulator.traffic import Traffic
from pipelines.maintenance.maintainer import Maintainer
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS, TABLES

MINUTES, RATE, CLUSTERS = 30.0, 20.0, 50
WARM_UP_SECONDS = 30.0
"""Excluded from the shares of a core: programs start and streams are opened."""
TEMPLATES = 2_000
SETTLED = timedelta(minutes=2)
LOOK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A measure, its value and its limit."""

    name: str
    found: float
    most: float
    unit: str

    def __str__(self) -> str:
        verdict = "ok  " if self.found <= self.most else "MISS"
        return f"{verdict} {self.name}: {self.found:,.1f} {self.unit} (goal {self.most:g}), ratio {self.found / self.most:.2f}"


@dataclass(kw_only=True)
class Freshness:
    """Measures the age of flows when they first appear in the log, from the times of each new file."""

    newest: dict[str, datetime] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    ages: list[float] = field(default_factory=list)

    def look(self, lake: Lake) -> None:
        """Record the files that have appeared since the last call."""
        at = datetime.now(UTC)
        for file in lake.contents(FLOWS):
            if file.path in self.seen or file.first is None or file.last is None:
                continue
            self.seen.add(file.path)
            cluster = file.partition["cluster"]
            begin = max(file.first, self.newest.get(cluster, file.first))
            if file.last > begin:  # otherwise a merged file, whose flows were counted before
                self.ages += [(at - (begin + (file.last - begin) * part)).total_seconds() for part in np.linspace(0.0, 1.0, 10)]
                self.newest[cluster] = file.last


def main() -> None:
    """Measure and print."""
    arguments = [float(text) for text in sys.argv[1:4]]
    minutes, rate, clusters = [*arguments, *(MINUTES, RATE, CLUSTERS)[len(arguments) :]]
    with tempfile.TemporaryDirectory() as folder:
        goals = Run(Path(folder), rate, int(clusters)).measure(minutes)
    for goal in goals:
        print(goal)
    sys.exit(any(goal.found > goal.most for goal in goals))


class Run:
    """One fleet, its collector and its maintainer."""

    def __init__(self, folder: Path, rate: float, clusters: int) -> None:
        self._folder, self._rate, self._clusters = folder, rate, clusters
        self._file = folder / "hindcast.yaml"

    def measure(self, minutes: float) -> list[Goal]:
        """Run for this long."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._fleet())
            collector = stack.enter_context(_program("-m", "hindcast", "collect", "--no-merge", "--config", str(self._file)))
            maintainer = stack.enter_context(_program("-m", "benchmarks.quiet_fleet", "maintain", str(self._file)))
            lake = Lake.open(config.load_config(self._file).lake)
            stand.wait_for(lambda: lake.rows(FLOWS) > 0)
            freshness, began = Freshness(), time.monotonic()
            shares: dict[str, tuple[float, float]] = {}
            most_files, minute = 0, 1
            while (passed := time.monotonic() - began) < minutes * 60:
                if passed > WARM_UP_SECONDS and not shares:
                    shares = {"collector": (passed, _cpu(collector)), "maintainer": (passed, _cpu(maintainer))}
                    freshness.ages.clear()
                freshness.look(lake)
                if passed > 60 * minute:
                    most_files = max(most_files, self._tell(lake, minute))
                    minute += 1
                time.sleep(LOOK_SECONDS)
            of_core = {
                name: 100 * (_cpu(process) - shares[name][1]) / (passed - shares[name][0])
                for name, process in (("collector", collector), ("maintainer", maintainer))
            }
            rows, p99 = lake.rows(FLOWS), float(np.percentile(freshness.ages, 99))
            print(f"{rows:,} flows, {rows / passed:,.0f}/s; collector's greatest memory {_memory(collector) / 1e6:,.0f} MB")
            return [
                Goal(name="collector", found=of_core["collector"], most=5.0, unit="% of a core"),
                Goal(name="maintainer beside it", found=of_core["maintainer"], most=5.0, unit="% of a core"),
                Goal(name="flows older than two minutes", found=_bytes_a_flow(lake), most=150.0, unit="bytes a flow"),
                Goal(name="live files of flows, at most", found=float(max(most_files, lake.size(FLOWS)[1])), most=200.0, unit="files"),
                Goal(name="logs of all tables", found=self._log_bytes() / 1e6, most=10.0, unit="MB"),
                Goal(name="freshness p99", found=p99, most=15.0, unit="s"),
            ]

    def _tell(self, lake: Lake, minute: int) -> int:
        files = {table.name: lake.size(table)[1] for table in (FLOWS, COVERAGE)}
        disk = sum(file.stat().st_size for file in (self._folder / "lake").rglob("*") if file.is_file())
        print(
            f"minute {minute}: {lake.rows(FLOWS):,} flows, live files {files}, "
            f"{_bytes_a_flow(lake):.0f} bytes a flow older than two minutes, "
            f"logs {self._log_bytes() / 1e6:.1f} MB, on disk {disk / 1e6:.0f} MB",
            flush=True,
        )
        return files[FLOWS.name]

    def _log_bytes(self) -> int:
        return sum(file.stat().st_size for name in TABLES for file in (self._folder / "lake" / name / "_delta_log").iterdir())

    @contextlib.contextmanager
    def _fleet(self) -> Iterator[None]:
        """Start the nodes, one per cluster, in their own process."""
        with _program("-m", "benchmarks.quiet_fleet", "fleet", str(self._file), str(self._rate), str(self._clusters)):
            stand.wait_for(self._file.exists)
            yield


def fleet(file: str, rate: str, clusters: str) -> None:
    """Serve nodes that report this many flows per second each, and write a configuration that collects them."""
    names = tuple(f"cluster-{number:02}" for number in range(int(clusters)))
    made = build_fleet(1, names, 1)
    served = {name: SimulatedNode(name, capacity=1_023) for name in made.nodes}
    for node in served.values():
        node.start()
    document = {
        "lake": {"url": str(Path(file).parent / "lake")},
        "clusters": [
            {"name": name.partition("/")[0], "hubble": {"nodes": [node.address], "plaintext": True}} for name, node in served.items()
        ],
        "collect": {"listen": "", "spool": str(Path(file).parent / "spool")},
    }
    Path(file).with_suffix(".new").write_text(json.dumps(document))
    Path(file).with_suffix(".new").rename(file)
    templates: dict[str, list[flow_pb2.Flow]] = {name: [] for name in served}
    for flow in itertools.islice(Traffic(made, 1, datetime.now(UTC), 1_000.0).flows(), TEMPLATES * 5):
        templates[flow.node_name].append(flow)
    chance, due = random.Random(1), time.time()
    while True:
        due += 1.0 / float(rate)
        time.sleep(max(0.0, due - time.time()))
        for name, node in served.items():
            flow = flow_pb2.Flow()
            flow.CopyFrom(chance.choice(templates[name]))
            flow.uuid = str(uuid.UUID(int=chance.getrandbits(128)))
            flow.time.FromNanoseconds(time.time_ns())
            node.observe(flow)


def maintain(file: str) -> None:
    """Run the maintainer until the process is ended."""
    Maintainer(config.load_config(Path(file))).run(threading.Event())


@contextlib.contextmanager
def _program(*arguments: str) -> Iterator[psutil.Process]:
    """Run one of our programs inside the `with` block."""
    with subprocess.Popen([sys.executable, *arguments], cwd=stand.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def _cpu(process: psutil.Process) -> float:
    """Return the CPU seconds that it has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def _bytes_a_flow(lake: Lake) -> float:
    """Return the bytes per flow of files whose first flow arrived more than two minutes ago."""
    old = [file for file in lake.contents(FLOWS) if file.first is not None and file.first < datetime.now(UTC) - SETTLED]
    return sum(file.size for file in old) / max(1, sum(file.rows for file in old))


if __name__ == "__main__":
    {"fleet": fleet, "maintain": maintain}[sys.argv[1]](*sys.argv[2:]) if sys.argv[1:2] in (["fleet"], ["maintain"]) else main()
