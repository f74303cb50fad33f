"""The door answers every question about a lake, within what the principal may see, and records it in the access log.

A principal sees a flow if the principal owns the namespace of the source or of the destination. Columns that would reveal too
much about the other side are null in the relations that every filter and aggregate reads. Printing and drawing do not belong here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from warehouse import config, engine
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


class Reading:
    """One request that is answered piece by piece."""

    def __init__(self, door: Door, principal: Principal, subject: Subject) -> None:
        self._door = door
        self._principal = principal
        self._subject = subject
        self.rows = 0
        """The number of rows given to the principal so far; whoever reads adds to it."""
        self.namespaces: tuple[str, ...] = ()
        """What the request could show, as the access log records it."""

    def answer(self, question: Question[T], *, lake: Lake | None = None) -> T:
        """Answer one question, from the given handle on the lake if there is one. Raises what `Door.answer` raises."""
        return self._door._answer_piece(self, question, lake)


class Door:
    """Answers questions about one lake under one ownership configuration."""

    def __init__(
        self,
        lake: Lake,
        ownership: config.Ownership,
        rollups: config.Rollups | None = None,
        *,
        purpose: str = "",
        engine_settings: config.Engine | None = None,
    ) -> None:
        """`purpose` is recorded in the access log and says where questions come from: a command, a page or a report.

        `engine_settings` name the engine that answers what is too large for the embedded one; none by default.
        """
        self._lake = lake
        self._ownership = ownership
        self._rollups = rollups or config.Rollups()
        self.purpose = purpose
        self._engine = engine_settings or config.Engine()

    def answer(self, principal: Principal, question: Question[T], *, cancelled: threading.Event | None = None) -> T:
        """Answer one question within what the principal may see, on the shared warm engine.

        Setting `cancelled` stops it. Raises AccessDeniedError if the principal may see nothing, QueryError if the question is
        invalid, QueryLimitError if it exceeded a limit, CancelledError if it was stopped, and LakeError.
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
            with engine.cancelled_by(cancelled):
                found = question.answer(Request(sight=sight, rollups=self._rollups, engine=self._engine, cancelled=cancelled))
            if isinstance(found, Answer):
                note.rows = found.rows.num_rows
                found = replace(found, seconds=time.monotonic() - began)
        return found

    @contextmanager
    def reading(self, principal: Principal, name: str, subject: Subject) -> Iterator[Reading]:
        """Context in which one request is answered piece by piece, by several questions, as when flows are streamed.

        The access log gets an entry before anything is answered, and another with the number of rows at the end. The scope is
        worked out anew for each piece, so access that is revoked ends. Raises AccessDeniedError if the principal may see nothing,
        QueryError, and LakeError.
        """
        with self._noted(principal, name, subject):
            pass
        since, until = subject.window.since, subject.window.until
        ended = log.noted(self._lake, principal, purpose=self.purpose, question=f"{name}: end", text=subject.text, since=since, until=until)
        reading = Reading(self, principal, subject)
        with ended as note:
            try:
                yield reading
            finally:
                note.rows = reading.rows
                note.namespaces = reading.namespaces

    @contextmanager
    def refusals(self, principal: Principal, question: str, text: str) -> Iterator[None]:
        """Context in which a question is built from user input (`text`); input that is rejected is recorded in the access log.

        The QueryError is raised again; for a principal who may see nothing, AccessDeniedError is raised instead.
        """
        try:
            yield
        except QueryError:
            with self._noted(principal, question, Subject(text=text)):
                raise

    def scope(self, principal: Principal) -> Scope:
        """Return what a principal may see under the grants in force now. Raises LakeError."""
        return scope_of(principal, () if principal.is_operator else self.grants())

    def grants(self) -> tuple[Grant, ...]:
        """Return every grant and denial in force now, of all subjects, for ownership administration. Raises LakeError."""
        return grants.in_force(self._lake, self._ownership)

    def _answer_piece(self, reading: Reading, question: Question[T], lake: Lake | None) -> T:
        principal, subject = reading._principal, question.subject
        scope = self._scope_of_someone(principal)
        reading.namespaces = log.looked_at(scope, subject.clusters, reading._subject.namespaces)
        sight = Sight(
            principal=principal,
            lake=lake or self._lake,
            scope=scope,
            peer_detail=self.peer_detail,
            window=subject.window,
            clusters=subject.clusters,
        )
        return question.answer(Request(sight=sight, rollups=self._rollups, engine=self._engine))

    def _scope_of_someone(self, principal: Principal) -> Scope:
        """Return the scope of a principal who may see something; raises AccessDeniedError for anyone else."""
        scope = self.scope(principal)
        if scope.is_empty:
            raise AccessDeniedError(f"{principal.user} owns no namespace here: ask for a grant in the configuration's ownership.grants")
        return scope

    @property
    def lake(self) -> Lake:
        """The lake, for its versions and the span of its times; questions about its rows are asked through `answer`."""
        return self._lake

    @property
    def peer_detail(self) -> str:
        """How much detail an owner sees of the other side of a flow."""
        return self._ownership.peer_detail

    def clusters(self, principal: Principal, *, of: Table = FLOWS) -> list[str]:
        """Return the clusters with rows in a table that the principal may know of; not recorded in the access log. Raises LakeError."""
        return scoping.clusters_seen(self.scope(principal), self._lake.clusters(of))

    def recorded(self) -> frozenset[str]:
        """Return the names of the tables that are not empty. Raises LakeError."""
        return frozenset(table.name for table in TABLES.values() if self._lake.contents(table))

    def as_of(self, asked: int | datetime) -> AsOf:
        """Return the AsOf for a version of `flows` or for an instant. Raises QueryError if the version does not exist, LakeError."""
        return time_travel.at_version(self._lake, asked) if isinstance(asked, int) else time_travel.at_instant(asked)

    @contextmanager
    def _noted(self, principal: Principal, question: str, subject: Subject) -> Iterator[tuple[Scope, log.Note]]:
        """Yield the principal's scope and the question's access log entry. Raises AccessDeniedError if the scope is empty."""
        since, until = subject.window.since, subject.window.until
        entry = log.noted(self._lake, principal, purpose=self.purpose, question=question, text=subject.text, since=since, until=until)
        with entry as note:
            note.namespaces = log.looked_at(self.scope(principal), subject.clusters, subject.namespaces)
            yield self._scope_of_someone(principal), note
