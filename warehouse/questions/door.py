"""The door: every question to a lake is answered here, within what the principal may see, and noted in the access log.

A principal sees a flow if the source's or the destination's namespace is the principal's own. What the principal must not know
of the other side is empty in the relations that every filter and aggregate works on. Printing and drawing do not belong here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from warehouse import config
from warehouse.access import access_log as log
from warehouse.access import grants, scoping
from warehouse.access.principals import Grant, Principal, Scope, scope_of
from warehouse.access.sight import Sight
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake import time_travel
from warehouse.lake.tables import Lake
from warehouse.lake.time_travel import AsOf
from warehouse.questions.answers import Answer
from warehouse.questions.question import Question, Request, Subject
from warehouse.schema import FLOWS, TABLES, Table

T = TypeVar("T")


class Door:
    """Answers questions about one lake under one set of rules of ownership."""

    def __init__(self, lake: Lake, ownership: config.Ownership, rollups: config.Rollups | None = None, *, purpose: str = "") -> None:
        """`purpose` says in the access log where questions come from: a command, a page, a report."""
        self._lake = lake
        self._ownership = ownership
        self._rollups = rollups or config.Rollups()
        self._purpose = purpose

    def answer(self, principal: Principal, question: Question[T], *, cancelled: threading.Event | None = None) -> T:
        """The answer to one question, within what the principal may see. One statement runs, on the engine that is kept warm.

        Setting `cancelled` ends a person's own SQL. Raises AccessDeniedError if the principal may see nothing, QueryError for a
        question that cannot be asked, QueryLimitError for one that went too far, LakeError.
        """
        began, subject = time.monotonic(), question.subject
        with self._noted(principal, question.name, subject) as (scope, note):
            if question.refusal is not None:
                raise QueryError(question.refusal)
            sight = Sight(
                principal=principal,
                lake=self._lake,
                scope=scope,
                peer_detail=self.peer_detail,
                window=subject.window,
                clusters=subject.clusters,
            )
            found = question.answer(Request(sight=sight, rollups=self._rollups, cancelled=cancelled))
            if isinstance(found, Answer):
                note.rows = found.rows.num_rows
                found = replace(found, seconds=time.monotonic() - began)
        return found

    @contextmanager
    def refusals(self, principal: Principal, question: str, text: str) -> Iterator[None]:
        """Within, a question is put together from what someone wrote (`text`). If that is refused, it is noted as a question would be.

        Raises the QueryError again, or AccessDeniedError for a principal who may see nothing.
        """
        try:
            yield
        except QueryError:
            with self._noted(principal, question, Subject(text=text)):
                raise

    def scope(self, principal: Principal) -> Scope:
        """What a principal may see, by the grants in force now. Raises LakeError."""
        return scope_of(principal, () if principal.is_operator else self.grants())

    def grants(self) -> tuple[Grant, ...]:
        """Every grant and denial in force now, of all subjects: for those who administer ownership. Raises LakeError."""
        return grants.in_force(self._lake, self._ownership)

    @property
    def peer_detail(self) -> str:
        """How much of the other side an owner sees."""
        return self._ownership.peer_detail

    def clusters(self, principal: Principal, *, of: Table = FLOWS) -> list[str]:
        """The clusters with rows of a table that the principal knows of, without a note in the access log. Raises LakeError."""
        return scoping.clusters_seen(self.scope(principal), self._lake.clusters(of))

    def recorded(self) -> frozenset[str]:
        """Names of the tables that hold anything, which decides what there is to ask for. Raises LakeError."""
        return frozenset(table.name for table in TABLES.values() if self._lake.contents(table))

    def as_of(self, asked: int | datetime) -> AsOf:
        """The moment of a version of `flows`, or an instant. Raises QueryError if there is no such version, LakeError."""
        return time_travel.at_version(self._lake, asked) if isinstance(asked, int) else time_travel.at_instant(asked)

    @contextmanager
    def _noted(self, principal: Principal, question: str, subject: Subject) -> Iterator[tuple[Scope, log.Note]]:
        """The principal's scope, and the question's entry in the access log. Raises AccessDeniedError if the scope is empty."""
        since, until = subject.window.since, subject.window.until
        entry = log.noted(self._lake, principal, purpose=self._purpose, question=question, text=subject.text, since=since, until=until)
        with entry as note:
            scope = self.scope(principal)
            note.namespaces = log.looked_at(scope, subject.clusters, subject.namespaces)
            if scope.is_empty:
                raise AccessDeniedError(f"{principal.user} owns no namespace here: ask for a grant in the configuration's ownership.grants")
            yield scope, note
