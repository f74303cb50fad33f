"""Converts what many streams received into the steps in which their clusters process it.

The messages of all streams are decoded together, since decoding a handful of flows costs almost as much as decoding
hundreds. Deciding which flows are new, and what goes into the ledger, belongs to collectors.streaming.intake.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from collectors.decoding.decode import Rejected, decode
from collectors.hubble_api.observer import observer_pb2
from collectors.streaming import responses
from collectors.streaming.completeness import PAUSE_US
from collectors.streaming.messages import Messages
from collectors.streaming.stream import Arrived, Ended, Item, Opened, Polled
from warehouse import config

SLICE_US = 2_000_000
"""Flows that arrived within this time of each other, without a pause between them, count as having arrived together."""


@dataclass(frozen=True, kw_only=True)
class Flows:
    """Decoded flows of one stream in the order received, with nothing else between them."""

    rows: pa.Table
    """Columns of `flows`."""
    arrivals: tuple[tuple[int, int, int], ...]
    """When they arrived: the number of rows up to the end of each slice, and the times of its first and last arrival.

    Times are microseconds since 1970, by our clock.
    """
    row_bytes: float
    """The memory that a row takes, on average."""


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """Messages that could not be read."""

    messages: tuple[Rejected, ...]


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A LostEvent, or a change of a node's state."""

    response: observer_pb2.GetFlowsResponse
    at: int


Step = Flows | Unreadable | Notice | Opened | Ended | Polled


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What was taken from one stream's inbox, in the order received."""

    cluster: str
    items: Sequence[Item]

    @property
    def arrived(self) -> list[Arrived]:
        """The items that hold messages."""
        return [item for item in self.items if isinstance(item, Arrived)]


def steps_of(taken: Sequence[Taken], redact: config.Redact) -> list[list[Step]]:
    """The steps for each stream. All flows of a stream that arrived without anything else between them are one step."""
    arrived = [item.messages for one in taken for item in one.arrived]
    if not arrived:
        return [[item for item in one.items if not isinstance(item, Arrived)] for one in taken]
    decoded = _Decoded(taken, Messages.joined(arrived), redact)
    found: list[list[Step]] = []
    end = 0
    for one in taken:
        steps: list[Step] = []
        run: list[tuple[int, int]] = []  # message position up to which a part reaches, and when the part arrived
        begin = end
        for item in one.items:
            if isinstance(item, Arrived):
                end += len(item.messages)
                run.append((end, item.at))
                continue
            steps += decoded.steps(begin, run)
            begin, run = end, []
            steps.append(item)
        steps += decoded.steps(begin, run)
        found.append(steps)
    return found


class _Decoded:
    """The messages of several streams, decoded; positions are those of messages among all of them."""

    def __init__(self, taken: Sequence[Taken], messages: Messages, redact: config.Redact) -> None:
        parts = responses.split(messages)
        counts = [sum(len(item.messages) for item in one.arrived) for one in taken]
        numbers = np.repeat(np.arange(len(taken)), counts)[parts.positions]
        clusters = pa.array([one.cluster for one in taken], pa.string()).take(pa.array(numbers))
        decoded = decode(parts.flows, cluster=clusters, recorded=datetime.now(UTC), redact=redact)
        bad = [one.position for one in decoded.rejected]
        self._rows = decoded.rows
        self._row_bytes = decoded.rows.nbytes / max(1, decoded.rows.num_rows)
        self._positions = np.delete(parts.positions, bad)
        interruptions: list[tuple[int, observer_pb2.GetFlowsResponse | Rejected]] = [*parts.others]
        interruptions += [(one.position, one) for one in parts.rejected]
        interruptions += [(int(parts.positions[one.position]), one) for one in decoded.rejected]
        self._interruptions = sorted(interruptions, key=lambda one: one[0])
        self._interrupted = np.array([position for position, _ in self._interruptions], np.int64)

    def steps(self, begin: int, run: Sequence[tuple[int, int]]) -> Iterable[Step]:
        """The steps of the messages from `begin` to the end of the run."""
        if not run:
            return
        end = run[-1][0]
        first, last = np.searchsorted(self._interrupted, (begin, end))
        for position, what in self._interruptions[first:last]:
            yield from self._flows(begin, position, run)
            at = next(at for until, at in run if until > position)
            yield Unreadable(messages=(what,)) if isinstance(what, Rejected) else Notice(response=what, at=at)
            begin = position + 1
        yield from self._flows(begin, end, run)

    def _flows(self, begin: int, end: int, run: Sequence[tuple[int, int]]) -> Iterable[Flows]:
        first, last = np.searchsorted(self._positions, (begin, end)).tolist()
        if first == last:
            return
        ends = np.minimum(np.searchsorted(self._positions, [until for until, _ in run]), last) - first
        arrivals: list[tuple[int, int, int]] = []
        done = previous = 0
        for rows, (_, at) in zip(ends.tolist(), run, strict=True):
            if rows > done:
                since = arrivals[-1][1] if arrivals else at
                if arrivals and at - since <= SLICE_US and at - previous <= PAUSE_US:
                    arrivals[-1] = (rows, since, at)
                else:
                    arrivals.append((rows, at, at))
                done = rows
            previous = at
        yield Flows(rows=self._rows.slice(first, last - first), arrivals=tuple(arrivals), row_bytes=self._row_bytes)
