"""A person's own SQL as a question."""

from __future__ import annotations

from dataclasses import dataclass

from warehouse.engine import Window
from warehouse.questions.answers import Answer, coverage_of
from warehouse.questions.question import ALL_TIME, Question, Request, Subject
from warehouse.sql import execution


@dataclass(frozen=True, kw_only=True)
class OwnSql(Question[Answer]):
    """One query over the lake's tables, in DuckDB's SQL.

    The operator's runs in this process, over the whole lake or the window if one is given. Whoever sees everything has a process
    that may read the lake's files and nothing else. Anyone else's process holds no more than the principal's rows of the window,
    24 h if it has no start.
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
        """The query's rows. Raises QueryError for a statement that does not only read."""
        ran = execution.run(request.sight, self.text, self.limits, request.cancelled)
        coverage = coverage_of(request.sight.within(ran.window))
        return Answer(rows=ran.rows, cut=ran.cut, window=ran.window, coverage=coverage, files=ran.files)
