"""Whether a proposed policy contains what a blueprint's guard-rails forbid, rule by rule. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pipelines.audits.wide import is_everyone, port_text
from pipelines.blueprints.guard_rails import GuardRail
from pipelines.blueprints.model import BlueprintFile
from pipelines.policy.labels import KUBERNETES, NAMESPACE_LABELS, POD_NAMESPACE
from pipelines.policy.model import Action, Direction, Rule
from pipelines.policy.peers import LabelPeer
from pipelines.policy.policy_set import PolicySet
from pipelines.policy.selectors import IN, Selector
from pipelines.proposals import openings
from pipelines.proposals.model import Check
from warehouse import config

NAME_OF_NAMESPACE = f"{NAMESPACE_LABELS}.kubernetes.io/metadata.name"
"""The label that every namespace has, with its name, as Cilium writes it at pods."""
_ENTITY = "entity "
_SOURCES = (KUBERNETES, "any")


def check(
    files: Sequence[BlueprintFile],
    cluster: config.Cluster,
    namespace: str | None,
    labels: Mapping[str, str],
    policies: PolicySet,
) -> list[Check]:
    """Return a failed check for each rule that a guard-rail of the cluster's blueprints forbids.

    Args:
        files: the configured blueprints.
        cluster: where the policies are to stand.
        namespace: theirs; None for policies of the whole cluster, to which every guard-rail applies.
        labels: the labels of the namespace, as far as they are known.
        policies: the proposed policies, compiled.
    """
    found: list[Check] = []
    for file in files:
        blueprint = file.blueprint
        if not blueprint.clusters.selects(cluster.name, cluster.labels):
            continue
        for rail in blueprint.guard_rails:
            if namespace is None or rail.select.selects(namespace, labels):
                found += _failed(blueprint.name, rail, namespace, policies)
    return found


def _failed(blueprint: str, rail: GuardRail, namespace: str | None, policies: PolicySet) -> Iterator[Check]:
    for rule in policies.rules:
        if rule.action is not Action.ALLOW or rule.ports == ():
            continue
        for what in _what(rail, rule, namespace):
            origin = rule.origin
            text = f"{origin.policy} {origin.path} {what}, which guard-rail {rail.name} of blueprint {blueprint} forbids: {rail.reason}"
            yield Check(check="guard-rail", is_met=False, text=text, path=origin.path, line=origin.line, blueprint=blueprint)


def _what(rail: GuardRail, rule: Rule, namespace: str | None) -> Iterator[str]:
    """What of a rule is forbidden, in words."""
    side = "from" if rule.direction is Direction.INGRESS else "to"
    found: dict[str, Callable[[], str]] = {
        "allow-all": lambda: f"allows {rule.direction} {side} everyone on {port_text(rule)}" if openings.opens_everyone(rule) else "",
        "any-address": lambda: _addresses(rule, side),
        "world-without-names": lambda: (
            "allows egress to every address outside of the cluster, whatever its DNS name"
            if rule.direction is Direction.EGRESS and openings.opens_unnamed_world(rule)
            else ""
        ),
        "other-namespaces": lambda: _others(rail, rule, namespace, side),
    }
    for kind in rail.forbid:
        if text := found[kind]():
            yield text
    entities = {one.text.removeprefix(_ENTITY) for one in rule.peers or () if isinstance(one, LabelPeer) and one.text.startswith(_ENTITY)}
    entities |= openings.entities(rule)
    if any(isinstance(one, LabelPeer) and one.text == "everyone" for one in rule.peers or ()):
        entities.add("all")
    if is_everyone(rule):
        entities.update(rail.forbid_entities)
    if openings.opens_world(rule):
        entities.add("world")
    for name in sorted(entities):
        if name in rail.forbid_entities:
            yield f"allows {rule.direction} {side} the entity {name}"


def _addresses(rule: Rule, side: str) -> str:
    if openings.opens_world(rule):
        return f"allows {rule.direction} {side} every address outside of the cluster"
    ranges = openings.public_ranges(rule)
    return f"allows {rule.direction} {side} {' and '.join(map(str, ranges))}" if ranges else ""


def _others(rail: GuardRail, rule: Rule, namespace: str | None, side: str) -> str:
    names = other_namespaces(rule, namespace)
    if names is None:
        return f"allows {rule.direction} {side} pods of namespaces that it does not name"
    if shared := openings.shared_entities(rule):
        return f"allows {rule.direction} {side} {', '.join(shared)}, which pods of any namespace may be"
    forbidden = sorted(name for name in names if not rail.allows_namespace(name))
    return f"allows {rule.direction} {side} pods of {', '.join(forbidden)}" if forbidden else ""


def other_namespaces(rule: Rule, namespace: str | None) -> set[str] | None:
    """Return the other namespaces whose pods a rule names; None if it may be any namespace."""
    if is_everyone(rule):
        return None
    names: set[str] = set()
    for peer in rule.peers or ():
        if isinstance(peer, LabelPeer) and not openings.entities_of(peer.selector):
            found = _named(peer.selector)
            if found is None:
                return None
            names |= found
    return names - {namespace} if namespace is not None else names


def _named(selector: Selector) -> set[str] | None:
    """The namespaces that a selector is limited to; None if it is not limited to any by name."""
    limits = [
        set(one.values)
        for one in selector.requirements
        if one.operator == IN and one.source in _SOURCES and one.key in (POD_NAMESPACE, NAME_OF_NAMESPACE)
    ]
    return set.intersection(*limits) if limits else None
