"""Who talks to whom by port, in parts of the window: from edges_1h where it keeps what is asked for, else from the flows."""

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
_KEYS = "cluster, source_namespace, source_name, destination_namespace, destination_name, port, protocol"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BUCKETS = 24
"""Parts of the window in which an edge's flows are counted."""


def edges_in_time(wanted: FlowFilter, *, level: Level = "workload", limits: Limits = MOST_EDGES) -> FilteredQuestion:
    """Who talks to whom, most flows first, with how many flows there were in parts of the window.

    Columns: `cluster`; for both ends `_namespace` (null outside; at the level of clusters the cluster) and `_name` (null above
    workloads, or where it is hidden); `port`, `protocol` (null above workloads); `flows`, `denied`, `audited` as reported;
    `reason`, the commonest of drops; `first`, `last`, `first_denied` (within the window); `bucket_starts`, `bucket_flows`.

    With conditions that edges_1h does not keep, and for pods, the flows themselves are asked, and the parts of time are finer.
    """
    wanted = plain(wanted)
    if level != "pod" and wanted.as_of is None and rollup_filter.edges_refusal(wanted) is None:
        return _of_hours(wanted, level, limits)
    return _of_flows(wanted, level, limits)


def first_and_last_seen(wanted: FlowFilter, *, level: Level = "workload", limits: Limits = MOST_EDGES) -> RollupQuestion:
    """When edges were first and last seen in all that is recorded: in hours that are rolled up, until the end of the filter's window.

    The window of `edges_in_time` gives no more than the first and the last time within it. Columns: `cluster`, both ends and the
    port as there; `first`, `last`. The filter's `since` does not matter. Refused for conditions that edges_1h does not keep, and pods.
    """
    wanted = replace(plain(wanted), since=_EPOCH)
    rows, values = rollup_filter.rows(rollup_filter.EDGES, wanted)
    named = f"SELECT cluster, {_ends(level)}, {_port(level, 'destination_port')}, first_seen, last_seen FROM ({rows})"
    sql = f"SELECT {_KEYS}, min(first_seen) AS first, max(last_seen) AS last FROM ({named}) GROUP BY ALL ORDER BY ALL"
    refusal = "edges are not kept by pods" if level == "pod" else rollup_filter.edges_refusal(wanted)
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


def _of_hours(wanted: FlowFilter, level: Level, limits: Limits) -> RollupQuestion:
    rows, values = rollup_filter.rows(rollup_filter.EDGES, wanted)
    named = f"""SELECT cluster, {_ends(level)}, {_port(level, "destination_port")}, hour AS bucket, verdict, drop_reason_desc, flows,
            first_seen AS first, last_seen AS last
        FROM ({rows})"""
    return RollupQuestion(name="edges_in_time", source=EDGES_1H, wanted=wanted, sql=_summed(named), values=tuple(values), limits=limits)


def _of_flows(wanted: FlowFilter, level: Level, limits: Limits) -> FlowQuestion:
    own = ("workload_name", "pod_name") if level in ("workload", "pod") else ("pod_name",)
    # Summed up by columns as they are stored first, so that naming sees thousands of rows, not millions.
    stored = ", ".join(
        f"""{side}_namespace, {", ".join(f"{side}_{part}" for part in own)},
                CASE WHEN {scoping.is_local(FLOWS, side)} THEN NULL ELSE {side}_cluster_name END AS {side}_cluster_name,
                {edge_rule.dns_name(side)} AS {side}_dns_name, {edge_rule.entity(side)} AS {side}_entity"""
        for side in SIDES
    )
    named = f"""SELECT cluster, {_ends(level)}, {_port(level, "server_port")}, bucket, verdict, drop_reason_desc, flows, first, last
        FROM (
            SELECT cluster, verdict, drop_reason_desc, time_bucket(?, "time") AS bucket, {stored}, server_port, l4_protocol,
                coalesce(sum(flow_count), 0) AS flows, min("time") AS first, max("time") AS last
            FROM {CONNECTIONS} GROUP BY ALL
        )"""
    if wanted.ports:  # an edge's port is that of the service
        port = Condition(field="port", operator="=", values=tuple(map(str, wanted.ports)), side="destination")
        wanted = replace(wanted, ports=(), conditions=(*wanted.conditions, port))
    return FlowQuestion(
        name="edges_in_time",
        wanted=wanted,
        sql=_summed(named),
        values=(bucket_width(wanted, BUCKETS),),
        limits=limits,
        connections=True,
        resolves_workloads=level in ("workload", "pod"),
    )


def _ends(level: Level) -> str:
    """Both ends' `_namespace` and `_name` of rows with the parts of ends that a level needs."""
    return ", ".join(f"{_home(side, level)} AS {side}_namespace, {_name(side, level)} AS {side}_name" for side in SIDES)


def _home(side: str, level: Level) -> str:
    """The namespace of an end; at the level of clusters its cluster, and null outside."""
    home = f"coalesce({side}_cluster_name, cluster)" if level == "cluster" else f"{side}_namespace"
    return f"CASE WHEN {side}_namespace IS NOT NULL THEN {home} END"


def _name(side: str, level: Level) -> str:
    """What an end is called: outside its DNS name (where the level names single ends) or its entity, else its workload or pod."""
    own = {"workload": f"{side}_workload_name", "pod": f"coalesce({side}_pod_name, {side}_workload_name)"}.get(level, "NULL")
    dns_name = f"rtrim({side}_dns_name, '.')" if level in ("workload", "pod") else "NULL"
    return f"CASE WHEN {side}_namespace IS NULL THEN coalesce({dns_name}, {side}_entity, 'unknown') ELSE {own} END"


def _port(level: Level, port: str) -> str:
    shown = level in ("workload", "pod")
    return f"{port if shown else 'NULL::INTEGER'} AS port, {'l4_protocol' if shown else 'NULL::VARCHAR'} AS protocol"


def _summed(named: str) -> str:
    """The query for edges, from one for the parts of edges."""
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
