"""Streams recorded flows in the order of time, one piece at a time, so that little is in memory and the first flows come at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from api import encoding, masks
from api.blocks import Block, Encoded, Span
from api.plans import Plan
from warehouse.engine import Window
from warehouse.lake.tables import Lake
from warehouse.questions import flow_spans
from warehouse.questions.door import Reading
from warehouse.schema import FLOWS

FIRST_ROWS = 2_000
"""Rows of the first piece, which is answered at once."""
MOST_ROWS = 65_536
"""Rows of a piece, which are in memory as columns and as messages: 200 MB or so."""
MOST_HELD = 20_000
"""Messages that are held while the newest flows are searched for from the end; for more, the search keeps only their number."""
SECOND, HOUR, DAY = 1_000_000, 3_600_000_000, 86_400_000_000
LOOK_BACK = (HOUR, 6 * HOUR, DAY)
"""How much of the past is searched in the first steps, in microseconds; each later step is a day."""
BLOCK_PIECES = 32
"""Most pieces that are read with one scan."""
AHEAD_AFTER = 2
"""Pieces after which the next one is read while one is encoded; a client that stops reading at once costs no more than its first."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Encoded flows of one span, in the order of time."""

    begin: int
    end: int
    """The span, in microseconds since 1970; `end` is not part of it."""
    messages: pa.BinaryArray
    """Encoded responses with gRPC's prefixes, in one buffer."""
    nanoseconds: npt.NDArray[np.int64]
    """The time of each, since 1970."""

    def __len__(self) -> int:
        return len(self.messages)

    def part(self, part: slice) -> Piece:
        """Return some of the flows."""
        return replace(self, messages=self.messages[part], nanoseconds=self.nanoseconds[part])

    def without_messages(self) -> Piece:
        """Return the span alone."""
        return self.part(slice(0))


_NO_TIMES = np.zeros(0, np.int64)
_NO_MESSAGES = pa.array([], pa.binary())


class History:
    """The flows that a plan wants of one version of the lake, or, if `renew` is called, of several, one after another."""

    def __init__(self, reading: Reading, lake: Lake, plan: Plan, ahead: Executor | None = None) -> None:
        """`ahead` reads the next piece while one is encoded; without it nothing is read ahead."""
        self._reading = reading
        self._lake = lake
        self._plan = plan
        self._ahead = ahead
        self._is_renewed = False
        self.reached: int | None = None
        """Up to when flows were given, in microseconds since 1970, in a stream that goes forward in time; None in any other."""

    def renew(self, lake: Lake) -> None:
        """Read what comes after `reached`, which must not be None, from another handle on the lake."""
        self._lake = lake
        self._is_renewed = True

    def pieces(self) -> Iterator[Piece]:
        """Yield the wanted flows, oldest first. Raises AccessDeniedError, QueryError, LakeError."""
        span = self._span()
        if span is None:
            return
        plan = self._plan
        if plan.number and not plan.first:
            yield from self._newest(*span)
            return
        left = plan.number
        for piece in self._ascending(*span):
            wanted = piece.part(slice(left)) if plan.number else piece
            left -= len(wanted)
            yield wanted
            if plan.number and not left:
                return

    def _span(self) -> Span | None:
        """Return the span in which wanted flows may be, [begin, end) in microseconds; None if there are none."""
        bounds = [(file.first, file.last) for file in self._lake.contents(FLOWS)]
        if not bounds:
            return None
        first = min((_us(first) for first, _ in bounds if first), default=0)
        last = max((_us(last) for _, last in bounds if last), default=0)
        since, until = self._plan.since, self._plan.until
        begin = first if since is None else max(first, since // 1000)
        end = (last if until is None else min(last, until // 1000)) + 1
        # A file's statistics may be truncated to milliseconds.
        return (begin, end + 1000 if until is None else end) if begin < end + 1000 else None

    def _ascending(self, begin: int, end: int) -> Iterator[Piece]:
        """Yield the pieces of a span, oldest first, without pieces that are empty."""
        first = max(1, min(FIRST_ROWS, self._plan.number) if self._plan.number and self._plan.first else FIRST_ROWS)
        self.reached = begin
        while True:
            for piece in self._encoded(self._spans(self.reached, end, first)):
                first = MOST_ROWS
                self.reached = piece.end
                if len(piece):
                    yield piece
                if self._is_renewed:
                    break
            if not self._is_renewed:
                return
            self._is_renewed = False
            found = self._span()
            if found is None:
                return
            end = found[1]

    def _spans(self, begin: int, end: int, first_rows: int) -> Iterator[Span]:
        """Yield spans with about as many wanted flows as a piece is to have."""
        for day, until in self._days(begin, end):
            question = flow_spans.seconds_of(_window(day, until), self._plan.wanted.selection)
            seconds = self._reading.answer(question, lake=self._lake)
            for one, other in flow_spans.pieces(seconds, first_rows=first_rows, most_rows=MOST_ROWS):
                first_rows = MOST_ROWS
                yield max(one, day), min(other, until)

    def _encoded(self, spans: Iterable[Span]) -> Iterator[Piece]:
        """Yield the piece of each span. After the first few, what comes next is read while one is encoded and sent."""
        coming: tuple[list[Span], Future[Any]] | None = None
        groups, stopped = self._together(spans), threading.Event()
        try:
            for number in itertools.count():
                if coming is None:
                    group = next(groups, None)
                    if group is None:
                        return
                    read = self._read(group, stopped)
                else:
                    group, read = coming[0], coming[1].result()
                    coming = None
                if self._ahead is not None and number >= AHEAD_AFTER and (following := next(groups, None)) is not None:
                    coming = following, self._ahead.submit(self._read, following, stopped)
                yield from self._pieces_of(group, read)
        finally:
            stopped.set()
            if coming is not None and not coming[1].cancel():
                wait([coming[1]])

    def _together(self, spans: Iterable[Span]) -> Iterator[list[Span]]:
        """Yield the spans, several of a day at once where reading one scans far more flows than it has."""
        group: list[Span] = []
        for number, (begin, end) in enumerate(spans):
            if group and (len(group) >= BLOCK_PIECES or group[-1][1] // DAY != end // DAY):
                yield group
                group = []
            group.append((begin, end))
            if not number or self._scanned(begin, end) < 4 * MOST_ROWS:  # the first answer comes soon
                yield group
                group = []
        if group:
            yield group

    def _scanned(self, begin: int, end: int) -> int:
        """Return how many flows the files have in which flows of a span may be."""
        since, until = flow_spans.moment(begin), flow_spans.moment(end)
        files = self._lake.contents(FLOWS, clusters=self._plan.wanted.selection.clusters or None, since=since, until=until)
        return sum(one.rows for one in files if one.first is None or one.last is None or (one.first < until and one.last >= since))

    def _read(self, group: list[Span], stopped: threading.Event) -> pa.Table | Block:
        """Return the rows of a span, or the block of several; reading of a block ends early once `stopped` is set."""
        if len(group) == 1:
            return self._rows(*group[0])
        block = Block(group, self._messages, stopped)
        window = _window(group[0][0], group[-1][1])
        self._reading.answer(flow_spans.stream_of(window, self._names, self._plan.wanted.selection, block.add), lake=self._lake)
        return block

    def _pieces_of(self, group: list[Span], read: pa.Table | Block) -> Iterator[Piece]:
        for number, (begin, end) in enumerate(group):
            if isinstance(read, Block):
                messages, nanoseconds = read.take(number) or (_NO_MESSAGES, _NO_TIMES)
                yield Piece(begin=begin, end=end, messages=messages, nanoseconds=nanoseconds)
            else:
                yield self._piece(begin, end, read)

    def _days(self, begin: int, end: int) -> Iterator[Span]:
        """Yield the parts of a span by day, without days of which there are no files."""
        dates = sorted({file.partition["date"] for file in self._lake.contents(FLOWS)})
        for date in dates:
            start = int(np.datetime64(date, "us").astype(np.int64))
            one, other = max(start, begin), min(start + DAY, end)
            if one < other:
                yield one, other

    def _newest(self, begin: int, end: int) -> Iterator[Piece]:
        """Yield the newest flows of a span, `number` of them, oldest first."""
        number, held, found = self._plan.number, list[Piece](), 0
        for piece in self._descending(begin, end, number):
            found += len(piece)
            held.append(piece if number <= MOST_HELD else piece.without_messages())
            if found >= number:
                break
        surplus = max(0, found - number)
        again = self._ascending(held[-1].begin, end) if held and number > MOST_HELD else reversed(held)
        for piece in again:
            rest, surplus = piece.part(slice(surplus, None)), max(0, surplus - len(piece))
            if len(rest):
                yield rest

    def _descending(self, begin: int, end: int, number: int) -> Iterator[Piece]:
        """Yield pieces of a span from its end to its beginning, about as large as needed for so many flows."""
        steps = iter(LOOK_BACK)
        selected = self._plan.wanted
        count = min(max(4 * number, FIRST_ROWS) if selected.decides_all else number, MOST_ROWS)
        while end > begin:
            start, found = end, 0
            while start > begin and found < count:  # rows, of which every column may be wanted, are read once there are enough
                since = max(begin, start - next(steps, DAY))
                question = flow_spans.newest_times(_window(since, start), count - found, selected.selection)
                times = self._reading.answer(question, lake=self._lake)["at"]
                found += len(times)
                start = times[-1].as_py() if found == count else since
            if found:
                yield self._piece(start, end, self._rows(start, end))
                count = min(count * 4, MOST_ROWS) if selected.decide is not None else count  # some of these may not match
            end, steps = start, iter(LOOK_BACK)

    @property
    def _names(self) -> tuple[str, ...]:
        plan = self._plan
        return masks.ALL if plan.wanted.decides_all else tuple({*plan.mask.columns, *plan.wanted.selection.columns})

    def _rows(self, begin: int, end: int) -> pa.Table:
        """Return the rows of a span that may match."""
        question = flow_spans.flows_of(_window(begin, end), self._names, self._plan.wanted.selection)
        return self._reading.answer(question, lake=self._lake)

    def _piece(self, begin: int, end: int, rows: pa.Table) -> Piece:
        """Return the encoded flows of a span that match, given its rows."""
        messages, nanoseconds = self._messages(rows)
        return Piece(begin=begin, end=end, messages=messages, nanoseconds=nanoseconds)

    def _messages(self, rows: pa.Table) -> Encoded:
        """Return the encoded flows among rows that match."""
        chosen = self._chosen(rows, encoding.nanoseconds_of(rows))
        if chosen is not None:
            rows = rows.filter(pa.array(chosen))
        return encoding.responses(rows, self._plan.mask) if rows.num_rows else (_NO_MESSAGES, _NO_TIMES)

    def _chosen(self, rows: pa.Table, nanoseconds: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_] | None:
        """Return which rows match; None if all do."""
        plan, chosen, decide = self._plan, None, self._plan.wanted.decide
        if decide is not None and plan.wanted.decides_all:
            chosen = np.array(decide(encoding.flows(rows)), np.bool_)
        elif decide is not None and rows["rest"].null_count < rows.num_rows:
            chosen = rows["rest"].is_null().to_numpy()
            chosen[~chosen] = decide(encoding.flows(rows.filter(rows["rest"].is_valid())))
        for bound, is_since in ((plan.since, True), (plan.until, False)):
            if bound is None or (not bound % 1000 and is_since):
                continue
            within = nanoseconds >= bound if is_since else nanoseconds <= bound
            chosen = within if chosen is None else chosen & within
        return None if chosen is None or chosen.all() else chosen


def _window(begin: int, end: int) -> Window:
    return Window(since=flow_spans.moment(begin), until=flow_spans.moment(end))


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
