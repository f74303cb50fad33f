"""Collectors that share a fleet: flows per CPU second of 1, 2 and 4 processes, and how soon a killed one's clusters are taken over.

Eight real Cilium nodes, a cluster each, are started when the collectors have shared their clusters out, with full rings; CPU is counted
from then on, so that starting the processes does not count. The limits: 10 % less for each core than one process, 20 s.
Run: .venv/bin/python -m benchmarks.sharing [KILLS] [FLOWS OF A CLUSTER, 2^n-1]. Exit code 1 if a limit is missed.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import stand, units
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

CLUSTERS, RING, KILLS = 8, 65_535, 5
PROCESSES = (1, 2, 4)
LEAST_RATIO, MOST_SECONDS = 0.9, 20.0


def main() -> None:
    """Measure and print."""
    arguments = [int(text) for text in sys.argv[1:3]]
    kills, ring = [*arguments, *(KILLS, RING)[len(arguments) :]]
    running: Any = stand.peers()
    rates = {processes: _flows_per_cpu_second(running, processes, ring) for processes in PROCESSES}
    print(f"{CLUSTERS * ring:,} flows of {CLUSTERS} clusters, from gRPC to Delta commit")
    for processes, rate in rates.items():
        print(f"{processes} collectors: {rate:8,.0f} flows/s a core, ratio to one collector {rate / rates[1]:.2f}", flush=True)
    units.note(
        "collector_cpu_us_per_flow", 1e6 / min(rates.values()), "us of CPU", f"{max(PROCESSES)} collectors, {CLUSTERS} clusters, local disk"
    )
    seconds = _seconds_to_take_over(running, kills)
    print(f"{kills} collectors were killed: their clusters were taken over after {', '.join(f'{one:.1f}' for one in seconds)} s")
    print(f"ratio of the longest to the limit of {MOST_SECONDS:g} s: {max(seconds) / MOST_SECONDS:.2f}")
    units.note("takeover_seconds", max(seconds), "s", f"longest of {kills}, after kill -9, signs of life in the lake")
    sys.exit(min(rates.values()) < LEAST_RATIO * rates[1] or max(seconds) > MOST_SECONDS)


class Stand:
    """A lake and its collectors, each with a spool of its own."""

    def __init__(self, folder: Path, addresses: list[str]) -> None:
        self.folder = folder
        self.wanted = self._settings(0, addresses)
        self.lake = Lake.open(self.wanted.lake)
        self._addresses = addresses
        self.processes: list[psutil.Process] = []

    def _settings(self, number: int, addresses: list[str]) -> config.Config:
        folder = self.folder / str(number)
        folder.mkdir(exist_ok=True)
        stand.settings(folder, {f"c{place}": [address] for place, address in enumerate(addresses)}, spool=str(folder / "spool"))
        document = json.loads((folder / "hindcast.yaml").read_text())
        document["lake"] = {"url": str(self.folder / "lake")}
        (folder / "hindcast.yaml").write_text(json.dumps(document))
        return config.load_config(folder / "hindcast.yaml")

    def start(self) -> None:
        """Start another collector."""
        number = len(self.processes)
        self._settings(number, self._addresses)
        command = [sys.executable, "-m", "hindcast", "collect", "--no-merge", "--config", str(self.folder / str(number) / "hindcast.yaml")]
        started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(psutil.Process(started.pid))

    def stop(self) -> None:
        """Kill all of them."""
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
            process.wait()

    def held(self) -> dict[int, int]:
        """How many clusters each process has."""
        _, notes = self.lake.metadata_after(FLOWS, -1, prefix="collect:")
        found = {process.pid: 0 for process in self.processes}
        for note in map(json.loads, notes.values()):
            if not note["released"] and note["pid"] in found:
                found[note["pid"]] += 1
        return found

    def is_shared(self) -> bool:
        """Whether every living collector has its share."""
        living = [count for pid, count in self.held().items() if psutil.pid_exists(pid)]
        return sum(living) == len(self._addresses) and max(living) - min(living) <= 1

    def cpu(self) -> float:
        """CPU seconds that all of them have used."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


@contextlib.contextmanager
def _stand(folder: Path, addresses: list[str], processes: int) -> Iterator[Stand]:
    made = Stand(folder, addresses)
    try:
        for _ in range(processes):
            made.start()
        stand.wait_for(made.is_shared, seconds=300)
        yield made
    finally:
        made.stop()


def _flows_per_cpu_second(running: Any, processes: int, ring: int) -> float:
    total = CLUSTERS * (ring - 1)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        addresses = [running.free_address() for _ in range(CLUSTERS)]
        made = stack.enter_context(_stand(folder, addresses, processes))
        before = made.cpu()
        for number, address in enumerate(addresses):
            stack.enter_context(
                running.hubble_node(folder / f"node-{number}", name=f"c{number}/n", address=address, rate=0, count=ring + 1, ring=ring)
            )
        stand.wait_for(lambda: made.lake.rows(FLOWS) >= total * 0.98, seconds=600)
        return made.lake.rows(FLOWS) / (made.cpu() - before)


def _seconds_to_take_over(running: Any, kills: int) -> list[float]:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        nodes = [
            stack.enter_context(running.hubble_node(folder / f"node-{number}", name=f"c{number}/n", rate=20)) for number in range(CLUSTERS)
        ]
        made = stack.enter_context(_stand(folder, [node.address for node in nodes], 2))
        seconds = []
        for _ in range(kills):
            time.sleep(random.uniform(0, 10))
            victim = next(process for process in made.processes if psutil.pid_exists(process.pid))
            # As if it ran on another machine: there is no process to be seen gone, only a sign of life that grows old.
            victim.suspend()
            began = time.monotonic()
            stand.wait_for(lambda victim=victim: not made.held()[victim.pid], seconds=300)  # type: ignore[misc]
            seconds.append(time.monotonic() - began)
            victim.kill()
            victim.wait()
            made.start()
            stand.wait_for(made.is_shared, seconds=300)
    return seconds


if __name__ == "__main__":
    main()
