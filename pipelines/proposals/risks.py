"""What is risky in a proposal: what its simulation denies or cannot tell, and what its rules open to others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import product

from pipelines.policy.model import Action, Rule
from pipelines.policy.policy_set import PolicySet
from pipelines.proposals import openings
from pipelines.proposals.guard_rails import other_namespaces
from pipelines.replay.changed_edges import ChangedEdge, Shown
from pipelines.replay.outcomes import Change
from pipelines.replay.whatif import Result
from warehouse.access.principals import Grant, Scope
from warehouse.wording import counted

Owns = Callable[[str], bool]
"""Whether a namespace belongs to those who own the proposal's."""


def owned_with(scope: Scope, grants: Sequence[Grant], cluster: str, namespace: str | None, now: datetime) -> Owns:
    """Return whether a namespace is the author's as well; of an author who owns everything, whether it has an owner in common.

    A proposal for a whole cluster is about no namespace of anyone in particular, so every namespace is somebody else's.
    """

    def owners(name: str) -> set[str]:
        return {one.subject for one in grants if one.role == "namespace-owner" and not one.is_denial and one.covers(cluster, name, now)}

    own = scope.without_audits
    if namespace is None:
        return lambda _: False
    if not own.sees_whole(cluster, now):
        return lambda name: own.owns(cluster, name, now)
    ours = owners(namespace)
    return lambda name: name == namespace or bool(ours & owners(name))


def of_simulation(result: Result, owns: Owns) -> list[str]:
    """Return the risks that a simulation shows, a sentence each."""
    found = []
    flows, edges = result.count(Change.NEWLY_DENIED)
    if edges:
        found.append(f"it would have denied {counted(flows, 'flow')} on {counted(edges, 'edge')}")
    flows, edges = result.count(Change.UNCERTAIN)
    if edges:
        found.append(f"for {counted(flows, 'flow')} on {counted(edges, 'edge')} it cannot be told what it would have done")
    opened = [edge for edge in result.edges if edge.change is Change.NEWLY_ALLOWED and _crosses(edge, owns)]
    if opened:
        found.append(f"it would have opened {counted(len(opened), 'edge')} with namespaces of others, or from outside of the cluster")
    if result.alone:
        found.append("no configuration history tells which other policies are in force, so it was judged alone")
    return found


def of_rules(before: PolicySet, after: PolicySet, namespace: str | None, owns: Owns) -> list[str]:
    """Return the risks of rules that the change adds or takes away, a sentence each."""
    known = {_content(rule) for rule in before.rules}
    found = []
    for rule in after.rules:
        if rule.action is Action.ALLOW and rule.ports != () and _content(rule) not in known:
            found += [f"{rule.origin} {text}" for text in _opens(rule, namespace, owns)]
    still_denied = {content for rule in after.rules for content in _denials(rule)}
    for rule in before.rules:
        if any(content not in still_denied for content in _denials(rule)):
            found.append(
                f"{rule.origin.policy} no longer denies {rule.direction} that {rule.origin.path} denied, or denies it in another order"
            )
    return found + list(dict.fromkeys(_no_longer_isolated(before, after)))


def _no_longer_isolated(before: PolicySet, after: PolicySet) -> Iterable[str]:
    """Each policy and direction of `before` that isolates pods which `after` may not isolate.

    Pods are still isolated by a selector that has no other conditions than the selector before.
    """
    isolating = [rule for rule in after.rules if rule.default_deny]
    for rule in before.rules:
        if rule.default_deny and not any(
            (one.direction, one.selects_nodes) == (rule.direction, rule.selects_nodes)
            and set(one.subject.requirements) <= set(rule.subject.requirements)
            for one in isolating
        ):
            what = f"{rule.origin.policy} no longer isolates all the {'nodes' if rule.selects_nodes else 'pods'} it did"
            yield f"{what}: {rule.direction} that no rule allows is no longer denied there"


def _denials(rule: Rule) -> Iterable[tuple[object, ...]]:
    """What a rule denies, for each peer and port by itself."""
    if rule.action is Action.DENY:
        for peer, port in product((None,) if rule.peers is None else rule.peers, (None,) if rule.ports is None else rule.ports):
            yield rule.direction, rule.subject, rule.selects_nodes, rule.tier, rule.priority, peer, port


def _opens(rule: Rule, namespace: str | None, owns: Owns) -> Iterable[str]:
    if openings.opens_everyone(rule):
        yield f"opens {rule.direction} for everyone"
        return
    ranges = openings.wide_ranges(rule)
    if openings.opens_world(rule) or any(one.prefixlen == 0 for one in ranges):
        yield f"opens {rule.direction} for every address"
    elif ranges:
        yield f"opens {rule.direction} for {' and '.join(map(str, ranges))}"
    if openings.opens_every_name(rule):
        yield f"opens {rule.direction} for every DNS name"
    if shared := openings.shared_entities(rule):
        yield f"opens {rule.direction} for {', '.join(shared)}, which pods of any namespace may be"
    names = other_namespaces(rule, namespace)
    if names is None:
        yield f"opens {rule.direction} for pods of any namespace"
    elif foreign := sorted(name for name in names if not owns(name)):
        yield f"opens {rule.direction} for pods of {', '.join(foreign)}"


def _content(rule: Rule) -> tuple[object, ...]:
    """What a rule says, wherever it is written."""
    return rule.direction, rule.action, rule.subject, rule.peers, rule.ports, rule.tier, rule.priority


def _crosses(edge: ChangedEdge, owns: Owns) -> bool:
    return _is_foreign(edge.source, owns, is_source=True) or _is_foreign(edge.destination, owns, is_source=False)


def _is_foreign(end: Shown, owns: Owns, *, is_source: bool) -> bool:
    """Whether an end belongs to others; an end that is hidden may. What a pod reaches outside of the cluster is nobody's."""
    _, namespace, _, entity, dns_name, cidr = end
    if namespace is not None:
        return not owns(namespace)
    is_outside = bool(dns_name or cidr) or (entity or "").startswith("world")
    return is_source if is_outside else entity is None
