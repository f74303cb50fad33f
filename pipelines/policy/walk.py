"""The walk of a connection through the policies of one end: each rule in the order of its say, and why it does not match. Pure.

`verdict.decide` gives the verdict; this module shows how it came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipelines.policy.matching import match_rule
from pipelines.policy.model import Action, Connection, Direction, Missing, Origin, Rule, Tier, any_of
from pipelines.policy.peers import CidrPeer, LabelPeer, NamePeer, Peer
from pipelines.policy.policy_set import PolicySet
from pipelines.policy.selectors import IN, Selector
from pipelines.policy.verdict import Decision, decide

_SHOWN = 4
_OPERATORS = {"NotIn": "not in", "Exists": "exists", "DoesNotExist": "does not exist"}


class Outcome(StrEnum):
    """What came of a rule."""

    DECIDES = "decides"
    MATCHES = "matches, but another rule decides"
    UNSURE = "may match"
    NO_MATCH = "does not match"
    NOT_REACHED = "not reached"
    NOT_SELECTED = "does not select this end"


@dataclass(frozen=True)
class Step:
    """One rule on the walk."""

    rule: Origin
    action: Action
    tier: Tier
    priority: float
    outcome: Outcome
    selects: bool
    """Whether the rule is enforced at this end."""
    isolates: bool
    """Whether this end denies what no rule allows because of this rule."""
    why_not: str = ""
    """Why it does not select or match, or what is not known; empty where it matches."""


@dataclass(frozen=True)
class Walk:
    """The walk at one end of a connection."""

    direction: Direction
    subject: str
    decision: Decision
    steps: tuple[Step, ...]
    """The rules that select this end, in the order in which they decide, then the others."""

    @property
    def deciding(self) -> tuple[Step, ...]:
        """The steps of the rules that decided."""
        return tuple(step for step in self.steps if step.outcome is Outcome.DECIDES)


def walk(policies: PolicySet, direction: Direction, connection: Connection) -> Walk:
    """Walk a new connection through the rules for one direction."""
    decision = decide(policies, direction, connection)
    subject = connection.subject(direction)
    steps: list[Step] = []
    selected: set[int] = set()
    if subject.subject is not None and subject.enforced and policies.enforces_at(subject.subject):
        applicable = policies.applicable(direction, subject.subject)
        selected = {id(rule) for rule in applicable.rules}
        stops_at_normal = bool(applicable.isolating) and not policies.settings.cilium  # by the text, a NetworkPolicy decides for good
        is_decided, passed = False, None
        for level in applicable.levels:
            is_decided = is_decided or (stops_at_normal and level.tier > Tier.NORMAL)
            for action, rules in ((Action.DENY, level.deny), (Action.ALLOW, level.allow), (Action.PASS, level.let_pass)):
                reached = not is_decided and level.tier != passed
                found = [_step(rule, direction, connection, decision, reached=reached) for rule in rules]
                steps += found
                if any(step.outcome in (Outcome.DECIDES, Outcome.MATCHES) for step in found):
                    is_decided = action is not Action.PASS
                    passed = level.tier if action is Action.PASS else passed
    rest = [rule for rule in policies.rules if rule.direction is direction and id(rule) not in selected]
    steps += [_passed_by(rule, subject.name) for rule in rest]
    return Walk(direction, subject.name, decision, tuple(steps))


def _step(rule: Rule, direction: Direction, connection: Connection, decision: Decision, *, reached: bool) -> Step:
    if not reached:
        return _made(rule, Outcome.NOT_REACHED, selects=True)
    matched = match_rule(rule, direction, connection)
    if matched is None:
        return _made(rule, Outcome.NO_MATCH, selects=True, why_not="; ".join(_reasons(rule, direction, connection)))
    if isinstance(matched.match, Missing):
        return _made(rule, Outcome.UNSURE, selects=True, why_not=f"not known: {matched.match}")
    return _made(rule, Outcome.DECIDES if rule.origin in decision.rules else Outcome.MATCHES, selects=True)


def _passed_by(rule: Rule, subject: str) -> Step:
    what = "nodes" if rule.selects_nodes else "pods"
    return _made(rule, Outcome.NOT_SELECTED, selects=False, why_not=f"selects {what} {_selector_text(rule.subject)}, not {subject}")


def _made(rule: Rule, outcome: Outcome, *, selects: bool, why_not: str = "") -> Step:
    isolates = selects and rule.default_deny
    return Step(rule.origin, rule.action, rule.tier, rule.priority, outcome, selects, isolates, why_not)


def _reasons(rule: Rule, direction: Direction, connection: Connection) -> Iterator[str]:
    peer = connection.peer(direction)
    if rule.peers == ():
        yield "it allows nobody" if rule.action is Action.ALLOW else "it names nobody"
        return
    if rule.peers is not None and any_of([one.matches(peer) for one in rule.peers]) is False:
        wanted = _some([peer_text(one) for one in rule.peers])
        yield f"{'from' if direction is Direction.INGRESS else 'to'} {wanted}, not {peer.name}"
    if rule.ports is not None and any_of([port.matches(connection, connection.destination) for port in rule.ports]) is False:
        number = connection.port if connection.icmp_type is None else f"type {connection.icmp_type}"
        mine = connection.protocol if number is None else f"{number}/{connection.protocol}"
        yield f"on {_some([str(port) for port in rule.ports]) or 'no port'}, not {mine}"


def peer_text(peer: Peer) -> str:
    """A peer of a rule in words."""
    if isinstance(peer, LabelPeer):
        return peer.text or (f"pods {_selector_text(peer.selector)}" if not peer.selector.is_wildcard else "everyone")
    if isinstance(peer, CidrPeer):
        return f"{peer.network}{' except ' + _some([str(one) for one in peer.exceptions]) if peer.exceptions else ''}"
    if isinstance(peer, NamePeer):
        return peer.pattern.text
    return peer.what


def _selector_text(selector: Selector) -> str:
    if selector.is_wildcard:
        return "of every kind"
    parts = []
    for one in selector.requirements:
        key = one.key.rpartition("io.cilium.k8s.namespace.labels.")[2] or one.key
        if one.operator == IN and len(one.values) == 1:
            parts.append(f"{key}={one.values[0]}")
        else:
            values = f" ({', '.join(one.values)})" if one.values else ""
            parts.append(f"{key} {_OPERATORS.get(one.operator, 'in')}{values}")
    return f"with {', '.join(parts)}"


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class Attribution:
    """Whether the policies that a flow names as deciding are those that the engine says decided."""

    agrees: bool | None
    """None where the flow names none."""
    text: str


def compare(decision: Decision, named: Sequence[tuple[str, str, str]]) -> Attribution:
    """Compare a decision with the policies that Hubble names on a flow, as kind, namespace and name each."""
    ours = {(one.kind, one.namespace, one.name) for one in decision.rules}
    if not named:
        return Attribution(None, "the flow names no policy")
    theirs = _listed(named)
    if set(named) & ours:
        return Attribution(True, f"Hubble names {theirs}, as the engine does")
    told = _listed(sorted(ours)) if ours else "no policy"
    return Attribution(False, f"Hubble names {theirs}, the engine {told}")


def _listed(policies: Sequence[tuple[str, str, str]]) -> str:
    return _some([f"{kind} {namespace + '/' if namespace else ''}{name}" for kind, namespace, name in policies])
