"""Writes drafts as CiliumNetworkPolicy or NetworkPolicy objects. Pure.

What a NetworkPolicy has no words for (entities, pods of other clusters) leaves its direction open, because closing it
would deny traffic that was observed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from pipelines.policy.labels import CLUSTER, POD_NAMESPACE, SERVICE_ACCOUNT
from pipelines.policy.model import Direction
from pipelines.recommend.drafts import Drafts, PortDraft, RuleDraft
from pipelines.recommend.observed import Evidence
from pipelines.recommend.peers import Kind, PeerDraft, reserved_of
from pipelines.recommend.selectors import Labels

MOST_PORTS = 40
"""More ports than this in one entry of toPorts are refused, as are more types in one list of icmps."""
_ICMP_FAMILIES = {"ICMPv4": "IPv4", "ICMPv6": "IPv6"}
T = TypeVar("T")
_WORDS = {Direction.INGRESS: "from", Direction.EGRESS: "to"}


class PolicyKind(StrEnum):
    """The kind of policy that is recommended."""

    CILIUM = "cilium"
    KUBERNETES = "kubernetes"


@dataclass(frozen=True)
class PolicyDraft:
    """The policy of one workload, before it is written."""

    namespace: str
    workloads: tuple[str, ...]
    """The workload, and others that the same labels select."""
    labels: Labels
    service_account: str
    """Selects the pods where no label can; empty otherwise. CiliumNetworkPolicy only."""
    directions: Mapping[Direction, Drafts]


@dataclass(frozen=True)
class WrittenRule:
    """One rule of an object, and what it was made from."""

    direction: Direction
    body: dict[str, Any]
    draft: RuleDraft
    ports: tuple[tuple[PortDraft, Evidence], ...]
    """Those of the draft's ports that this rule is about."""
    notes: tuple[str, ...] = ()
    """What is inferred, or wider than what was seen."""


@dataclass(frozen=True)
class WrittenPolicy:
    """A policy as a Kubernetes object, and the evidence of its rules."""

    manifest: dict[str, Any]
    rules: tuple[WrittenRule, ...]
    """In the order of the object's lists, ingress first."""
    open_directions: Mapping[Direction, tuple[str, ...]]
    """The directions that the policy does not close, with the reasons."""
    workloads: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it would decide nothing, since no direction can be closed and no rule written."""
        spec = self.manifest["spec"]
        return not (spec.get("policyTypes") or any(one.value in spec for one in Direction if "policyTypes" not in spec))

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.manifest["metadata"]["name"])


def write(draft: PolicyDraft, kind: PolicyKind) -> WrittenPolicy:
    """Write one policy."""
    return _cilium(draft) if kind is PolicyKind.CILIUM else _kubernetes(draft)


def name_of(draft: PolicyDraft) -> str:
    """The same name for the same workload and labels in every run; it never is the name of a policy for another selector."""
    text = re.sub(r"[^a-z0-9-]+", "-", draft.workloads[0].lower()).strip("-")[:200] or "workload"
    if text == draft.workloads[0]:
        return f"{text}-recommended"
    selected = repr((draft.workloads[0], draft.labels, draft.service_account)).encode()
    return f"{text}-{hashlib.sha256(selected).hexdigest()[:8]}-recommended"


def _metadata(draft: PolicyDraft) -> dict[str, Any]:
    return {"name": name_of(draft), "namespace": draft.namespace}


# CiliumNetworkPolicy


def _cilium(draft: PolicyDraft) -> WrittenPolicy:
    names = any(rule.peer.kind is Kind.NAME for drafts in draft.directions.values() for rule in drafts.rules)
    labels = dict(draft.labels) or {f"k8s:{SERVICE_ACCOUNT}": draft.service_account}
    spec: dict[str, Any] = {"endpointSelector": {"matchLabels": labels}}
    rules: list[WrittenRule] = []
    open_directions: dict[Direction, tuple[str, ...]] = {}
    sections: dict[str, list[Any]] = {}
    for direction in Direction:
        drafts = draft.directions[direction]
        written = [rule for one in drafts.rules for rule in cilium_rules(one, dns_names=names)]
        if written:
            sections[direction.value] = [rule.body for rule in written]
        elif drafts.is_observed:
            sections[direction.value] = [{}]  # closes the direction and allows nothing
        if not drafts.is_observed:
            open_directions[direction] = ("it was not observed at the workload itself",)
        rules += written
    unclosed = {one.value: False for one in open_directions if one.value in sections}
    if unclosed:
        spec["enableDefaultDeny"] = unclosed
    manifest = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": _metadata(draft), "spec": spec | sections}
    return WrittenPolicy(manifest, tuple(rules), open_directions, draft.workloads)


def cilium_rules(draft: RuleDraft, *, dns_names: bool) -> Iterator[WrittenRule]:
    """The rules of one draft: one for its ports, and one for its types of ICMP, which may not stand in the same rule.

    With `dns_names`, queries are allowed by name too, so that the agent learns the names that toFQDNs allows.
    """
    peer = {f"{_WORDS[draft.direction]}{key}": value for key, value in _cilium_peer(draft.peer).items()}
    by_dns = [False, True] if dns_names and draft.direction is Direction.EGRESS else [False]
    transports = [pair for pair in draft.ports if not pair[0].is_icmp]
    to_ports = []
    for inspects in by_dns:
        wanted = [port for port, _ in transports if (port.is_dns and len(by_dns) > 1) == inspects]
        for some in _chunks(wanted):
            entry: dict[str, Any] = {"ports": [{"port": str(port.number), "protocol": port.protocol} for port in some]}
            if inspects:
                entry["rules"] = {"dns": [{"matchPattern": "*"}]}
            to_ports.append(entry)
    if to_ports:
        yield WrittenRule(draft.direction, {**peer, "toPorts": to_ports}, draft, tuple(transports), _notes(draft.peer, transports))
    icmp = [pair for pair in draft.ports if pair[0].is_icmp]
    for group in _chunks(icmp):
        fields = [{"family": _ICMP_FAMILIES[port.protocol], "type": port.number} for port, _ in group]
        yield WrittenRule(draft.direction, {**peer, "icmps": [{"fields": fields}]}, draft, group, _notes(draft.peer, group))


def _cilium_peer(peer: PeerDraft) -> dict[str, Any]:
    if peer.kind is Kind.ENTITY:
        return {"Entities": [peer.value]}
    if peer.kind is Kind.NAME:
        return {"FQDNs": [{"matchName": peer.value}]}
    if peer.kind is Kind.RANGE:
        return {"CIDR": [peer.value]}
    labels = dict(peer.labels)
    selector: dict[str, Any] = {}
    if peer.namespace:
        labels[f"k8s:{POD_NAMESPACE}"] = peer.namespace
    else:
        selector["matchExpressions"] = [{"key": f"k8s:{POD_NAMESPACE}", "operator": "Exists"}]
    if peer.cluster:
        labels[f"k8s:{CLUSTER}"] = peer.cluster
    return {"Endpoints": [({"matchLabels": labels} if labels else {}) | selector]}


def _chunks(items: Sequence[T]) -> Iterator[tuple[T, ...]]:
    for start in range(0, len(items), MOST_PORTS):
        yield tuple(items[start : start + MOST_PORTS])


def _notes(peer: PeerDraft, ports: Iterable[tuple[PortDraft, Evidence]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for note in (peer.note, *(port.note for port, _ in ports)) if note))


# NetworkPolicy


def _kubernetes(draft: PolicyDraft) -> WrittenPolicy:
    spec: dict[str, Any] = {"podSelector": {"matchLabels": dict(draft.labels)}, "policyTypes": []}
    rules: list[WrittenRule] = []
    open_directions: dict[Direction, tuple[str, ...]] = {}
    for direction in Direction:
        drafts = draft.directions[direction]
        reasons = [] if drafts.is_observed else ["it was not observed at the workload itself"]
        written = []
        for one in drafts.rules:
            rule = kubernetes_rule(one)
            if isinstance(rule, str):
                reasons.append(rule)
            elif rule is not None:
                written.append(rule)
        if reasons:
            open_directions[direction] = tuple(dict.fromkeys(reasons))
            continue
        spec["policyTypes"].append(direction.value.capitalize())
        if written:
            spec[direction.value] = [rule.body for rule in written]
        rules += written
    manifest = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": _metadata(draft), "spec": spec}
    return WrittenPolicy(manifest, tuple(rules), open_directions, draft.workloads)


def kubernetes_rule(draft: RuleDraft) -> WrittenRule | str | None:
    """The rule; None where none is needed, and in words what a NetworkPolicy cannot say."""
    peer = draft.peer
    if peer.kind is Kind.ENTITY and peer.value == "host" and draft.direction is Direction.INGRESS:
        return None  # a pod's own node always reaches it
    peers = _kubernetes_peers(draft)
    if not peers:
        return f"a NetworkPolicy cannot name {peer.text}"
    body: dict[str, Any] = {_WORDS[draft.direction]: peers}
    notes = list(_notes(peer, draft.ports))
    if peer.kind is Kind.NAME:
        notes.append("inferred: a NetworkPolicy has no DNS names, and the name's addresses may change")
    if any(port.is_icmp for port, _ in draft.ports):
        notes.append("a NetworkPolicy has no ICMP, so the rule is for every port of this peer")
    else:
        body["ports"] = [{"port": port.number, "protocol": port.protocol} for port, _ in draft.ports]
    return WrittenRule(draft.direction, body, draft, draft.ports, tuple(notes))


def _kubernetes_peers(draft: RuleDraft) -> list[dict[str, Any]]:
    peer = draft.peer
    if peer.kind is Kind.RANGE:
        return [{"ipBlock": {"cidr": peer.value}}]
    if peer.kind is Kind.NAME:
        return [{"ipBlock": {"cidr": one}} for one in peer.addresses]
    if peer.kind is Kind.ENTITY and peer.value == "world":
        return [{"ipBlock": {"cidr": one}} for one in _worlds(draft)]
    if peer.kind is Kind.ENTITY and peer.value == "cluster":
        return [{"namespaceSelector": {}}]
    if peer.kind is Kind.ENTITY or peer.cluster:
        return []
    found: dict[str, Any] = {"namespaceSelector": {}}
    if peer.namespace:
        found["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": peer.namespace}}
    if peer.labels:
        found["podSelector"] = {"matchLabels": dict(peer.labels)}
    return [found]


def _worlds(draft: RuleDraft) -> list[str]:
    """The world in the families of addresses that were seen; in both where the family is not known."""
    families: set[int] = set()
    for edge in draft.evidence.edges:
        end = edge.peer(draft.direction)
        reserved = reserved_of(end)
        if end.side.address is not None:
            families.add(end.side.address.version)
        elif end.side.networks:
            families |= {one.version for one in end.side.networks}
        elif "world-ipv4" in reserved or "world-ipv6" in reserved:
            families |= {int(one[-1]) for one in reserved if one.startswith("world-ipv")}
        else:
            families |= {4, 6}
    return [{4: "0.0.0.0/0", 6: "::/0"}[family] for family in sorted(families)]
