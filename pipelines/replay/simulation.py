"""What candidate policies would have done to recorded traffic: which connections are newly denied, newly allowed, or uncertain.

A candidate can change the verdict only at ends that a changed rule selects. Everywhere else the verdict stays as it was recorded,
whatever the replay makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.policy.bulk import ALLOWED, CODES, DENIED, UNCERTAIN, BulkJudge, Verdicts
from pipelines.policy.model import Direction
from pipelines.policy.side_vectors import Mask
from pipelines.policy.verdict import Decision
from pipelines.replay import traffic as recorded
from pipelines.replay.candidates import Candidates
from pipelines.replay.grouping import Ints
from pipelines.replay.in_force import Compiler
from pipelines.replay.outcomes import WHYS, Codes, Outcomes, Part, Why, joined
from pipelines.replay.traffic import EGRESS, INGRESS, Traffic


@dataclass
class _Judged:
    """Verdicts of the policies before and after at both ends, for the connections that are looked at."""

    places: Ints
    before: Verdicts
    after: Verdicts
    touched: NDArray[np.bool_]
    known: Mask

    def part(self, before: int, flows: Ints) -> Part:
        """Return the entries of these connections with one recorded verdict."""
        return Part(self.places, self.touched, before, flows)


class Simulator:
    """Judges the traffic of one cluster by the policies in force and by those after a change."""

    def __init__(self, traffic: Traffic, candidates: Candidates) -> None:
        self._traffic, self._candidates = traffic, candidates
        self.before_sets = tuple(period.policies for period in traffic.periods)
        if candidates.alone:
            empty = [Compiler().compile((), period.settings, period.surroundings) for period in traffic.periods]
            self.before_sets = tuple(empty)
        self.after_sets = tuple(candidates.after(period) for period in traffic.periods)
        self.judge = BulkJudge([*self.before_sets, *self.after_sets], traffic.sides)
        self._known = np.array([candidates.only or candidates.alone or not period.not_covered for period in traffic.periods], bool)
        self._covered = np.array([not period.not_covered for period in traffic.periods], bool)
        self._has_requests = _with_recorded_requests(traffic)
        self._hidden = np.array([side.enforced and side.subject is None for side in traffic.sides], bool)

    def run(self) -> Outcomes:
        """Return what becomes of every connection."""
        traffic = self._traffic
        touched = np.stack([self._touched(Direction.EGRESS, traffic.source), self._touched(Direction.INGRESS, traffic.destination)], axis=1)
        looked_at = np.flatnonzero(touched.any(axis=1))
        rest = np.flatnonzero(~touched.any(axis=1))
        parts = [*self._of(looked_at, touched[looked_at]), *self._untouched(rest)]
        return joined(traffic, self.judge, parts)

    def _touched(self, direction: Direction, subjects: Ints) -> Mask:
        """Whether a rule that changes selects the subject of each connection, in a period of the connection."""
        traffic = self._traffic
        changed = np.zeros((len(traffic.periods), len(traffic.sides)), bool)
        for place, (before, after) in enumerate(zip(self.before_sets, self.after_sets, strict=True)):
            old, new = ({id(rule): rule for rule in one.rules if rule.direction is direction} for one in (before, after))
            for key in old.keys() ^ new.keys():
                changed[place] |= self.judge.selected_by(old[key] if key in old else new[key])
        return np.asarray(changed[traffic.first_period, subjects] | changed[traffic.last_period, subjects])

    def _of(self, places: Ints, touched: NDArray[np.bool_]) -> list[Part]:
        """The entries of connections that a change touches."""
        if not len(places):
            return []
        traffic, count = self._traffic, len(self._traffic.periods)
        period = traffic.first_period[places]
        before = self._verdicts(places, period)
        after = self._verdicts(places, period + count)
        known = self._known[period]
        judged = _Judged(places, before, after, touched, known)
        parts = [self._allowed(judged), self._denied(judged), self._denied_request(judged)]
        straddles = traffic.first_period[places] != traffic.last_period[places]
        if straddles.any():
            self._straddling(judged, parts, straddles)
        return [part for part in parts if part.keep.any()]

    def _verdicts(self, places: Ints, sets: Ints) -> Verdicts:
        """The verdicts of connections by policy sets; requests that were recorded are judged one by one."""
        traffic = self._traffic
        found = self.judge.judge(traffic.connections(places, sets))
        if not traffic.requests:
            return found
        columns = (traffic.source, traffic.destination, traffic.protocol, traffic.number)
        parts = ((Direction.INGRESS, found.ingress, found.ingress_undecided), (Direction.EGRESS, found.egress, found.egress_undecided))
        for direction, codes, undecided in parts:
            decided: dict[tuple[int, ...], Decision] = {}
            for entry in np.flatnonzero(undecided):
                place, policies = int(places[entry]), int(sets[entry])
                key = (policies, *(int(column[place]) for column in columns), id(traffic.requests[place]))  # the same in many hours
                decision = decided.get(key)
                if decision is None:
                    decision = self.judge.decide(policies, direction, traffic.connection(place), traffic.subject(direction, place))
                    decided[key] = decision
                codes[entry] = CODES.index(decision.verdict)
                # The packets of a connection whose requests were recorded are allowed by the port.
                undecided[entry] = decision.layer7_undecided and place not in self._has_requests
        return found

    def _straddling(self, judged: _Judged, parts: list[Part], straddles: Mask) -> None:
        """Make uncertain what the periods of a connection do not agree on."""
        traffic, count = self._traffic, len(self._traffic.periods)
        period = traffic.last_period[judged.places]
        last = _Judged(
            judged.places,
            self._verdicts(judged.places, period),
            self._verdicts(judged.places, period + count),
            judged.touched,
            self._known[period],
        )
        for part, other in zip(parts, (self._allowed(last), self._denied(last), self._denied_request(last)), strict=True):
            differs = straddles & (part.after != other.after)
            part.set_uncertain(differs, Why.STRADDLES)

    def _end(self, judged: _Judged, direction: Direction) -> tuple[Codes, Codes, Mask]:
        """The verdicts before and after at one end, and where the latter leaves the decision to rules for requests."""
        ingress = direction is Direction.INGRESS
        before = judged.before.ingress if ingress else judged.before.egress
        after = (judged.after.ingress if ingress else judged.after.egress).copy()
        undecided = judged.after.ingress_undecided if ingress else judged.after.egress_undecided
        after[after > UNCERTAIN] = ALLOWED
        after[undecided] = UNCERTAIN
        return before, after, undecided

    def _allowed(self, judged: _Judged) -> Part:
        """Connections that were forwarded: a changed end may deny them."""
        flows = self._traffic.flows[judged.places]
        # What one end forwarded and the other denied is one denied connection; its first half is counted there.
        is_half = (flows[:, INGRESS, recorded.DENIED] > 0) & (flows[:, INGRESS, recorded.ALLOWED] == 0)
        found = flows[:, :, recorded.ALLOWED].sum(axis=1) - np.where(is_half, flows[:, EGRESS, recorded.ALLOWED], 0)
        part = judged.part(ALLOWED, found)
        verdicts, firm = [], np.zeros(len(found), bool)
        for number, direction in enumerate((Direction.EGRESS, Direction.INGRESS)):
            before, after, undecided = self._end(judged, direction)
            touched = judged.touched[:, number]
            verdicts.append(np.where(touched, after, ALLOWED))
            part.requests |= touched & undecided
            firm |= touched & (after == DENIED) & ~(self._is_compared(judged) & (before == DENIED))
        part.after = _both(verdicts[0], verdicts[1])
        part.set_uncertain((part.after == DENIED) & ~firm, Why.CONTRADICTED)
        part.set_uncertain(~judged.known, Why.NOT_COVERED)
        return part

    def _denied(self, judged: _Judged) -> Part:
        """Connections that policies denied: a changed end may allow them, and then the other end decides."""
        flows = self._traffic.flows[judged.places]
        at_egress, at_ingress = (flows[:, where, recorded.DENIED] > 0 for where in (EGRESS, INGRESS))
        is_half = at_ingress & (flows[:, INGRESS, recorded.ALLOWED] == 0)
        found = flows[:, :, recorded.DENIED].sum(axis=1)
        part = Part(
            judged.places, judged.touched, DENIED, np.where(found > 0, found + np.where(is_half, flows[:, EGRESS, recorded.ALLOWED], 0), 0)
        )
        egress_before, egress, egress_undecided = self._end(judged, Direction.EGRESS)
        ingress_before, ingress, ingress_undecided = self._end(judged, Direction.INGRESS)
        # Without a direction, the packet was dropped where the policies in force say so.
        nowhere = ~at_egress & ~at_ingress
        at_egress = at_egress | (nowhere & (egress_before == DENIED))
        at_ingress = at_ingress | (nowhere & ~at_egress)
        hidden = self._hidden[self._traffic.destination[judged.places]] & ~judged.touched[:, 1]
        seldom_seen = np.where(hidden, UNCERTAIN, ingress)
        touched_egress, touched_ingress = judged.touched[:, 0], judged.touched[:, 1]
        first = np.where(touched_egress, egress, np.where(at_egress, DENIED, ALLOWED))
        second = np.where(touched_ingress, ingress, np.where(at_ingress, DENIED, np.where(at_egress, seldom_seen, ALLOWED)))
        part.requests |= (touched_egress & egress_undecided) | (touched_ingress & ingress_undecided)
        part.after = _both(first.astype(np.uint8), second.astype(np.uint8))
        compared = self._is_compared(judged)
        surprising = compared & (
            (at_egress & touched_egress & (egress_before == ALLOWED)) | (at_ingress & touched_ingress & (ingress_before == ALLOWED))
        )
        part.set_uncertain(surprising & (part.after == ALLOWED), Why.CONTRADICTED)
        part.set_uncertain(~judged.known, Why.NOT_COVERED)
        return part

    def _denied_request(self, judged: _Judged) -> Part:
        """Requests that a proxy denied: only the requests themselves tell what a change does to them."""
        part = judged.part(DENIED, self._traffic.flows[judged.places][:, :, recorded.DENIED_REQUEST].sum(axis=1))
        part.after = np.full(len(judged.places), UNCERTAIN, np.uint8)
        part.requests |= True
        part.set_uncertain(~judged.known, Why.NOT_COVERED)
        return part

    def _is_compared(self, judged: _Judged) -> Mask:
        """Whether the policies in force then are known, so that they can be compared with what was recorded."""
        if self._candidates.alone:
            return np.zeros(len(judged.places), bool)
        return self._covered[self._traffic.first_period[judged.places]]

    def _untouched(self, places: Ints) -> list[Part]:
        """The entries of connections that no change touches: they stay as they were."""
        nothing = np.zeros(len(places), np.uint8)
        unjudged = Verdicts(nothing, nothing, nothing.astype(bool), nothing.astype(bool))
        judged = _Judged(places, unjudged, unjudged, np.zeros((len(places), 2), bool), np.ones(len(places), bool))
        flows = self._traffic.flows[places]
        denied = flows[:, :, recorded.DENIED].sum(axis=1) + flows[:, :, recorded.DENIED_REQUEST].sum(axis=1)
        is_half = (flows[:, INGRESS, recorded.DENIED] > 0) & (flows[:, INGRESS, recorded.ALLOWED] == 0)
        half = np.where(is_half, flows[:, EGRESS, recorded.ALLOWED], 0)
        parts = [
            judged.part(ALLOWED, flows[:, :, recorded.ALLOWED].sum(axis=1) - half),
            judged.part(DENIED, denied + half),
        ]
        for part in parts:
            part.after = np.full(len(places), part.before, np.uint8)
            part.why[:] = WHYS.index(Why.NOT_SELECTED)
        return [part for part in parts if part.keep.any()]


def _with_recorded_requests(traffic: Traffic) -> set[int]:
    """The connections without a request for which other flows between the same ends and to the same port have one."""
    columns = (traffic.source, traffic.destination, traffic.protocol, traffic.number)
    keys = list(zip(*(column.tolist() for column in columns), strict=True)) if traffic.requests else []
    having = {key for key, request in zip(keys, traffic.requests, strict=True) if request is not None}
    return {place for place, (key, request) in enumerate(zip(keys, traffic.requests, strict=True)) if request is None and key in having}


def _both(egress: Codes, ingress: Codes) -> Codes:
    """Denied if one end denies, else uncertain if one is, else allowed."""
    found = np.full(len(egress), ALLOWED, np.uint8)
    found[(egress == UNCERTAIN) | (ingress == UNCERTAIN)] = UNCERTAIN
    found[(egress == DENIED) | (ingress == DENIED)] = DENIED
    return found
