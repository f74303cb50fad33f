"""Traffic that no rule should be made from, set apart with the reason. Pure."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipelines.policy.model import Direction
from pipelines.policy.ports import TRANSPORTS
from pipelines.recommend import selectors
from pipelines.recommend.observed import ALLOWED_VERDICTS, ObservedEdge

SCANNED_PORTS = 15
"""A client that tries more ports than this at one server is scanning it."""
RARE_FLOWS = 3
"""Up to so many flows, a port of a scan is not used, and traffic of a single day is a one-off."""
ONE_OFF_WINDOW_DAYS = 3
"""In a shorter window, everything may have been seen on one day."""


class Reason(StrEnum):
    """Why traffic is set apart."""

    DENIED = "denied: it did not reach the other end"
    UNTRANSLATED = "seen at the socket, before or while a Service's address was translated"
    REPLY = "replies, which need no rule"
    NO_PROTOCOL = "its protocol is not known"
    NO_PORT = "the server's port is not known"
    SCAN = "a scan: the client tried many ports, and hardly used this one"
    ONE_OFF = "one-off: seen on one day only, a few times"


@dataclass(frozen=True)
class SetApart:
    """An edge that no rule was made from."""

    edge: ObservedEdge
    reason: Reason


@dataclass(frozen=True)
class ServicePort:
    """A port of a Service and the pods' port behind it."""

    namespace: str
    selector: Mapping[str, str]
    protocol: str
    port: int
    target: int


def sort_out(edges: Iterable[ObservedEdge]) -> tuple[list[ObservedEdge], list[SetApart]]:
    """The edges that rules are made from, and those set apart."""
    kept: list[ObservedEdge] = []
    apart: list[SetApart] = []
    for edge in edges:
        reason = _reason(edge)
        if reason is None:
            kept.append(edge)
        else:
            apart.append(SetApart(edge, reason))
    scans = _scans(kept + [one.edge for one in apart if one.reason in (Reason.NO_PORT, Reason.DENIED)])
    scanning = [edge for edge in kept if _ends(edge) in scans and edge.flows <= RARE_FLOWS]
    chosen = set(map(id, scanning))
    return [edge for edge in kept if id(edge) not in chosen], apart + [SetApart(edge, Reason.SCAN) for edge in scanning]


def _reason(edge: ObservedEdge) -> Reason | None:
    if edge.is_reply:
        return Reason.REPLY
    if edge.verdict in ("TRACED", "TRANSLATED"):
        return Reason.UNTRANSLATED
    if edge.verdict not in ALLOWED_VERDICTS:
        return Reason.DENIED
    if edge.protocol in TRANSPORTS:
        return Reason.NO_PORT if edge.port is None else None
    return None if edge.protocol in ("ICMPv4", "ICMPv6") else Reason.NO_PROTOCOL


def _ends(edge: ObservedEdge) -> tuple[object, ...]:
    return edge.source.text, edge.source.side.seen_as, edge.destination.text, edge.destination.side.seen_as


def _scans(edges: Iterable[ObservedEdge]) -> set[tuple[object, ...]]:
    """The pairs of ends where the client tried many ports of the server."""
    ports: dict[tuple[object, ...], set[tuple[str, int | None]]] = defaultdict(set)
    for edge in edges:
        ports[_ends(edge)].add((edge.protocol, edge.port))
    return {ends for ends, tried in ports.items() if len(tried) > SCANNED_PORTS}


def translate(edges: Iterable[ObservedEdge], services: Sequence[ServicePort]) -> list[ObservedEdge]:
    """The edges with the pods' port where only the client's end was seen, with the port of a Service.

    Policies see the port after a Service's address was translated. A port at which the pods themselves were seen to be
    reached stays.
    """
    found = list(edges)
    reached = {_server(edge) for edge in found if Direction.INGRESS in edge.seen_at and edge.verdict in ALLOWED_VERDICTS}
    return [_translated(edge, services) if _server(edge) not in reached else edge for edge in found]


def _server(edge: ObservedEdge) -> tuple[object, ...]:
    end = edge.destination
    return end.cluster, end.namespace, end.workload or end.side.seen_as, edge.protocol, edge.port


def _translated(edge: ObservedEdge, services: Sequence[ServicePort]) -> ObservedEdge:
    labels = edge.destination.labels
    if labels is None or not edge.destination.namespace:
        return edge
    for service in services:
        same = (service.namespace, service.protocol, service.port) == (edge.destination.namespace, edge.protocol, edge.port)
        if same and service.selector and selectors.matches(service.selector.items(), labels):
            return dataclasses.replace(edge, port=service.target)
    return edge
