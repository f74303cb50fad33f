"""Several collector processes share a fleet of simulated nodes: one joins, one sleeps and wakes up, one is killed."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.sharing.units import units_of
from collectors.simulator.node import SimulatedNode
from warehouse import config, schema


class Fleet:
    """Four clusters of one node and a large one of four, all of which report flows until the block ends."""

    def __init__(self, stand: Any, flows_of: Any, leases: dict[str, Any] | None = None) -> None:
        self.stand = stand
        self.nodes = [SimulatedNode(f"c{number}/n", capacity=16_383) for number in range(4)]
        self.nodes += [SimulatedNode(f"big/n{number}", capacity=16_383) for number in range(4)]
        self.makers = {node.name: flows_of(node.name) for node in self.nodes}
        self.collectors: list[subprocess.Popen[bytes]] = []
        self._leases = {"duration": "1s"} | (leases or {})
        self._ended = threading.Event()
        self._traffic = threading.Thread(target=self._observe)

    def __enter__(self) -> "Fleet":
        for node in self.nodes:
            node.start()
        clusters = [{"name": f"c{n}", "hubble": {"nodes": [self.nodes[n].address], "plaintext": True}} for n in range(4)]
        clusters.append({"name": "big", "hubble": {"nodes": [node.address for node in self.nodes[4:]], "plaintext": True, "parts": 2}})
        self.units = set(units_of([config.Cluster.model_validate(cluster) for cluster in clusters]))
        for number in range(2):
            collect = {"flush_every": "300ms", "listen": "", "spool": str(self.stand.folder / f"spool-{number}"), "leases": self._leases}
            document = {"lake": {"url": str(self.stand.folder / "lake")}, "clusters": clusters, "collect": collect}
            self._file(number).write_text(json.dumps(document))
        self._traffic.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        for collector in self.collectors:
            collector.kill()
            collector.wait()
        self._ended.set()
        self._traffic.join()
        for node in self.nodes:
            node.stop()

    def _file(self, number: int) -> Path:
        return Path(self.stand.folder / f"hindcast-{number}.yaml")

    def _observe(self) -> None:
        while not self._ended.wait(0.02):
            for node in self.nodes:
                node.observe(self.makers[node.name]()[0])

    def collect(self) -> subprocess.Popen[bytes]:
        """Start another collector."""
        number = len(self.collectors)
        command = [sys.executable, "-m", "hindcast", "collect", "--no-merge", "--config", str(self._file(number))]
        with (self.stand.folder / f"log-{number}").open("wb") as log:
            self.collectors.append(subprocess.Popen(command, stdout=log, stderr=log))
        return self.collectors[-1]

    def log(self, number: int) -> str:
        return Path(self.stand.folder / f"log-{number}").read_text()

    def holders(self) -> dict[int, set[str]]:
        """The units of each collector's process, by the newest notes."""
        _, notes = self.stand.lake.metadata_after(schema.FLOWS, -1, prefix="collect:")
        held: dict[int, set[str]] = {collector.pid: set() for collector in self.collectors}
        for name, text in notes.items():
            note = json.loads(text)
            if not note["released"]:
                held[note["pid"]].add(name.removeprefix("collect:"))
        return held

    def is_shared(self) -> bool:
        """Whether each of the two collectors has half of the units."""
        held = [len(units) for units in self.holders().values()]
        return sum(held) == len(self.units) and max(held) - min(held) <= 1

    def check(self) -> None:
        """Every flow is stored once, up to the newest of each node, and nothing is said to be missing."""
        stored = self.stand.uuids()
        assert len(stored) == len(set(stored))
        known = set(stored)
        for name, maker in self.makers.items():
            last = max(place for place, made in enumerate(maker.made) if made in known)
            assert set(maker.made[:last]) <= known, name
            assert last > 50, name
        assert self.stand.coverage("gap", "lost") == []


def live_a_whole_life(fleet: Fleet, wait: Callable[..., Any]) -> None:
    """Two collectors: one joins, one sleeps and is woken, one is killed, one ends."""
    first = fleet.collect()
    wait(lambda: fleet.holders()[first.pid] == fleet.units, what="a collector with all units")
    second = fleet.collect()
    wait(fleet.is_shared, what="sharing after one joined")

    first.send_signal(signal.SIGSTOP)
    wait(lambda: fleet.holders()[second.pid] == fleet.units, what="the units of the one that sleeps with the other")
    first.send_signal(signal.SIGCONT)
    wait(lambda: "another collector took over" in fleet.log(0), what="a commit that was refused")
    wait(fleet.is_shared, what="sharing after one woke up")

    second.kill()
    second.wait()
    wait(lambda: fleet.holders()[first.pid] == fleet.units, what="the units of the killed one with the other")
    first.send_signal(signal.SIGTERM)
    assert first.wait(300) == 0
    fleet.check()


@pytest.fixture
def fleet(stand: Any, flows_of: Any) -> Iterator[Fleet]:
    with Fleet(stand, flows_of) as running:
        yield running


@pytest.mark.slow
def test_one_joins_one_sleeps_and_wakes_one_is_killed_and_each_flow_is_stored_once(fleet: Fleet, wait: Callable[..., Any]) -> None:
    live_a_whole_life(fleet, wait)
    assert len(list((fleet.stand.folder / "lake" / "_collectors").iterdir())) == 1  # the killed one's; the other took its own away


@pytest.mark.peers
def test_lease_objects_of_a_real_api_server_do_the_same(stand: Any, flows_of: Any, wait: Callable[..., Any], clusters: Any) -> None:
    server = clusters["one"]
    server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "handover"}})
    leases = {"kubernetes": {"kubeconfig": str(server.kubeconfig()), "namespace": "handover"}}
    with Fleet(stand, flows_of, leases) as fleet:
        live_a_whole_life(fleet, wait)
    listed = json.loads(server.kubectl("get", "leases", "-n", "handover", "-o", "json"))["items"]
    assert [lease["spec"]["leaseDurationSeconds"] for lease in listed] == [1]
    assert not (stand.folder / "lake" / "_collectors").exists()
