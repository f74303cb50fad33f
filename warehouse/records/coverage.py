"""How much of a window was observed: rows of the ledger -> shares of time, and flows known lost. Pure.

A node is covered where a `connected` row says so and no `gap` row denies it. `disconnected` and `node_unavailable` say
why time is missing; what was caught up with from the rings afterwards has its own `connected` rows. Time that no row
speaks of is not covered.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

TOUCHING_US = 1_000_000
"""Intervals that are this close are one chain."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Intervals = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class NodeCoverage:
    """One node in a window."""

    cluster: str
    node_name: str
    covered: float
    """Share of the window, 0 to 1."""
    flows_lost: int
    """Flows known lost."""
    flows_received: int
    connected_since: datetime | None
    """Start of the unbroken observation that reaches its last `connected` row."""
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
    """A sentence for people, from the rows of the ledger that touch it."""


def gaps(rows: pa.Table, since: datetime, until: datetime) -> list[Gap]:
    """The time of [since, until) in which nodes that `rows` (columns of `coverage`) name were not observed, by node and time."""
    begin, end = _us(since), _us(until)
    starts, ends = (rows.column(name).cast(pa.int64()).to_numpy() for name in ("from", "to"))
    states, details, sources = (rows.column(name).to_pylist() for name in ("state", "detail", "source"))
    found = []
    for (cluster, node), mine in _by_node(rows):
        connected = _clipped(_merged(mine[[states[place] == "connected" for place in mine]], starts, ends), begin, end)
        missing = _clipped(_merged(mine[[states[place] == "gap" for place in mine]], starts, ends), begin, end)
        for first, last in _minus(np.array([[begin, end]], np.int64), connected).tolist() + missing.tolist():
            if last - first <= TOUCHING_US:
                continue
            why = [place for place in mine if states[place] not in ("connected", "lost") and starts[place] < last and ends[place] > first]
            # What says most comes first: a sentence, then the state's own name.
            said = next((details[place] for place in why if details[place]), None)
            state = next((f"{states[place]} ({sources[place]})".replace("_", " ") for place in why), "no row of the ledger speaks of it")
            found.append(Gap(cluster=cluster, node_name=node, since=_moment(first), until=_moment(last), cause=said or state))
    return sorted(found, key=lambda gap: (gap.cluster, gap.node_name, gap.since))


def node_coverage(rows: pa.Table, since: datetime, until: datetime) -> list[NodeCoverage]:
    """The coverage of every node that `rows` (columns of `coverage`) name, in [since, until)."""
    begin, end = _us(since), _us(until)
    starts, ends = (rows.column(name).cast(pa.int64()).to_numpy() for name in ("from", "to"))
    states = np.array(rows.column("state").to_pylist(), dtype=object)
    lost, received = (rows.column(name).fill_null(0).to_numpy() for name in ("flows_lost", "flows_received"))
    found = []
    for (cluster, node), mine in _by_node(rows):
        inside = mine[(starts[mine] < end) & (ends[mine] > begin)]
        connected = _merged(mine[states[mine] == "connected"], starts, ends)
        gaps = _merged(mine[states[mine] == "gap"], starts, ends)
        observed = _length(_clipped(connected, begin, end)) - _overlap(_clipped(connected, begin, end), _clipped(gaps, begin, end))
        chain = _chain(connected, gaps)
        found.append(
            NodeCoverage(
                cluster=cluster,
                node_name=node,
                covered=max(0.0, min(1.0, observed / max(1, end - begin))),
                flows_lost=int(lost[inside].sum()),
                flows_received=int(received[inside].sum()),
                connected_since=_moment(chain[0]) if chain else None,
                last=_moment(chain[1]) if chain else None,
            )
        )
    return found


def cluster_shares(nodes: list[NodeCoverage]) -> dict[str, float]:
    """Each cluster's share: the mean over its nodes."""
    shares: dict[str, list[float]] = {}
    for node in nodes:
        shares.setdefault(node.cluster, []).append(node.covered)
    return {cluster: sum(parts) / len(parts) for cluster, parts in shares.items()}


def _by_node(rows: pa.Table) -> list[tuple[tuple[str, str], npt.NDArray[np.int64]]]:
    """The places of each node's rows; those about a whole cluster are left out."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, (cluster, node) in enumerate(zip(rows.column("cluster").to_pylist(), rows.column("node_name").to_pylist(), strict=True)):
        if node is not None:
            places.setdefault((cluster, node), []).append(place)
    return [(key, np.array(listed)) for key, listed in sorted(places.items())]


def _minus(whole: _Intervals, taken: _Intervals) -> _Intervals:
    """What of one interval is left without others, sorted and apart."""
    left, start = [], int(whole[0][0])
    for first, last in taken.tolist():
        if first > start:
            left.append([start, first])
        start = max(start, last)
    if start < whole[0][1]:
        left.append([start, int(whole[0][1])])
    return np.array(left, np.int64).reshape(-1, 2)


def _merged(places: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> _Intervals:
    """Sorted intervals without overlap, as rows of (start, end)."""
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


def _overlap(some: _Intervals, others: _Intervals) -> int:
    """Length of what two sets of intervals share."""
    if not some.size or not others.size:
        return 0
    both = np.concatenate((some, others))
    union = _merged(np.arange(len(both)), both[:, 0], both[:, 1])
    return _length(some) + _length(others) - _length(union)


def _chain(connected: _Intervals, gaps: _Intervals) -> tuple[int, int] | None:
    """The last run of intervals that touch, not interrupted by a gap."""
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
