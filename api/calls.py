"""One GetFlows call: reads the lake up to a version, then what later versions add, within what one caller may use.

Nothing is sent twice and nothing is left out where recorded flows end and followed flows begin: the lake's versions say which is which.
A call that takes long goes on with a newer handle on the lake before the files of its own may be deleted. From then on it gives
the flows that the lake has by then; a follower gets what was added to the time before at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

from api import frames, ledger
from api.frames import Batch
from api.history import History, Piece
from api.plans import Plan
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.engine import Window
from warehouse.errors import QueryLimitError
from warehouse.lake.tables import Lake
from warehouse.questions import flow_spans
from warehouse.questions.door import Door, Reading
from warehouse.questions.question import Subject
from warehouse.schema import COVERAGE, FLOWS


class Call:
    """One call of one caller. Its methods block, and are used by one thread at a time."""

    def __init__(self, door: Door, principal: Principal, plan: Plan, limits: config.ServeLimits, ahead: Executor | None = None) -> None:
        """`ahead` reads the next flows while others are encoded."""
        self._door = door
        self._ahead = ahead
        self._opened_at = 0.0
        self._principal = principal
        self._plan = plan
        self._limits = limits
        self._opened = ExitStack()
        self._versions = {FLOWS.name: 0, COVERAGE.name: 0}

    def recorded(self) -> Iterator[Batch]:
        """Yield what the lake holds now. Raises AccessDeniedError, QueryLimitError, LakeError."""
        plan = self._plan
        since, until = (None if bound is None else flow_spans.moment(bound // 1000) for bound in (plan.since, plan.until))
        subject = Subject(window=Window(since=since, until=until), text=plan.text)
        reading = self._opened.enter_context(self._door.reading(self._principal, "GetFlows", subject))
        self._reading = reading
        lake = self._door.lake.pinned(FLOWS).pinned(COVERAGE)
        self._opened_at = time.monotonic()
        self._versions = {table.name: lake.version(table) for table in (FLOWS, COVERAGE)}
        if plan.has_past:
            yield from self._with_events(reading, lake, History(reading, lake, plan, self._ahead))

    def appended(self) -> Iterator[Batch]:
        """Yield what was added since the last call. Raises AccessDeniedError, QueryLimitError, LakeError."""
        lake = self._door.lake
        flows, self._versions[FLOWS.name] = lake.appended(FLOWS, self._versions[FLOWS.name])
        yield from self._booked()
        yield from self._added(flows, self._plan.of_additions())

    def _booked(self) -> Iterator[Batch]:
        """Yield what was added to the ledger."""
        booked, self._versions[COVERAGE.name] = self._door.lake.appended(COVERAGE, self._versions[COVERAGE.name])
        if booked.contents(COVERAGE) and (events := ledger.events_added(self._reading, booked)):
            yield from map(_of_event, events)

    def _added(self, flows: Lake, plan: Plan) -> Iterator[Batch]:
        """Yield the flows of a handle that has nothing but what was added."""
        if flows.contents(FLOWS):
            for piece in self._timed(History(self._reading, flows, plan).pieces()):
                self._reading.rows += len(piece)
                yield frames.of_many(piece.messages)

    def _renewed(self, history: History) -> Iterator[Batch]:
        """Go on with the lake as it is now, if the handle is old; yield what a follower is still owed of the time before."""
        reached = history.reached
        if reached is None or time.monotonic() - self._opened_at < flow_spans.HANDLE_SECONDS:
            return
        flows, version = self._door.lake.appended(FLOWS, self._versions[FLOWS.name])
        newest = self._door.lake.pinned(FLOWS)
        if newest.version(FLOWS) != version:  # a commit came in between: after the next piece
            return
        history.renew(newest)
        self._opened_at, self._versions[FLOWS.name] = time.monotonic(), version
        if self._plan.follow:
            yield from self._booked()
            yield from self._added(flows, replace(self._plan.of_additions(), until=reached * 1000 - 1))

    def close(self) -> None:
        """End the call's entry in the access log."""
        self._opened.close()

    def _with_events(self, reading: Reading, lake: Lake, history: History) -> Iterator[Batch]:
        """Yield the flows, with what was not seen between them."""
        pending: ledger.Pending | None = None
        for piece in self._timed(history.pieces()):
            if reading.rows + len(piece) > self._limits.rows:
                yield frames.of_many(piece.messages[: max(0, self._limits.rows - reading.rows)])
                raise QueryLimitError(f"cut after {self._limits.rows:,} flows, the most of one call: ask for less time")
            if pending is None:
                pending = ledger.Pending(self._events(reading, lake, piece))
            due = pending.until(piece.nanoseconds[-1])
            reading.rows += len(piece)
            yield from ledger.merged(piece.messages, piece.nanoseconds, due)
            yield from self._renewed(history)
        left = pending.until(None) if pending else self._events(reading, lake, None)
        yield from map(_of_event, left)

    def _events(self, reading: Reading, lake: Lake, first: Piece | None) -> list[ledger.Event]:
        """Return what was not seen in the time that is asked for; without a start, since the first flow that is sent."""
        start = self._plan.since
        if start is None and first is not None:
            start = int(first.nanoseconds[0])
        if start is None:
            return []
        now = datetime.now(UTC)
        until = now if self._plan.until is None else min(now, flow_spans.moment(self._plan.until // 1000 + 1))
        since = flow_spans.moment(start // 1000)
        if since >= until:
            return []
        return ledger.events_between(reading, lake, since, until, self._door.clusters(self._principal, of=COVERAGE))

    def _timed(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Yield the pieces while the time of reading lasts; what a follower reads counts anew with each commit."""
        spent = 0.0
        while True:
            began = time.monotonic()
            piece = next(pieces, None)
            spent += time.monotonic() - began
            if piece is None:
                return
            yield piece
            if spent > self._limits.seconds:
                raise QueryLimitError(f"cut after {self._limits.seconds:g} s of reading, the most of one call: ask for less time")


def _of_event(event: ledger.Event) -> Batch:
    return frames.of_one(event.message)
