"""The verdict of a policy set on one connection: allowed, denied or uncertain, by which rules, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pipelines.policy import explain
from pipelines.policy.labels import LabelSet
from pipelines.policy.matching import Matched, match_rule
from pipelines.policy.model import Connection, Direction, Missing, Origin, Rule, Tier
from pipelines.policy.policy_set import Applicable, Level, PolicySet


class Verdict(StrEnum):
    """What happens to a connection."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNCERTAIN = "uncertain"
    NOT_ENFORCED = "n/a"
    """No policy is enforced at that end, which is outside of the cluster."""


@dataclass(frozen=True)
class Decision:
    """The verdict at one end of a connection."""

    verdict: Verdict
    rules: tuple[Origin, ...]
    """The rules that decided; for a default deny, those that isolate the subject."""
    reason: str
    missing: tuple[str, ...] = ()
    """What would have to be known, where the verdict is uncertain."""
    layer7_undecided: bool = False
    """Allowed by port, but rules for HTTP or DNS that could not be judged decide on each request."""
    authentication: bool = False
    """Allowed once the two ends have authenticated each other."""


@dataclass(frozen=True)
class Answer:
    """The verdicts at both ends and the one that follows from them."""

    ingress: Decision
    egress: Decision

    @property
    def verdict(self) -> Verdict:
        """Denied if one end denies, else uncertain if one end is, else allowed."""
        both = (self.egress.verdict, self.ingress.verdict)
        for verdict in (Verdict.DENIED, Verdict.UNCERTAIN):
            if verdict in both:
                return verdict
        return Verdict.ALLOWED

    @property
    def deciding(self) -> tuple[Decision, ...]:
        """The decisions that make the verdict: those that deny or are uncertain, else both."""
        both = tuple(one for one in (self.egress, self.ingress) if one.verdict is not Verdict.NOT_ENFORCED)
        verdict = self.verdict
        return both if verdict is Verdict.ALLOWED else tuple(one for one in both if one.verdict is verdict)

    @property
    def reason(self) -> str:
        """Why, in one sentence for each deciding end."""
        return "; ".join(dict.fromkeys(one.reason for one in self.deciding))

    @property
    def rules(self) -> tuple[Origin, ...]:
        """The rules of the deciding ends."""
        return tuple(dict.fromkeys(rule for one in self.deciding for rule in one.rules))


def judge(policies: PolicySet, connection: Connection) -> Answer:
    """The verdicts on a new connection at both of its ends."""
    return Answer(
        ingress=decide(policies, Direction.INGRESS, connection),
        egress=decide(policies, Direction.EGRESS, connection),
    )


def decide(policies: PolicySet, direction: Direction, connection: Connection) -> Decision:
    """The verdict on a new connection at one of its ends."""
    subject = connection.subject(direction)
    if not subject.enforced:
        return Decision(Verdict.NOT_ENFORCED, (), f"no policy is enforced at {subject.name}, which is outside of the cluster")
    if subject.subject is None:
        if not policies.has_rules(direction) and policies.settings.enable_policy == "default":
            return Decision(Verdict.ALLOWED, (), explain.no_rules(direction, subject.name))
        missing = str(subject.missing_labels)
        return Decision(Verdict.UNCERTAIN, (), explain.uncertain((missing,)), (missing,))
    if not policies.enforces_at(subject.subject):
        return Decision(Verdict.ALLOWED, (), f"the agent's settings enforce no policy at {subject.name}")
    applicable = policies.applicable(direction, subject.subject)
    return _Walk(policies, direction, connection, applicable, subject.subject).decide()


class _Walk:
    """One walk through the rules that select a subject. Collects every verdict that is possible."""

    def __init__(
        self, policies: PolicySet, direction: Direction, connection: Connection, applicable: Applicable, subject: LabelSet
    ) -> None:
        self._policies = policies
        self._direction = direction
        self._connection = connection
        self._applicable = applicable
        self._subject = subject
        self._missing: dict[str, None] = {}
        self._unsure: dict[Origin, None] = {}

    def decide(self) -> Decision:
        """The verdict; uncertain where what is not known makes more than one possible."""
        possible: dict[Verdict, Decision] = {}
        starts, done = [0], set[int]()
        while starts:
            start = starts.pop()
            if start not in done:
                done.add(start)
                for decision in self._from_level(start, starts):
                    possible.setdefault(decision.verdict, decision)
        if len(possible) == 1:
            return next(iter(possible.values()))
        missing = tuple(self._missing)
        return Decision(Verdict.UNCERTAIN, tuple(self._unsure), explain.uncertain(missing, tuple(self._unsure)), missing)

    def _from_level(self, start: int, starts: list[int]) -> Iterator[Decision]:
        """The possible verdicts from a level on. Where rules pass, the beginning of the next tier is added to `starts`."""
        for index, level in enumerate(self._applicable.levels[start:], start):
            if level.tier > Tier.NORMAL and self._applicable.isolating and not self._policies.settings.cilium:
                break  # by the text, a NetworkPolicy decides for good; Cilium goes on to the Baseline tier
            denied = self._matched(level.deny)
            if denied:
                yield self._denied(level, denied)
            if any(one.sure for one in denied):
                return
            allowed = self._matched(level.allow)
            if allowed:
                yield self._allowed(allowed)
            if any(one.sure for one in allowed):
                return
            passing = self._matched(level.let_pass)
            if passing:
                starts.append(self._next_tier(index))
            if any(one.sure for one in passing):
                return
        yield from self._default()

    def _next_tier(self, index: int) -> int:
        levels = self._applicable.levels
        tier = levels[index].tier
        while index < len(levels) and levels[index].tier == tier:
            index += 1
        return index

    def _matched(self, rules: tuple[Rule, ...]) -> list[Matched]:
        """The rules that match, or may; what is missing for the latter is noted."""
        found = []
        for rule in rules:
            matched = match_rule(rule, self._direction, self._connection)
            if matched is None:
                continue
            found.append(matched)
            if isinstance(matched.match, Missing):
                self._missing[str(matched.match)] = None
                self._unsure[rule.origin] = None
        return found

    def _denied(self, level: Level, matched: list[Matched]) -> Decision:
        rules = tuple(one.rule.origin for one in matched)
        return Decision(Verdict.DENIED, rules, explain.denied(rules, self._direction, self._connection, level.tier))

    def _allowed(self, matched: list[Matched]) -> Decision:
        sure = [one for one in matched if one.sure] or matched
        rules = tuple(one.rule.origin for one in sure)
        modes = {one.rule.authentication.mode for one in sure if one.rule.authentication}
        if "test-always-fail" in modes:
            return Decision(Verdict.DENIED, rules, explain.authentication_fails(rules))
        isolated = bool(self._applicable.isolating) or self._always
        layer7 = [one.layer7 for one in sure if one.layer7]
        undecided = False
        if isolated and len(layer7) == len(sure):
            answers = [one.allows(self._connection.request) for parts in layer7 for one in parts]
            if True not in answers:
                if None not in answers:
                    return Decision(Verdict.DENIED, rules, explain.request_denied(rules, self._connection))
                undecided = True
        reason = explain.allowed(rules, self._direction, self._connection)
        if undecided:
            reason += "; its rules for requests were not judged, because none was recorded"
        if "required" in modes:
            reason += "; the two ends must authenticate each other first"
        return Decision(Verdict.ALLOWED, rules, reason, layer7_undecided=undecided, authentication="required" in modes)

    @property
    def _always(self) -> bool:
        """Whether the subject denies by default although no rule isolates it."""
        return self._policies.denies_always(self._subject)

    def _default(self) -> list[Decision]:
        """The verdict when no rule decided."""
        subject = self._connection.subject(self._direction).name
        applicable = self._applicable
        if not applicable.isolating and not self._always:
            reason = explain.no_rules(self._direction, subject) if applicable.empty else explain.not_isolated(self._direction, subject)
            return [Decision(Verdict.ALLOWED, (), reason)]
        isolating = tuple(dict.fromkeys(rule.origin for rule in applicable.isolating))
        denied = Decision(Verdict.DENIED, isolating, explain.default_deny(isolating, self._direction, self._connection))
        is_host = self._subject.has_reserved("host")
        if host_is_allowed(self._policies, self._direction, applicable, is_host=is_host):
            peer = self._connection.peer(self._direction)
            allowed = Decision(Verdict.ALLOWED, (), f"{peer.name} is the node of {subject}, which always reaches it")
            if peer.seen_as is None:
                self._missing[str(peer.missing_labels)] = None
                return [denied, allowed]
            if peer.seen_as.has_reserved("host"):
                return [allowed]
        return [denied]


def host_is_allowed(policies: PolicySet, direction: Direction, applicable: Applicable, *, is_host: bool) -> bool:
    """Whether a subject's own node is allowed where nothing else decides."""
    settings = policies.settings
    if is_host or not settings.allow_localhost:
        return False
    if direction is Direction.EGRESS:
        return not settings.cilium and all(rule.origin.kind == "NetworkPolicy" for rule in applicable.isolating)
    return not (applicable.empty and settings.release.localhost_needs_rules)
