"""Reads the flows of the hours in which an edge says too little: what it has folded, requests, and hours with a change of policies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.policy.side_vectors import Mask
from pipelines.replay.candidates import Candidates
from pipelines.replay.connections_of_flows import traffic_of
from pipelines.replay.ends import End, is_within
from pipelines.replay.grouping import Ints
from pipelines.replay.in_force import History, InForce
from pipelines.replay.outcomes import Outcomes
from pipelines.replay.simulation import Simulator
from pipelines.replay.steps import Steps
from pipelines.replay.traffic import Asked, of_answer
from warehouse.errors import QueryLimitError
from warehouse.questions import replay_questions
from warehouse.questions.replay_questions import DistinctEdges

MOST_HOURS = 240
"""Hours of clusters whose flows are read at most, the newest first."""
_AT_ONCE = timedelta(hours=12)
"""How much time of clusters is read by one question: most of what a question about one hour costs does not depend on the flows."""
_MOST_NAMESPACES = 50
_HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PORTS = 2**16 + 1
"""Ports, and -1 for one that is not known."""
_Hours = set[tuple[str, int]]
"""Clusters, and starts of hours in microseconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Again:
    """The outcomes after flows were read, and how many hours were."""

    outcomes: list[Outcomes]
    hours_read: int = 0
    hours_left: int = 0
    """Hours that would have been needed but are more than are read, or whose flows are no longer stored."""


class FlowsAgain:
    """Replaces outcomes that are uncertain only because edges are folded by those of the flows themselves."""

    def __init__(self, history: History, asked: Asked, in_force: InForce, candidates: Candidates, steps: Steps) -> None:
        self._history, self._asked, self._in_force, self._candidates, self._steps = history, asked, in_force, candidates, steps

    def run(self, outcomes: Sequence[Outcomes]) -> Again:
        """Return all outcomes. Raises QueryError, LakeError."""
        folded = {one.traffic.cluster: one for one in outcomes if one.is_folded.any()}
        if not folded:
            return Again(outcomes=list(outcomes))
        asked = self._narrowed(folded.values())
        by_hour, kept = (list(outcomes), []) if self._asked.is_by_hour else self._divided(outcomes, folded, asked)
        needed = {(one.traffic.cluster, int(hour)) for one in by_hour for hour in np.unique(_hours(one)[one.is_folded])}
        chosen = set(sorted(needed, key=lambda one: -one[1])[:MOST_HOURS])
        from_flows, read = self._from_flows(by_hour, chosen, asked)
        rest = [one.only(~(one.is_folded & _in_hours(one, read))) for one in by_hour]
        return Again(outcomes=[*kept, *rest, *from_flows], hours_read=len(read), hours_left=len(needed - read))

    def _divided(self, outcomes: Sequence[Outcomes], folded: Mapping[str, Outcomes], asked: Asked) -> tuple[list[Outcomes], list[Outcomes]]:
        """Read the edges of the folded connections again, by the hour; return their outcomes, and all the others as they were."""
        answer = self._history.answer(DistinctEdges(wanted=asked.filter()))
        by_hour = [Simulator(one, self._candidates).run() for one in of_answer(self._history, asked, self._in_force, answer)]
        chosen = {cluster: _Chosen(one, one.is_folded) for cluster, one in folded.items()}
        kept = [one.only(~found.among(one)) if (found := chosen.get(one.traffic.cluster)) else one for one in outcomes]
        return [one.only(chosen[one.traffic.cluster].among(one)) for one in by_hour if one.traffic.cluster in chosen], kept

    def _narrowed(self, folded: Iterable[Outcomes]) -> Asked:
        """The traffic in which the folded connections are."""
        clusters, namespaces, everywhere = set(), set(), False
        for one in folded:
            clusters.add(one.traffic.cluster)
            for place in np.unique(one.connection[one.is_folded]).tolist():
                ends = (one.traffic.ends[one.traffic.source[place]], one.traffic.ends[one.traffic.destination[place]])
                found = next((end.namespace for end in ends if end.namespace), None)
                everywhere |= found is None
                namespaces.add(found)
        asked = replace(self._asked, clusters=tuple(sorted(clusters)))
        if asked.namespaces or everywhere or len(namespaces) > _MOST_NAMESPACES:
            return asked
        return replace(asked, namespaces=tuple(sorted(name for name in namespaces if name)))

    def _from_flows(self, by_hour: Sequence[Outcomes], chosen: _Hours, asked: Asked) -> tuple[list[Outcomes], _Hours]:
        """The outcomes of the flows of some hours, and the hours that have flows."""
        found, read = [], set()
        hours = {one.traffic.cluster: sorted(hour for name, hour in chosen if name == one.traffic.cluster) for one in by_hour}
        folded = {one.traffic.cluster: _Folded(one, set(hours[one.traffic.cluster])) for one in by_hour}
        portions = list(_portions(by_hour, {cluster: _ranges(listed) for cluster, listed in hours.items()}))
        self._steps.more(len(portions))
        for (since, until), some in portions:
            named = ", ".join(one.traffic.cluster for one in some)
            self._steps.next(f"reading flows of {named} from {since:%Y-%m-%d %H:%M} UTC")
            for one, rows in self._rows(some, since, until, asked):
                cluster, periods = one.traffic.cluster, one.traffic.periods
                made, there = traffic_of(cluster, periods, rows, folded[cluster], sees_labels=self._history.sees_labels)
                read |= {(cluster, hour) for hour in there}
                if len(made):
                    found.append(Simulator(made, self._candidates).run())
        return [replace(one, is_folded=np.zeros(len(one), bool)) for one in found], read

    def _rows(self, some: Sequence[Outcomes], since: datetime, until: datetime, asked: Asked) -> Iterator[tuple[Outcomes, pa.Table]]:
        """Yield the connections of each cluster that has any in a span of time, asked for in one question unless they are too many."""
        whole = asked.filter()
        clusters = tuple(one.traffic.cluster for one in some)
        wanted = replace(whole, since=max(since, whole.since), until=min(until, whole.until), clusters=clusters)
        begins = ((one.traffic.cluster, period.since) for one in some for period in one.traffic.periods)
        cuts = tuple((cluster, moment) for cluster, moment in begins if wanted.since < moment < wanted.until)
        question = replay_questions.connections(wanted, cuts=cuts, examples=False)
        try:
            answer = self._history.answer(question)
        except QueryLimitError:
            answer = None
        if answer is None or answer.cut:
            for one in some if len(some) > 1 else ():
                yield from self._rows([one], since, until, asked)
            return
        for one in some:
            rows = answer.rows.filter(pc.equal(answer.rows["cluster"], one.traffic.cluster))
            if rows.num_rows:
                yield one, rows


def _portions(
    outcomes: Iterable[Outcomes], ranges: Mapping[str, Sequence[tuple[datetime, datetime]]]
) -> Iterator[tuple[tuple[datetime, datetime], list[Outcomes]]]:
    """Yield spans of time with the clusters whose flows are read in them, of which as many are read at once as _AT_ONCE allows."""
    clusters: dict[tuple[datetime, datetime], list[Outcomes]] = {}
    for one in outcomes:
        for span in ranges[one.traffic.cluster]:
            clusters.setdefault(span, []).append(one)
    for (since, until), some in clusters.items():
        size = max(1, int(_AT_ONCE / (until - since)))
        for first in range(0, len(some), size):
            yield (since, until), some[first : first + size]


class _Folded:
    """Tells which connections of flows belong to edges that are looked at again."""

    def __init__(self, outcomes: Outcomes, hours: set[int]) -> None:
        self._by_key: dict[tuple[Any, ...], list[tuple[int, str | None, str | None]]] = {}
        traffic = outcomes.traffic
        for place in np.unique(outcomes.connection[outcomes.is_folded & np.isin(_hours(outcomes), sorted(hours))]).tolist():
            source, destination = traffic.ends[traffic.source[place]], traffic.ends[traffic.destination[place]]
            key = (int(traffic.since[place]), _coarse(source), _coarse(destination), traffic.protocols[traffic.protocol[place]])
            self._by_key.setdefault(key, []).append((int(traffic.number[place]), source.cidr, destination.cidr))

    def has(self, hour: int, source: End, destination: End, protocol: str, number: int) -> bool:
        """Whether an edge of that hour stands for this connection."""
        edges = self._by_key.get((hour, _coarse(source), _coarse(destination), protocol), ())
        return any(
            port in (-1, number) and is_within(source.address, first) and is_within(destination.address, second)
            for port, first, second in edges
        )


def _coarse(end: End) -> tuple[Any, ...]:
    labels = None if end.labels is None else tuple(sorted(text for text in end.labels if end.namespace or not text.startswith("cidr:")))
    return end.cluster_name, end.namespace, end.workload, end.entity, end.dns_name, labels or None


class _Chosen:
    """Connections of a cluster, by their ends, protocol and port."""

    def __init__(self, outcomes: Outcomes, keep: Mask) -> None:
        traffic = outcomes.traffic
        places = np.unique(outcomes.connection[keep])
        self._ends = {end: place for place, end in enumerate(traffic.ends)}
        self._protocols = {name: place for place, name in enumerate(traffic.protocols)}
        self._keys = self._packed(traffic.source[places], traffic.destination[places], traffic.protocol[places], traffic.number[places])

    def among(self, outcomes: Outcomes) -> Mask:
        """The entries of outcomes, of other traffic of the same cluster too, whose connection is one of these."""
        traffic = outcomes.traffic
        ends = np.array([self._ends.get(end, -1) for end in traffic.ends], np.int64)
        protocols = np.array([self._protocols.get(name, -1) for name in traffic.protocols], np.int64)
        source, destination, protocol = ends[traffic.source], ends[traffic.destination], protocols[traffic.protocol]
        known = (source >= 0) & (destination >= 0) & (protocol >= 0)
        chosen = known & np.isin(self._packed(source, destination, protocol, traffic.number), self._keys)
        return np.asarray(chosen[outcomes.connection])

    def _packed(self, source: Ints, destination: Ints, protocol: Ints, number: Ints) -> Ints:
        ends = source * len(self._ends) + destination
        return np.asarray((ends * len(self._protocols) + protocol) * _PORTS + number + 1)


def _hours(outcomes: Outcomes) -> Ints:
    """The hour of each entry."""
    return np.asarray(outcomes.traffic.since[outcomes.connection])


def _in_hours(outcomes: Outcomes, hours: _Hours) -> Mask:
    mine = [hour for cluster, hour in hours if cluster == outcomes.traffic.cluster]
    return np.asarray(np.isin(_hours(outcomes), mine))


def _ranges(hours: Sequence[int]) -> list[tuple[datetime, datetime]]:
    """Runs of hours that follow each other."""
    found: list[tuple[datetime, datetime]] = []
    for hour in hours:
        begin = _EPOCH + timedelta(microseconds=hour)
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], begin + _HOUR)
        else:
            found.append((begin, begin + _HOUR))
    return found
