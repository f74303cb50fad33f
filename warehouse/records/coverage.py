"""Computes how much of a window was observed from rows of the ledger: shares of time, gaps, and flows known lost. No I/O.

A node was observed at times covered by a `connected` row and by no `gap` row. `disconnected` and `node_unavailable` rows
give the reason for missing time; flows read from the rings afterwards have their own `connected` rows. A node is not expected to
be observed before it joined or after it left. While its collector is alive, the time after the ledger's last row about a node
is pending: neither observed nor a gap. Any other time without a row is a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.schema import TIMESTAMP

TOUCHING_US = 1_000_000
"""Intervals no further apart than this are merged."""
ALIVE = timedelta(minutes=5)
"""A collector that has recorded nothing for this long is considered not alive: ten times the interval at which it records, since a
machine under much load was seen to hold it up for more than two minutes."""
UNDATED = "lost_undated"
"""The state of rows about flows that were lost at an unknown time within the row's interval, or within those of rows like it."""
_AWAY = ("disconnected", "node_unavailable")
_REASONS = ("gap", *_AWAY)
"""States that give a reason for missing time."""
_SIGNS = ("connected", *_REASONS)
"""States that show that the node exists."""
_NOT_LIVE = ("import", "simulated")
"""Sources of rows that were not recorded by a running collector."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAR_US = 2**62
_Intervals = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class NodeCoverage:
    """The coverage of one node in a window."""

    cluster: str
    node_name: str
    covered: float
    """The share of `expected` that was observed, 0 to 1."""
    expected: timedelta
    """The time in the window in which the node existed and that is not pending."""
    flows_lost: int
    """Number of flows known lost, without losses of unknown time."""
    flows_received: int
    connected_since: datetime | None
    """Start of the uninterrupted observation that includes the last `connected` row."""
    last: datetime | None
    """End of that row."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Time in which a node was not observed."""

    cluster: str
    node_name: str
    since: datetime
    until: datetime
    cause: str
    """The reason in words for users, from the ledger rows that overlap the gap."""


class Gaps(list[Gap]):
    """The gaps in a window, and the observed time. Time in neither was pending, or the node did not exist."""

    observed: dict[tuple[str, str], list[tuple[datetime, datetime]]]
    """The observed intervals of each cluster and node, in order."""

    def __init__(self, gaps: list[Gap], observed: dict[tuple[str, str], list[tuple[datetime, datetime]]]) -> None:
        super().__init__(gaps)
        self.observed = observed


def gaps(rows: pa.Table, since: datetime, until: datetime, *, now: datetime | None = None) -> Gaps:
    """Return the times in [since, until) at which nodes in `rows` (columns of `coverage`) were not observed, by node and time.

    `now` is the current time; it decides whether collectors are alive.
    """
    ledger = _Ledger(rows, since, until, now)
    found: list[Gap] = []
    observed = {}
    for (cluster, node), mine in ledger.nodes:
        expected = ledger.expected(cluster, mine)
        seen = ledger.observed(mine, expected)
        observed[cluster, node] = [(_moment(first), _moment(last)) for first, last in seen.tolist()]
        reasons = np.concatenate((mine, ledger.of_cluster(cluster)))
        for first, last in _minus(expected, seen).tolist():
            if last - first > TOUCHING_US:
                cause = ledger.cause(reasons, first, last)
                found.append(Gap(cluster=cluster, node_name=node, since=_moment(first), until=_moment(last), cause=cause))
    return Gaps(sorted(found, key=lambda gap: (gap.cluster, gap.node_name, gap.since)), observed)


def node_coverage(rows: pa.Table, since: datetime, until: datetime, *, now: datetime | None = None) -> list[NodeCoverage]:
    """Return the coverage in [since, until) of every node in `rows` (columns of `coverage`) that existed then.

    `now` is the current time; it decides whether collectors are alive.
    """
    ledger = _Ledger(rows, since, until, now)
    received = rows.column("flows_received").fill_null(0).to_numpy()
    lost = pc.if_else(pc.equal(rows.column("state"), UNDATED), 0, rows.column("flows_lost").fill_null(0)).to_numpy()
    found = []
    for (cluster, node), mine in ledger.nodes:
        expected = ledger.expected(cluster, mine)
        length = _length(expected)
        if not length:
            continue
        inside = mine[(ledger.starts[mine] < ledger.end) & (ledger.ends[mine] > ledger.begin)]
        chain = _chain(ledger.merged(mine, "connected"), ledger.merged(mine, "gap"))
        found.append(
            NodeCoverage(
                cluster=cluster,
                node_name=node,
                covered=_length(ledger.observed(mine, expected)) / length,
                expected=timedelta(microseconds=length),
                flows_lost=int(lost[inside].sum()),
                flows_received=int(received[inside].sum()),
                connected_since=_moment(chain[0]) if chain else None,
                last=_moment(chain[1]) if chain else None,
            )
        )
    return found


def flows_lost(rows: pa.Table, since: datetime, until: datetime) -> dict[str, int]:
    """Return how many flows each cluster is known to have lost in [since, until), without losses of unknown time, from rows of `coverage`.

    Losses also count if they name no node, or one that was not expected to be observed in the window.
    """
    inside = pc.and_(pc.less(rows.column("from"), pa.scalar(until, TIMESTAMP)), pc.greater(rows.column("to"), pa.scalar(since, TIMESTAMP)))
    found = rows.filter(pc.and_(pc.not_equal(rows.column("state"), UNDATED), inside))
    sums = found.group_by("cluster").aggregate([("flows_lost", "sum")])
    return {
        cluster: lost for cluster, lost in zip(*(sums[name].to_pylist() for name in ("cluster", "flows_lost_sum")), strict=True) if lost
    }


def flows_lost_undated(rows: pa.Table, since: datetime, until: datetime) -> int:
    """Return how many flows were lost at an unknown time that may lie in [since, until), from rows of `coverage`.

    Such a loss has a row for each day in which it may have happened, each with the whole number: it counts once.
    """
    inside = pc.and_(pc.less(rows.column("from"), pa.scalar(until, TIMESTAMP)), pc.greater(rows.column("to"), pa.scalar(since, TIMESTAMP)))
    found = rows.filter(pc.and_(pc.equal(rows.column("state"), UNDATED), inside))
    losses = {(row["cluster"], row["node_name"], row["source"], row["detail"]): row["flows_lost"] or 0 for row in found.to_pylist()}
    return sum(losses.values())


def cluster_shares(nodes: list[NodeCoverage]) -> dict[str, float]:
    """Return each cluster's share: the observed time of all its nodes divided by their expected time."""
    expected: dict[str, float] = {}
    observed: dict[str, float] = {}
    for node in nodes:
        seconds = node.expected.total_seconds()
        expected[node.cluster] = expected.get(node.cluster, 0.0) + seconds
        observed[node.cluster] = observed.get(node.cluster, 0.0) + seconds * node.covered
    return {cluster: observed[cluster] / seconds for cluster, seconds in expected.items()}


class _Ledger:
    """Rows of `coverage` in a window. Rows are referred to by position; times are microseconds since 1970."""

    def __init__(self, rows: pa.Table, since: datetime, until: datetime, now: datetime | None) -> None:
        self.begin, self.end = _us(since), _us(until)
        self.starts, self.ends = (rows.column(name).cast(pa.int64()).to_numpy() for name in ("from", "to"))
        self.nodes = _by_node(rows)
        self._states = np.array(rows.column("state").to_pylist(), dtype=object)
        self._details, self._sources = (rows.column(name).to_pylist() for name in ("detail", "source"))
        self._clusters = _of_clusters(rows)
        now = datetime.now(UTC) if now is None else now
        self._is_recent = until >= now - ALIVE
        self._alive = _alive(rows, now)

    def of_cluster(self, cluster: str) -> npt.NDArray[np.int64]:
        """Return the rows about a whole cluster."""
        return self._clusters.get(cluster, np.empty(0, np.int64))

    def merged(self, mine: npt.NDArray[np.int64], *states: str) -> _Intervals:
        """Return the merged time of the rows in these states."""
        return _merged(mine[np.isin(self._states[mine], states)], self.starts, self.ends)

    def expected(self, cluster: str, mine: npt.NDArray[np.int64]) -> _Intervals:
        """Return the time in the window at which a node existed and that is not pending."""
        window = np.array([[self.begin, self.end]], np.int64)
        signs = mine[np.isin(self._states[mine], _SIGNS)]
        excluded = []
        for row in mine[self._states[mine] == "left"].tolist():
            later = self.starts[signs][self.starts[signs] >= self.starts[row]]
            excluded.append([self.starts[row], later.min() if later.size else _FAR_US])
        joined = mine[self._states[mine] == "joined"].tolist()
        excluded += [[-_FAR_US, self.starts[row]] for row in joined if not (self.starts[mine] < self.starts[row]).any()]
        pending = self._pending_from(cluster, signs)
        if pending is not None:
            excluded.append([pending, _FAR_US])
        away = np.array(excluded, np.int64).reshape(-1, 2)
        return _minus(window, _merged(np.arange(len(away)), away[:, 0], away[:, 1])) if len(away) else window

    def _pending_from(self, cluster: str, signs: npt.NDArray[np.int64]) -> int | None:
        """Return the end of the last row about a node if the time after it may still be recorded as observed."""
        if not self._is_recent or cluster not in self._alive or not signs.size:
            return None
        last = int(self.ends[signs].max())
        rows = np.concatenate((signs, self.of_cluster(cluster)))
        away = self.ends[rows[np.isin(self._states[rows], _AWAY)]]
        connected = self.ends[signs[self._states[signs] == "connected"]]
        if away.size and (not connected.size or away.max() > connected.max()):
            return None  # the last row says that it was not connected, which holds until there is another row
        return last

    def observed(self, mine: npt.NDArray[np.int64], expected: _Intervals) -> _Intervals:
        """Return the part of the expected time in which a node was observed."""
        return _minus(_common(self.merged(mine, "connected"), expected), self.merged(mine, "gap"))

    def cause(self, rows: npt.NDArray[np.int64], first: int, last: int) -> str:
        """Return why the time was not observed, according to these rows."""
        why = [row for row in rows.tolist() if self._states[row] in _REASONS and self.starts[row] < last and self.ends[row] > first]
        detail = next((self._details[row] for row in why if self._details[row]), None)  # a detail says more than the name of the state
        states = (f"{self._states[row]} ({self._sources[row]})".replace("_", " ") for row in why)
        return detail or next(states, "nothing was recorded about this time")


def _alive(rows: pa.Table, now: datetime) -> set[str]:
    """Return the clusters whose collector recorded something within ALIVE."""
    live = rows.filter(pc.invert(pc.is_in(rows.column("source"), value_set=pa.array(_NOT_LIVE))))
    recent = live.filter(pc.greater_equal(live.column("recorded"), pa.scalar(now - ALIVE, live.schema.field("recorded").type)))
    return set(recent.column("cluster").to_pylist())


def _of_clusters(rows: pa.Table) -> dict[str, npt.NDArray[np.int64]]:
    """Return the positions of the rows about each whole cluster."""
    places: dict[str, list[int]] = {}
    for place, (cluster, node) in enumerate(zip(rows.column("cluster").to_pylist(), rows.column("node_name").to_pylist(), strict=True)):
        if node is None:
            places.setdefault(cluster, []).append(place)
    return {cluster: np.array(listed, np.int64) for cluster, listed in places.items()}


def _by_node(rows: pa.Table) -> list[tuple[tuple[str, str], npt.NDArray[np.int64]]]:
    """Return the positions of each node's rows, without those about a whole cluster."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, (cluster, node) in enumerate(zip(rows.column("cluster").to_pylist(), rows.column("node_name").to_pylist(), strict=True)):
        if node is not None:
            places.setdefault((cluster, node), []).append(place)
    return [(key, np.array(listed)) for key, listed in sorted(places.items())]


def _minus(some: _Intervals, taken: _Intervals) -> _Intervals:
    """Return the difference of two sets of intervals; both are sorted and do not overlap."""
    left = []
    for begin, end in some.tolist():
        start = begin
        for first, last in taken[(taken[:, 0] < end) & (taken[:, 1] > begin)].tolist():
            if first > start:
                left.append([start, first])
            start = max(start, last)
        if start < end:
            left.append([start, end])
    return np.array(left, np.int64).reshape(-1, 2)


def _common(some: _Intervals, others: _Intervals) -> _Intervals:
    """Return the intersection of two sets of intervals; both are sorted and do not overlap."""
    return np.concatenate([np.empty((0, 2), np.int64), *(_clipped(some, begin, end) for begin, end in others.tolist())])


def _merged(places: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> _Intervals:
    """Return sorted intervals that do not overlap, as rows of (start, end)."""
    if not places.size:
        return np.empty((0, 2), np.int64)
    order = places[np.argsort(starts[places], kind="stable")]
    begins, reach = starts[order], np.maximum.accumulate(ends[order])
    first = np.concatenate(([True], begins[1:] > reach[:-1]))
    last = np.concatenate((first[1:], [True]))
    return np.column_stack((begins[first], reach[last]))


def _clipped(intervals: _Intervals, begin: int, end: int) -> _Intervals:
    clipped = np.column_stack((np.maximum(intervals[:, 0], begin), np.minimum(intervals[:, 1], end)))
    return clipped[clipped[:, 0] < clipped[:, 1]]


def _length(intervals: _Intervals) -> int:
    return int((intervals[:, 1] - intervals[:, 0]).sum())


def _chain(connected: _Intervals, gaps: _Intervals) -> tuple[int, int] | None:
    """Return the last run of adjacent intervals that is not interrupted by a gap."""
    if not connected.size:
        return None
    start, end = connected[-1]
    for begin, reach in connected[-2::-1]:
        if start - reach > TOUCHING_US:
            break
        start = begin
    for begin, reach in gaps:
        if begin < end and reach > start:
            start = max(start, reach)
    return int(min(start, end)), int(end)


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
