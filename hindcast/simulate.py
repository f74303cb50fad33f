"""`hindcast simulate`: runs a fleet of simulated Hubble nodes on loopback, for trying things out."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hindcast.stopping import stop_at_signals
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
"""Grants for users of the simulated company: an admin, owners in two teams, an auditor."""


def simulate(
    clusters: Annotated[int, typer.Option("--clusters", min=1, max=len(CLUSTERS), help="How many clusters.")] = 3,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=100, help="Nodes per cluster.")] = 3,
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Flows per second of the whole fleet at the busiest hour.")] = 100.0,
    seed: Annotated[int, typer.Option("--seed", help="Random seed; the same seed gives the same fleet.")] = SEED,
    ring: Annotated[int, typer.Option("--ring", help="Number of flows in a node's ring, 2^n-1.")] = 4_095,
    write_config: Annotated[Path | None, typer.Option("--write-config", help="Write a hindcast.yaml that collects this fleet.")] = None,
    duration: Annotated[str | None, typer.Option("--for", help="Stop after this time, e.g. 60s.")] = None,
) -> None:
    """Serve Hubble's Observer and Peer APIs like the nodes of a fleet, with traffic of a fictitious company, until Ctrl-C."""
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
    stop = stop_at_signals()
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
    # The seed determines the fleet but not its traffic, because uuids must not repeat in the next run.
    try:
        _feed(served, Traffic(fleet, time.time_ns(), started, rate, Story.before(started)).flows(), stop, seconds)
    finally:
        for node in served.values():
            node.stop()


def document(addresses: dict[str, list[str]]) -> dict[str, Any]:
    """Return a configuration (as JSON, which is valid YAML) that collects these nodes and has example grants."""
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
    """Pass each flow to its node at its time, or as soon as possible if this machine is too slow."""
    began = time.monotonic()
    flow = next(flows)
    while not stop.is_set() and (seconds is None or time.monotonic() - began < seconds):
        time.sleep(TICK_SECONDS)
        now = time.time_ns()
        while flow.time.ToNanoseconds() <= now and not stop.is_set():
            served[flow.node_name].observe(flow)
            flow = next(flows)
