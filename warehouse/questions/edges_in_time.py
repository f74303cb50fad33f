"""Who talks to whom by port, per time bucket: read from edges_1h if it has the required columns, otherwise from the flows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from warehouse.access import scoping
from warehouse.engine import Limits
from warehouse.questions import edge_rule, rollup_filter
from warehouse.questions.conditions import Condition
from warehouse.questions.count_questions import DENIED
from warehouse.questions.edge_rule import SIDES
from warehouse.questions.flow_filter import FlowFilter, bucket_width, plain
from warehouse.questions.flow_table import CONNECTIONS, FilteredQuestion, FlowQuestion
from warehouse.questions.rollup_table import RollupQuestion
from warehouse.schema import EDGES_1H, FLOWS

Level = Literal["cluster", "namespace", "workload", "pod"]
LEVELS: tuple[Level, ...] = ("cluster", "namespace", "workload", "pod")
MOST_EDGES = Limits(rows=5_000)
KEYS = ("cluster", "source_namespace", "source_name", "destination_namespace", "destination_name", "port", "protocol")
"""Columns that make rows one edge."""
_KEYS = ", ".join(KEYS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BUCKETS = 24
"""The number of time buckets in which an edge's flows are counted."""


def edges_in_time(
    wanted: FlowFilter, *, level: Level = "workload", limits: Limits = MOST_EDGES, of_moments: bool = False
) -> FilteredQuestion:
    """Return who talks to whom, most flows first, with the number of flows per time bucket.

    Columns: `cluster`; for both ends `_namespace` (null outside; at cluster level the cluster) and `_name` (null above workload
    level, or where it is hidden); `port`, `protocol` (null above workload level); `flows`, `denied`, `audited` as reported;
    `reason`, the most common drop reason; `first`, `last`, `first_denied` (within the window); `bucket_starts`, `bucket_flows`.

    For pods, and for conditions on columns that edges_1h does not have, the flows themselves are read and the buckets are finer; also as of
    a moment, unless `of_moments` lets rollups answer that hold exactly what the lake knew then.
    """
    wanted = plain(wanted)
    is_stored = rollup_filter.is_of_rollups(wanted, of_moments=of_moments) and rollup_filter.edges_refusal(wanted) is None
    if level != "pod" and is_stored:
        return _of_hours(wanted, level, limits)
    return _of_flows(wanted, level, limits)


def first_and_last_seen(wanted: FlowFilter, *, level: Level = "workload", limits: Limits = MOST_EDGES) -> RollupQuestion:
    """Return when edges were first and last seen in all recorded time up to the end of the filter's window, in rolled-up hours only.

    `edges_in_time` returns only the first and last time within its window. Columns: `cluster`, both ends and the port as there;
    `first`, `last`. The filter's `since` is ignored. Pods, and conditions on columns that edges_1h does not have, are refused.
    """
    wanted = replace(plain(wanted), since=_EPOCH)
    rows, values = rollup_filter.rows(rollup_filter.EDGES, wanted)
    named = f"SELECT {named_hours(level)}, first_seen, last_seen FROM ({rows})"
    sql = f"SELECT {_KEYS}, min(first_seen) AS first, max(last_seen) AS last FROM ({named}) GROUP BY ALL ORDER BY ALL"
    refusal = (
        "edges are not stored per pod: choose workloads, namespaces or clusters" if level == "pod" else rollup_filter.edges_refusal(wanted)
    )
    return RollupQuestion(
        name="first_and_last_seen",
        source=EDGES_1H,
        wanted=wanted,
        sql=sql,
        values=tuple(values),
        limits=limits,
        refusal=refusal,
        stored_only=True,
    )


def denials(wanted: FlowFilter, *, limits: Limits = MOST_EDGES) -> FlowQuestion:
    """Return the edges between workloads that were denied, by drop reason, most flows first; read from the flows.

    Columns: `cluster`, both ends and the port as in `edges_in_time`; `reason` (null at L7), `flows`, `first`, `last`.
    """
    wanted = plain(wanted)
    sql = f"""SELECT {_KEYS}, drop_reason_desc AS reason, sum(flows)::BIGINT AS flows, min(first) AS first, max(last) AS last
        FROM ({_named_flows("workload")}) WHERE {DENIED} GROUP BY ALL ORDER BY flows DESC, {_KEYS}, reason"""
    return _connections("denials", wanted, "workload", sql, limits)


def named(level: Level) -> str:
    """Return the SQL columns KEYS, for rows that have the columns of flows which the level needs, and `server_port`."""
    return f"cluster, {_ends(level)}, {_port(level, 'server_port')}"


def named_hours(level: Level = "workload") -> str:
    """Return the SQL columns KEYS, for rows of edges_1h."""
    return f"cluster, {_ends(level)}, {_port(level, 'destination_port')}"


def _of_hours(wanted: FlowFilter, level: Level, limits: Limits) -> RollupQuestion:
    rows, values = rollup_filter.rows(rollup_filter.EDGES, wanted)
    named = f"""SELECT {named_hours(level)}, hour AS bucket, verdict, drop_reason_desc, flows,
            first_seen AS first, last_seen AS last
        FROM ({rows})"""
    return RollupQuestion(
        name="edges_in_time", source=EDGES_1H, wanted=wanted, sql=_summed(named), values=tuple(values), limits=limits, of_moments=True
    )


def _of_flows(wanted: FlowFilter, level: Level, limits: Limits) -> FlowQuestion:
    return _connections("edges_in_time", wanted, level, _summed(_named_flows(level)), limits)


def _named_flows(level: Level) -> str:
    """Return the query for the flows of connections with named ends, counted by time bucket; its placeholder is a bucket's width."""
    own = ("workload_name", "pod_name") if level in ("workload", "pod") else ("pod_name",)
    # Aggregate by the stored columns first, so that names are worked out for thousands of rows rather than millions.
    stored = ", ".join(
        f"""{side}_namespace, {", ".join(f"{side}_{part}" for part in own)},
                CASE WHEN {scoping.is_local(FLOWS, side)} THEN NULL ELSE {side}_cluster_name END AS {side}_cluster_name,
                {edge_rule.dns_name(side)} AS {side}_dns_name, {edge_rule.entity(side)} AS {side}_entity"""
        for side in SIDES
    )
    return f"""SELECT {named(level)}, bucket, verdict, drop_reason_desc, flows, first, last
        FROM (
            SELECT cluster, verdict, drop_reason_desc, time_bucket(?, "time") AS bucket, {stored}, server_port, l4_protocol,
                coalesce(sum(flow_count), 0) AS flows, min("time") AS first, max("time") AS last
            FROM {CONNECTIONS} GROUP BY ALL
        )"""


def _connections(name: str, wanted: FlowFilter, level: Level, sql: str, limits: Limits) -> FlowQuestion:
    if wanted.ports:  # the port of an edge is the service's
        port = Condition(field="port", operator="=", values=tuple(map(str, wanted.ports)), side="destination")
        wanted = replace(wanted, ports=(), conditions=(*wanted.conditions, port))
    return FlowQuestion(
        name=name,
        wanted=wanted,
        sql=sql,
        values=(bucket_width(wanted, BUCKETS),),
        limits=limits,
        connections=True,
        resolves_workloads=level in ("workload", "pod"),
    )


def _ends(level: Level) -> str:
    """SQL columns `_namespace` and `_name` of both ends, for rows that have the columns which the level needs."""
    return ", ".join(f"{_home(side, level)} AS {side}_namespace, {_name(side, level)} AS {side}_name" for side in SIDES)


def _home(side: str, level: Level) -> str:
    """SQL for the namespace of an end; at cluster level its cluster; null outside."""
    home = f"coalesce({side}_cluster_name, cluster)" if level == "cluster" else f"{side}_namespace"
    return f"CASE WHEN {side}_namespace IS NOT NULL THEN {home} END"


def _name(side: str, level: Level) -> str:
    """SQL for the name of an end: outside, its DNS name (at workload and pod level) or entity; inside, its workload or pod."""
    own = {"workload": f"{side}_workload_name", "pod": f"coalesce({side}_pod_name, {side}_workload_name)"}.get(level, "NULL")
    dns_name = f"rtrim({side}_dns_name, '.')" if level in ("workload", "pod") else "NULL"
    return f"CASE WHEN {side}_namespace IS NULL THEN coalesce({dns_name}, {side}_entity, 'unknown') ELSE {own} END"


def _port(level: Level, port: str) -> str:
    shown = level in ("workload", "pod")
    return f"{port if shown else 'NULL::INTEGER'} AS port, {'l4_protocol' if shown else 'NULL::VARCHAR'} AS protocol"


def _summed(named: str) -> str:
    """Return the query for edges, given a query for the rows to be aggregated."""
    return f"""WITH named AS ({named}), parts AS (
            SELECT {_KEYS}, bucket, sum(flows) AS flows, coalesce(sum(flows) FILTER ({DENIED}), 0) AS denied,
                coalesce(sum(flows) FILTER (verdict = 'AUDIT'), 0) AS audited, arg_max(drop_reason_desc, flows) AS reason,
                min(first) AS first, max(last) AS last, min(first) FILTER ({DENIED}) AS first_denied
            FROM named GROUP BY ALL
        )
        SELECT {_KEYS}, sum(flows)::BIGINT AS flows, sum(denied)::BIGINT AS denied, sum(audited)::BIGINT AS audited,
            arg_max(reason, denied) AS reason, min(first) AS first, max(last) AS last, min(first_denied) AS first_denied,
            list(bucket ORDER BY bucket) AS bucket_starts, list(flows::BIGINT ORDER BY bucket) AS bucket_flows
        FROM parts GROUP BY {_KEYS} ORDER BY flows DESC, {_KEYS}"""
