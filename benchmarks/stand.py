"""What the benchmarks share: real nodes, a collector in this process, and medians."""

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

from collectors.collect import Collector
from warehouse import config
from warehouse.schema import FLOWS
from warehouse.tables import Lake

ROOT = Path(__file__).parents[1]
RUNS = 3


def peers() -> ModuleType:
    """The module that runs Hubble's own programs; ends the benchmark where they were not built."""
    spec = importlib.util.spec_from_file_location("hindcast_peers_running", ROOT / "tests" / "peers" / "running.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    try:
        module.program("hubble-node")
        module.program("hubble")
    except module.PeerMissing as missing:
        sys.exit(f"this benchmark reads from Cilium's own node: {missing}")
    return module


def settings(folder: Path, clusters: dict[str, Sequence[str]], **collect: Any) -> config.Config:
    """A configuration file in a folder, for clusters of nodes."""
    document = {
        "lake": {"url": str(folder / "lake")},
        "clusters": [{"name": name, "hubble": {"nodes": list(nodes), "plaintext": True}} for name, nodes in clusters.items()],
        "collect": {"listen": "", **collect},
    }
    file = folder / "hindcast.yaml"
    file.write_text(json.dumps(document))
    return config.load_config(file)


@contextlib.contextmanager
def collecting(wanted: config.Config) -> Iterator[Collector]:
    """A collector in a thread of this process, quiet."""
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
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def stored(wanted: config.Config) -> int:
    """Flows in the lake."""
    return Lake.open(wanted.lake).rows(FLOWS)


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)
