"""The ring buffer of events in a Hubble node, and how requests read it.

It reproduces what a collector must cope with: the newest entry is readable only after the next one is written, a `since`
older than the ring silently starts at the oldest entry, and a reader that was overrun gets the report a second later, after the next
event that it receives: if the stream ends before that, nobody gets the report.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from collectors.hubble_api.flow import flow_pb2

DEFAULT_CAPACITY = 4_095
LARGEST_CAPACITY = 65_535
NANOSECONDS = 1_000_000_000
WAIT_SECONDS = 0.05  # how soon a waiting follower notices that it was stopped

Event = flow_pb2.Flow | flow_pb2.LostEvent


def _everything(_flow: flow_pb2.Flow) -> bool:
    return True


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Query:
    """Which part of the ring a request reads; `since_ns` overrides `number` and `first`."""

    number: int = 0
    first: bool = False
    follow: bool = False
    since_ns: int | None = None
    until_ns: int | None = None
    matches: Callable[[flow_pb2.Flow], bool] = _everything

    def __post_init__(self) -> None:
        if self.first and self.follow:
            raise ValueError("first cannot be specified with follow")


class _Overrun:
    """The losses not yet reported to one reader. They are reported together, a second after the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self._first_ns = 0
        self._last_ns = 0

    def add(self, count: int, now_ns: int) -> None:
        if not self.count:
            self._first_ns = now_ns
        self.count += count
        self._last_ns = now_ns

    def due(self, now_ns: int) -> flow_pb2.LostEvent | None:
        if not self.count or now_ns - self._first_ns < NANOSECONDS:
            return None
        event = flow_pb2.LostEvent(source=flow_pb2.HUBBLE_RING_BUFFER, num_events_lost=self.count)
        event.first.FromNanoseconds(self._first_ns)
        event.last.FromNanoseconds(self._last_ns)
        self.count = 0
        return event


class Ring:
    """The last `capacity` readable events, plus the newest one, which becomes readable with its successor."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY, clock: Callable[[], int] = time.time_ns) -> None:
        if not 1 <= capacity <= LARGEST_CAPACITY or capacity & (capacity + 1):
            raise ValueError(f"a ring holds 2^n-1 events, at most {LARGEST_CAPACITY:,}; got {capacity:,}")
        self.capacity = capacity
        self._clock = clock
        self._slots: list[Event | None] = [None] * (capacity + 1)
        self._written = 0
        self._changed = threading.Condition()

    @property
    def written(self) -> int:
        """Total number of events ever written."""
        return self._written

    def __len__(self) -> int:
        """Number of events in the ring, as a node reports it."""
        return min(self._written, self.capacity)

    def write(self, event: Event) -> None:
        """Add one event, overwriting the oldest, and wake the followers."""
        with self._changed:
            self._slots[self._written % len(self._slots)] = event
            self._written += 1
            self._changed.notify_all()

    def read(self, query: Query, stopped: Callable[[], bool] = _never) -> Iterator[Event]:
        """Yield the events of a request; a follow lasts until `stopped` returns true or an event is later than `until`."""
        with self._changed:
            position, end = self._start(query), self._readable()[1]
        limited = 0 if query.follow else query.number
        overrun, taken = _Overrun(), 0
        while not stopped():
            with self._changed:
                oldest, newest = self._readable()
                last = newest if query.follow else end
                if position < min(oldest, last):
                    overrun.add(min(oldest, last) - position, self._clock())
                    position = min(oldest, last)
                if position >= last:
                    if not query.follow:
                        return
                    self._changed.wait(WAIT_SECONDS)
                    continue
                event = self._at(position)
                position += 1
            if isinstance(event, flow_pb2.Flow):
                if query.until_ns is not None and event.time.ToNanoseconds() > query.until_ns:
                    return
                if not query.matches(event):
                    continue
                taken += 1
            yield event
            if taken == limited > 0:
                return
            loss = overrun.due(self._clock())
            if loss is not None:
                yield loss

    def _readable(self) -> tuple[int, int]:
        """Return the first readable position and the one after the last."""
        end = max(0, self._written - 1)
        return max(0, end - self.capacity), end

    def _at(self, position: int) -> Event:
        event = self._slots[position % len(self._slots)]
        if event is None:
            raise IndexError(position)
        return event

    def _start(self, query: Query) -> int:
        """Return where a request begins, found by walking back from the newest readable event."""
        oldest, end = self._readable()
        if query.since_ns is None and (query.first or not query.number):
            return end if query.follow else oldest
        found = 0
        for position in range(end - 1, oldest - 1, -1):
            event = self._at(position)
            if isinstance(event, flow_pb2.LostEvent):
                continue
            at = event.time.ToNanoseconds()
            if query.since_ns is not None:
                if at < query.since_ns:
                    return position + 1
            elif query.matches(event):
                found += 1
                if found == query.number:
                    return position
        return oldest
