"""Shared parts of the benchmarks: real nodes, a collector in this process, and medians."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog

from collectors.streaming.collect import Collector
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

ROOT = Path(__file__).parents[1]
RUNS = 3


def peers(*programs: str) -> ModuleType:
    """Return the module that runs third-party programs (Hubble's by default); exits the benchmark if they were not built."""
    module = peer_module("running")
    try:
        for name in programs or ("hubble-node", "hubble"):
            module.program(name)
    except module.PeerMissing as missing:
        sys.exit(f"this benchmark needs third-party programs: {missing}")
    return module


def peer_module(name: str) -> ModuleType:
    """Return a module beside the real peers, loaded by its path."""
    spec = importlib.util.spec_from_file_location(f"hindcast_peers_{name}", ROOT / "tests" / "peers" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def settings(folder: Path, clusters: dict[str, Sequence[str]], *, lake: config.Lake | None = None, **collect: Any) -> config.Config:
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


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)
