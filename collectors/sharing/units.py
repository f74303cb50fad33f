"""What collectors share among themselves: units. A unit is a cluster, or a part of the nodes of a large one."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from warehouse import config


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A cluster, or a part of one, whose flows one collector stores at a time."""

    name: str
    """The cluster's name; for a part with its number after a #, which no cluster's name contains."""
    cluster: str
    hubble: config.Hubble
    """As configured, with the unit's own addresses alone."""


def units_of(clusters: Iterable[config.Cluster]) -> dict[str, Unit]:
    """Return the units of the clusters that name a Hubble address, by name. A part without a node is left out."""
    found: dict[str, Unit] = {}
    for cluster in clusters:
        if cluster.hubble is None:
            continue
        for number in range(cluster.hubble.parts):
            name, hubble = cluster.name, cluster.hubble
            if hubble.parts > 1:
                name = f"{cluster.name}#{number}"
                # By each address alone, so that a node that is added or taken away moves no other node to another part.
                hubble = hubble.model_copy(
                    update={"nodes": tuple(node for node in hubble.nodes if zlib.crc32(node.encode()) % hubble.parts == number)}
                )
            if hubble.addresses:
                found[name] = Unit(name=name, cluster=cluster.name, hubble=hubble)
    return found


def fleet_of(lake_url: str, units: Iterable[str]) -> str:
    """Return what names these units in this lake: collectors share units with those alone that are configured with the same ones."""
    return sha256("\n".join([lake_url, *sorted(units)]).encode()).hexdigest()[:16]
