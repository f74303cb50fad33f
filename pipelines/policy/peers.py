"""The other end of a rule: pods, entities, address ranges, names, and what cannot be known from a flow. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.policy.labels import CLUSTER, KUBERNETES, RESERVED
from pipelines.policy.model import Match, Missing, Network, Side
from pipelines.policy.names import NamePattern
from pipelines.policy.selectors import EVERYTHING, IN, Requirement, Selector, has_label

__all__ = ["EVERYONE", "CidrPeer", "LabelPeer", "NamePeer", "Network", "Peer", "UnknownPeer", "cidr_peer", "entity_peers"]


@dataclass(frozen=True)
class LabelPeer:
    """Ends whose labels match a selector: pods, and entities, which are reserved labels."""

    selector: Selector
    text: str = ""

    def matches(self, side: Side) -> Match:
        """Whether the end's labels match."""
        if self.selector.is_wildcard:
            return True
        if side.seen_as is None:
            return side.missing_labels
        if self.selector.matches(side.seen_as):
            return True
        return side.missing_labels if self.selector.may_match(side.seen_as) else False


@dataclass(frozen=True)
class CidrPeer:
    """Addresses in a range, without exceptions."""

    network: Network
    exceptions: tuple[Network, ...] = ()
    matches_pods: bool = False
    """Whether pods match by their address; Cilium's CIDR rules select only what is outside of the cluster."""
    matches_nodes: bool = False

    def matches(self, side: Side) -> Match:
        """Whether the end's address is in the range, and the end is of a kind that ranges select."""
        everywhere = self.matches_pods and self.matches_nodes
        if side.seen_as is None and not everywhere:
            inside = self._holds(side)
            return Missing(f"whether {side.name} is outside of the cluster") if inside is not False else False
        if side.seen_as is not None and not side.seen_as.is_world:
            allowed = self.matches_nodes if side.seen_as.is_node else self.matches_pods
            if not allowed:
                return False
        return self._holds(side)

    def _holds(self, side: Side) -> Match:
        if side.address is None:
            return self._holds_labels(side)
        address = side.address
        if address.version != self.network.version or address not in self.network:
            return False
        return not any(address.version == one.version and address in one for one in self.exceptions)

    def _holds_labels(self, side: Side) -> Match:
        """For an end whose address is not known: the labels of the world's two families still rule out half of it."""
        labels = side.seen_as
        other = "world-ipv6" if self.network.version == 4 else "world-ipv4"
        if labels is not None and labels.has_reserved(other):
            return False
        if labels is not None and labels.has_reserved("health", "unmanaged", "init", "ingress"):
            return False
        if side.networks:
            answers = {self._holds_network(network) for network in side.networks}
            if len(answers) == 1 and (known := answers.pop()) is not None:
                return known
        if labels is not None and labels.is_world and self.network.prefixlen == 0 and not self.exceptions:
            return True
        return Missing(f"the address of {side.name}")

    def _holds_network(self, network: Network) -> bool | None:
        """Whether every address of a range is in this one, or none is; None if only some are."""
        if not _overlap(self.network, network) or any(_within(network, one) for one in self.exceptions):
            return False
        if _within(network, self.network) and not any(_overlap(network, one) for one in self.exceptions):
            return True
        return None


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _within(inner: Network, outer: Network) -> bool:
    return _overlap(inner, outer) and inner.prefixlen >= outer.prefixlen


def cidr_peer(network: Network, exceptions: tuple[Network, ...], modes: frozenset[str]) -> CidrPeer:
    """A range that matches what the agent's policy-cidr-match-mode says.

    A range of every address stands for the world, so that nodes match it only where pods do, too.
    """
    nodes = "nodes" in modes and (network.prefixlen > 0 or "pods" in modes)
    return CidrPeer(network, exceptions, matches_pods="pods" in modes, matches_nodes=nodes)


@dataclass(frozen=True)
class NamePeer:
    """Addresses outside of the cluster for which a DNS name was learned that fits."""

    pattern: NamePattern

    def matches(self, side: Side) -> Match:
        """Whether one of the names learned for the end's address fits."""
        if side.seen_as is not None and not side.seen_as.is_world:
            return False
        if side.names is None:
            return Missing(f"the DNS names learned for {side.name}")
        if not any(self.pattern.matches(name) for name in side.names):
            possible = any(self.pattern.matches(name) for name in side.possible_names)
            return Missing(f"the DNS names learned for {side.name}") if possible else False
        return True if side.seen_as is not None else Missing(f"whether {side.name} is outside of the cluster")


@dataclass(frozen=True)
class UnknownPeer:
    """A peer that only something outside of the policies can resolve."""

    what: str

    def matches(self, _side: Side) -> Match:
        """Never known; the answer says what is missing."""
        return Missing(self.what)


Peer = LabelPeer | CidrPeer | NamePeer | UnknownPeer

EVERYONE = LabelPeer(EVERYTHING, "everyone")

_CLUSTER_ENTITIES = ("host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver")
_RESERVED_LABELS = {
    "world": ("world", "world-ipv4", "world-ipv6"),
    "cluster": _CLUSTER_ENTITIES,
    "cluster-mesh": _CLUSTER_ENTITIES,
}


def entity_peers(entity: str, cluster_name: str) -> tuple[LabelPeer, ...]:
    """The peers that an entity stands for; every entity but these three is the reserved label of its own name."""
    if entity == "all":
        return (EVERYONE,)
    found = [LabelPeer(has_label(RESERVED, label), f"entity {entity}") for label in _RESERVED_LABELS.get(entity, (entity,))]
    if entity == "cluster":
        found.append(LabelPeer(Selector((Requirement(KUBERNETES, CLUSTER, IN, (cluster_name,)),)), "entity cluster"))
    if entity == "cluster-mesh":
        found.append(LabelPeer(has_label("any", CLUSTER), "entity cluster-mesh"))
    return tuple(found)
