"""Rules before they are written: a direction, a peer, its ports, and the evidence of each. Pure."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipelines.policy.model import Direction
from pipelines.recommend.observed import Evidence, ObservedEdge, Seen
from pipelines.recommend.peers import Kind, Namer, PeerDraft, count_addresses
from pipelines.recommend.triage import ONE_OFF_WINDOW_DAYS, RARE_FLOWS, Reason, SetApart

DNS_PORTS = frozenset({53, 5353})
"""Ports of resolvers: the usual one, and that of pods which may not bind it."""
_RETRY = "DNS uses UDP and TCP: truncated answers are asked for again over TCP"
ECHO_REQUEST = {"ICMPv4": 8, "ICMPv6": 128}


@dataclass(frozen=True, order=True)
class PortDraft:
    """One port of a rule, or one type of ICMP."""

    protocol: str
    number: int
    note: str = field(default="", compare=False)
    """What about it was not seen."""

    @property
    def is_icmp(self) -> bool:
        """Whether this is a type of ICMP."""
        return self.protocol in ECHO_REQUEST

    @property
    def is_dns(self) -> bool:
        """Whether a resolver answers there."""
        return self.number in DNS_PORTS and self.protocol in ("UDP", "TCP")

    def __str__(self) -> str:
        return f"{self.protocol} type {self.number}" if self.is_icmp else f"{self.protocol} {self.number}"


@dataclass(frozen=True)
class RuleDraft:
    """One rule: a peer and its ports."""

    direction: Direction
    peer: PeerDraft
    ports: tuple[tuple[PortDraft, Evidence], ...]
    """Sorted."""

    @property
    def evidence(self) -> Evidence:
        """What was observed of all of its ports; an edge counts once."""
        edges = {id(edge): edge for _, evidence in self.ports for edge in evidence.edges}
        return Evidence.of(edges.values())


@dataclass(frozen=True)
class Drafts:
    """The rules of one subject in one direction."""

    rules: tuple[RuleDraft, ...]
    apart: tuple[SetApart, ...]
    is_observed: bool
    """Whether traffic in this direction was reported at the subject's own end. Otherwise the direction is not closed."""


def draft(edges: Sequence[ObservedEdge], direction: Direction, namer: Namer, seen: Seen, *, include_one_offs: bool = False) -> Drafts:
    """The rules that allow a subject's edges in one direction, in a fixed order.

    Args:
        edges: the subject's edges in this direction that rules are made from.
        direction: of the rules.
        namer: names the peers.
        seen: the window.
        include_one_offs: whether traffic that was seen on one day only gets a rule.
    """
    addresses = count_addresses(edges, direction)
    found: dict[PeerDraft, dict[PortDraft, list[ObservedEdge]]] = defaultdict(lambda: defaultdict(list))
    drafts: dict[PeerDraft, PeerDraft] = {}
    for edge in edges:
        for peer in namer.name(edge.peer(direction), direction, addresses):
            known = drafts.setdefault(peer, peer)
            merged = tuple(sorted({*known.addresses, *peer.addresses}))
            drafts[peer] = dataclasses.replace(known, addresses=merged)
            found[peer][_port(edge)].append(edge)
    apart: dict[int, SetApart] = {}
    rules = []
    for peer in sorted(found, key=lambda one: (list(Kind).index(one.kind), one)):
        ports = {}
        for port, used in found[peer].items():
            evidence = Evidence.of(used)
            if not include_one_offs and _is_one_off(evidence, seen):
                apart.update({id(edge): SetApart(edge, Reason.ONE_OFF) for edge in used})
            else:
                ports[port] = evidence
        if ports:
            rules.append(RuleDraft(direction, drafts[peer], tuple(sorted(_with_retries(ports).items(), key=lambda pair: pair[0]))))
    used_edges = {id(edge) for rule in rules for edge in rule.evidence.edges}
    left = tuple(one for key, one in apart.items() if key not in used_edges)
    return Drafts(tuple(rules), left, any(direction in edge.seen_at for edge in edges))


def _port(edge: ObservedEdge) -> PortDraft:
    if edge.protocol not in ECHO_REQUEST:
        return PortDraft(edge.protocol, edge.port or 0)
    if edge.icmp_type is None:
        return PortDraft(edge.protocol, ECHO_REQUEST[edge.protocol], "inferred: the type was not recorded, an echo request is assumed")
    return PortDraft(edge.protocol, edge.icmp_type)


def _is_one_off(evidence: Evidence, seen: Seen) -> bool:
    return seen.days >= ONE_OFF_WINDOW_DAYS and len(evidence.days) <= 1 and evidence.flows <= RARE_FLOWS


def _with_retries(ports: dict[PortDraft, Evidence]) -> dict[PortDraft, Evidence]:
    """The ports, and for DNS the other transport: a truncated answer is asked for again over TCP."""
    for port in [one for one in ports if one.is_dns]:
        other = PortDraft("TCP" if port.protocol == "UDP" else "UDP", port.number, _RETRY)
        ports.setdefault(other, Evidence.of(()))
    return ports


def names_of(rules: Iterable[RuleDraft]) -> list[str]:
    """The DNS names that rules allow."""
    return sorted({rule.peer.value for rule in rules if rule.peer.kind is Kind.NAME})
