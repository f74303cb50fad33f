"""How a question is asked of the lake: noted, scoped, run within limits, and told with its coverage.

Which questions there are is warehouse.questions.door's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from warehouse import config, engine
from warehouse.access import access_log as log
from warehouse.access import grants, visible
from warehouse.access.principals import Grant, Principal, Scope, scope_of
from warehouse.engine import Limits, Window
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake.tables import Lake
from warehouse.questions import flow_filter, rollup_questions, rollup_views
from warehouse.questions.answers import Answer
from warehouse.questions.flow_filter import FlowFilter, as_text
from warehouse.questions.rollup_views import Wanted
from warehouse.records.coverage import NodeCoverage, node_coverage
from warehouse.schema import DNS_NAMES, FLOWS, Table

ASKED = "asked_flows"
"""The relation that questions to flows are asked of: those that a principal may see and that match the filter."""
_USUAL = Limits()
_LOOK_BACK = (timedelta(hours=1), timedelta(days=1))
"""How far back from a window's end the newest flows are looked for, as long as there are not enough, before all of it is read."""


class Asking:
    """One lake, and the rule under which it is asked."""

    def __init__(self, lake: Lake, ownership: config.Ownership, rollups: config.Rollups | None = None, *, purpose: str = "") -> None:
        """`purpose` says in the access log where it was asked: a command, a page, a report."""
        self._lake = lake
        self._ownership = ownership
        self._rollups = rollups or config.Rollups()
        self._purpose = purpose

    def scope(self, principal: Principal) -> Scope:
        """What a principal may see, by the grants of now. Raises LakeError."""
        return scope_of(principal, () if principal.is_operator else self.grants())

    def grants(self) -> tuple[Grant, ...]:
        """Every grant and denial of now, of all subjects: for who administers ownership. Raises LakeError."""
        return grants.in_force(self._lake, self._ownership)

    @property
    def peer_detail(self) -> str:
        """How much of the other side an owner sees."""
        return self._ownership.peer_detail

    def ask(
        self, principal: Principal, question: str, sql: str, values: Sequence[Any], wanted: FlowFilter, limits: Limits = _USUAL
    ) -> Answer:
        """For modules of this package that hold more questions: a query over the relation ASKED.

        `question` names it in the access log. `sql` is ours, never a person's, and what people gave is among `values`.
        Raises AccessDeniedError, QueryError, LakeError.
        """
        return self._ask(principal, question, sql, values, wanted, limits)

    @contextmanager
    def refusals(self, principal: Principal, question: str, text: str) -> Iterator[None]:
        """Within, a question is put together of what someone wrote (`text`): what is refused there is noted as if it had been asked.

        Raises the QueryError again, or AccessDeniedError to who may see nothing.
        """
        try:
            yield
        except QueryError:
            with self._noted(principal, question, Window(), text=text):
                raise

    def _check(self, principal: Principal, question: str, wanted: FlowFilter, check: Callable[[FlowFilter], None]) -> None:
        """Raise the QueryError of a question that cannot be asked, and note it."""
        try:
            check(wanted)
        except QueryError:
            with self._asked(principal, question, wanted):
                raise

    @contextmanager
    def _noted(
        self,
        principal: Principal,
        question: str,
        window: Window,
        *,
        text: str | None = None,
        clusters: Sequence[str] = (),
        namespaces: Sequence[str] = (),
    ) -> Iterator[tuple[Scope, log.Note]]:
        """The scope of who asks, and the question's entry in the access log. Raises AccessDeniedError to who may see nothing."""
        since, until = window.since, window.until
        asking = log.noted(self._lake, principal, purpose=self._purpose, question=question, text=text, since=since, until=until)
        with asking as note:
            scope = self.scope(principal)
            note.namespaces = log.looked_at(scope, clusters, namespaces)
            if scope.is_empty:
                raise AccessDeniedError(f"{principal.user} owns no namespace here: ask for a grant in the configuration's ownership.grants")
            yield scope, note

    def _asked(self, principal: Principal, question: str, wanted: FlowFilter) -> AbstractContextManager[tuple[Scope, log.Note]]:
        """`_noted` for a question with conditions."""
        window = Window(since=wanted.since, until=wanted.until)
        namespaces = (*wanted.namespaces, *wanted.source_namespaces, *wanted.destination_namespaces)
        return self._noted(principal, question, window, text=as_text(wanted), clusters=wanted.clusters, namespaces=namespaces)

    def _ask(
        self,
        principal: Principal,
        question: str,
        sql: str,
        values: Sequence[Any],
        wanted: FlowFilter,
        limits: Limits,
        *,
        oldest: str | None = None,
    ) -> Answer:
        """Ask the relation ASKED; with a query for the `oldest` time that matters, that time is the last of the values.

        That query gives `oldest` and `flows`, the number of those it found; its own last value is the time from which it looks.
        """
        began = time.monotonic()
        window = Window(since=wanted.since, until=wanted.until, as_of=wanted.as_of)
        with self._asked(principal, question, wanted) as (scope, note), engine.connect_warm() as connection:
            text = f"{sql} {flow_filter.matching(wanted)[0]}"
            named = {name for name in FLOWS.schema.names if re.search(rf"\b{name}\b", text)}
            shown = visible.relations(
                connection, self._lake, scope, FLOWS, window, wanted.clusters, peer_detail=self.peer_detail, columns=named
            )
            matching, given = flow_filter.matching(wanted, shown.parts)
            relations = [*shown.relations, engine.relation(ASKED, matching)]
            if oldest is not None:
                values = [*values, self._oldest(connection, relations, oldest, given, wanted, limits)]
            rows, cut = engine.ask(connection, relations, sql, [*given, *values], limits)
            note.rows = rows.num_rows
        return Answer(
            rows=rows,
            cut=cut,
            window=window,
            coverage=self._coverage(scope, window, wanted.clusters),
            files=shown.files,
            seconds=time.monotonic() - began,
        )

    def _oldest(
        self, connection: Any, relations: Sequence[str], sql: str, values: Sequence[Any], wanted: FlowFilter, limits: Limits
    ) -> datetime:
        """The time of the oldest flow of those that will be shown, or the end of the window if there are none.

        What is common is found without a look at all of a long window.
        """
        if wanted.until - wanted.since <= _LOOK_BACK[0]:
            return wanted.since
        for back in (*_LOOK_BACK, wanted.until - wanted.since):
            since = max(wanted.since, wanted.until - back)
            rows, _ = engine.ask(connection, relations, sql, [*values, since], limits)
            found: datetime | None = rows["oldest"][0].as_py()
            if rows["flows"][0].as_py() > limits.rows or since == wanted.since:
                return found or wanted.until
        return wanted.since

    def _ask_rollup(
        self,
        principal: Principal,
        question: str,
        table: Table,
        asked: rollup_questions.Asked,
        wanted: FlowFilter,
        limits: Limits,
        *,
        more: Mapping[str, Window] | None = None,
        by_hour: bool = False,
    ) -> Answer:
        """Ask a rollup, over the relation `visible_<table>` of the window and those named in `more` of other windows.

        `by_hour` says that the question does not tell minutes of one hour apart.
        """
        began = time.monotonic()
        windows = {f"visible_{table.name}": Window(since=wanted.since, until=wanted.until), **(more or {})}
        fewer = Wanted(clusters=wanted.clusters, namespaces=wanted.namespaces)
        with self._asked(principal, question, wanted) as (scope, note), engine.connect_warm() as connection:
            if wanted.as_of is not None:
                raise QueryError(f"{table.name} does not say when the lake learned of a flow, so cannot answer as of a moment: ask flows")
            relations, sources = [], []
            for name, asked_window in windows.items():
                windows[name] = window = rollup_views.widened(self._lake, table, asked_window, wanted.clusters)
                with engine.within(connection, limits):
                    query, source = rollup_views.query(
                        connection,
                        self._lake,
                        table,
                        window,
                        scope,
                        fewer,
                        self._rollups,
                        peer_detail=self.peer_detail,
                        name=name,
                        by_hour=by_hour,
                    )
                relations.append(engine.relation(name, query))
                sources.append(source)
            rows, cut = engine.ask(connection, relations, *asked, limits)
            note.rows = rows.num_rows
        window = windows[f"visible_{table.name}"]
        return Answer(
            rows=rows,
            cut=cut,
            window=window,
            coverage=self._coverage(scope, window, wanted.clusters),
            files=sum(source.hourly_files + source.rollup_files + source.flows_files for source in sources),
            seconds=time.monotonic() - began,
            source=rollup_views.source_text(table, sources),
        )

    def _named(self, principal: Principal, answer: Answer, wanted: FlowFilter, limits: Limits) -> Answer:
        """The edges, with the names that dns_names remembers for outside peers without one."""
        ranges = {*answer.rows["source_cidr"].to_pylist(), *answer.rows["destination_cidr"].to_pylist()} - {None}
        known = DNS_NAMES.schema.empty_table()
        if ranges:
            window = Window(since=wanted.since - rollup_questions.LOOK_BACK, until=wanted.until)
            fewer, detail = Wanted(clusters=wanted.clusters), self._ownership.peer_detail
            with engine.connect_warm() as connection:
                query, _ = rollup_views.query(
                    connection,
                    self._lake,
                    DNS_NAMES,
                    window,
                    self.scope(principal),
                    fewer,
                    self._rollups,
                    peer_detail=detail,
                    name="names",
                    stored_only=True,
                )
                relation = engine.relation(f"visible_{DNS_NAMES.name}", query)
                known, _ = engine.ask(connection, [relation], rollup_questions.KNOWN_NAMES, (), replace(limits, rows=1_000_000))
        return replace(answer, rows=rollup_questions.with_inferred_names(answer.rows, known, self._rollups))

    def _coverage(self, scope: Scope, window: Window, clusters: Sequence[str], rows: pa.Table | None = None) -> tuple[NodeCoverage, ...]:
        if window.since is None:
            return ()
        until = min(window.until or datetime.now(UTC), datetime.now(UTC))
        rows = visible.ledger(self._lake, scope, window, clusters) if rows is None else rows
        return tuple(node_coverage(rows, window.since, until)) if until > window.since else ()
