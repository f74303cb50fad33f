"""SQL written by a user, as a question."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pyarrow as pa

from warehouse.engine import Window
from warehouse.questions.answers import Answer, coverage_of
from warehouse.questions.question import ALL_TIME, Question, Request, Subject
from warehouse.sql import execution


@dataclass(frozen=True, kw_only=True)
class OwnSql(Question[Answer]):
    """One query over the lake's tables, in DuckDB SQL.

    The operator's query runs in this process, over the whole lake or the given window. For a principal who sees everything it runs
    in a process that can read the lake's files and nothing else. For anyone else it runs in a process that holds only the rows of
    the window that the principal may see; without a start, the window is 24 h.
    """

    name: str = "sql"
    text: str
    window: Window = ALL_TIME
    confined: bool = False
    """Whether the operator's query runs like that of a principal who sees everything, if the lake is local and the system can confine
    a process: for text that comes from a file."""

    @property
    def subject(self) -> Subject:
        """The window, and the text as it was written."""
        text = self.text if self.window.as_of is None else f"{self.text} -- {self.window.as_of}"
        return Subject(window=self.window, text=text)

    def answer(self, request: Request) -> Answer:
        """Return the query's rows. Raises QueryError for a statement that is not read-only."""
        ran = execution.run(request.sight, self.text, self.limits, request.cancelled, confined=self.confined)
        coverage = coverage_of(request.sight.within(ran.window))
        return Answer(rows=ran.rows, cut=ran.cut, window=ran.window, coverage=coverage, files=ran.files)


@dataclass(frozen=True, kw_only=True)
class StreamedSql:
    """The rows of a query while it runs."""

    rows: pa.RecordBatchReader
    """At most one row more than the limit; reading raises QueryError, QueryLimitError."""
    about: Answer
    """The answer without its rows: the window, its coverage, the number of files."""


@dataclass(frozen=True, kw_only=True)
class SqlStream(Question[AbstractContextManager[StreamedSql]]):
    """Like OwnSql, for results of any size: the answer is a context in which rows are read while the query runs.

    It is meant for `Door.reading`, which writes to the access log before any rows are given.
    """

    name: str = "sql"
    text: str
    window: Window = ALL_TIME
    cancelled: threading.Event | None = None

    @property
    def subject(self) -> Subject:
        """As OwnSql's."""
        return OwnSql(text=self.text, window=self.window).subject

    @contextmanager
    def answer(self, request: Request) -> Iterator[StreamedSql]:
        """Return the context. Entering it raises QueryError for a statement that is not read-only."""
        with execution.stream(request.sight, self.text, self.limits, self.cancelled or request.cancelled) as running:
            coverage = coverage_of(request.sight.within(running.window))
            nothing = pa.Table.from_batches([], running.rows.schema)
            yield StreamedSql(rows=running.rows, about=Answer(rows=nothing, window=running.window, coverage=coverage, files=running.files))
