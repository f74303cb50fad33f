"""What is risky in a proposal: what its simulation denies or cannot tell, and what its rules open to others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from pipelines.audits.wide import is_everyone, whole_ranges
from pipelines.policy.model import Action, Direction, Rule
from pipelines.policy.policy_set import PolicySet
from pipelines.proposals.guard_rails import other_namespaces
from pipelines.replay.changed_edges import ChangedEdge, Shown
from pipelines.replay.outcomes import Change
from pipelines.replay.whatif import Result
from warehouse.access.principals import Grant, Scope

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
    for direction in Direction:
        isolated, still = (any(rule.default_deny for rule in one.rules if rule.direction is direction) for one in (before, after))
        if isolated and not still:
            found.append(f"{direction} that no rule allows is no longer denied by it")
    return found


def _opens(rule: Rule, namespace: str | None, owns: Owns) -> Iterable[str]:
    if is_everyone(rule):
        yield f"opens {rule.direction} for everyone"
        return
    if whole_ranges(rule):
        yield f"opens {rule.direction} for every address"
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


def counted(number: int, what: str) -> str:
    """Return a number of things, in words."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
