"""How widely a rule opens, whichever way it is written: by entities, labels, ranges in parts, or patterns of names. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from pipelines.audits.wide import is_everyone, reaches_world
from pipelines.policy.labels import CLUSTER, POD_NAMESPACE, RESERVED, WORLD_LABELS, LabelSet
from pipelines.policy.model import Rule
from pipelines.policy.peers import CidrPeer, LabelPeer, NamePeer, Network
from pipelines.policy.selectors import DOES_NOT_EXIST, EXISTS, IN, NOT_IN, Selector

WIDEST = {4: 8, 6: 16}
"""By version of IP: ranges with a prefix of this length or a shorter one are wide."""
_PRIVATE = (ip_network("10.0.0.0/8"), ip_network("fc00::/7"))
_SHARED = ("host", "init", "remote-node", "unmanaged")
"""Entities that pods of any namespace may be: those on the network of their node, and those without labels of their own."""
_WORLDS = [LabelSet([f"{RESERVED}:{name}"]) for name in WORLD_LABELS]
_LABEL = "a-label-that-no-policy-names"
_NAMES = [".".join([_LABEL] * labels) for labels in range(1, 5)]


def wide_ranges(rule: Rule) -> list[Network]:
    """Return the wide ranges among those of a rule, joined where they touch. Exceptions are not taken out of them."""
    networks = [one.network for one in rule.peers or () if isinstance(one, CidrPeer)]
    joined: list[Network] = [*collapse_addresses([one for one in networks if isinstance(one, IPv4Network)])]
    joined += collapse_addresses([one for one in networks if isinstance(one, IPv6Network)])
    return [one for one in joined if one.prefixlen <= WIDEST[one.version]]


def public_ranges(rule: Rule) -> list[Network]:
    """Return the wide ranges of a rule that are not private as a whole."""
    return [one for one in wide_ranges(rule) if not any(_within(one, private) for private in _PRIVATE)]


def opens_world(rule: Rule) -> bool:
    """Whether labels or entities of the rule match every address outside of the cluster, of one version of IP at least."""
    return rule.peers is None or any(peer.selector.matches(world) for peer in _label_peers(rule) for world in _WORLDS)


def opens_everyone(rule: Rule) -> bool:
    """Whether the rule is for everyone: in one peer, or in several that are for every pod and for the world."""
    if is_everyone(rule):
        return True
    return (opens_world(rule) or bool(public_ranges(rule))) and any(_is_every_pod(peer.selector) for peer in _label_peers(rule))


def opens_unnamed_world(rule: Rule) -> bool:
    """Whether the rule allows addresses of the world that it does not name."""
    return reaches_world(rule) or opens_world(rule) or bool(public_ranges(rule)) or opens_every_name(rule)


def opens_every_name(rule: Rule) -> bool:
    """Whether a pattern of DNS names matches every name, or every name with some number of labels."""
    return any(peer.pattern.matches(name) for peer in rule.peers or () if isinstance(peer, NamePeer) for name in _NAMES)


def entities(rule: Rule) -> set[str]:
    """Return the entities that the rule's selectors require, without `reserved:`."""
    return {name for peer in _label_peers(rule) for name in entities_of(peer.selector)}


def entities_of(selector: Selector) -> set[str]:
    """Return the entities that a selector requires; none for one that only excludes some, and so selects everything else."""
    return {one.key for one in selector.requirements if one.source == RESERVED and one.operator in (EXISTS, IN)}


def shared_entities(rule: Rule) -> list[str]:
    """Return the entities of the rule that pods of any namespace may be, sorted."""
    return sorted(entities(rule).intersection(_SHARED))


def _label_peers(rule: Rule) -> Iterator[LabelPeer]:
    return (one for one in rule.peers or () if isinstance(one, LabelPeer))


def _is_every_pod(selector: Selector) -> bool:
    """Whether the selector matches the pods of every namespace, but for those that it excludes by label."""
    return all(
        one.operator in (NOT_IN, DOES_NOT_EXIST) or one.key == CLUSTER or (one.key == POD_NAMESPACE and one.operator == EXISTS)
        for one in selector.requirements
    )


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer
