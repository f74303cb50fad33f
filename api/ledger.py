"""What was not seen, as Hubble's clients are told: LostEvents, and states of nodes. Read through the door, like flows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from api import frames
from api.frames import Batch
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.hubble_api.relay import relay_pb2
from warehouse.engine import Window
from warehouse.lake.tables import Lake
from warehouse.questions.door import Reading
from warehouse.questions.record_questions import Ledger
from warehouse.records import coverage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AWAY = ("gap", "disconnected", "node_unavailable")
MOST = 10_000
"""The most events that are told at once; of more the newest, after a summary of those before."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that was not seen: an encoded response with gRPC's prefix, and when it began in nanoseconds since 1970."""

    at: int
    message: bytes
    flows_lost: int | None = None
    """For a LostEvent: how many flows it says were lost."""


def events_between(reading: Reading, lake: Lake, since: datetime, until: datetime, clusters: Sequence[str]) -> list[Event]:
    """Return what was not seen in a span, by the ledger of the given handle: flows known lost, and times at which nodes were not observed.

    `clusters` are those that the caller may know of; one about which the ledger has nothing in the span was not observed at all.
    Raises LakeError.
    """
    rows = reading.answer(Ledger(window=Window(since=since, until=until)), lake=lake).rows
    found = [_lost(row) for row in _losses(rows.to_pylist()) if row["to"] > since and row["from"] < until]
    alike: dict[tuple[datetime, datetime, str], list[str]] = {}
    for gap in coverage.gaps(rows, since, until):
        alike.setdefault((gap.since, gap.until, gap.cause), []).append(gap.node_name)
    found += [_away(nodes, *span) for span, nodes in alike.items()]
    silent = sorted(set(clusters) - set(rows["cluster"].to_pylist()))
    recorded = min(until, datetime.now(UTC) - coverage.ALIVE)  # what is newer may be yet to be recorded
    if silent and since < recorded:
        found.append(_away(silent, since, recorded, "nothing was recorded about these clusters"))
    return _newest(found)


def events_added(reading: Reading, lake: Lake) -> list[Event]:
    """Return what the rows tell that were added to the ledger, which the given handle holds. Raises LakeError."""
    rows = reading.answer(Ledger(window=Window()), lake=lake).rows.to_pylist()
    found = [_lost(row) for row in _losses(rows)]
    away = (row for row in rows if row["state"] in _AWAY)
    found += [_away([row["node_name"] or row["cluster"]], row["from"], row["to"], row["detail"] or "") for row in away]
    return _newest(found)


def merged(messages: pa.BinaryArray, nanoseconds: npt.NDArray[np.int64], events: Sequence[Event]) -> Iterator[Batch]:
    """Yield flows and events in the order of time; an event comes before flows of its time."""
    begin = 0
    for event, place in zip(events, np.searchsorted(nanoseconds, [event.at for event in events]).tolist(), strict=True):
        if place > begin:
            yield frames.of_many(messages[begin:place])
        yield frames.of_one(event.message)
        begin = place
    if begin < len(messages):
        yield frames.of_many(messages[begin:])


class Pending:
    """Events that are yet to be sent, in order."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events: Iterator[Event] = iter(events)
        self._next = next(self._events, None)

    def until(self, nanoseconds: int | None) -> list[Event]:
        """Return the events up to a time that were not returned before; all that are left for None."""
        found = []
        while self._next is not None and (nanoseconds is None or self._next.at <= nanoseconds):
            found.append(self._next)
            self._next = next(self._events, None)
        return found


def _newest(events: list[Event]) -> list[Event]:
    """Return events in order. Of too many the oldest become two: the sum of what they lost, and how many they were."""
    events = sorted(events, key=lambda event: event.at)
    first = max(0, len(events) - MOST)
    left_out, kept = events[:first], events[first:]
    if not left_out:
        return kept
    since, until = (_EPOCH + timedelta(microseconds=event.at // 1000) for event in (left_out[0], left_out[-1]))
    text = f"{len(left_out):,} notices from {since.isoformat()} to {until.isoformat()} are left out: ask for less time"
    status = relay_pb2.NodeStatusEvent(state_change=relay_pb2.NODE_ERROR, message=text)
    told = [_event(observer_pb2.GetFlowsResponse(node_status=status), since)]
    if losses := [event.flows_lost for event in left_out if event.flows_lost is not None]:
        lost = flow_pb2.LostEvent(source="UNKNOWN_LOST_EVENT_SOURCE", num_events_lost=sum(losses))
        lost.first.FromDatetime(since)
        lost.last.FromDatetime(until)
        told.append(_event(observer_pb2.GetFlowsResponse(lost_events=lost), since))
    return [*told, *kept]


def _losses(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows about lost flows. A loss of unknown time has a row a day, each with the whole number: they become one."""
    found: list[Mapping[str, Any]] = [row for row in rows if row["state"] == "lost"]
    undated: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        if row["state"] == coverage.UNDATED:
            key = (row["cluster"], row["node_name"], row["source"], row["detail"])
            one = undated.get(key, row)
            undated[key] = {**one, "from": min(one["from"], row["from"]), "to": max(one["to"], row["to"])}
    return [*found, *undated.values()]


def _lost(row: Mapping[str, Any]) -> Event:
    """Return the event of a row about lost flows, with the source that Hubble gave if it was one of Hubble's."""
    known = flow_pb2.LostEventSource.keys()
    source = row["source"] if row["source"] in known else "UNKNOWN_LOST_EVENT_SOURCE"
    event = flow_pb2.LostEvent(source=source, num_events_lost=row["flows_lost"] or 0)
    event.first.FromDatetime(row["from"])
    event.last.FromDatetime(row["to"])
    response = observer_pb2.GetFlowsResponse(lost_events=event, node_name=row["node_name"] or row["cluster"])
    return replace(_event(response, row["from"]), flows_lost=row["flows_lost"] or 0)


def _away(nodes: Sequence[str], since: datetime, until: datetime, cause: str) -> Event:
    text = f"not observed from {since.isoformat()} to {until.isoformat()}" + (f": {cause}" if cause else "")
    status = relay_pb2.NodeStatusEvent(state_change=relay_pb2.NODE_UNAVAILABLE, node_names=nodes, message=text)
    return _event(observer_pb2.GetFlowsResponse(node_status=status, node_name=nodes[0]), since)


def _event(response: observer_pb2.GetFlowsResponse, at: datetime) -> Event:
    response.time.FromDatetime(at)
    return Event(at=(at - _EPOCH) // timedelta(microseconds=1) * 1000, message=frames.framed(response.SerializeToString()))
