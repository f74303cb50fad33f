"""How a rule names the other end: pods by labels, an entity, a DNS name, or a range of addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_network

from pipelines.policy.labels import POD_NAMESPACE, RESERVED, WORLD_LABELS, LabelSet, parse_label
from pipelines.policy.model import Direction
from pipelines.policy.names import LONGEST_NAME, NAME_FORM
from pipelines.recommend import selectors
from pipelines.recommend.observed import End, ObservedEdge
from pipelines.recommend.selectors import Labels

MANY_ADDRESSES = 16
"""More addresses without a name than this are not listed one by one: the rule names the world then."""

_ENTITIES = ("kube-apiserver", "host", "remote-node", "health", "ingress", "init", "unmanaged")
"""Entities in the order in which they name an end that has several of their labels."""


class Kind(StrEnum):
    """The kinds of peers."""

    PODS = "pods"
    ENTITY = "entity"
    NAME = "name"
    RANGE = "range"


@dataclass(frozen=True, order=True)
class PeerDraft:
    """The other end of a rule, before it is written in the words of one kind of policy."""

    kind: Kind
    namespace: str = ""
    """For pods; empty for pods of every namespace."""
    cluster: str = ""
    """For pods of another cluster."""
    labels: Labels = ()
    """For pods; empty for every pod of the namespace."""
    value: str = ""
    """The entity, the DNS name or the range."""
    addresses: tuple[str, ...] = field(default=(), compare=False)
    """For a DNS name: the addresses that were seen with it."""
    text: str = field(default="", compare=False)
    """As people call it."""
    note: str = field(default="", compare=False)
    """What about it was not seen but inferred, or is wider than what was seen."""


class Namer:
    """Names the peers of one recommendation."""

    def __init__(self, known: Mapping[tuple[str, str], Mapping[str, Sequence[LabelSet]]]) -> None:
        """Prepare.

        Args:
            known: label sets by cluster and namespace, then by workload; peers are told from the others of their namespace.
        """
        self._known = known

    def name(self, end: End, direction: Direction, addresses: int) -> tuple[PeerDraft, ...]:
        """The peers that stand for an end: one, or one for each of its DNS names.

        Args:
            end: the other end of the subject's traffic.
            direction: of the subject's rule; names can be written for egress alone.
            addresses: how many addresses without a name the subject talks to in this direction.
        """
        if end.is_pod:
            return (self._pods(end),)
        labels = end.side.seen_as
        if labels is not None:
            entity = next((one for one in _ENTITIES if labels.has_reserved(one)), "")
            if entity:
                return (PeerDraft(Kind.ENTITY, value=entity, text=_entity_text(entity, end)),)
        elif not end.side.names and end.side.address is None and not end.side.networks:
            note = "the labels of this end are not known or not visible to you, so the rule is for the whole cluster"
            return (PeerDraft(Kind.ENTITY, value="cluster", text="an end that is not shown", note=note),)
        return self._outside(end, direction, addresses)

    def _pods(self, end: End) -> PeerDraft:
        labels = end.labels
        namespace = end.namespace or (labels.get("any", POD_NAMESPACE) if labels else None) or ""
        workloads = self._known.get((end.cluster, namespace), {})
        own = workloads.get(end.workload) or ([labels] if labels is not None else [])
        others = [one for name, sets in workloads.items() if name != end.workload for one in sets]
        chosen = selectors.choose(own, others)
        note = ""
        if not own:
            note = "the labels of this end are not known or not visible to you, so the rule is for its whole namespace"
        elif not chosen:
            note = "none of its labels is stable, so the rule is for its whole namespace"
        return PeerDraft(Kind.PODS, namespace, end.cluster, chosen, text=end.text, note=note)

    def _outside(self, end: End, direction: Direction, addresses: int) -> tuple[PeerDraft, ...]:
        address = str(end.side.address) if end.side.address is not None else ""
        names = [name.rstrip(".").lower() for name in end.side.names or ()]
        names = sorted({name for name in names if len(name) <= LONGEST_NAME and NAME_FORM.fullmatch(name)})
        if names and direction is Direction.EGRESS:
            note = "the name is inferred from the history of names" if end.names_inferred else ""
            known = (host_range(address),) if address else tuple(map(str, end.side.networks))
            return tuple(PeerDraft(Kind.NAME, value=name, addresses=known, text=name, note=note) for name in names)
        if addresses > MANY_ADDRESSES or not (address or end.side.networks):
            note = f"{addresses} addresses were seen" if addresses > MANY_ADDRESSES else "its address was not recorded"
            return (PeerDraft(Kind.ENTITY, value="world", text="addresses outside of the cluster", note=note),)
        if address:
            note = "inferred: a single address without a DNS name, which may change"
            return (PeerDraft(Kind.RANGE, value=host_range(address), text=address, note=note),)
        note = "inferred: hourly summaries keep the range alone, not the address"
        return tuple(PeerDraft(Kind.RANGE, value=str(one), text=str(one), note=note) for one in end.side.networks)


def host_range(address: str) -> str:
    """The range of one address: /32, or /128 for IPv6."""
    return str(ip_network(address))


def count_addresses(edges: Iterable[ObservedEdge], direction: Direction) -> int:
    """How many addresses or ranges outside of the cluster are peers that a rule could only name by address."""
    found: set[str] = set()
    for edge in edges:
        end = edge.peer(direction)
        is_outside = not end.is_pod and (end.side.seen_as is None or reserved_of(end) <= set(WORLD_LABELS))
        named = bool(end.side.names) and direction is Direction.EGRESS
        if is_outside and not named:
            found |= {str(end.side.address)} if end.side.address is not None else set(map(str, end.side.networks))
    return len(found)


def reserved_of(end: End) -> set[str]:
    """The reserved labels of an end, without their source."""
    labels = end.side.seen_as
    return {key for source, key, _ in map(parse_label, labels.texts if labels else ()) if source == RESERVED}


def _entity_text(entity: str, end: End) -> str:
    return f"{entity} ({end.side.name})" if end.side.name and end.side.name != entity else entity
