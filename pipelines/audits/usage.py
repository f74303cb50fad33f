"""Unused policies and rules: which ones decided on recorded connections, when, and how regularly. Pure.

A rule is decisive where it allows, denies or passes on a connection. A default deny is decisive for the policies that isolate the
subject, and for those of their rules that do nothing else: an allow rule is not used by what it does not allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from pipelines.audits.finding import Audited, Finding, Kind, Policies, Severity, about_rule, subject_of
from pipelines.policy.model import Action, Connection, Direction, Origin, Rule
from pipelines.policy.policy_set import PolicySet
from pipelines.policy.verdict import Decision, Verdict, decide

PolicyName = tuple[str, str, str]
"""Kind, namespace and name, as in `Origin`."""
RuleName = tuple[str, str, str, str]
"""The same, with the rule's digest."""
_LITTLE = 0.5
"""Where less than this share of the window was observed, that a rule is unused says little."""
_HOUR = timedelta(hours=1)
CONTRADICTED = "which rule decided, because the policies in force give another verdict than the one that was recorded"
"""What is missing where the replay and the record disagree."""


@dataclass
class Use:
    """When a rule or policy was decisive."""

    hours: set[int] = field(default_factory=set)
    """Hours, counted from 1970, in which it was."""
    last: datetime | None = None
    """The last time at which a connection was seen on which it decided."""
    flows: int = 0
    unknown: str = ""
    """What is not known, if it is not known whether it decided on some connection."""

    def add(self, seen: Seen) -> None:
        """Add connections on which it decided."""
        self.hours |= seen.hours
        self.last = seen.last if self.last is None else max(self.last, seen.last)
        self.flows += seen.flows

    @property
    def longest_gap(self) -> timedelta | None:
        """The longest time between two hours in a row in which it was decisive; None if there are not two."""
        hours = sorted(self.hours)
        return max(((after - before) * _HOUR for before, after in pairwise(hours)), default=None)


@dataclass(frozen=True)
class Seen:
    """When a connection was seen, and what became of it."""

    hours: frozenset[int]
    last: datetime
    flows: int
    recorded: Verdict | None = None
    """Allowed, or denied by a policy; None where neither is certain, as in audit mode."""
    denied_at: Direction | None = None
    """At which end it was denied, if that is known."""

    def expected(self, direction: Direction) -> Verdict | None:
        """The verdict that policies must have given at an end; None where that is not known."""
        if self.recorded is not Verdict.DENIED:
            return self.recorded
        if self.denied_at is None:
            return None
        return Verdict.DENIED if direction is self.denied_at else Verdict.ALLOWED


@dataclass
class Uses:
    """Uses of rules and policies, collected connection by connection."""

    rules: dict[RuleName, Use] = field(default_factory=dict)
    policies: dict[PolicyName, Use] = field(default_factory=dict)

    def of(self, policies: PolicySet, manifests: Policies) -> Callable[[Connection, Seen], None]:
        """Return what adds a connection that was seen while these policies were in force."""
        by_origin: dict[Origin, Rule] = {rule.origin: rule for rule in policies.rules}
        digests: dict[Origin, str] = {}

        def name(rule: Rule) -> RuleName:
            if rule.origin not in digests:
                digests[rule.origin] = manifests.digest(rule)
            return (*policy_of(rule), digests[rule.origin])

        def uses(rule: Rule, *, of_rule: bool) -> Iterable[Use]:
            yield self.policies.setdefault(policy_of(rule), Use())
            if of_rule:
                yield self.rules.setdefault(name(rule), Use())

        def add(connection: Connection, seen: Seen) -> None:
            for direction in (Direction.EGRESS, Direction.INGRESS):
                decision = decide(policies, direction, connection)
                expected = seen.expected(direction)
                if decision.verdict is Verdict.UNCERTAIN:
                    possible, why = _possible(policies, direction, connection, decision, by_origin), ", ".join(decision.missing)
                elif expected is not None and decision.verdict not in (expected, Verdict.NOT_ENFORCED):
                    possible, why = _applicable(policies, direction, connection), CONTRADICTED
                else:
                    possible, why = (), ""
                    for origin in decision.rules:
                        rule = by_origin[origin]
                        for use in uses(rule, of_rule=_matched(rule, decision)):
                            use.add(seen)
                for rule in possible:
                    for use in uses(rule, of_rule=True):
                        use.unknown = use.unknown or why
                if (expected or decision.verdict) is Verdict.DENIED:
                    return  # the other end never saw it

        return add


def policy_of(rule: Rule) -> PolicyName:
    """The policy of a rule."""
    return rule.origin.kind, rule.origin.namespace, rule.origin.name


def _matched(rule: Rule, decision: Decision) -> bool:
    """Whether a deciding rule decided as such, and not by isolating the subject."""
    if decision.verdict is not Verdict.DENIED or rule.action is not Action.ALLOW:
        return True
    fails = rule.authentication is not None and rule.authentication.mode == "test-always-fail"
    return fails or rule.peers == () or rule.ports == ()


def _possible(
    policies: PolicySet, direction: Direction, connection: Connection, decision: Decision, by_origin: Mapping[Origin, Rule]
) -> Sequence[Rule]:
    """The rules of which it is not known whether they decided."""
    side = connection.subject(direction)
    if side.subject is not None:
        return [by_origin[origin] for origin in decision.rules]
    known = side.seen_as
    return [rule for rule in policies.rules if rule.direction is direction and (known is None or rule.subject.may_match(known))]


def _applicable(policies: PolicySet, direction: Direction, connection: Connection) -> Sequence[Rule]:
    subject = connection.subject(direction).subject
    return () if subject is None else policies.applicable(direction, subject).rules


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was looked at."""

    since: datetime
    until: datetime
    observed: float
    """Share of the window in which traffic was observed, from 0 to 1."""
    stands_since: Mapping[RuleName, datetime]
    """Since when each rule has stood, as far as history goes back."""
    known_since: datetime
    """Since when it is known which policies stood."""


def unused(cluster: str, policies: PolicySet, manifests: Policies, uses: Uses, before: Uses, looked: Looked) -> tuple[Audited, Audited]:
    """Return the audits of policies and of rules that were never decisive in the window.

    The rules of an unused policy are not listed by themselves. What recurs is not called unused before it is overdue. A rule that only
    isolates is never called unused: it is there for what nobody has tried yet.

    Args:
        cluster: its name.
        policies: those that stand at the end of the window.
        manifests: theirs.
        uses: in the window.
        before: in the time before the window, for what recurs and for when something was last decisive.
        looked: what was looked at.
    """
    judge = _Unused(cluster, manifests, looked)
    by_policy: dict[PolicyName, list[Rule]] = {}
    for rule in policies.rules:
        if rule.peers == () or rule.ports == ():
            continue
        by_policy.setdefault(policy_of(rule), []).append(rule)
    for name, rules in by_policy.items():
        judge.policy(name, rules, uses.policies.get(name, Use()), before.policies.get(name, Use()))
        for rule in rules:
            of_rule = (*name, manifests.digest(rule))
            judge.rule(rule, of_rule, uses.rules.get(of_rule, Use()), before.rules.get(of_rule, Use()))
    for refusal in policies.refusals:
        judge.refused(refusal.kind, refusal.namespace, refusal.name, str(refusal))
    return judge.results(len(by_policy) + len(policies.refusals), len(policies.rules))


class _Unused:
    def __init__(self, cluster: str, manifests: Policies, looked: Looked) -> None:
        self._cluster, self._manifests, self._looked = cluster, manifests, looked
        self._found: dict[Kind, dict[str, Finding]] = {Kind.UNUSED_POLICY: {}, Kind.UNUSED_RULE: {}}
        self._undecided: dict[Kind, dict[str, str]] = {Kind.UNUSED_POLICY: {}, Kind.UNUSED_RULE: {}}
        self._unused_policies: set[PolicyName] = set()

    def policy(self, name: PolicyName, rules: Sequence[Rule], use: Use, before: Use) -> None:
        """Judge a policy as a whole."""
        since = max(self._since((*name, self._manifests.digest(rule))) for rule in rules)
        detail = self._detail(use, before, since)
        summary = f"{rules[0].origin.policy} decided on no recorded connection in the window"
        finding = self._policy_finding(name, summary, self._severity(), detail)
        if self._decide(finding, use, before, since):
            self._unused_policies.add(name)

    def rule(self, rule: Rule, name: RuleName, use: Use, before: Use) -> None:
        """Judge one rule."""
        if name[:3] in self._unused_policies:
            return
        since = self._since(name)
        summary = f"{rule.origin} decided on no recorded connection in the window"
        finding = about_rule(
            Kind.UNUSED_RULE, self._severity(), self._cluster, rule, self._manifests, summary, **self._detail(use, before, since)
        )
        self._decide(finding, use, before, since)

    def refused(self, kind: str, namespace: str, name: str, why: str) -> None:
        """Note a policy that is refused, so that it can never decide."""
        finding = self._policy_finding((kind, namespace, name), f"{why}, so it enforces nothing", "medium", {})
        self._found[Kind.UNUSED_POLICY][finding.key] = finding

    def results(self, policies: int, rules: int) -> tuple[Audited, Audited]:
        """The two audits."""
        first, second = (
            Audited(
                cluster=self._cluster,
                kind=kind,
                findings=tuple(self._found[kind].values()),
                checked=checked,
                undecided=self._undecided[kind],
            )
            for kind, checked in ((Kind.UNUSED_POLICY, policies), (Kind.UNUSED_RULE, rules))
        )
        return first, second

    def _decide(self, finding: Finding, use: Use, before: Use, since: datetime) -> bool:
        looked, undecided = self._looked, self._undecided[finding.kind]
        if use.flows:
            return False
        if use.unknown:
            undecided[finding.key] = f"not known: {use.unknown}"
        elif since > looked.since and since > looked.known_since:
            undecided[finding.key] = "it has not stood for the whole window"
        elif before.last is not None and before.longest_gap is not None and looked.until - before.last <= before.longest_gap + _HOUR:
            undecided[finding.key] = "it recurs, and is not overdue"
        else:
            self._found[finding.kind][finding.key] = finding
            return True
        return False

    def _since(self, name: RuleName) -> datetime:
        return self._looked.stands_since.get(name, self._looked.known_since)

    def _severity(self) -> Severity:
        return "info" if self._looked.observed < _LITTLE else "low"

    def _detail(self, use: Use, before: Use, since: datetime) -> dict[str, Any]:
        gap = before.longest_gap
        return {
            "stands_since": since.astimezone(UTC),
            "last_decisive": (use.last or before.last),
            "longest_gap_hours": None if gap is None else int(gap / _HOUR),
            "observed": round(self._looked.observed, 4),
            "since": self._looked.since,
            "until": self._looked.until,
        }

    def _policy_finding(self, name: PolicyName, summary: str, severity: Severity, detail: Mapping[str, Any]) -> Finding:
        kind, namespace, policy = name
        return Finding(
            kind=Kind.UNUSED_POLICY,
            severity=severity,
            cluster=self._cluster,
            namespace=namespace or None,
            subject=subject_of(Origin(kind, namespace, policy, "", -1, "")),
            summary=summary,
            detail=detail,
        )
