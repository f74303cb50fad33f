"""The recorded edges of a window as arrays that the bulk judge reads: one entry for each distinct connection and period."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.policy.bulk import Connections
from pipelines.policy.labels import CLUSTER, KUBERNETES, LabelSet
from pipelines.policy.layer7 import DnsQuery, HttpRequest
from pipelines.policy.model import Connection, Direction, Side
from pipelines.replay.ends import NOTHING_LEARNED, End, LearnedNames, side_of
from pipelines.replay.grouping import Ints, grouped
from pipelines.replay.in_force import History, InForce, Period
from warehouse.engine import Limits, Window
from warehouse.questions import edge_questions
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.replay_questions import Begins, DistinctEdges, EdgesAnswer

UNKNOWN, EGRESS, INGRESS = range(3)
"""Where a flow was seen: the second index of `Traffic.flows`."""
ALLOWED, DENIED, DENIED_REQUEST = range(3)
"""What was recorded: the third index of `Traffic.flows`. A denied request was dropped by a proxy, above layer 4."""
_JUDGED = {"FORWARDED": ALLOWED, "REDIRECTED": ALLOWED, "AUDIT": DENIED}
"""A flow in audit mode was forwarded although policies deny it; the policies' verdict counts."""
_POLICY_REASONS = frozenset({"POLICY_DENIED", "POLICY_DENY"})
"""Reasons of drops that policies decide. Others, such as a full connection table, say nothing about policies."""
_DIRECTIONS = {"EGRESS": EGRESS, "INGRESS": INGRESS}
_HOUR, _BY_HOUR = timedelta(hours=1), timedelta(days=3)
_HOUR_US = _HOUR // timedelta(microseconds=1)
_MOST_NAMES = Limits(rows=1_000_000, seconds=120)
_END_PARTS = ("cluster_name", "namespace", "workload_name", "entity", "dns_name", "cidr", "labels_id")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Whose traffic is replayed, and when."""

    window: Window
    """With both bounds."""
    clusters: tuple[str, ...]
    namespaces: tuple[str, ...] = ()
    """Of either end. All of them when empty."""

    @property
    def is_by_hour(self) -> bool:
        """Whether the window is so short that its edges are read by the hour, which tells at once which hours to read again."""
        since, until = self.window.since, self.window.until
        return since is not None and until is not None and until - since <= _BY_HOUR

    def filter(self, **more: Any) -> FlowFilter:
        """Return the filter that selects it."""
        since, until = self.window.since, self.window.until
        if since is None or until is None:
            raise ValueError("traffic is replayed over a window with a start and an end")
        return FlowFilter(**{"since": since, "until": until, "clusters": self.clusters, "namespaces": self.namespaces, **more})


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The distinct connections of one cluster, as arrays of one length."""

    cluster: str
    periods: tuple[Period, ...]
    ends: tuple[End, ...]
    sides: tuple[Side, ...]
    """Of the ends, in their order."""
    source: Ints
    """Index of the source among the ends."""
    destination: Ints
    protocol: Ints
    """Index in `protocols`."""
    protocols: tuple[str, ...]
    number: Ints
    """The destination's port; -1 where it is not known."""
    since: Ints
    """Start of the span that the flows were added up over, in microseconds since 1970."""
    first_period: Ints
    """Index of the period in which the first of the flows was seen."""
    last_period: Ints
    flows: NDArray[np.int64]
    """Flows without repeats, by connection, direction and what was recorded."""
    first_seen: Ints
    """Microseconds since 1970."""
    last_seen: Ints
    requests: tuple[HttpRequest | DnsQuery | None, ...] = ()
    """The request of each connection, where flows were read; empty where edges were, which have none."""
    not_judged: int
    """Flows that say nothing about policies: drops for other reasons, and events of sockets."""

    def __len__(self) -> int:
        return len(self.source)

    def connections(self, places: Ints, period: Ints) -> Connections:
        """Some of the connections, each to be judged by the policies of a period."""
        return Connections(
            self.source[places], self.destination[places], self.protocol[places], self.number[places], self.protocols, policies=period
        )

    def connection(self, place: int) -> Connection:
        """One of the connections as the engine asks about it."""
        protocol, number = self.protocols[int(self.protocol[place])], int(self.number[place])
        is_icmp, known = protocol.startswith("ICMP"), None if number < 0 else number
        return Connection(
            self.sides[int(self.source[place])],
            self.sides[int(self.destination[place])],
            protocol,
            None if is_icmp else known,
            known if is_icmp else None,
            self.requests[place] if self.requests else None,
        )

    def subject(self, direction: Direction, place: int) -> int:
        """The end of a connection that is asked for its rules, as its index among the ends."""
        return int((self.destination if direction is Direction.INGRESS else self.source)[place])

    @property
    def total(self) -> Ints:
        """Flows of each connection."""
        return np.asarray(self.flows.sum(axis=(1, 2)), np.int64)


def read(history: History, asked: Asked, in_force: InForce) -> tuple[list[Traffic], EdgesAnswer]:
    """Return the traffic of each cluster, and the answer that it was read from. Raises QueryError, LakeError.

    The hours of a short window stay apart; those of a long one are added up from one change of policies to the next.
    """
    begins = () if asked.is_by_hour else begins_of(in_force, asked.clusters)
    answer = history.answer(DistinctEdges(wanted=asked.filter(), begins=begins))
    return of_answer(history, asked, in_force, answer), answer


def begins_of(in_force: InForce, clusters: Collection[str]) -> Begins:
    """The hours at which rows must not be added up across, because something changed before, in or after them."""
    found = set()
    for cluster in clusters:
        for place, period in enumerate(in_force.periods.get(cluster, ())):
            hour = period.since.replace(minute=0, second=0, microsecond=0)
            found.add((cluster, hour))
            if place:
                found.add((cluster, hour + _HOUR))
    return tuple(sorted(found))


def of_answer(history: History, asked: Asked, in_force: InForce, answer: EdgesAnswer) -> list[Traffic]:
    """Return the traffic of the rows of an answer of `DistinctEdges`."""
    found = reader(history, asked, answer)
    clusters = pc.unique(answer.rows["cluster"]).to_pylist()
    return [
        found.traffic(cluster, in_force.periods[cluster], answer.rows.filter(pc.equal(answer.rows["cluster"], cluster)))
        for cluster in sorted(clusters)
        if in_force.periods.get(cluster)
    ]


def reader(history: History, asked: Asked, answer: EdgesAnswer) -> Reader:
    """Return what turns the rows of an answer into arrays."""
    labels = dict(zip(answer.label_sets["id"].to_pylist(), answer.label_sets["labels"].to_pylist(), strict=True))
    return Reader(answer.ends, labels, sees_labels=history.sees_labels, learned=_learned(history, asked, answer.ends))


def _learned(history: History, asked: Asked, ends: pa.Table) -> LearnedNames:
    """Return what DNS names stood for, if any end has one."""
    if ends["dns_name"].null_count == ends.num_rows:
        return NOTHING_LEARNED
    wanted = replace(asked.filter(), namespaces=())
    names = history.answer(edge_questions.names(wanted, limits=_MOST_NAMES))
    return LearnedNames.read(names.rows.select(["cluster", "ip", "name"]).to_pylist())


class Reader:
    """Turns rows into arrays."""

    def __init__(self, ends: pa.Table, labels: Mapping[str, Sequence[str]], *, sees_labels: bool, learned: LearnedNames) -> None:
        self._columns = [ends[part].to_pylist() for part in _END_PARTS]
        self._labels, self._sees_labels, self.learned = labels, sees_labels, learned

    def traffic(self, cluster: str, periods: tuple[Period, ...], rows: pa.Table) -> Traffic:
        """Return the rows of one cluster as its traffic."""
        ends, source, destination = self.ends(cluster, rows)
        periods = _named_as_in_labels(periods, ends)
        protocols, protocol = codes(rows["l4_protocol"])
        kind, direction = recorded_of(rows)
        first, last = microseconds(rows["first_seen"]), microseconds(rows["last_seen"])
        starts = np.array([as_microseconds(period.since) for period in periods], np.int64)
        begin, end = (np.maximum(np.searchsorted(starts, moment, "right") - 1, 0) for moment in (first, last))
        flows = numbers(rows["flows"]) - numbers(rows["repeats"])
        judged = kind >= 0
        columns = [source, destination, protocol, numbers(rows["destination_port"], -1), begin, end, microseconds(rows["since"])]
        columns = [column[judged] for column in columns]
        # Spans begin at whole hours; as such they take few bits of a packed key.
        example, place = grouped([*columns[:-1], columns[-1] // _HOUR_US])
        count = len(example)
        groups = [column[example] for column in columns]
        cell = (place * 3 + direction[judged]) * 3 + kind[judged]
        counts = np.bincount(cell, weights=flows[judged], minlength=count * 9).astype(np.int64).reshape(count, 3, 3)
        first_seen, last_seen = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
        np.minimum.at(first_seen, place, first[judged])
        np.maximum.at(last_seen, place, last[judged])
        return Traffic(
            cluster=cluster,
            periods=periods,
            ends=tuple(ends),
            sides=tuple(sides_of(periods, ends, self.learned)),
            source=groups[0],
            destination=groups[1],
            protocol=groups[2],
            protocols=tuple(name or "" for name in protocols),
            number=groups[3],
            first_period=groups[4],
            last_period=groups[5],
            since=groups[6],
            flows=counts,
            first_seen=first_seen,
            last_seen=last_seen,
            not_judged=int(flows[~judged].sum()),
        )

    def ends(self, cluster: str, rows: pa.Table) -> tuple[list[End], Ints, Ints]:
        """Return the distinct ends, and for each row the places of its source and destination among them."""
        source, destination = numbers(rows["source"]), numbers(rows["destination"])
        found: dict[End, int] = {}
        places = np.zeros(len(self._columns[0]), np.int64)
        for number in np.union1d(source, destination).tolist():
            places[number] = found.setdefault(self._end(cluster, number), len(found))
        return list(found), places[source], places[destination]

    def _end(self, cluster: str, number: int) -> End:
        name, namespace, workload, entity, dns_name, cidr, labels_id = (values[number] for values in self._columns)
        labels = self._labels.get(labels_id) if labels_id is not None else None
        return End(
            cluster=cluster,
            cluster_name=name,
            namespace=namespace,
            workload=workload,
            entity=entity,
            dns_name=dns_name,
            cidr=cidr,
            labels=tuple(labels) if labels is not None else None,
            is_hidden=labels is None and not self._sees_labels,
        )


def _named_as_in_labels(periods: tuple[Period, ...], ends: Sequence[End]) -> tuple[Period, ...]:
    """The periods, with the name that the labels of the cluster's own pods give the cluster, where the agent's settings are not known."""
    labelled = [LabelSet(end.labels) for end in ends if end.labels and end.namespace is not None and end.cluster_name is None]
    if not labelled:
        return periods
    names = Counter(labels.get(KUBERNETES, CLUSTER) for labels in labelled)
    return tuple(period.in_cluster(names.most_common(1)[0][0]) for period in periods)


def sides_of(periods: Sequence[Period], ends: Sequence[End], learned: LearnedNames = NOTHING_LEARNED) -> Iterator[Side]:
    """Yield each end as the engine reads it in all of these periods; named ports that changed in between are not known."""
    selects_nodes = any(period.policies.selects_nodes for period in periods)
    for end in ends:
        named_ports = None
        if end.namespace is not None and end.cluster_name is None:
            each = [period.named_ports(end.namespace, end.workload) for period in periods]
            named_ports = each[0] if all(ports == each[0] for ports in each) else None
        yield side_of(end, named_ports=named_ports, learned=learned, selects_nodes=selects_nodes)


def recorded_of(rows: pa.Table) -> tuple[Ints, Ints]:
    """For each row what was recorded, -1 where it says nothing about policies, and where it was seen."""
    verdicts, verdict = codes(rows["verdict"])
    reasons, reason = codes(rows["drop_reason_desc"])
    directions, direction = codes(rows["traffic_direction"])
    of_verdict = np.array([_JUDGED.get(name or "", -1) for name in verdicts], np.int64)[verdict]
    by_reason = np.array([DENIED_REQUEST if name is None else DENIED if name in _POLICY_REASONS else -1 for name in reasons], np.int64)
    is_drop = np.array([name == "DROPPED" for name in verdicts], bool)[verdict]
    kind = np.where(is_drop, by_reason[reason], of_verdict)
    return kind, np.array([_DIRECTIONS.get(name or "", UNKNOWN) for name in directions], np.int64)[direction]


def codes(column: pa.ChunkedArray) -> tuple[list[Any], Ints]:
    """Return the distinct values of a column, the last of which is None, and for each row the place of its value."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    values = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    return [*values, None], codes


def numbers(column: pa.ChunkedArray, missing: int = 0) -> Ints:
    """Return a column of numbers, with another value for null."""
    return np.asarray(column.combine_chunks().fill_null(missing).to_numpy(zero_copy_only=False)).astype(np.int64)


def microseconds(column: pa.ChunkedArray) -> Ints:
    """Return a column of times as microseconds since 1970."""
    return numbers(column.cast(pa.int64()))


def as_microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
