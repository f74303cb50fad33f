"""What candidate policies would have done to recorded traffic: which connections are newly denied, newly allowed, or uncertain.

A candidate can change the verdict only at ends that a changed rule selects. Everywhere else the verdict stays as it was recorded,
whatever the replay makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipelines.policy.bulk import ALLOWED, CODES, DENIED, UNCERTAIN, BulkJudge, Verdicts
from pipelines.policy.model import Direction
from pipelines.policy.policy_set import READERS, PolicySet
from pipelines.policy.reading import Document
from pipelines.policy.side_vectors import Mask
from pipelines.policy.verdict import Decision
from pipelines.replay import traffic as recorded
from pipelines.replay.grouping import Ints
from pipelines.replay.in_force import Compiler, Period
from pipelines.replay.traffic import EGRESS, INGRESS, Traffic

Codes = NDArray[np.uint8]
Identity = tuple[str, str, str]
"""Kind, namespace and name of a policy; the namespace is empty for policies of a whole cluster."""


class Change(StrEnum):
    """What a candidate does to a connection."""

    NEWLY_DENIED = "newly_denied"
    NEWLY_ALLOWED = "newly_allowed"
    UNCHANGED = "unchanged"
    UNCERTAIN = "uncertain"


CHANGES = tuple(Change)


class Why(StrEnum):
    """On what the verdict after the change rests."""

    RULES = "rules"
    NOT_SELECTED = "no policy that changes selects either end"
    NOT_COVERED = "configuration history does not cover that time, so it is not known which other policies were in force"
    CONTRADICTED = (
        "the policies in force then give another verdict than the one that was recorded, so the replay is not to be relied on here"
    )
    STRADDLES = "policies changed within the hour, and what the edge recorded lies on both sides of the change"
    REQUESTS = "rules for requests decide, and no request was recorded"


WHYS = tuple(Why)


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The change that is tried."""

    documents: tuple[Document, ...] = ()
    """Policies that replace those of the same kind, namespace and name, and are added otherwise."""
    removed: frozenset[Identity] = frozenset()
    base: Mapping[str, tuple[Document, ...]] | None = None
    """By cluster, policies to start from in place of those that were in force; None for those in force."""
    only: bool = False
    """Whether nothing but `documents` is in force."""
    alone: bool = False
    """Whether no configuration history is known, so that nothing but `documents` can be judged."""

    def after(self, period: Period) -> PolicySet:
        """Return the policies that would have been in force in a period."""
        return period.compiler.compile(self._documents(period), period.settings, period.surroundings)

    def _documents(self, period: Period) -> Iterable[Document]:
        if self.only or self.alone:
            return self.documents
        start = period.documents if self.base is None else self.base.get(period.cluster, ())
        found = {identity(document): document for document in start if identity(document) not in self.removed}
        for number, document in enumerate(self.documents):
            there = found.get(identity(document))
            if there is None or not _says_the_same(there, document):
                found[identity(document) if document.identity[2] else ("", "", str(number))] = document
        return list(found.values())


def _says_the_same(one: Document, other: Document) -> bool:
    """Whether two policies of one name have the same content, so that one in place of the other is no change."""
    return all(one.manifest.get(key) == other.manifest.get(key) for key in ("spec", "specs"))


def identity(document: Document) -> Identity:
    """Return kind, namespace and name of a policy, with the namespace that it has when none is written."""
    kind, namespace, name = document.identity
    is_namespaced = kind in READERS and READERS[kind][1]
    return kind, (namespace or "default") if is_namespaced else "", name


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What becomes of a cluster's traffic: arrays of one length, up to two entries for each connection."""

    traffic: Traffic
    judge: BulkJudge
    """Has the policies before the change, by period, and then those after it."""
    connection: Ints
    """Index of the connection in `traffic`."""
    before: Codes
    after: Codes
    change: Codes
    """Index in CHANGES."""
    why: Codes
    """Index in WHYS."""
    touched: NDArray[np.bool_]
    """By entry and direction (egress, ingress): whether a policy that changes selects that end."""
    flows: Ints
    is_folded: Mask
    """Uncertain, and the flows themselves may tell, because they have what the edge does not."""

    def __len__(self) -> int:
        return len(self.connection)

    def decision(self, entry: int, direction: Direction) -> Decision:
        """The verdict after the change at one end of an entry's connection, with its rules and reason."""
        traffic, place = self.traffic, int(self.connection[entry])
        after = len(traffic.periods) + int(traffic.first_period[place])
        return self.judge.decide(after, direction, traffic.connection(place), traffic.subject(direction, place))

    def only(self, keep: Mask) -> Outcomes:
        """Return some of the entries."""
        arrays = {
            name: getattr(self, name)[keep] for name in ("connection", "before", "after", "change", "why", "touched", "flows", "is_folded")
        }
        return replace(self, **arrays)


@dataclass
class _Judged:
    """Verdicts of the policies before and after at both ends, for the connections that are looked at."""

    places: Ints
    before: Verdicts
    after: Verdicts
    touched: NDArray[np.bool_]
    known: Mask


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
        return _joined(traffic, self.judge, parts)

    def _touched(self, direction: Direction, subjects: Ints) -> Mask:
        """Whether a rule that changes selects the subject of each connection, in a period of the connection."""
        traffic = self._traffic
        changed = np.zeros((len(traffic.periods), len(traffic.sides)), bool)
        for place, (before, after) in enumerate(zip(self.before_sets, self.after_sets, strict=True)):
            old, new = ({id(rule): rule for rule in one.rules if rule.direction is direction} for one in (before, after))
            for key in old.keys() ^ new.keys():
                changed[place] |= self.judge.selected_by(old[key] if key in old else new[key])
        return np.asarray(changed[traffic.first_period, subjects] | changed[traffic.last_period, subjects])

    def _of(self, places: Ints, touched: NDArray[np.bool_]) -> list[_Part]:
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
        parts = ((Direction.INGRESS, found.ingress, found.ingress_undecided), (Direction.EGRESS, found.egress, found.egress_undecided))
        for direction, codes, undecided in parts:
            for entry in np.flatnonzero(undecided):
                place = int(places[entry])
                decision = self.judge.decide(int(sets[entry]), direction, traffic.connection(place), traffic.subject(direction, place))
                codes[entry] = CODES.index(decision.verdict)
                # The packets of a connection whose requests were recorded are allowed by the port.
                undecided[entry] = decision.layer7_undecided and place not in self._has_requests
        return found

    def _straddling(self, judged: _Judged, parts: list[_Part], straddles: Mask) -> None:
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

    def _allowed(self, judged: _Judged) -> _Part:
        """Connections that were forwarded: a changed end may deny them."""
        flows = self._traffic.flows[judged.places]
        # What one end forwarded and the other denied is one denied connection; its first half is counted there.
        is_half = (flows[:, INGRESS, recorded.DENIED] > 0) & (flows[:, INGRESS, recorded.ALLOWED] == 0)
        found = flows[:, :, recorded.ALLOWED].sum(axis=1) - np.where(is_half, flows[:, EGRESS, recorded.ALLOWED], 0)
        part = _Part(judged, ALLOWED, found)
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

    def _denied(self, judged: _Judged) -> _Part:
        """Connections that policies denied: a changed end may allow them, and then the other end decides."""
        flows = self._traffic.flows[judged.places]
        at_egress, at_ingress = (flows[:, where, recorded.DENIED] > 0 for where in (EGRESS, INGRESS))
        is_half = at_ingress & (flows[:, INGRESS, recorded.ALLOWED] == 0)
        found = flows[:, :, recorded.DENIED].sum(axis=1)
        part = _Part(judged, DENIED, np.where(found > 0, found + np.where(is_half, flows[:, EGRESS, recorded.ALLOWED], 0), 0))
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

    def _denied_request(self, judged: _Judged) -> _Part:
        """Requests that a proxy denied: only the requests themselves tell what a change does to them."""
        part = _Part(judged, DENIED, self._traffic.flows[judged.places][:, :, recorded.DENIED_REQUEST].sum(axis=1))
        part.after = np.full(len(judged.places), UNCERTAIN, np.uint8)
        part.requests |= True
        part.set_uncertain(~judged.known, Why.NOT_COVERED)
        return part

    def _is_compared(self, judged: _Judged) -> Mask:
        """Whether the policies in force then are known, so that they can be compared with what was recorded."""
        if self._candidates.alone:
            return np.zeros(len(judged.places), bool)
        return self._covered[self._traffic.first_period[judged.places]]

    def _untouched(self, places: Ints) -> list[_Part]:
        """The entries of connections that no change touches: they stay as they were."""
        nothing = np.zeros(len(places), np.uint8)
        unjudged = Verdicts(nothing, nothing, nothing.astype(bool), nothing.astype(bool))
        judged = _Judged(places, unjudged, unjudged, np.zeros((len(places), 2), bool), np.ones(len(places), bool))
        flows = self._traffic.flows[places]
        denied = flows[:, :, recorded.DENIED].sum(axis=1) + flows[:, :, recorded.DENIED_REQUEST].sum(axis=1)
        is_half = (flows[:, INGRESS, recorded.DENIED] > 0) & (flows[:, INGRESS, recorded.ALLOWED] == 0)
        half = np.where(is_half, flows[:, EGRESS, recorded.ALLOWED], 0)
        parts = [_Part(judged, ALLOWED, flows[:, :, recorded.ALLOWED].sum(axis=1) - half), _Part(judged, DENIED, denied + half)]
        for part in parts:
            part.after = np.full(len(places), part.before, np.uint8)
            part.why[:] = WHYS.index(Why.NOT_SELECTED)
        return [part for part in parts if part.keep.any()]


class _Part:
    """Entries of the same recorded verdict, one for each connection looked at."""

    def __init__(self, judged: _Judged, before: int, flows: Ints) -> None:
        count = len(judged.places)
        self.places, self.touched, self.before, self.flows = judged.places, judged.touched, before, flows
        self.after = np.zeros(count, np.uint8)
        self.why = np.zeros(count, np.uint8)
        self.requests = np.zeros(count, bool)

    @property
    def keep(self) -> Mask:
        """The entries that have flows."""
        return np.asarray(self.flows > 0)

    def set_uncertain(self, where: Mask, why: Why) -> None:
        """Make the verdict after the change uncertain, for a reason other than the rules themselves."""
        self.after[where] = UNCERTAIN
        self.why[where] = WHYS.index(why)

    def change(self) -> Codes:
        """The index in CHANGES of each entry."""
        found = np.full(len(self.after), CHANGES.index(Change.UNCHANGED), np.uint8)
        found[self.after == UNCERTAIN] = CHANGES.index(Change.UNCERTAIN)
        if self.before == ALLOWED:
            found[self.after == DENIED] = CHANGES.index(Change.NEWLY_DENIED)
        else:
            found[self.after == ALLOWED] = CHANGES.index(Change.NEWLY_ALLOWED)
        return found


def _joined(traffic: Traffic, judge: BulkJudge, parts: Sequence[_Part]) -> Outcomes:
    rules, requests = WHYS.index(Why.RULES), WHYS.index(Why.REQUESTS)
    for part in parts:
        part.why[(part.after == UNCERTAIN) & (part.why == rules) & part.requests] = requests
    places = np.concatenate([part.places[part.keep] for part in parts]) if parts else np.zeros(0, np.int64)

    def together(values: list[NDArray[np.generic]], kind: type[np.generic]) -> NDArray[np.generic]:
        return np.concatenate(values) if values else np.zeros(0, kind)

    after = together([part.after[part.keep] for part in parts], np.uint8)
    why = together([part.why[part.keep] for part in parts], np.uint8)
    touched = np.concatenate([part.touched[part.keep] for part in parts]) if parts else np.zeros((0, 2), bool)
    may_tell = np.isin(why, [rules, requests, WHYS.index(Why.STRADDLES)])
    return Outcomes(
        traffic=traffic,
        judge=judge,
        connection=places,
        before=together([np.full(int(part.keep.sum()), part.before, np.uint8) for part in parts], np.uint8),  # type: ignore[arg-type]
        after=after,  # type: ignore[arg-type]
        change=together([part.change()[part.keep] for part in parts], np.uint8),  # type: ignore[arg-type]
        why=why,  # type: ignore[arg-type]
        touched=touched,
        flows=together([part.flows[part.keep] for part in parts], np.int64),  # type: ignore[arg-type]
        is_folded=np.asarray((after == UNCERTAIN) & may_tell & _hides_something(traffic, places, why)),
    )


def _hides_something(traffic: Traffic, places: Ints, why: NDArray[np.generic]) -> Mask:
    """Whether an edge has less than its flows: an address, a name, a port, an ICMP type, a request, or the time."""
    folded = np.array(
        [bool(side.networks or side.possible_names) or (side.address is None and side.enforced is False) for side in traffic.sides], bool
    )
    at_ends = folded[traffic.source[places]] | folded[traffic.destination[places]]
    return np.asarray(at_ends | (traffic.number[places] < 0) | (why == WHYS.index(Why.REQUESTS)) | (why == WHYS.index(Why.STRADDLES)))


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


def verdict_text(code: int) -> str:
    """Return the word for a verdict's code."""
    return CODES[code].value
