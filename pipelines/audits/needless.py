"""Shadowed rules, which can never decide, and redundant ones, which another rule makes unnecessary. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.audits.covering import rule_covers, selector_covers
from pipelines.audits.finding import Audited, Kind, Policies, about_rule
from pipelines.policy.labels import POD_NAMESPACE
from pipelines.policy.model import Action, Rule
from pipelines.policy.policy_set import PolicySet
from pipelines.policy.selectors import IN

_ORDER = (Action.DENY, Action.ALLOW, Action.PASS)
"""Within one tier and priority, in the order in which they decide."""


def needless_rules(cluster: str, policies: PolicySet, manifests: Policies) -> tuple[Audited, Audited]:
    """Return the audits of shadowed and of redundant rules.

    A rule that only isolates, and one that allows nothing, is neither: they decide by what they do not allow.
    """
    shadowed, redundant, checked = {}, {}, 0
    passing = [rule for rule in policies.rules if rule.action is Action.PASS]
    for rule, others in _with_candidates(policies.rules):
        checked += 1
        above = next((one for one in others if _decides_before(one, rule, passing) and rule_covers(one, rule)), None)
        if above is not None:
            summary = f"{rule.origin} can never decide: {above.origin} comes first and {_verb(above)} everything that it matches"
            finding = about_rule(Kind.SHADOWED_RULE, "low", cluster, rule, manifests, summary, by=str(above.origin))
            shadowed[finding.key] = finding
            continue
        beside = next((one for one in others if _makes_redundant(one, rule)), None)
        if beside is not None:
            summary = f"{rule.origin} is not needed: {beside.origin} {_verb(beside)} everything that it does"
            finding = about_rule(Kind.REDUNDANT_RULE, "low", cluster, rule, manifests, summary, by=str(beside.origin))
            redundant[finding.key] = finding
    return (
        Audited(cluster=cluster, kind=Kind.SHADOWED_RULE, findings=tuple(shadowed.values()), checked=checked),
        Audited(cluster=cluster, kind=Kind.REDUNDANT_RULE, findings=tuple(redundant.values()), checked=checked),
    )


def _with_candidates(rules: tuple[Rule, ...]) -> Iterator[tuple[Rule, list[Rule]]]:
    """Yield each rule that matches something, with the rules that may select all of its subjects: those of its namespace, and wide ones."""
    by_place: dict[tuple[str, str | None], list[Rule]] = {}
    for rule in rules:
        by_place.setdefault((rule.origin.direction, _namespace(rule)), []).append(rule)
    for rule in rules:
        if not _matches_something(rule):
            continue
        places = dict.fromkeys((_namespace(rule), None))
        yield rule, [one for place in places for one in by_place.get((rule.origin.direction, place), ()) if one is not rule]


def _namespace(rule: Rule) -> str | None:
    """The one namespace that a rule's subjects are in; None for a rule that is not limited to one."""
    for one in rule.subject.requirements:
        if one.key == POD_NAMESPACE and one.operator == IN and len(one.values) == 1:
            return one.values[0]
    return None


def _matches_something(rule: Rule) -> bool:
    return rule.peers != () and rule.ports != ()


def _place(rule: Rule) -> tuple[int, float, int]:
    return int(rule.tier), rule.priority, _ORDER.index(rule.action)


def _decides_before(one: Rule, rule: Rule, passing: list[Rule]) -> bool:
    """Whether a rule, where it matches, decides before the other one is reached."""
    if _place(one) >= _place(rule):
        return False
    if one.tier == rule.tier:
        return True
    skipped = any(other.tier == one.tier and other.direction is one.direction and _place(other) < _place(one) for other in passing)
    return one.action is not Action.PASS and not skipped


def _makes_redundant(one: Rule, rule: Rule) -> bool:
    """Whether a rule in the same place does all that this one does; of two rules that do the same, the first one stays."""
    if _place(one) != _place(rule) or one.authentication != rule.authentication or not rule_covers(one, rule):
        return False
    if rule.default_deny and not one.default_deny:
        return False
    mutual = rule_covers(rule, one) and rule.default_deny == one.default_deny and selector_covers(rule.subject, one.subject)
    return not mutual or _name(one) < _name(rule)


def _name(rule: Rule) -> tuple[str, ...]:
    origin = rule.origin
    return origin.kind, origin.namespace, origin.name, origin.path[: origin.path.rfind("[")], f"{origin.index:06}"


def _verb(rule: Rule) -> str:
    return {Action.ALLOW: "allows", Action.DENY: "denies", Action.PASS: "passes on"}[rule.action]
