"""The query door: all that people are told of the lake is told here, within what they may see, with its coverage.

A principal sees a flow if the source's or the destination's namespace is the principal's; what it must not know of the
other side is empty in the relation that every filter and aggregate works on. Printing and drawing are others' work.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse import access_log as log
from warehouse import (
    conditions,
    config,
    confinement,
    engine,
    grants,
    posture,
    questions,
    rollup_sql,
    rollup_views,
    scoping,
    sql_workers,
    time_travel,
    versions,
)
from warehouse.access import Grant, Principal, Scope, scope_of
from warehouse.config_coverage import KindCoverage, coverage_at
from warehouse.coverage import NodeCoverage, cluster_shares, node_coverage
from warehouse.engine import Limits, Window
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.questions import EdgeScope
from warehouse.rollup_views import Wanted
from warehouse.schema import (
    ACCESS_LOG,
    COVERAGE,
    DNS_NAMES,
    EDGES_1H,
    FLOWS,
    STRINGS,
    TABLES,
    TIMELINE_1M,
    TIMESTAMP,
    VERSION_TABLES,
    Table,
)
from warehouse.sql_workers import WORKERS, Ran
from warehouse.tables import Lake
from warehouse.time_travel import AsOf

BUCKETS = 60
LONGEST_ROW = timedelta(days=1)
"""No row of the ledger spans more time: one that touches a window begins at most this long before it."""
MOST_MEMORY_BYTES = 512 * 1024**2
"""What an owner's own SQL may take; four times as much for who reads files."""
ROWS_AT_ONCE = 65_536
VISIBLE = "visible_flows"
"""The relation of flows that a principal may see, which every question is asked of."""
_USUAL, _FEW, _ALWAYS = Limits(), Limits(rows=200), Window()


@dataclass(frozen=True, kw_only=True)
class FlowFilter:
    """Which flows are asked for: all conditions hold, each by any of its values. Empty means any."""

    since: datetime
    until: datetime
    clusters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    """Of the source or the destination."""
    source_namespaces: tuple[str, ...] = ()
    destination_namespaces: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    drop_reasons: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    """Beginnings of the name of either pod."""
    ips: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    as_of: AsOf | None = None
    """What was known then; all that is known for None."""
    conditions: tuple[conditions.Condition, ...] = ()
    """More of them, as people write them."""
    match_any: bool = False
    """One of `conditions` is enough."""
    both_ways: bool = False
    """Also what matches `conditions` with source and destination exchanged."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Rows, and what has to be known to trust them."""

    rows: pa.Table
    cut: bool
    """True if there were more rows than the limit."""
    window: Window
    """The span of time that was looked at."""
    coverage: tuple[NodeCoverage, ...]
    """Of the nodes of the clusters asked for, in the window; empty where the window has no bounds."""
    files: int
    seconds: float
    source: str = FLOWS.name
    """The tables that the rows come from: a rollup is named where it stands in for flows."""

    @property
    def shares(self) -> dict[str, float]:
        """Each cluster's share of the window that was observed, 0 to 1."""
        return cluster_shares(list(self.coverage))

    @property
    def flows_lost(self) -> int:
        """Flows known lost in the window."""
        return sum(node.flows_lost for node in self.coverage)


@dataclass(frozen=True, kw_only=True)
class LakeSummary:
    """The lake from outside."""

    bytes: int | None
    files: int | None
    """Of all tables; None for who does not see everything."""
    oldest: datetime | None
    """Time of the oldest flow."""
    newest: datetime | None


class Door:
    """Answers questions about one lake."""

    def __init__(self, lake: Lake, ownership: config.Ownership, rollups: config.Rollups | None = None, *, purpose: str = "") -> None:
        """`purpose` says in the access log where it was asked: a command, a page, a report."""
        self._lake = lake
        self._ownership = ownership
        self._rollups = rollups or config.Rollups()
        self._purpose = purpose

    def scope(self, principal: Principal) -> Scope:
        """What a principal may see, by the grants of now."""
        return scope_of(principal, self.grants())

    def grants(self) -> tuple[Grant, ...]:
        """Every grant and denial of now, of all subjects: for who administers ownership. Raises LakeError."""
        return grants.in_force(self._lake, self._ownership)

    def clusters(self, principal: Principal) -> list[str]:
        """The clusters with flows of which the principal may see something, without a question to the flows. Raises LakeError."""
        return scoping.clusters_seen(self.scope(principal), self._lake.clusters(FLOWS))

    @property
    def peer_detail(self) -> str:
        """How much of the other side an owner sees."""
        return self._ownership.peer_detail

    def flows(self, principal: Principal, wanted: FlowFilter, *, columns: Sequence[str] | None = None, limits: Limits = _USUAL) -> Answer:
        """The newest flows that match, newest first. Raises AccessDeniedError, QueryError, LakeError."""
        names = list(columns) if columns else FLOWS.schema.names
        picked = ", ".join(f'"{name}"' for name in names)
        where, values = flow_conditions(wanted)
        # First how far back the newest go, which needs few columns: an owner's relation is made of parts, whose columns
        # would else all be read for every flow there is.
        oldest = f'SELECT "time" FROM visible_flows WHERE {where} ORDER BY "time" DESC LIMIT 1 OFFSET {int(limits.rows)}'
        sql = f'SELECT {picked} FROM visible_flows WHERE {where} AND "time" >= ? ORDER BY "time" DESC, uuid'
        return self._ask(principal, "flows", sql, values, wanted, limits, oldest=oldest)

    def timeline(self, principal: Principal, wanted: FlowFilter, *, buckets: int = BUCKETS, limits: Limits = _USUAL) -> Answer:
        """Flows by verdict in parts of the window: columns `start` (UTC), `verdict`, `flows`, `repeats` (docs/counting.md).

        Parts are `bucket_width` long and begin at round times; the first and the last may reach over the window's ends.
        """
        width, limits = bucket_width(wanted, buckets), replace(limits, rows=1_000_000)
        if questions.on_timeline(wanted) and width >= questions.MINUTE:
            return self._ask_rollup(principal, "timeline", TIMELINE_1M, questions.timeline(wanted, width), wanted, limits)
        where, values = flow_conditions(wanted)
        flows = rollup_sql.counted(f"(SELECT * FROM visible_flows WHERE {where})", ("time", "verdict"))
        sql = f"""SELECT time_bucket(?, "time") AS start, verdict, sum(flows)::BIGINT AS flows, sum(repeats)::BIGINT AS repeats
            FROM ({flows}) GROUP BY ALL ORDER BY ALL"""
        return self._ask(principal, "timeline", sql, [width, *values, *values], wanted, limits)

    def values(self, principal: Principal, column: str, wanted: FlowFilter, *, limits: Limits = _FEW) -> Answer:
        """The values of a column in the flows that match, most frequent first: columns `value`, `flows`."""
        if column not in FLOWS.schema.names:
            raise QueryError(f"flows has no column {column!r}")
        if questions.has_values(column) and questions.on_timeline(wanted):
            return self._ask_rollup(principal, "values", TIMELINE_1M, questions.values(column, wanted), wanted, limits)
        where, values = flow_conditions(wanted)
        sql = f"""SELECT "{column}" AS value, sum(flow_count)::BIGINT AS flows
            FROM visible_flows WHERE {where} AND "{column}" IS NOT NULL GROUP BY ALL ORDER BY flows DESC, value"""
        return self._ask(principal, "values", sql, values, wanted, limits)

    def edges(self, principal: Principal, wanted: FlowFilter, *, scope: EdgeScope = EdgeScope.WORKLOAD, limits: Limits = _USUAL) -> Answer:
        """Who talks to whom, most flows first: both ends, counts by verdict, drop reasons, the busiest ports, first and last time.

        A source is who opened the connection. Raises QueryError for a filter by pods, addresses or nodes.
        """
        questions.check_edges(wanted)
        answer = self._ask_rollup(principal, "edges", EDGES_1H, questions.edges(wanted, scope), wanted, limits)
        return self._named(principal, answer, wanted, limits) if scope is EdgeScope.WORKLOAD else answer

    def new_edges(
        self,
        principal: Principal,
        wanted: FlowFilter,
        before: Window,
        *,
        scope: EdgeScope = EdgeScope.WORKLOAD,
        limits: Limits = _USUAL,
    ) -> Answer:
        """The edges of the window that the window `before` (with both bounds) does not have, in the order they appeared."""
        questions.check_edges(wanted)
        asked = questions.new_edges(wanted, scope, "edges_before")
        answer = self._ask_rollup(principal, "new_edges", EDGES_1H, asked, wanted, limits, more={"edges_before": before})
        return self._named(principal, answer, wanted, limits) if scope is EdgeScope.WORKLOAD else answer

    def talkers(self, principal: Principal, wanted: FlowFilter, *, scope: EdgeScope = EdgeScope.WORKLOAD, limits: Limits = _FEW) -> Answer:
        """Who talks most, as client and as server. Raises QueryError for a filter by pods, addresses or nodes."""
        questions.check_edges(wanted)
        return self._ask_rollup(principal, "talkers", EDGES_1H, questions.talkers(wanted, scope), wanted, limits)

    def drop_reasons(self, principal: Principal, wanted: FlowFilter, *, limits: Limits = _FEW) -> Answer:
        """Drops by cluster and reason, each drop once: `cluster`, `drop_reason_desc`, `drops`, `flows`."""
        if questions.on_timeline(wanted):
            return self._ask_rollup(principal, "drop_reasons", TIMELINE_1M, questions.drop_reasons(wanted), wanted, limits)
        where, values = flow_conditions(wanted)
        flows = rollup_sql.counted(f"(SELECT * FROM visible_flows WHERE {where} AND verdict = 'DROPPED')", ("cluster", "drop_reason_desc"))
        sql = f"""SELECT cluster, drop_reason_desc, sum(flows - repeats)::BIGINT AS drops, sum(flows)::BIGINT AS flows
            FROM ({flows}) GROUP BY ALL ORDER BY drops DESC, cluster, drop_reason_desc"""
        return self._ask(principal, "drop_reasons", sql, [*values, *values], wanted, limits)

    def names(self, principal: Principal, wanted: FlowFilter, *, limits: Limits = _USUAL) -> Answer:
        """The DNS names that addresses (`ips`, all when empty) had in the window, with intervals; each is inferred from flows."""
        return self._ask_rollup(principal, "names", DNS_NAMES, questions.names(wanted), wanted, limits)

    def sql(
        self,
        principal: Principal,
        text: str,
        *,
        window: Window = _ALWAYS,
        limits: Limits = _USUAL,
        cancelled: threading.Event | None = None,
    ) -> Answer:
        """Any query over the tables. The operator's runs here, over the whole lake, or the window if one is given;

        who sees everything has a process that may read the lake's files and nothing else; anyone else's process holds no more
        than the principal's rows of the window, 24 h if it has no start. Raises AccessDeniedError, QueryError, LakeError.
        """
        began = time.monotonic()
        said = text if window.as_of is None else f"{text} -- {window.as_of}"
        with self._noted(principal, "sql", window, text=said) as (scope, note):
            if principal.is_operator:
                rows, cut, window, files = self._sql_of_operator(text, window, limits)
            else:
                over_files = self._reads_files(scope)
                most = MOST_MEMORY_BYTES * (4 if over_files else 1)
                limits = replace(limits, memory_bytes=min(limits.memory_bytes, most))
                how = self._sql_over_files if over_files else self._sql_over_rows
                ran, window, files = how(principal, scope, text, window, limits, cancelled)
                rows, cut = ran.rows, ran.cut
            note.rows = rows.num_rows
        return Answer(
            rows=rows,
            cut=cut,
            window=window,
            coverage=self._coverage(scope, window, ()),
            files=files,
            seconds=time.monotonic() - began,
        )

    def ledger(self, principal: Principal, window: Window) -> Answer:
        """The coverage of every node the principal may know of, in a window with both bounds; rows of `coverage`, newest first."""
        began = time.monotonic()
        with self._noted(principal, "ledger", window) as (scope, note):
            rows = self._ledger_rows(scope, window, ()).sort_by([("from", "descending")])
            coverage = self._coverage(scope, window, (), rows)
            note.rows = rows.num_rows
        return Answer(rows=rows, cut=False, window=window, coverage=coverage, files=0, seconds=time.monotonic() - began)

    def as_of(self, asked: int | datetime) -> AsOf:
        """The moment of a version of `flows`, or an instant. Raises QueryError if there is no such version, LakeError."""
        return time_travel.at_version(self._lake, asked) if isinstance(asked, int) else time_travel.at_instant(asked)

    def drift(self, principal: Principal, *, at: datetime | None = None, clusters: Sequence[str] = ()) -> Answer:
        """Drift from blueprints that is open, or was at a time, in what the principal owned then. Raises AccessDeniedError, LakeError."""
        return self._posture(principal, "drift", posture.open_drift, at, clusters)

    def controls(self, principal: Principal, *, at: datetime | None = None, clusters: Sequence[str] = ()) -> Answer:
        """The newest results of audit controls, of now or of a time, in clusters that the principal sees whole.

        Raises AccessDeniedError, LakeError.
        """
        return self._posture(principal, "controls", posture.controls, at, clusters)

    def _posture(
        self, principal: Principal, question: str, read: Callable[..., pa.Table], at: datetime | None, clusters: Sequence[str]
    ) -> Answer:
        began, window = time.monotonic(), Window(since=at, until=at)
        when = at or datetime.now(UTC)
        with self._noted(principal, question, window, clusters=clusters) as (scope, note):
            rows = read(self._lake, at=at, clusters=clusters or None)
            namespaces = rows["namespace"].to_pylist() if "namespace" in rows.column_names else [None] * rows.num_rows
            seen = [
                scope.sees_whole(cluster, when) if namespace is None else scope.owns(cluster, namespace, when)
                for cluster, namespace in zip(rows["cluster"].to_pylist(), namespaces, strict=True)
            ]
            rows = rows.filter(pa.array(seen, pa.bool_()))
            note.rows = rows.num_rows
        return Answer(rows=rows, cut=False, window=window, coverage=(), files=0, seconds=time.monotonic() - began)

    def configuration(
        self,
        principal: Principal,
        window: Window,
        *,
        tables: Sequence[Table] = VERSION_TABLES,
        clusters: Sequence[str] = (),
        kinds: Sequence[str] = (),
        namespaces: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> Answer:
        """Versions of configuration objects that were in force in a window with both bounds, of what the principal owned meanwhile.

        Objects of a whole cluster are for who sees it whole. Columns of a version table. Raises AccessDeniedError, LakeError.
        """
        began = time.monotonic()
        if window.since is None or window.until is None:
            raise QueryError("configuration is asked for in a window with both bounds")
        with self._noted(principal, "configuration", window, clusters=clusters, namespaces=namespaces) as (scope, note):
            rows = versions.between(
                self._lake,
                window.since,
                window.until,
                tables=tables,
                clusters=clusters or None,
                kinds=kinds or None,
                namespaces=namespaces or None,
                names=names or None,
            )
            rows = rows.filter(pa.array([versions.is_shown(row, scope) for row in _owners_of(rows)], pa.bool_()))
            note.rows = rows.num_rows
        return Answer(
            rows=rows, cut=False, window=window, coverage=(), files=0, seconds=time.monotonic() - began, source="configuration history"
        )

    def configuration_coverage(self, principal: Principal, at: datetime) -> list[KindCoverage]:
        """What of each visible cluster's configuration was known at a time, by kind. Raises AccessDeniedError, LakeError."""
        with self._noted(principal, "configuration_coverage", Window(since=at, until=at)) as (scope, _):
            return [kind for kind in coverage_at(self._lake, at) if scope.sees_cluster(kind.cluster)]

    def recorded(self) -> frozenset[str]:
        """Names of the tables that hold anything, which decides what there is to ask for. Raises LakeError."""
        return frozenset(table.name for table in TABLES.values() if self._lake.contents(table))

    def access_log(self, principal: Principal, window: Window, *, limits: Limits = _USUAL) -> Answer:
        """Who asked what, newest first: all of it for who sees everything, else one's own and who looked at one's namespaces."""
        began = time.monotonic()
        with self._noted(principal, "access_log", window) as (scope, note):
            log.flush()
            rows = self._lake.read(ACCESS_LOG, since=window.since, until=window.until)
            rows = log.visible(rows, scope, principal).sort_by([("time", "descending")])
            note.rows = min(rows.num_rows, limits.rows)
        cut = rows.num_rows > limits.rows
        seconds = time.monotonic() - began
        return Answer(rows=rows.slice(0, limits.rows), cut=cut, window=window, coverage=(), files=0, seconds=seconds)

    def lake_summary(self, principal: Principal) -> LakeSummary:
        """Size and span of all flows in clusters the principal may know of, from the log alone. Raises AccessDeniedError, LakeError."""
        with self._noted(principal, "lake_summary", _ALWAYS) as (scope, _):
            size = files = None
            if scope.everything:
                size, files = (sum(part) for part in zip(*(self._lake.size(table) for table in TABLES.values()), strict=True))
            stored = [file for file in self._lake.contents(FLOWS) if scope.sees_cluster(file.partition["cluster"])]
            return LakeSummary(
                bytes=size,
                files=files,
                oldest=min((file.first for file in stored if file.first), default=None),
                newest=max((file.last for file in stored if file.last), default=None),
            )

    def pulse(self, principal: Principal, wanted: FlowFilter, *, buckets: int = BUCKETS, limits: Limits = _USUAL) -> Answer:
        """Flows in parts of the window, of a minute at least: `start`, `verdict`, `reason` (of drops), `flows`, `repeats`."""
        questions.check_timeline(wanted)
        asked = questions.pulse(wanted, max(questions.MINUTE, bucket_width(wanted, buckets)))
        return self._ask_rollup(principal, "pulse", TIMELINE_1M, asked, wanted, replace(limits, rows=1_000_000))

    def namespaces(self, principal: Principal, wanted: FlowFilter, *, buckets: int = BUCKETS, limits: Limits = _USUAL) -> Answer:
        """Flows from or to each namespace in parts of the window: `cluster`, `namespace`, `start`, `flows`, `denied`."""
        questions.check_timeline(wanted)
        asked = questions.namespaces(wanted, max(questions.MINUTE, bucket_width(wanted, buckets)))
        return self._ask_rollup(principal, "namespaces", TIMELINE_1M, asked, wanted, replace(limits, rows=1_000_000))

    def edges_in_time(
        self, principal: Principal, wanted: FlowFilter, *, scope: EdgeScope = EdgeScope.WORKLOAD, limits: Limits = _USUAL
    ) -> Answer:
        """Who talks to whom by port, hour by hour, most flows first; see questions.edges_in_time. Raises QueryError as `edges`."""
        questions.check_edges(wanted)
        return self._ask_rollup(principal, "edges_in_time", EDGES_1H, questions.edges_in_time(wanted, scope), wanted, limits)

    def ask(
        self, principal: Principal, question: str, sql: str, values: Sequence[Any], wanted: FlowFilter, limits: Limits = _USUAL
    ) -> Answer:
        """For modules of this package that hold more questions: a query over the relation VISIBLE, in the filter's window and clusters.

        `question` names it in the access log. `sql` is ours, never a person's, and what people gave is among `values`.
        Raises AccessDeniedError, QueryError, LakeError.
        """
        return self._ask(principal, question, sql, values, wanted, limits)

    # How ------------------------------------------------------------------------------------------------------

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
        return self._noted(principal, question, window, text=_as_text(wanted), clusters=wanted.clusters, namespaces=namespaces)

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
        """Ask the flows; with a query for the `oldest` time that matters, that time is the last of the values."""
        began = time.monotonic()
        window = Window(since=wanted.since, until=wanted.until, as_of=wanted.as_of)
        with self._asked(principal, question, wanted) as (scope, note), engine.connect_warm() as connection:
            files = self._add_views(connection, scope, window, wanted.clusters)
            if oldest is not None:
                found = None if scope.everything else engine.run(connection, oldest, values, limits)[0]
                values = [*values, found["time"][0].as_py() if found else wanted.since]
            rows, cut = engine.run(connection, sql, values, limits)
            note.rows = rows.num_rows
        return Answer(
            rows=rows,
            cut=cut,
            window=window,
            coverage=self._coverage(scope, window, wanted.clusters),
            files=files,
            seconds=time.monotonic() - began,
        )

    def _ask_rollup(
        self,
        principal: Principal,
        question: str,
        table: Table,
        asked: questions.Asked,
        wanted: FlowFilter,
        limits: Limits,
        *,
        more: Mapping[str, Window] | None = None,
    ) -> Answer:
        """Ask a rollup, over the view `visible_<table>` of the window and those named in `more` of other windows."""
        if wanted.as_of is not None:
            raise QueryError(f"{table.name} does not say when the lake learned of a flow, so it has no answer as of a moment: ask flows")
        began = time.monotonic()
        windows = {f"visible_{table.name}": Window(since=wanted.since, until=wanted.until), **(more or {})}
        fewer = Wanted(clusters=wanted.clusters, namespaces=wanted.namespaces)
        with self._asked(principal, question, wanted) as (scope, note), engine.connect_warm() as connection:
            sources = []
            for name, asked_window in windows.items():
                windows[name] = window = rollup_views.widened(self._lake, table, asked_window, wanted.clusters)
                added = rollup_views.add_view(
                    connection, self._lake, table, window, scope, fewer, self._rollups, peer_detail=self._ownership.peer_detail, name=name
                )
                sources.append(added)
            rows, cut = engine.run(connection, *asked, limits)
            note.rows = rows.num_rows
        window = windows[f"visible_{table.name}"]
        return Answer(
            rows=rows,
            cut=cut,
            window=window,
            coverage=self._coverage(scope, window, wanted.clusters),
            files=sum(source.rollup_files + source.flows_files for source in sources),
            seconds=time.monotonic() - began,
            source=rollup_views.source_text(table, sources),
        )

    def _named(self, principal: Principal, answer: Answer, wanted: FlowFilter, limits: Limits) -> Answer:
        """The edges, with the names that dns_names remembers for outside peers without one."""
        ranges = {*answer.rows["source_cidr"].to_pylist(), *answer.rows["destination_cidr"].to_pylist()} - {None}
        known = DNS_NAMES.schema.empty_table()
        if ranges:
            window = Window(since=wanted.since - questions.LOOK_BACK, until=wanted.until)
            fewer, detail = Wanted(clusters=wanted.clusters), self._ownership.peer_detail
            with engine.connect_warm() as connection:
                rollup_views.add_view(
                    connection,
                    self._lake,
                    DNS_NAMES,
                    window,
                    self.scope(principal),
                    fewer,
                    self._rollups,
                    peer_detail=detail,
                    stored_only=True,
                )
                known, _ = engine.run(connection, questions.KNOWN_NAMES, (), replace(limits, rows=1_000_000))
        return replace(answer, rows=questions.with_inferred_names(answer.rows, known, self._rollups))

    def _sql_of_operator(self, text: str, window: Window, limits: Limits) -> tuple[pa.Table, bool, Window, int]:
        with engine.connect(limits) as connection:
            engine.check_is_query(connection, text)
            for table in TABLES.values():
                engine.add_view(connection, self._lake, table, window)
            if not text.lstrip().upper().startswith("EXPLAIN"):
                asked = engine.asked_window(connection, text, FLOWS)
                window = replace(window, since=asked.since or window.since, until=asked.until or window.until)
            files = engine.add_view(connection, self._lake, FLOWS, window)
            rows, cut = engine.run(connection, text, (), limits)
        return rows, cut, window, files

    def _reads_files(self, scope: Scope) -> bool:
        """Whether someone's SQL may read the files themselves; an auditor reads no labels, so hers may not."""
        return scope.everything and not scope.is_auditors and self._lake.is_local and confinement.is_possible()

    def _sql_over_files(
        self, principal: Principal, _scope: Scope, text: str, window: Window, limits: Limits, cancelled: threading.Event | None
    ) -> tuple[Ran, Window, int]:
        counted = {"files": 0, "window": window}

        def query(table: Table, within: Window) -> str:
            files = engine.files_of(self._lake, table, within)
            counted.update(files=len(files), window=within)
            if not files:
                return engine.query_of_nothing(table)
            lacking = self._lake.files_may_lack_columns(table)
            return engine.query_of_files(table, files, as_of=within.as_of, files_may_lack_columns=lacking)

        def asked(by_text: Window) -> str:
            return query(FLOWS, replace(window, since=by_text.since or window.since, until=by_text.until or window.until))

        views = {table.name: query(table, window) for table in TABLES.values()}
        folder = Path(self._lake.address(FLOWS)).parent
        owner = (str(folder), principal)
        ran = WORKERS.run_over_files(owner, text, views, (FLOWS.name, asked), folder, limits, cancelled=cancelled)
        return ran, counted["window"], counted["files"]  # type: ignore[return-value]

    def _sql_over_rows(
        self, principal: Principal, scope: Scope, text: str, window: Window, limits: Limits, cancelled: threading.Event | None
    ) -> tuple[Ran, Window, int]:
        since = window.since or datetime.now(UTC) - timedelta(days=1)
        window = replace(window, since=since.astimezone(UTC).replace(minute=0, second=0, microsecond=0))
        offered = [table for table in TABLES.values() if scope.everything or scoping.is_shared(table) or table is ACCESS_LOG]
        named = [table for table in offered if re.search(rf"\b{table.name}\b", text, re.IGNORECASE)]
        with ExitStack() as opened:
            sources = {table.name: self._source(opened, principal, scope, table, window, limits) for table in named}
            key = (scope, self._ownership.peer_detail, window)
            ran = WORKERS.run((self._lake.address(FLOWS), principal), key, text, sources, limits, cancelled=cancelled)
        files = sum(isinstance(source.stamp, tuple) and len(source.stamp) for source in sources.values())
        return ran, replace(window, until=window.until or ran.read_at), files

    def _source(
        self, opened: ExitStack, principal: Principal, scope: Scope, table: Table, window: Window, limits: Limits
    ) -> sql_workers.Source:
        """A table's rows for someone's own SQL, read when they are first asked for."""
        within = _with_margin(window) if table is COVERAGE else window

        def read() -> pa.RecordBatchReader:
            if table is ACCESS_LOG:
                log.flush()
                return log.visible(self._lake.read(table, since=within.since, until=within.until), scope, principal).to_reader()
            connection = opened.enter_context(engine.connect_warm())
            self.add_visible(connection, scope, table, within)
            emptied = [
                name
                for name in table.schema.names
                if scope.is_auditors and name.endswith("labels") and table.schema.field(name).type == STRINGS
            ]
            nothing = f"REPLACE ({', '.join(f'NULL::VARCHAR[] AS {name}' for name in emptied)})" if emptied else ""
            return connection.sql(f"SELECT * {nothing} FROM visible_{table.name}").to_arrow_reader(ROWS_AT_ONCE)

        return sql_workers.Source(read=read, stamp=tuple(engine.files_of(self._lake, table, within)))

    def _add_views(self, connection: Any, scope: Scope, window: Window, clusters: Sequence[str]) -> int:
        """The views `visible_flows` and `visible_coverage`; gives the number of files of flows."""
        files = self.add_visible(connection, scope, FLOWS, window, clusters)
        self.add_visible(connection, scope, COVERAGE, _with_margin(window))
        return files

    def add_visible(self, connection: Any, scope: Scope, table: Table, window: Window, clusters: Sequence[str] = ()) -> int:
        """A view `visible_TABLE` of what a scope shows of a table in the window and, where any are named, of the clusters.

        Gives the number of files it may read. Every question is to be asked of such views alone. Raises LakeError.
        """
        seen = scoping.clusters_seen(scope, self._lake.clusters(table))
        seen = [cluster for cluster in seen if not clusters or cluster in clusters]
        files = engine.add_view(connection, self._lake, table, window, None if scope.everything and not clusters else seen)
        query = scoping.visible(scope, table, window, seen, peer_detail=self._ownership.peer_detail)
        engine.replace_view(connection, f"visible_{table.name}", query)
        return files

    def _coverage(self, scope: Scope, window: Window, clusters: Sequence[str], rows: pa.Table | None = None) -> tuple[NodeCoverage, ...]:
        if window.since is None:
            return ()
        until = min(window.until or datetime.now(UTC), datetime.now(UTC))
        rows = self._ledger_rows(scope, window, clusters) if rows is None else rows
        return tuple(node_coverage(rows, window.since, until)) if until > window.since else ()

    def _ledger_rows(self, scope: Scope, window: Window, clusters: Sequence[str]) -> pa.Table:
        margin = _with_margin(window)
        rows = self._lake.read(COVERAGE, None, clusters or None, margin.since, margin.until)
        if window.as_of is not None:
            rows = rows.filter(pc.field("recorded").is_null() | (pc.field("recorded") <= pa.scalar(window.as_of.instant, TIMESTAMP)))
        seen = {cluster: scope.sees_cluster(cluster) for cluster in rows.column("cluster").unique().to_pylist()}
        return rows.filter(pa.array([seen[cluster] for cluster in rows.column("cluster").to_pylist()], pa.bool_()))


def _owners_of(rows: pa.Table) -> list[dict[str, Any]]:
    """What of versions says who may see them."""
    told: list[dict[str, Any]] = rows.select(["cluster", "kind", "namespace", "name", "valid_from", "valid_to"]).to_pylist()
    return told


def bucket_width(wanted: FlowFilter, buckets: int = BUCKETS) -> timedelta:
    """How long each part of a timeline is: a round time, at least a second."""
    return questions.bucket_width(wanted.since, wanted.until, buckets)


def _as_text(wanted: FlowFilter) -> str | None:
    """The conditions as JSON, for the access log; None without any."""
    told = {name: value for name, value in asdict(wanted).items() if value and name not in ("since", "until", "conditions")}
    if wanted.conditions:
        told["conditions"] = [str(condition) for condition in wanted.conditions]
    return json.dumps(told, default=str) if told else None


def flow_conditions(wanted: FlowFilter) -> tuple[str, list[Any]]:
    """The filter as a condition on VISIBLE with placeholders, and their values."""
    parts, values = ['"time" >= ?', '"time" < ?'], [wanted.since, wanted.until]

    def among(columns: Sequence[str], wanted_values: Sequence[Any], how: str = "IN") -> None:
        if not wanted_values:
            return
        marks = ", ".join("?" * len(wanted_values))
        either = []
        for column in columns:
            either.append(f'"{column}" IN ({marks})' if how == "IN" else _any([f'starts_with("{column}", ?)'] * len(wanted_values)))
            values.extend(wanted_values)
        parts.append(_any(either))

    among(["cluster"], wanted.clusters)
    among(["source_namespace", "destination_namespace"], wanted.namespaces)
    among(["source_namespace"], wanted.source_namespaces)
    among(["destination_namespace"], wanted.destination_namespaces)
    among(["verdict"], wanted.verdicts)
    among(["drop_reason_desc"], wanted.drop_reasons)
    among(["source_pod_name", "destination_pod_name"], wanted.pods, "starts")
    among(["source_ip", "destination_ip"], wanted.ips)
    among(["source_port", "destination_port"], wanted.ports)
    among(["node_name"], wanted.nodes)
    written, given = conditions.sql(wanted.conditions, match_any=wanted.match_any, both_ways=wanted.both_ways)
    return " AND ".join([*parts, written]), [*values, *given]


def _with_margin(window: Window) -> Window:
    return replace(window, since=window.since and window.since - LONGEST_ROW)


def _any(parts: Sequence[str]) -> str:
    return "(" + (" OR ".join(parts) or "false") + ")"
