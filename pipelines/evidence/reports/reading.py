"""Asks the door on behalf of a report's subject, as of the report's moment of knowledge, and notes every question."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from pipelines.evidence.reports.asked import ReportOf, written
from pipelines.evidence.reports.parts import Parts
from warehouse.access.principals import Grant, Scope
from warehouse.engine import Limits, Window
from warehouse.errors import QueryLimitError
from warehouse.lake import time_travel
from warehouse.questions import count_questions, two_windows
from warehouse.questions.answers import Answer
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.flow_table import FilteredQuestion
from warehouse.questions.question import Question
from warehouse.questions.record_questions import Ledger

T = TypeVar("T")
LIMITS = Limits(seconds=900, rows=2_000)
"""Limits of each question of a report. Rows beyond the limit are left out, and the section says so."""


@dataclass(frozen=True, kw_only=True)
class Noted:
    """A question that a report asked, as its manifest names it."""

    question: str
    text: str | None
    since: datetime | None
    until: datetime | None
    rows: int | None
    cut: bool
    source: str | None

    def described(self) -> dict[str, Any]:
        """Return the same as values of JSON."""
        bounds = {name: moment and written(moment) for name, moment in (("since", self.since), ("until", self.until))}
        return {"question": self.question, "text": self.text, **bounds, "rows": self.rows, "cut": self.cut, "source": self.source}


class Reader:
    """Answers the questions of one report."""

    def __init__(self, door: Door, request: ReportOf) -> None:
        self._door = door
        self.request = request
        self.as_of = time_travel.at_instant(request.known)
        self.noted: list[Noted] = []
        self._ledger: Answer | None = None
        self._parts: Parts | None = None

    def ask(self, question: Question[T]) -> T:
        """Return the answer, within what the subject may see. Raises AccessDeniedError, QueryError, LakeError."""
        found = self._door.answer(self.request.subject, question)
        subject, answer = question.subject, found if isinstance(found, Answer) else None
        self.noted.append(
            Noted(
                question=question.name,
                text=subject.text,
                since=subject.window.since,
                until=subject.window.until,
                rows=answer.rows.num_rows if answer else None,
                cut=answer.cut if answer else False,
                source=answer.source if answer and isinstance(question, FilteredQuestion) else None,
            )
        )
        return found

    def flows(self, **conditions: Any) -> FlowFilter:
        """Return the filter for the flows of the window as the lake knew them."""
        return FlowFilter(since=self.request.since, until=self.request.until, as_of=self.as_of, **conditions)

    @property
    def window(self) -> Window:
        """The report's window, as of its moment of knowledge."""
        return Window(since=self.request.since, until=self.request.until, as_of=self.as_of)

    @property
    def ledger(self) -> Answer:
        """The coverage of the window, of clusters that the subject may know of; asked once."""
        if self._ledger is None:
            self._ledger = self.ask(Ledger(window=self.window))
        return self._ledger

    @property
    def door(self) -> Door:
        """What answers; questions of a report are asked through `ask`, which notes them."""
        return self._door

    @property
    def parts(self) -> Parts | None:
        """The sums of the window's flows, and of those before, mostly from rollups; None if the window is too short. Asked once."""
        wanted = self.flows()
        if self._parts is None and two_windows.is_possible(wanted):
            answer = self.ask(two_windows.two_windows(wanted))
            if answer.cut:
                raise QueryLimitError("the window has too many different edges for one report: make it for a shorter window")
            self._parts = Parts(answer.rows, self.ask(count_questions.timeline(wanted, limits=LIMITS, of_moments=True)).rows)
        return self._parts

    @property
    def scope(self) -> Scope:
        """What the subject may see."""
        return self._door.scope(self.request.subject)

    @property
    def scope_hash(self) -> str:
        """A hash of what the subject may see of what the report is made from."""
        return self.scope.fingerprint(self.request.since, self.request.until, peer_detail=self._door.peer_detail)

    @property
    def grants(self) -> tuple[Grant, ...]:
        """The grants and denials of everyone for a subject who sees everything, and the subject's own for anyone else."""
        scope = self.scope
        return self._door.grants() if scope.everything else (*scope.denials, *scope.grants)

    def before(self, wanted: FlowFilter) -> FlowFilter:
        """Return the filter for the window of the same length that ends where this one starts."""
        return replace(wanted, since=wanted.since - (wanted.until - wanted.since), until=wanted.since)
