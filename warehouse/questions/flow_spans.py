"""Questions about the flows of a span of time, by which flows are streamed piece by piece in the order of time.

The SQL is ours; a caller's condition comes as a Selection, whose values are parameters. Encoding flows does not belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from warehouse import engine, table_views
from warehouse.access import visible
from warehouse.engine import Limits, Window
from warehouse.questions.flow_table import MATCHING
from warehouse.questions.question import Question, Request, Subject
from warehouse.schema import FLOWS

MOST_ROWS = Limits(rows=5_000_000)
"""Limit of a piece: far more than callers ask for, so that a mistake in planning pieces cannot exhaust the memory."""

STREAM = Limits(seconds=600.0)
"""Limit of a stream: what is done with its rows counts as its time. Their number is not limited, since they are not held."""

HANDLE_SECONDS = 1_200.0
"""How long flows are read piece by piece from one handle on the lake: files that were replaced meanwhile may be deleted after an hour."""

A_SECOND = f"""SELECT epoch_us("time") // 1000000 * 1000000 AS second, count(*) AS flows FROM {MATCHING} GROUP BY ALL ORDER BY ALL"""
"""Flows a second: columns `second` (microseconds since 1970) and `flows`, in order; `pieces` reads them."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A condition on columns of `flows` with placeholders, written by us, and the placeholders' values."""

    where: str = "true"
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The flows that are wanted: those of which one of these conditions holds. At most one of them holds for any flow."""

    scans: tuple[Scan, ...] = (Scan(),)
    columns: frozenset[str] = frozenset()
    """The columns that the conditions use."""
    clusters: tuple[str, ...] = ()
    """The clusters that may have such flows; empty for all."""


EVERY = Selection()


@dataclass(frozen=True, kw_only=True)
class SpanQuestion(Question[pa.Table]):
    """Rows of an SQL statement over the wanted flows of a span of time."""

    name: str = "span"
    limits: Limits = MOST_ROWS
    window: Window
    selection: Selection = EVERY
    columns: tuple[str, ...]
    """The columns of `flows` that the statement reads."""
    sql: str
    values: tuple[Any, ...] = field(default=())

    @property
    def subject(self) -> Subject:
        """The span and the clusters."""
        return Subject(window=self.window, clusters=self.selection.clusters)

    def answer(self, request: Request) -> pa.Table:
        """Return the rows, in no particular order unless the statement has one. Raises QueryError, LakeError."""
        with engine.connect_warm() as connection:
            relations, given = self._read(connection, request)
            rows, _ = engine.ask(connection, relations, self.sql, [*given, *self.values], self.limits)
        return rows

    def _read(self, connection: Any, request: Request) -> tuple[list[str], list[Any]]:
        """Return the relations that the statement reads, and the values of their placeholders."""
        sight = request.sight.of_columns({*self.columns, "time", *self.selection.columns})
        shown = visible.relations(connection, sight, FLOWS)
        scans = [f"SELECT * FROM {part} WHERE {scan.where}" for part in shown.parts for scan in self.selection.scans]
        given = [value for _ in shown.parts for scan in self.selection.scans for value in scan.values]
        return [*shown.relations, table_views.relation(MATCHING, " UNION ALL ".join(scans))], given


@dataclass(frozen=True, kw_only=True)
class SpanStream(SpanQuestion):
    """The same rows, given to `take` in batches as they are read, in no particular order; the answer is an empty table."""

    take: Callable[[pa.RecordBatch], None]

    def answer(self, request: Request) -> pa.Table:
        """Read the rows, and return an empty table with their columns. Raises QueryError, LakeError, and whatever `take` raises."""
        with engine.connect_warm() as connection:
            relations, given = self._read(connection, request)
            text = f"WITH {', '.join(relations)} FROM ({self.sql})"
            with engine.within(connection, self.limits):
                found = connection.sql(text, params=[*given, *self.values] or None).to_arrow_reader(engine.STREAM_ROWS)
                for batch in found:
                    self.take(batch)
        return found.schema.empty_table()


def flows_of(window: Window, columns: Sequence[str], selection: Selection = EVERY, *, limits: Limits = MOST_ROWS) -> SpanQuestion:
    """Return the wanted flows of a span, in no particular order."""
    return SpanQuestion(window=window, selection=selection, columns=tuple(columns), sql=_of_columns(columns), limits=limits)


def stream_of(window: Window, columns: Sequence[str], selection: Selection, take: Callable[[pa.RecordBatch], None]) -> SpanQuestion:
    """Read the wanted flows of a span in batches, which `take` gets in no particular order."""
    return SpanStream(window=window, selection=selection, columns=tuple(columns), sql=_of_columns(columns), limits=STREAM, take=take)


def _of_columns(columns: Sequence[str]) -> str:
    picked = ", ".join(f'"{name}"' for name in columns)
    return f"SELECT {picked} FROM {MATCHING}"


def seconds_of(window: Window, selection: Selection = EVERY, *, limits: Limits = MOST_ROWS) -> SpanQuestion:
    """Return how many wanted flows each second of a span has: columns `second` (microseconds since 1970) and `flows`, in order."""
    return SpanQuestion(window=window, selection=selection, columns=("time",), sql=A_SECOND, limits=limits)


def newest_times(window: Window, count: int, selection: Selection = EVERY, *, limits: Limits = MOST_ROWS) -> SpanQuestion:
    """Return the times of the newest wanted flows of a span, newest first: the column `at` (microseconds since 1970)."""
    sql = f"""SELECT epoch_us("time") AS at FROM {MATCHING} ORDER BY "time" DESC LIMIT {int(count)}"""
    return SpanQuestion(window=window, selection=selection, columns=("time",), sql=sql, limits=limits)


def namespaces_of(window: Window, *, limits: Limits = MOST_ROWS) -> SpanQuestion:
    """Return the namespaces that flows of a span have, by cluster: columns `cluster` and `namespace`, in order."""
    sides = [f"SELECT cluster, {side}_namespace AS namespace FROM {MATCHING}" for side in ("source", "destination")]
    sql = f"SELECT DISTINCT * FROM ({' UNION ALL '.join(sides)}) WHERE namespace IS NOT NULL ORDER BY ALL"
    columns = ("cluster", "source_namespace", "destination_namespace")
    return SpanQuestion(name="namespaces", window=window, columns=columns, sql=sql, limits=limits)


def pieces(seconds: pa.Table, *, first_rows: int, most_rows: int) -> list[tuple[int, int]]:
    """Cut the result of `seconds_of` into spans [begin, end) in microseconds, in order, with at most `most_rows` or one second each.

    The first span has at most `first_rows`, each later one up to four times as many as the one before, so that the first answer comes soon.
    """
    starts: npt.NDArray[np.int64] = seconds["second"].to_numpy()
    counts: npt.NDArray[np.int64] = seconds["flows"].to_numpy()
    found: list[tuple[int, int]] = []
    begin, rows, limit = 0, 0, first_rows
    for place in range(len(starts)):
        if rows and rows + counts[place] > limit:
            found.append((int(starts[begin]), int(starts[place])))
            begin, rows, limit = place, 0, min(most_rows, limit * 4)
        rows += int(counts[place])
    if len(starts):
        found.append((int(starts[begin]), int(starts[-1]) + 1_000_000))
    return found


def moment(microseconds: int) -> datetime:
    """Return the time so many microseconds after the start of 1970, UTC."""
    return pa.scalar(microseconds, pa.timestamp("us", tz="UTC")).as_py()  # type: ignore[no-any-return]
