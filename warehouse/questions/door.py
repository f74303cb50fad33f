"""The query door: all that people are told of the lake is told here, within what they may see, with its coverage.

A principal sees a flow if the source's or the destination's namespace is the principal's; what it must not know of the
other side is empty in the relation that every filter and aggregate works on. Printing and drawing are others' work.
"""

from __future__ import annotations

import difflib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from warehouse.access import access_log as log
from warehouse.access import scoping, visible
from warehouse.access.principals import Principal
from warehouse.engine import Limits, Window
from warehouse.errors import QueryError
from warehouse.lake import time_travel
from warehouse.lake.time_travel import AsOf
from warehouse.questions import rollup_questions, rollup_sql
from warehouse.questions.answers import Answer, LakeSummary
from warehouse.questions.asking import ASKED, Asking
from warehouse.questions.flow_filter import BUCKETS, FlowFilter, bucket_width, flow_conditions, plain
from warehouse.questions.rollup_questions import EdgeScope
from warehouse.records import posture, versions
from warehouse.records.configuration_coverage import KindCoverage, coverage_at
from warehouse.schema import ACCESS_LOG, DNS_NAMES, EDGES_1H, FLOWS, TABLES, TIMELINE_1M, VERSION_TABLES, Table
from warehouse.sql import execution

__all__ = ["Answer", "Door", "FlowFilter", "LakeSummary", "bucket_width", "flow_conditions"]

_USUAL, _FEW, _ALWAYS = Limits(), Limits(rows=200), Window()


class Door(Asking):
    """Answers questions about one lake."""

    def clusters(self, principal: Principal, *, of: Table = FLOWS) -> list[str]:
        """The clusters with rows of a table of which the principal may see something, without a question to it. Raises LakeError."""
        return scoping.clusters_seen(self.scope(principal), self._lake.clusters(of))

    def flows(self, principal: Principal, wanted: FlowFilter, *, columns: Sequence[str] | None = None, limits: Limits = _USUAL) -> Answer:
        """The newest flows that match, newest first. Raises AccessDeniedError, QueryError, LakeError."""
        names = list(columns) if columns else FLOWS.schema.names
        self._check(principal, "flows", wanted, lambda _: _check_columns(names))
        picked = ", ".join(f'"{name}"' for name in names)
        # First how far back the newest go, which needs few columns: of a relation that is made of parts, all columns would
        # else be read for every flow there is.
        newest = f'SELECT "time" FROM {ASKED} WHERE "time" >= ? ORDER BY "time" DESC LIMIT {int(limits.rows) + 1}'
        oldest = f'SELECT min("time") AS oldest, count(*) AS flows FROM ({newest})'
        sql = f'SELECT {picked} FROM {ASKED} WHERE "time" >= ? ORDER BY "time" DESC, uuid'
        return self._ask(principal, "flows", sql, (), wanted, limits, oldest=oldest)

    def timeline(self, principal: Principal, wanted: FlowFilter, *, buckets: int = BUCKETS, limits: Limits = _USUAL) -> Answer:
        """Flows by verdict in parts of the window: columns `start` (UTC), `verdict`, `flows`, `repeats` (docs/counting.md).

        Parts are `bucket_width` long and begin at round times; the first and the last may reach over the window's ends.
        """
        wanted = plain(wanted)
        width, limits = bucket_width(wanted, buckets), replace(limits, rows=1_000_000)
        if rollup_questions.on_timeline(wanted) and width >= rollup_questions.MINUTE:
            asked, by_hour = rollup_questions.timeline(wanted, width), rollup_questions.is_by_hour(wanted, width)
            return self._ask_rollup(principal, "timeline", TIMELINE_1M, asked, wanted, limits, by_hour=by_hour)
        flows = rollup_sql.counted(ASKED, ("time", "verdict"))
        sql = f"""SELECT time_bucket(?, "time") AS start, verdict, sum(flows)::BIGINT AS flows, sum(repeats)::BIGINT AS repeats
            FROM ({flows}) GROUP BY ALL ORDER BY ALL"""
        return self._ask(principal, "timeline", sql, [width], wanted, limits)

    def values(self, principal: Principal, column: str, wanted: FlowFilter, *, limits: Limits = _FEW) -> Answer:
        """The values of a column in the flows that match, most frequent first: columns `value`, `flows`."""
        wanted = plain(wanted)
        self._check(principal, "values", wanted, lambda _: _check_columns([column]))
        if rollup_questions.has_values(column) and rollup_questions.on_timeline(wanted):
            by_hour = rollup_questions.is_by_hour(wanted) and not column.endswith("_namespace")
            return self._ask_rollup(
                principal, "values", TIMELINE_1M, rollup_questions.values(column, wanted), wanted, limits, by_hour=by_hour
            )
        sql = f"""SELECT "{column}" AS value, sum(flow_count)::BIGINT AS flows
            FROM {ASKED} WHERE "{column}" IS NOT NULL GROUP BY ALL ORDER BY flows DESC, value"""
        return self._ask(principal, "values", sql, (), wanted, limits)

    def edges(self, principal: Principal, wanted: FlowFilter, *, scope: EdgeScope = EdgeScope.WORKLOAD, limits: Limits = _USUAL) -> Answer:
        """Who talks to whom, most flows first: both ends, counts by verdict, drop reasons, the busiest ports, first and last time.

        A source is who opened the connection. Raises QueryError for a filter by pods, addresses or nodes.
        """
        wanted = plain(wanted)
        self._check(principal, "edges", wanted, rollup_questions.check_edges)
        answer = self._ask_rollup(principal, "edges", EDGES_1H, rollup_questions.edges(wanted, scope), wanted, limits)
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
        wanted = plain(wanted)
        self._check(principal, "new_edges", wanted, rollup_questions.check_edges)
        asked = rollup_questions.new_edges(wanted, scope, "edges_before")
        answer = self._ask_rollup(principal, "new_edges", EDGES_1H, asked, wanted, limits, more={"edges_before": before})
        return self._named(principal, answer, wanted, limits) if scope is EdgeScope.WORKLOAD else answer

    def talkers(self, principal: Principal, wanted: FlowFilter, *, scope: EdgeScope = EdgeScope.WORKLOAD, limits: Limits = _FEW) -> Answer:
        """Who talks most, as client and as server. Raises QueryError for a filter by pods, addresses or nodes."""
        wanted = plain(wanted)
        self._check(principal, "talkers", wanted, rollup_questions.check_edges)
        return self._ask_rollup(principal, "talkers", EDGES_1H, rollup_questions.talkers(wanted, scope), wanted, limits)

    def drop_reasons(self, principal: Principal, wanted: FlowFilter, *, limits: Limits = _FEW) -> Answer:
        """Drops by cluster and reason, each drop once: `cluster`, `drop_reason_desc`, `drops`, `flows`."""
        wanted = plain(wanted)
        if rollup_questions.on_timeline(wanted):
            asked, by_hour = rollup_questions.drop_reasons(wanted), rollup_questions.is_by_hour(wanted)
            return self._ask_rollup(principal, "drop_reasons", TIMELINE_1M, asked, wanted, limits, by_hour=by_hour)
        flows = rollup_sql.counted(f"(SELECT * FROM {ASKED} WHERE verdict = 'DROPPED')", ("cluster", "drop_reason_desc"))
        sql = f"""SELECT cluster, drop_reason_desc, sum(flows - repeats)::BIGINT AS drops, sum(flows)::BIGINT AS flows
            FROM ({flows}) GROUP BY ALL ORDER BY drops DESC, cluster, drop_reason_desc"""
        return self._ask(principal, "drop_reasons", sql, (), wanted, limits)

    def names(self, principal: Principal, wanted: FlowFilter, *, limits: Limits = _USUAL) -> Answer:
        """The DNS names that addresses (`ips`, all when empty) had in the window, with intervals; each is inferred from flows."""
        return self._ask_rollup(principal, "names", DNS_NAMES, rollup_questions.names(wanted), wanted, limits)

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
            ran = execution.run(self._lake, principal, scope, text, window, limits, cancelled, peer_detail=self.peer_detail)
            note.rows = ran.rows.num_rows
        return Answer(
            rows=ran.rows,
            cut=ran.cut,
            window=ran.window,
            coverage=self._coverage(scope, ran.window, ()),
            files=ran.files,
            seconds=time.monotonic() - began,
        )

    def ledger(self, principal: Principal, window: Window) -> Answer:
        """The coverage of every node the principal may know of, in a window with both bounds; rows of `coverage`, newest first."""
        began = time.monotonic()
        with self._noted(principal, "ledger", window) as (scope, note):
            rows = visible.ledger(self._lake, scope, window).sort_by([("from", "descending")])
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
        recorded: datetime | None = None,
    ) -> Answer:
        """Versions of configuration objects that were in force in a window with both bounds, of what the principal owned meanwhile.

        Objects of a whole cluster are for who sees it whole. `recorded` gives what the lake knew at that time. Columns of a version
        table. Raises AccessDeniedError, QueryError, LakeError.
        """
        began = time.monotonic()
        with self._noted(principal, "configuration", window, clusters=clusters, namespaces=namespaces) as (scope, note):
            if window.since is None or window.until is None:
                raise QueryError("configuration is asked for in a window with both bounds")
            rows = versions.between(
                self._lake,
                window.since,
                window.until,
                tables=tables,
                clusters=clusters or None,
                kinds=kinds or None,
                namespaces=namespaces or None,
                names=names or None,
                recorded=recorded,
            )
            shown = [versions.is_shown(row, scope, window.since, window.until) for row in _owners_of(rows)]
            rows = rows.filter(pa.array(shown, pa.bool_()))
            note.rows = rows.num_rows
        return Answer(
            rows=rows, cut=False, window=window, coverage=(), files=0, seconds=time.monotonic() - began, source="configuration history"
        )

    def configuration_coverage(
        self, principal: Principal, at: datetime, *, clusters: Sequence[str] = (), recorded: datetime | None = None
    ) -> list[KindCoverage]:
        """What of each visible cluster's configuration was known at a time, by kind.

        The detail names files and objects of any namespace, so it is empty for who does not see the cluster whole.
        Raises AccessDeniedError, LakeError.
        """
        with self._noted(principal, "configuration_coverage", Window(since=at, until=at), clusters=clusters) as (scope, _):
            found = coverage_at(self._lake, at, clusters=clusters or None, recorded=recorded)
            shown = [kind for kind in found if scope.sees_cluster(kind.cluster)]
            return [kind if scope.sees_whole(kind.cluster, at) else replace(kind, detail=None) for kind in shown]

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
        wanted = plain(wanted)
        self._check(principal, "pulse", wanted, rollup_questions.check_timeline)
        width = max(rollup_questions.MINUTE, bucket_width(wanted, buckets))
        asked, limits = rollup_questions.pulse(wanted, width), replace(limits, rows=1_000_000)
        return self._ask_rollup(principal, "pulse", TIMELINE_1M, asked, wanted, limits, by_hour=rollup_questions.is_by_hour(wanted, width))

    def namespaces(self, principal: Principal, wanted: FlowFilter, *, buckets: int = BUCKETS, limits: Limits = _USUAL) -> Answer:
        """Flows from or to each namespace in parts of the window: `cluster`, `namespace`, `start`, `flows`, `denied`."""
        wanted = plain(wanted)
        self._check(principal, "namespaces", wanted, rollup_questions.check_timeline)
        width = max(rollup_questions.MINUTE, bucket_width(wanted, buckets))
        asked, limits = rollup_questions.namespaces(wanted, width), replace(limits, rows=1_000_000)
        return self._ask_rollup(
            principal, "namespaces", TIMELINE_1M, asked, wanted, limits, by_hour=rollup_questions.is_by_hour(wanted, width)
        )

    def edges_in_time(
        self, principal: Principal, wanted: FlowFilter, *, scope: EdgeScope = EdgeScope.WORKLOAD, limits: Limits = _USUAL
    ) -> Answer:
        """Who talks to whom by port, hour by hour, most flows first; see rollup_questions.edges_in_time. Raises QueryError as `edges`."""
        wanted = plain(wanted)
        self._check(principal, "edges_in_time", wanted, rollup_questions.check_edges)
        return self._ask_rollup(principal, "edges_in_time", EDGES_1H, rollup_questions.edges_in_time(wanted, scope), wanted, limits)


def _check_columns(names: Sequence[str]) -> None:
    for name in names:
        if name not in FLOWS.schema.names:
            close = difflib.get_close_matches(name, FLOWS.schema.names, n=1)
            raise QueryError(f"flows has no column {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))


def _owners_of(rows: pa.Table) -> list[dict[str, Any]]:
    """What of versions says who may see them."""
    told: list[dict[str, Any]] = rows.select(["cluster", "kind", "namespace", "name", "valid_from", "valid_to"]).to_pylist()
    return told
