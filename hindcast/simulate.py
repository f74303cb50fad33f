"""`hindcast simulate`: a fleet of simulated Hubble nodes on loopback, to try things against."""

from __future__ import annotations

import json
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from warehouse import config
from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from collectors.simulator.node import SimulatedNode

CLUSTERS = ("eu-central", "eu-west", "us-east", "us-west", "ap-south", "ap-east", "sa-east", "af-south")
SEED = 1
TICK_SECONDS = 0.1
GRANTS = (
    {"subject": "ada", "role": "platform-admin"},
    {"subject": "paula", "role": "namespace-owner", "namespaces": ["payments", "fraud"]},
    {"subject": "carlos", "role": "namespace-owner", "namespaces": ["cart", "checkout", "orders"]},
    {"subject": "audrey", "role": "auditor"},
)
"""People of the simulated company: an admin, owners of two teams, an auditor."""


def simulate(
    clusters: Annotated[int, typer.Option("--clusters", min=1, max=len(CLUSTERS), help="How many clusters.")] = 3,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=100, help="Nodes in each.")] = 3,
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Flows a second of the whole fleet at the busiest hour.")] = 100.0,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same fleet.")] = SEED,
    ring: Annotated[int, typer.Option("--ring", help="Flows that a node remembers, 2^n-1.")] = 4_095,
    write_config: Annotated[Path | None, typer.Option("--write-config", help="Write a hindcast.yaml that collects this fleet.")] = None,
    duration: Annotated[str | None, typer.Option("--for", help="Stop by itself after this time, e.g. 60s.")] = None,
) -> None:
    """Serve Hubble's Observer and Peer APIs as a fleet's nodes do, with a made-up company's traffic, until Ctrl-C."""
    from collectors.simulator.fleet import build_fleet
    from collectors.simulator.node import SimulatedNode
    from collectors.simulator.story import Story
    from collectors.simulator.traffic import Traffic

    try:
        seconds = config.parse_duration(duration).total_seconds() if duration else None
    except ValueError as error:
        raise ConfigError(f"--for: {error}") from error
    fleet = build_fleet(seed, CLUSTERS[:clusters], nodes)
    try:
        served = {name: SimulatedNode(name, capacity=ring) for name in fleet.nodes}
    except ValueError as error:
        raise ConfigError(f"--ring: {error}") from error
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    for node in served.values():
        node.start()
    addresses = _addresses(served)
    for cluster, listed in addresses.items():
        typer.echo(f"{cluster}: {' '.join(listed)}")
    if write_config:
        write_config.parent.mkdir(parents=True, exist_ok=True)
        unfinished = write_config.with_suffix(".new")
        unfinished.write_text(json.dumps(document(addresses), indent=2) + "\n")
        unfinished.rename(write_config)
    typer.echo("ready", nl=True)
    started = datetime.now(UTC)
    # The fleet is the seed's, its traffic this run's: uuids must not come again in the next.
    try:
        _feed(served, Traffic(fleet, time.time_ns(), started, rate, Story.before(started)).flows(), stop, seconds)
    finally:
        for node in served.values():
            node.stop()


def document(addresses: dict[str, list[str]]) -> dict[str, Any]:
    """A configuration (YAML takes JSON) that collects these nodes and has people in it."""
    return {
        "lake": {"url": "./lake"},
        "clusters": [{"name": cluster, "hubble": {"nodes": listed, "plaintext": True}} for cluster, listed in addresses.items()],
        "ownership": {"grants": list(GRANTS)},
    }


def _addresses(served: dict[str, SimulatedNode]) -> dict[str, list[str]]:
    addresses: dict[str, list[str]] = {}
    for name, node in served.items():
        addresses.setdefault(name.partition("/")[0], []).append(node.address)
    return addresses


def _feed(served: dict[str, SimulatedNode], flows: Any, stop: threading.Event, seconds: float | None) -> None:
    """Hand each flow to its node when its time has come; what this machine is too slow for comes as soon as it can."""
    began = time.monotonic()
    flow = next(flows)
    while not stop.wait(TICK_SECONDS) and (seconds is None or time.monotonic() - began < seconds):
        now = time.time_ns()
        while flow.time.ToNanoseconds() <= now and not stop.is_set():
            served[flow.node_name].observe(flow)
            flow = next(flows)
