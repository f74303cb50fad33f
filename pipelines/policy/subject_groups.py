"""The ends that the same rules select, found for all ends and for many policy sets at once. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.policy.model import Connection, Direction, Rule, Side
from pipelines.policy.policy_set import Applicable, PolicySet, applicable_of
from pipelines.policy.settings import AgentSettings
from pipelines.policy.side_vectors import Mask, SideVectors
from pipelines.policy.verdict import Verdict, decide

_Hashes = NDArray[np.uint64]
_WITHOUT_LABELS = 2
"""Marks enforced ends whose labels are not known."""


@dataclass(frozen=True)
class Group:
    """Ends that the same rules select."""

    policies: PolicySet
    """A set that has these rules."""
    applicable: Applicable
    is_host: bool
    denies_always: bool


class SubjectGroups:
    """Groups ends by the rules that select them.

    Every rule has a random number, and an end the sum of the numbers of its rules: equal sums mean equal rules. A policy set that
    differs from the one before in a few rules costs only those.
    """

    def __init__(self, sides: Sequence[Side]) -> None:
        self._sides = tuple(sides)
        self._count = len(self._sides)
        self._has_labels = np.array([side.enforced and side.subject is not None for side in self._sides], bool)
        self._labels = SideVectors([replace(side, seen_as=side.subject if side.enforced else None) for side in self._sides])
        self._selected: dict[int, Mask] = {}
        self._numbers: dict[int, tuple[int, int]] = {}
        self._kept: list[Rule] = []
        self._divided: dict[AgentSettings, NDArray[np.uint64]] = {}
        self._chance = random.Random("rules")

    def selected_by(self, rule: Rule) -> Mask:
        """The ends that a rule selects."""
        found = self._selected.get(id(rule))
        if found is None:
            of_kind = self._labels.host if rule.selects_nodes else ~self._labels.host
            found = self._selected[id(rule)] = self._labels.selector(rule.subject)[0] & of_kind & self._has_labels
            self._kept.append(rule)  # an id is unique only as long as its object lives
        return found

    def of_sets(self, direction: Direction, sets: Sequence[PolicySet]) -> tuple[NDArray[np.int32], list[Group | Verdict]]:
        """For each set and end the number of its group, and the groups: rules, or the one verdict that ends without rules share."""
        numbers: dict[object, int] = {}
        groups: list[Group | Verdict] = []
        of_side = np.zeros((len(sets), self._count), np.int32)
        before: NDArray[np.uint64] | None = None
        settings: AgentSettings | None = None
        for place, (policies, sums) in enumerate(self._sums(direction, sets)):
            whole = np.stack([*sums, self._special(policies)])
            if before is None or settings != policies.settings:
                differs = np.ones(self._count, bool)
            else:
                differs = (whole != before).any(axis=0) | (whole[2] == _WITHOUT_LABELS)
                of_side[place] = of_side[place - 1]
            before, settings = whole, policies.settings
            of_kind: dict[tuple[int, ...], int] = {}
            changed = np.flatnonzero(differs)
            for index, kind in zip(changed.tolist(), zip(*whole[:, changed].tolist(), strict=True), strict=True):
                found = of_kind.get(kind)
                if found is None:
                    key = (policies.settings, *kind, self._without_labels(policies, direction, index))
                    found = of_kind[kind] = numbers.setdefault(key, len(groups))
                    if found == len(groups):
                        groups.append(self._group(policies, direction, index))
                of_side[place, index] = found
        return of_side, groups

    def _sums(self, direction: Direction, sets: Sequence[PolicySet]) -> Iterator[tuple[PolicySet, tuple[_Hashes, _Hashes]]]:
        """Yield each set, with the sums of the numbers of the rules that select each end."""
        first, second = np.zeros(self._count, np.uint64), np.zeros(self._count, np.uint64)
        before: dict[int, Rule] = {}
        for policies in sets:
            now = {id(rule): rule for rule in policies.rules if rule.direction is direction}
            for key in before.keys() - now.keys():
                one, other = self._numbers[key]
                first[self._selected[key]] -= np.uint64(one)
                second[self._selected[key]] -= np.uint64(other)
            for key in now.keys() - before.keys():
                selected = self.selected_by(now[key])
                one, other = self._numbers.setdefault(key, (self._chance.getrandbits(64), self._chance.getrandbits(64)))
                first[selected] += np.uint64(one)
                second[selected] += np.uint64(other)
            before = now
            yield policies, (first, second)

    def _special(self, policies: PolicySet) -> NDArray[np.uint64]:
        """What else divides ends: not enforced, labels not known, enforcement switched off, the host, and denial by default."""
        known = self._divided.get(policies.settings)
        if known is not None:
            return known
        found = self._divided[policies.settings] = np.zeros(self._count, np.uint64)
        always = policies.settings.enable_policy == "always"
        for index, side in enumerate(self._sides):
            if not side.enforced:
                found[index] = 1
            elif side.subject is None:
                found[index] = _WITHOUT_LABELS
            elif not policies.enforces_at(side.subject):
                found[index] = 3
            else:
                found[index] = 4 + 2 * side.subject.has_reserved("host") + (always or policies.denies_always(side.subject))
        return found

    def _without_labels(self, policies: PolicySet, direction: Direction, index: int) -> Verdict | None:
        side = self._sides[index]
        return decide(policies, direction, Connection(side, side, "TCP", 1)).verdict if side.enforced and side.subject is None else None

    def _group(self, policies: PolicySet, direction: Direction, index: int) -> Group | Verdict:
        side = self._sides[index]
        if not side.enforced:
            return Verdict.NOT_ENFORCED
        if side.subject is None:
            return decide(policies, direction, Connection(side, side, "TCP", 1)).verdict
        if not policies.enforces_at(side.subject):
            return Verdict.ALLOWED
        applicable = applicable_of([rule for rule in policies.rules if rule.direction is direction and self.selected_by(rule)[index]])
        denies_always = policies.denies_always(side.subject)
        if applicable.empty and not denies_always:
            return Verdict.ALLOWED
        return Group(policies, applicable, side.subject.has_reserved("host"), denies_always)
