"""Derives coverage from a file: when each node was observed, according to the times of its flows, and what was lost.

A node counts as observed from one flow to the next, unless the pause between them is long. The threshold follows the node's
own rhythm in the file: ten times its usual pause, but not below LEAST_PAUSE nor above LONGEST_PAUSE. The usual pause is the
median time between minutes that have flows; with fewer than FEW_PAUSES pauses there is no rhythm, and LEAST_PAUSE applies.
Rows end at midnight, since readers of the ledger look back one day. Implausible times prove nothing.

A loss without a time is one of an unknown time within the span of its node's flows in the file, or of the file's if the node has none.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collectors.decoding.decode import AHEAD
from collectors.hubble_api.flow import flow_pb2
from collectors.streaming.coverage_rows import coverage_row
from warehouse.schema import TIMESTAMP

EARLIEST = datetime(2019, 1, 1, tzinfo=UTC)
"""No flow is older, because Hubble did not exist: an earlier time comes from a wrong clock."""
LEAST_PAUSE = timedelta(minutes=10)
LONGEST_PAUSE = timedelta(days=1)
TIMES_THE_USUAL = 10
FEW_PAUSES = 3
_MINUTE_US = 60_000_000
_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_PARTS = 200
_LOSS = ("from", "to", "node_name", "state", "source", "flows_lost")

_Intervals = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A LostEvent of a file."""

    line: int
    event: flow_pb2.LostEvent
    node_name: str | None
    time_us: int | None
    """The time of the enclosing event; None if it has none."""


@dataclass(kw_only=True)
class Evidence:
    """Collects the coverage that one file proves. Times are microseconds since 1970."""

    recorded: datetime
    nodes: set[str | None] = field(default_factory=set)
    _losses: list[Loss] = field(default_factory=list)
    _parts: list[pa.Table] = field(default_factory=list)

    def add_flows(self, rows: pa.Table, added: npt.NDArray[np.bool_]) -> None:
        """Add flows of the file (columns of `flows`); `added` marks those that were not in the lake yet."""
        self.nodes.update(rows.column("node_name").unique().to_pylist())
        counts = pc.if_else(pa.array(added), rows.column("flow_count").combine_chunks(), 0)
        times = rows.column("time").combine_chunks().cast(pa.int64())
        noted = pa.table({"node": rows.column("node_name"), "time": times, "count": counts, "minute": pc.divide(times, _MINUTE_US)})
        self._parts.append(_by_minute(noted.filter(pc.invert(rows.column("clock_skew").fill_null(False)))))
        if len(self._parts) > _MOST_PARTS:
            self._parts = [self._minutes()]

    def add_losses(self, losses: Sequence[Loss]) -> None:
        """Add losses."""
        self._losses += losses

    def _minutes(self) -> pa.Table:
        whole = pa.concat_tables(self._parts)
        groups = whole.group_by(["node", "minute"]).aggregate([("first", "min"), ("last", "max"), ("count", "sum")])
        return groups.rename_columns(["node", "minute", "first", "last", "count"])

    def span(self) -> tuple[datetime, datetime] | None:
        """Return the time span from the first to just after the last evidence; None if there is none."""
        times = [bound for _, bounds in self._dated() for bound in bounds]
        if self._parts:
            minutes = self._minutes()
            if minutes.num_rows:
                times += [pc.min(minutes["first"]).as_py(), pc.max(minutes["last"]).as_py() + 1]
        return (_moment(min(times)), _moment(max(times))) if times else None

    def ledger_rows(self, cluster: str, source: str, booked: pa.Table) -> list[dict[str, Any]]:
        """Return the rows of `coverage` that are not among those already `booked` for the cluster in this time."""
        rows = []
        minutes = self._minutes() if self._parts else _by_minute(_NO_FLOWS)
        for node in minutes["node"].unique().to_pylist():
            mine = minutes.filter(pc.is_null(minutes["node"]) if node is None else pc.equal(minutes["node"], node)).sort_by("minute")
            known = _connected(booked, node)
            for begin, end, count in _pieces(*(mine[name].to_numpy() for name in ("first", "last", "count"))):
                if count or not _is_within(begin, end, known):
                    interval = _moment(begin), _moment(end)
                    rows.append(coverage_row(cluster, interval, node, "connected", "import", count, 0, source, self.recorded))
        return rows + self._new_losses(cluster, source, booked, minutes)

    def _new_losses(self, cluster: str, source: str, booked: pa.Table, minutes: pa.Table) -> list[dict[str, Any]]:
        """Return the rows about losses that are not among those already booked."""
        there = collections.Counter(tuple(row[name] for name in _LOSS) for row in booked.select(_LOSS).to_pylist())
        found = []
        for loss, (begin, end) in self._dated():
            for first, last in _days(begin, end):
                lost = loss.event.num_events_lost if first == begin else 0
                interval, node = (_moment(first), _moment(last)), self._node(loss.node_name)
                found.append(coverage_row(cluster, interval, node, "lost", _source(loss.event), None, lost, source, self.recorded))
        for (node, origin), lost in self._undated().items():
            begin, end = self._span_of(node, minutes)
            detail = f"{source}: {lost:,} flows were lost at an unknown time between {_moment(begin):%F %T} and {_moment(end):%F %T} UTC"
            for first, last in _days(begin, end):
                interval = _moment(first), _moment(last)
                found.append(coverage_row(cluster, interval, node, "lost_undated", origin, None, lost, detail, self.recorded))
        rows = []
        for row in found:
            key = tuple(row[name] for name in _LOSS)
            there[key] -= 1
            if there[key] < 0:
                rows.append(row)
        return rows

    def _bounds(self, loss: Loss) -> _Intervals:
        """Return the interval in which the flows were lost, as the only element; nothing if the loss has no plausible time."""
        event = loss.event
        bounds = [getattr(event, name).ToMicroseconds() for name in ("first", "last") if event.HasField(name)]
        bounds = [bound for bound in bounds if self.is_reasonable(bound)]
        if not bounds and loss.time_us is not None and self.is_reasonable(loss.time_us):
            bounds = [loss.time_us]
        return [(min(bounds), max(bounds) + 1)] if bounds else []

    def _dated(self) -> list[tuple[Loss, tuple[int, int]]]:
        """Return the losses that have a time, with the interval in which they happened."""
        return [(loss, interval) for loss in self._losses for interval in self._bounds(loss)]

    def _undated(self) -> dict[tuple[str | None, str], int]:
        """Return how many flows each node lost at unknown times, by node and source."""
        sums: collections.Counter[tuple[str | None, str]] = collections.Counter()
        for loss in self._losses:
            if not self._bounds(loss):
                sums[self._node(loss.node_name), _source(loss.event)] += loss.event.num_events_lost
        return dict(sums)

    def _span_of(self, node: str | None, minutes: pa.Table) -> tuple[int, int]:
        """Return the span of a node's flows, from minutes with flows; that of all evidence if it has none."""
        mine = minutes.filter(pc.equal(minutes["node"], pa.scalar(node, pa.string())))
        if mine.num_rows:
            return pc.min(mine["first"]).as_py(), pc.max(mine["last"]).as_py() + 1
        span = self.span()
        if span is None:
            raise ValueError("a file without any time has no span")
        return (span[0] - _EPOCH) // timedelta(microseconds=1), (span[1] - _EPOCH) // timedelta(microseconds=1)

    def unplaced(self) -> list[Loss]:
        """Return losses of which nothing is known about their time: without a time, in a file that holds no plausible time."""
        return [] if self.span() is not None else self._losses

    def is_reasonable(self, time_us: int) -> bool:
        """Return whether a time lies between the first release of Hubble and now."""
        return EARLIEST <= _moment(time_us) <= self.recorded + AHEAD

    def _node(self, node: str | None) -> str | None:
        """Return the node as flows name it: a loss may omit the cluster prefix that flows have, or the node itself."""
        named = [name for name in self.nodes if name and (not node or name.endswith(f"/{node}"))]
        return named[0] if len(named) == 1 else node


def flag_unreasonable(rows: pa.Table) -> pa.Table:
    """Flag (`clock_skew`) flows older than Hubble; the decoder flags those in the future."""
    early = pc.less(rows.column("time"), pa.scalar(EARLIEST, TIMESTAMP))
    if not pc.any(early).as_py():
        return rows
    place = rows.schema.get_field_index("clock_skew")
    return rows.set_column(place, rows.schema.field(place), pc.if_else(early, True, rows.column("clock_skew")))


_NO_FLOWS = pa.table({"node": pa.array([], pa.string()), **{name: pa.array([], pa.int64()) for name in ("time", "count", "minute")}})


def _by_minute(noted: pa.Table) -> pa.Table:
    groups = noted.group_by(["node", "minute"]).aggregate([("time", "min"), ("time", "max"), ("count", "sum")])
    return groups.rename_columns(["node", "minute", "first", "last", "count"])


def _pieces(first: npt.NDArray[np.int64], last: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return observed intervals [begin, end) with the flows added in each, from minutes with flows, cut at midnight."""
    pauses = first[1:] - last[:-1]
    limit = longest_pause(pauses)
    pieces: list[list[int]] = []
    for place in range(len(first)):
        begin, end, count = int(first[place]), int(last[place]) + 1, int(counts[place])
        midnight = begin - begin % _DAY_US
        if pieces and pauses[place - 1] <= limit:
            if pieces[-1][0] >= midnight:
                pieces[-1][1] = end
                pieces[-1][2] += count
                continue
            for day in range(pieces[-1][1] - pieces[-1][1] % _DAY_US + _DAY_US, midnight + 1, _DAY_US):
                pieces[-1][1] = day
                pieces.append([day, day, 0])
            pieces[-1][1:] = [end, count]
        else:
            pieces.append([begin, end, count])
    return [(begin, end, count) for begin, end, count in pieces if end > begin]


def longest_pause(pauses: npt.NDArray[np.int64]) -> int:
    """Return the longest pause, in microseconds, that does not interrupt an observation, given those between minutes with flows."""
    least, most = (limit // timedelta(microseconds=1) for limit in (LEAST_PAUSE, LONGEST_PAUSE))
    if len(pauses) < FEW_PAUSES:
        return least
    return int(min(max(float(np.median(pauses)) * TIMES_THE_USUAL, least), most))


def _days(begin: int, end: int) -> _Intervals:
    """Cut an interval at each midnight."""
    cuts = [begin, *range(begin - begin % _DAY_US + _DAY_US, end, _DAY_US), end]
    return list(itertools.pairwise(cuts))


def _connected(booked: pa.Table, node: str | None) -> _Intervals:
    """Return the merged intervals in which a node is known to have been observed."""
    of_node = pc.is_null(booked["node_name"]) if node is None else pc.equal(booked["node_name"], node)
    mine = booked.filter(pc.and_(of_node, pc.equal(booked["state"], "connected")))
    merged: _Intervals = []
    for begin, end in sorted(zip(*(mine[name].cast(pa.int64()).to_pylist() for name in ("from", "to")), strict=True)):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((begin, end))
    return merged


def _is_within(begin: int, end: int, intervals: _Intervals) -> bool:
    return any(first <= begin and end <= last for first, last in intervals)


def _source(event: flow_pb2.LostEvent) -> str:
    known = event.source in flow_pb2.LostEventSource.values()
    return flow_pb2.LostEventSource.Name(event.source) if known else str(event.source)


def _moment(time_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_us)
