"""Verdicts on many connections at once: the rules of `verdict`, walked over numpy arrays. Pure.

Connections are grouped by the rules that select their subject. Within a group every rule is matched against all
connections at once, so that months of history cost what their distinct connections cost. The reasons and deciding rules
of single connections come from `verdict.decide`, which gives the same verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.policy.model import Connection, Direction, Rule, Side, Tier
from pipelines.policy.policy_set import Level, PolicySet, applicable_of
from pipelines.policy.ports import PortMatch
from pipelines.policy.side_vectors import NO_PORT, UNKNOWN_PORT, Mask, Masks, SideVectors
from pipelines.policy.subject_groups import Group, SubjectGroups
from pipelines.policy.verdict import Decision, Verdict, decide, host_is_allowed

CODES = (Verdict.ALLOWED, Verdict.DENIED, Verdict.UNCERTAIN, Verdict.NOT_ENFORCED)
"""The verdict of each code in `Verdicts`."""
ALLOWED, DENIED, UNCERTAIN, NOT_ENFORCED = range(4)


@dataclass(frozen=True)
class Connections:
    """Connections as arrays of one length."""

    source: NDArray[np.int64]
    """Index of the source among the ends."""
    destination: NDArray[np.int64]
    protocol: NDArray[np.int64]
    """Index of the protocol in `protocols`."""
    number: NDArray[np.int64]
    """The destination's port, or the ICMP type; -1 where it is not known."""
    protocols: tuple[str, ...]
    policies: NDArray[np.int64] | None = None
    """Index of the policy set that each is judged by, for a judge of several; the first one for None."""

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Verdicts:
    """Codes of the verdicts, one a connection."""

    ingress: NDArray[np.uint8]
    egress: NDArray[np.uint8]
    ingress_undecided: Mask
    """Allowed by port at the destination, but rules for HTTP or DNS decide on each request."""
    egress_undecided: Mask

    @property
    def layer7_undecided(self) -> Mask:
        """Allowed by port at one end, but rules for HTTP or DNS decide on each request."""
        return np.asarray(self.ingress_undecided | self.egress_undecided)

    @property
    def both(self) -> NDArray[np.uint8]:
        """Denied if one end denies, else uncertain if one is, else allowed."""
        found = np.full(len(self.ingress), ALLOWED, np.uint8)
        found[(self.ingress == UNCERTAIN) | (self.egress == UNCERTAIN)] = UNCERTAIN
        found[(self.ingress == DENIED) | (self.egress == DENIED)] = DENIED
        return found


class BulkJudge:
    """Judges connections between a fixed set of distinct ends by one policy set, or by several that follow each other in time."""

    def __init__(self, policies: PolicySet | Sequence[PolicySet], sides: Sequence[Side], vectors: SideVectors | None = None) -> None:
        """Prepare for these ends.

        Args:
            policies: what is judged by. Several sets should share the `Rule` objects of policies that are in more than one: a rule
                is then matched once for all of them.
            sides: the distinct ends; connections name them by index.
            vectors: what matches the ends, where another judge of the same ends has worked it out.
        """
        self._sets = (policies,) if isinstance(policies, PolicySet) else tuple(policies)
        self._vectors = vectors or SideVectors(sides)
        self._subjects = SubjectGroups(self._vectors.sides)
        self._groups: dict[Direction, tuple[NDArray[np.int32], list[Group | Verdict]]] = {}

    def judge(self, connections: Connections) -> Verdicts:
        """The verdicts on connections at both of their ends."""
        ingress = self._direction(Direction.INGRESS, connections)
        egress = self._direction(Direction.EGRESS, connections)
        return Verdicts(ingress[0], egress[0], ingress[1], egress[1])

    def selected_by(self, rule: Rule) -> Mask:
        """The ends that a rule selects."""
        return self._subjects.selected_by(rule)

    def decide(self, policies: int, direction: Direction, connection: Connection, subject: int) -> Decision:
        """The verdict on a single connection with its rules and reason, like `verdict.decide`, by the policy set of this index.

        `subject` is the index of the end that is asked for its rules; which rules select it is known already.
        """
        of_side, groups = self._grouped(direction)
        labels = self._vectors.sides[subject].subject
        if labels is not None:
            group = groups[of_side[policies, subject]]
            self._sets[policies].keep(direction, labels, group.applicable if isinstance(group, Group) else applicable_of(()))
        return decide(self._sets[policies], direction, connection)

    def _grouped(self, direction: Direction) -> tuple[NDArray[np.int32], list[Group | Verdict]]:
        if direction not in self._groups:
            self._groups[direction] = self._subjects.of_sets(direction, self._sets)
        return self._groups[direction]

    def _direction(self, direction: Direction, connections: Connections) -> tuple[NDArray[np.uint8], Mask]:
        of_side, groups = self._grouped(direction)
        subjects = connections.destination if direction is Direction.INGRESS else connections.source
        group = of_side[0 if connections.policies is None else connections.policies, subjects]
        found, undecided = np.full(len(connections), ALLOWED, np.uint8), np.zeros(len(connections), bool)
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(len(groups) + 1))
        for number, of_group in enumerate(groups):
            places = order[starts[number] : starts[number + 1]]
            if not len(places):
                continue
            if isinstance(of_group, Verdict):
                found[places] = CODES.index(of_group)
                continue
            walk = _Walk(self._vectors, direction, of_group, connections, places)
            found[places] = codes = walk.run()
            undecided[places] = walk.layer7_undecided & (codes == ALLOWED)
        return found, undecided


class _Walk:
    """One walk of a group's rules over the connections of its subjects."""

    def __init__(
        self,
        vectors: SideVectors,
        direction: Direction,
        group: Group,
        connections: Connections,
        places: NDArray[np.int64],
    ) -> None:
        self._vectors, self._policies, self._direction, self._group = vectors, group.policies, direction, group
        self._peers = (connections.source if direction is Direction.INGRESS else connections.destination)[places]
        self._destinations = connections.destination[places]
        self._protocols = connections.protocol[places]
        self._numbers = connections.number[places]
        self._names = {name: index for index, name in enumerate(connections.protocols)}
        self._ports: dict[PortMatch, Masks] = {}
        self._can_allow = np.zeros(len(places), bool)
        self._can_deny = np.zeros(len(places), bool)
        self.layer7_undecided = np.zeros(len(places), bool)

    def run(self) -> NDArray[np.uint8]:
        """The verdicts' codes."""
        count = len(self._peers)
        reached, passed = np.ones(count, bool), np.zeros(count, bool)
        tier = None
        for level in self._group.applicable.levels:
            if level.tier != tier:
                reached, passed, tier = reached | passed, np.zeros(count, bool), level.tier
                if self._is_final(level):
                    break
            if not reached.any():
                continue
            reached, now = self._level(level, reached)
            passed |= now
        self._default(reached | passed)
        codes = np.where(self._can_deny, np.where(self._can_allow, UNCERTAIN, DENIED), ALLOWED)
        return codes.astype(np.uint8)

    def _is_final(self, level: Level) -> bool:
        """Whether a NetworkPolicy has decided for good before this level, by the text of Kubernetes."""
        return level.tier > Tier.NORMAL and bool(self._group.applicable.isolating) and not self._policies.settings.cilium

    def _level(self, level: Level, reached: Mask) -> Masks:
        """Decide what a level decides; returns what goes on within the tier, and what is passed on to the next one."""
        sure, maybe = self._any(level.deny)
        self._can_deny |= reached & maybe
        reached = reached & ~sure
        sure, maybe = self._allowing(level.allow, reached)
        self._can_allow |= reached & maybe
        reached = reached & ~sure
        sure, maybe = self._any(level.let_pass)
        return reached & ~sure, reached & maybe

    def _any(self, rules: Sequence[Rule]) -> Masks:
        sure, maybe = np.zeros(len(self._peers), bool), np.zeros(len(self._peers), bool)
        for rule in rules:
            found = self._rule(rule)
            sure |= found[0]
            maybe |= found[1]
        return sure, maybe

    def _allowing(self, rules: Sequence[Rule], reached: Mask) -> Masks:
        """Like `_any`; notes where only ports with rules for requests allow, and denies by authentication that always fails."""
        sure, maybe = np.zeros(len(self._peers), bool), np.zeros(len(self._peers), bool)
        plain, restricted = np.zeros(len(self._peers), bool), np.zeros(len(self._peers), bool)
        failing = np.zeros(len(self._peers), bool)
        for rule in rules:
            found = self._rule(rule)
            sure |= found[0]
            maybe |= found[1]
            if rule.authentication and rule.authentication.mode == "test-always-fail":
                failing |= found[0]
            if rule.ports and any(port.layer7 for port in rule.ports):
                open_ports = self._port_masks([port for port in rule.ports if not port.layer7])[1]
                restricted |= found[0] & ~open_ports
                plain |= found[0] & open_ports
            else:
                plain |= found[0]
        if self._group.applicable.isolating or self._group.denies_always:
            self.layer7_undecided |= reached & restricted & ~plain
        self._can_deny |= reached & failing
        return sure, maybe & ~failing

    def _rule(self, rule: Rule) -> Masks:
        count = len(self._peers)
        if rule.peers is None:
            sure = maybe = np.ones(count, bool)
        else:
            sure, maybe = np.zeros(count, bool), np.zeros(count, bool)
            for peer in rule.peers:
                found = self._vectors.peer(peer)
                sure = sure | found[0][self._peers]
                maybe = maybe | found[1][self._peers]
        if rule.ports is None:
            return sure, maybe
        ports = self._port_masks(rule.ports)
        return sure & ports[0], maybe & ports[1]

    def _port_masks(self, ports: Sequence[PortMatch]) -> Masks:
        sure, maybe = np.zeros(len(self._peers), bool), np.zeros(len(self._peers), bool)
        for port in ports:
            found = self._ports.get(port)
            if found is None:
                found = self._ports[port] = self._port(port)
            sure = sure | found[0]
            maybe = maybe | found[1]
        return sure, maybe

    def _port(self, port: PortMatch) -> Masks:
        mine = self._protocols == self._names.get(port.protocol, -1)
        known = self._numbers >= 0
        if not port.name:
            inside = (self._numbers >= port.first) & (self._numbers <= port.last)
            sure = mine & (inside if (port.first, port.last) != (0, 65535) else np.ones(len(mine), bool))
            return sure, sure | (mine & ~known)
        if port.agreed is not None:
            number = next(iter(port.agreed)) if len(port.agreed) == 1 else NO_PORT
            sure = mine & known & (self._numbers == number)
            return sure, sure | (mine & ~known)
        numbers = self._vectors.port_numbers(port.protocol, port.name)[self._destinations]
        sure = mine & known & (self._numbers == numbers)
        return sure, sure | (mine & (~known | (numbers == UNKNOWN_PORT)))

    def _default(self, rest: Mask) -> None:
        """What no rule decided."""
        if not self._group.applicable.isolating and not self._group.denies_always:
            self._can_allow |= rest
            return
        if not host_is_allowed(self._policies, self._direction, self._group.applicable, is_host=self._group.is_host):
            self._can_deny |= rest
            return
        host, unknown = self._vectors.host[self._peers], self._vectors.labels_unknown[self._peers]
        self._can_allow |= rest & (host | unknown)
        self._can_deny |= rest & ~host
