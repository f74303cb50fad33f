"""Shared parts of the benchmarks: real nodes, a collector in this process, and medians."""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog

from collectors.streaming.collect import Collector
from tests.peers import running
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS

ROOT = Path(__file__).parents[1]
RUNS = 3


def peers(*programs: str) -> ModuleType:
    """Return the module that runs third-party programs (Hubble's by default); exits the benchmark if they were not built."""
    try:
        for name in programs or ("hubble-node", "hubble"):
            running.program(name)
    except running.PeerMissing as missing:
        sys.exit(f"this benchmark needs third-party programs: {missing}")
    return running


def settings(folder: Path, clusters: Mapping[str, Sequence[str]], *, lake: config.Lake | None = None, **collect: Any) -> config.Config:
    """Write a configuration file in a folder, for clusters of nodes; the lake is beside it unless given."""
    document = {
        "lake": {"url": str(folder / "lake")} if lake is None else lake.model_dump(mode="json"),
        "clusters": [{"name": name, "hubble": {"nodes": list(nodes), "plaintext": True}} for name, nodes in clusters.items()],
        "collect": {"listen": "", **collect},
    }
    file = folder / "hindcast.yaml"
    file.write_text(json.dumps(document))
    return config.load_config(file)


@contextlib.contextmanager
def collecting(wanted: config.Config) -> Iterator[Collector]:
    """Run a collector in a thread of this process, without logs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    collector, stop = Collector(wanted), threading.Event()
    thread = threading.Thread(target=collector.run, args=(stop,))
    thread.start()
    try:
        yield collector
    finally:
        stop.set()
        thread.join()


def wait_for(condition: Callable[[], bool], *, seconds: float = 120.0) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def stored(wanted: config.Config) -> int:
    """Return the number of flows in the lake."""
    return Lake.open(wanted.lake).rows(FLOWS)


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of the flows that nodes sent."""

    sent: int
    stored: int
    """Different flows in the lake."""
    twice: int
    missing: int
    undeclared: int
    """Missing flows that no gap of the ledger declares."""
    gaps: int

    @property
    def is_good(self) -> bool:
        """Whether no flow is stored twice or missing without being declared."""
        return not self.twice and not self.undeclared

    def __str__(self) -> str:
        return (
            f"{self.sent:,} flows sent: {self.stored:,} stored, {self.twice} of them twice\n"
            f"{self.missing:,} missing, all in {self.gaps} gaps that coverage declares but for {self.undeclared}"
        )


def account(lake: Lake, nodes: Sequence[Any]) -> Account:
    """Compare what nodes sent, between the first and the last flow stored of each, with the lake and its ledger."""
    stored: list[str] = lake.read(FLOWS, ["uuid"])["uuid"].to_pylist()
    known = set(stored)
    declared = [row for row in lake.read(COVERAGE).to_pylist() if row["state"] in ("gap", "lost")]
    sent = missing = undeclared = 0
    for node in nodes:
        logged = list(node.flows_logged().items())
        places = [place for place, (uuid, _) in enumerate(logged) if uuid in known]
        spans = [(row["from"].timestamp(), row["to"].timestamp()) for row in declared if row["node_name"] == node.name]
        for uuid, time_ns in logged[places[0] : places[-1] + 1]:
            sent += 1
            if uuid not in known:
                missing += 1
                undeclared += not any(first - 1e-3 <= time_ns / 1e9 < last + 1e-3 for first, last in spans)
    twice = len(stored) - len(known)
    return Account(sent=sent, stored=len(known), twice=twice, missing=missing, undeclared=undeclared, gaps=len(declared))


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
