"""Reads all flows that match a filter, oldest first and piece by piece, so that an export of months needs little memory.

Printing belongs to hindcast.output and hindcast.flows; what a principal may see is decided at the door.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from warehouse.access.principals import Principal
from warehouse.lake.tables import Lake
from warehouse.questions import flow_questions, flow_spans
from warehouse.questions.answers import Answer
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import FLOWS

PIECE_ROWS = 100_000
"""Most flows of a piece, unless one second has more."""
DAY = timedelta(days=1)


@contextmanager
def every(door: Door, who: Principal, wanted: FlowFilter) -> Iterator[pa.RecordBatchReader]:
    """Context with all columns of all matching flows, oldest first, of the lake as it is now.

    A long export goes on with a newer handle before the files of its own may be deleted: flows that were added meanwhile are in what
    it has yet to read.

    The access log gets an entry before the first flow is given, and one with their number at the end. Raises AccessDeniedError,
    QueryError, and LakeError, also while flows are read.
    """
    opened = _Opened(door.lake)
    with door.reading(who, "flows", flow_questions.oldest_first(wanted).subject) as reading:

        def batches() -> Iterator[pa.RecordBatch]:
            for day in _days(wanted, _dates(wanted, opened.lake)):
                seconds = reading.answer(flow_questions.a_second(day), lake=opened.fresh()).rows
                for begin, end in flow_spans.pieces(seconds, first_rows=PIECE_ROWS, most_rows=PIECE_ROWS):
                    since, until = max(day.since, flow_spans.moment(begin)), min(day.until, flow_spans.moment(end))
                    question = flow_questions.oldest_first(replace(day, since=since, until=until))
                    piece: Answer = reading.answer(question, lake=opened.fresh())
                    reading.rows += piece.rows.num_rows
                    yield from piece.rows.cast(FLOWS.schema).to_batches()

        yield pa.RecordBatchReader.from_batches(FLOWS.schema, batches())


class _Opened:
    """A handle on the flows of a lake, replaced by a newer one when it is old."""

    def __init__(self, lake: Lake) -> None:
        self._newest = lake
        self._since = time.monotonic()
        self.lake = lake.pinned(FLOWS)

    def fresh(self) -> Lake:
        """Return the handle, or a newer one. Raises LakeError."""
        if time.monotonic() - self._since > flow_spans.HANDLE_SECONDS:
            self.lake, self._since = self._newest.pinned(FLOWS), time.monotonic()
        return self.lake


def _dates(wanted: FlowFilter, lake: Lake) -> list[str]:
    """Return the dates of which the lake may have flows; as it was known earlier, it may have had others than now: each one counts."""
    if wanted.as_of is None:
        return sorted({str(file.partition["date"]) for file in lake.contents(FLOWS)})
    first = wanted.since.date()
    return [str(first + timedelta(days=number)) for number in range((wanted.until.date() - first).days + 1)]


def _days(wanted: FlowFilter, dates: Sequence[str]) -> Iterator[FlowFilter]:
    """Yield the filter for each day of its window of which the lake may have flows."""
    for date in dates:
        start = datetime.fromisoformat(date).replace(tzinfo=UTC)
        since, until = max(start, wanted.since), min(start + DAY, wanted.until)
        if since < until:
            yield replace(wanted, since=since, until=until)
