"""SQL written by a user, as a question."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass

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

    @property
    def subject(self) -> Subject:
        """The window, and the text as it was written."""
        text = self.text if self.window.as_of is None else f"{self.text} -- {self.window.as_of}"
        return Subject(window=self.window, text=text)

    def answer(self, request: Request) -> Answer:
        """Return the query's rows. Raises QueryError for a statement that is not read-only."""
        ran = execution.run(request.sight, self.text, self.limits, request.cancelled)
        coverage = coverage_of(request.sight.within(ran.window))
        return Answer(rows=ran.rows, cut=ran.cut, window=ran.window, coverage=coverage, files=ran.files)


@dataclass(frozen=True, kw_only=True)
class SqlStream(Question[AbstractContextManager[execution.Running]]):
    """Like OwnSql, for results of any size: a context in which rows are read while the query runs.

    The answer is lazy, so it is meant for `Door.reading`, whose entry in the access log is written before any rows are given.
    """

    name: str = "sql"
    text: str
    window: Window = ALL_TIME
    cancelled: threading.Event | None = None

    @property
    def subject(self) -> Subject:
        """As OwnSql's."""
        return OwnSql(text=self.text, window=self.window).subject

    def answer(self, request: Request) -> AbstractContextManager[execution.Running]:
        """Return the context; entering it raises QueryError for a statement that is not read-only."""
        return execution.stream(request.sight, self.text, self.limits, self.cancelled or request.cancelled)
