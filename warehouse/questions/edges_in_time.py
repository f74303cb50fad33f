"""Who talks to whom by port, in parts of the window: from edges_1h where it keeps what is asked for, else from the flows."""

from __future__ import annotations

from typing import Literal

from warehouse.engine import Limits
from warehouse.questions import rollup_filter
from warehouse.questions.count_questions import DENIED
from warehouse.questions.edge_questions import EdgeScope
from warehouse.questions.flow_filter import FlowFilter, bucket_width, plain
from warehouse.questions.flow_table import MATCHING, FilteredQuestion, FlowQuestion
from warehouse.questions.rollup_table import RollupQuestion
from warehouse.schema import EDGES_1H

Level = Literal["cluster", "namespace", "workload", "pod"]
LEVELS: tuple[Level, ...] = ("cluster", "namespace", "workload", "pod")
MOST_EDGES = Limits(rows=5_000)
BUCKETS = 24
"""Parts of the window in which an edge's flows are counted."""
_SIDES = ("source", "destination")

RESERVED = {1: "host", 2: "world", 3: "unmanaged", 4: "health", 5: "init", 6: "remote-node", 7: "kube-apiserver", 8: "ingress",
    9: "world-ipv4", 10: "world-ipv6"}  # fmt: skip
"""Cilium's reserved identities; those of address ranges outside are the world's too."""

# A reply's source is the one that was called: an edge leads from who calls to who is called, so replies are turned round.
_ONE = "CASE WHEN is_reply IS TRUE THEN {other} ELSE {this} END"
_WORKLOADS = """workloads AS (SELECT cluster, namespace, pod, any_value(workload) AS workload FROM (
            SELECT cluster, source_namespace AS namespace, source_pod_name AS pod, source_workload_name AS workload FROM asked
            UNION ALL
            SELECT cluster, destination_namespace, destination_pod_name, destination_workload_name FROM asked
        ) WHERE workload IS NOT NULL AND pod IS NOT NULL GROUP BY ALL), """


def edges_in_time(wanted: FlowFilter, *, level: Level = "workload", limits: Limits = MOST_EDGES) -> FilteredQuestion:
    """Who talks to whom, most flows first, with how many flows there were in parts of the window.

    Columns: `cluster`; for both ends `_namespace` (null outside; at the level of clusters the cluster) and `_name` (null above
    workloads, or where it is hidden); `port`, `protocol` (null above workloads); `flows`, `denied`, `audited` as reported;
    `reason`, the commonest of drops; `first`, `last`, `first_denied` (within the window); `bucket_starts`, `bucket_flows`.

    With conditions that edges_1h does not keep, and for pods, the flows themselves are asked, and the parts of time are finer.
    """
    wanted = plain(wanted)
    if level != "pod" and wanted.as_of is None and rollup_filter.edges_refusal(wanted) is None:
        return _of_hours(wanted, EdgeScope(level), limits)
    return _of_flows(wanted, level, limits)


def _of_hours(wanted: FlowFilter, scope: EdgeScope, limits: Limits) -> RollupQuestion:
    rows, values = rollup_filter.rows(rollup_filter.EDGES, wanted)
    detail = scope is EdgeScope.WORKLOAD
    named = []
    for side in _SIDES:
        outside = f"coalesce({side}_dns_name, {side}_entity, 'unknown')" if detail else f"coalesce({side}_entity, 'unknown')"
        own = f"{side}_workload_name" if detail else "NULL"
        home = f"coalesce({side}_cluster_name, cluster)" if scope is EdgeScope.CLUSTER else f"{side}_namespace"
        named.append(f"CASE WHEN {side}_namespace IS NOT NULL THEN {home} END AS {side}_namespace")
        named.append(f"CASE WHEN {side}_namespace IS NULL THEN {outside} ELSE {own} END AS {side}_name")
    keys = "cluster, source_namespace, source_name, destination_namespace, destination_name, port, protocol"
    sql = f"""WITH named AS (
            SELECT cluster, {", ".join(named)}, {"destination_port" if detail else "NULL::INTEGER"} AS port,
                {"l4_protocol" if detail else "NULL::VARCHAR"} AS protocol, hour, verdict, drop_reason_desc, flows, first_seen, last_seen
            FROM ({rows})
        ), hours AS (
            SELECT {keys}, hour, sum(flows) AS flows, coalesce(sum(flows) FILTER ({DENIED}), 0) AS denied,
                coalesce(sum(flows) FILTER (verdict = 'AUDIT'), 0) AS audited, arg_max(drop_reason_desc, flows) AS reason,
                min(first_seen) AS first, max(last_seen) AS last, min(first_seen) FILTER ({DENIED}) AS first_denied
            FROM named GROUP BY ALL
        )
        SELECT {keys}, sum(flows)::BIGINT AS flows, sum(denied)::BIGINT AS denied, sum(audited)::BIGINT AS audited,
            arg_max(reason, denied) AS reason, min(first) AS first, max(last) AS last, min(first_denied) AS first_denied,
            list(hour ORDER BY hour) AS bucket_starts, list(flows::BIGINT ORDER BY hour) AS bucket_flows
        FROM hours GROUP BY {keys} ORDER BY flows DESC, {keys}"""
    return RollupQuestion(name="edges_in_time", source=EDGES_1H, wanted=wanted, sql=sql, values=tuple(values), limits=limits)


def _of_flows(wanted: FlowFilter, level: Level, limits: Limits) -> FlowQuestion:
    width = bucket_width(wanted, BUCKETS)
    keys = "cluster, source_namespace, source_name, destination_namespace, destination_name, port, protocol"
    detail = level in ("workload", "pod")
    parts = ["namespace", "cluster_name"] + (["workload_name", "pod_name"] if detail else [])
    # Grouped twice: first by columns as they are stored, so that naming and joining see thousands of rows, not millions.
    sql = f"""
        WITH asked AS MATERIALIZED (
            SELECT cluster, verdict, drop_reason_desc, time_bucket(?, "time") AS bucket,
                {", ".join(_turned(part) for part in parts)}, {_outside_columns(level)},
                {_ONE.format(this="destination_port", other="source_port") if detail else "NULL::INTEGER"} AS port,
                {"l4_protocol" if detail else "NULL::VARCHAR"} AS protocol,
                sum(flow_count) AS flows, min("time") AS first, max("time") AS last
            FROM {MATCHING} GROUP BY ALL
        ), {_WORKLOADS if detail else ""}named AS ({_named(level)}), parts AS (
            SELECT {keys}, bucket, sum(flows) AS flows, coalesce(sum(flows) FILTER ({DENIED}), 0) AS denied,
                coalesce(sum(flows) FILTER (verdict = 'AUDIT'), 0) AS audited, arg_max(drop_reason_desc, flows) AS reason,
                min(first) AS first, max(last) AS last, min(first) FILTER ({DENIED}) AS first_denied
            FROM named GROUP BY ALL
        )
        SELECT {keys}, sum(flows)::BIGINT AS flows, sum(denied)::BIGINT AS denied, sum(audited)::BIGINT AS audited,
            arg_max(reason, denied) AS reason, min(first) AS first, max(last) AS last, min(first_denied) AS first_denied,
            list(bucket ORDER BY bucket) AS bucket_starts, list(flows::BIGINT ORDER BY bucket) AS bucket_flows
        FROM parts GROUP BY {keys} ORDER BY flows DESC, {keys}"""
    return FlowQuestion(name="edges_in_time", wanted=wanted, sql=sql, values=(width,), limits=limits)


def _turned(name: str) -> str:
    """A column of both ends, exchanged in replies."""
    source, destination = f"source_{name}", f"destination_{name}"
    return f"{_ONE.format(this=source, other=destination)} AS {source}, {_ONE.format(this=destination, other=source)} AS {destination}"


def _outside_columns(level: Level) -> str:
    """What an end without a namespace is called: its DNS name where names are asked for, else its reserved identity."""
    written = {}
    for side in ("source", "destination"):
        known = " ".join(f"WHEN {number} THEN '{entity}'" for number, entity in RESERVED.items())
        entity = f"CASE {side}_identity {known} ELSE CASE WHEN {side}_identity IS NULL THEN 'unknown' ELSE 'world' END END"
        name = f"coalesce({side}_names[1], {entity})" if level in ("workload", "pod") else entity
        written[side] = f"CASE WHEN {side}_namespace IS NULL THEN {name} END"
    return ", ".join(
        f"{_ONE.format(this=written[side], other=written[other])} AS {side}_outside"
        for side, other in (("source", "destination"), ("destination", "source"))
    )


def _named(level: Level) -> str:
    """The query over `asked` that gives each end its namespace and name at a level."""
    if level == "cluster":
        ends = ", ".join(
            f"CASE WHEN {side}_namespace IS NULL THEN NULL ELSE coalesce({side}_cluster_name, cluster) END AS {side}_namespace, "
            f"{side}_outside AS {side}_name"
            for side in ("source", "destination")
        )
        return f"SELECT * EXCLUDE (source_namespace, destination_namespace), {ends} FROM asked"
    if level == "namespace":
        return "SELECT *, source_outside AS source_name, destination_outside AS destination_name FROM asked"
    resolved = {side: f"coalesce({side}_workload_name, {side[0]}w.workload, {side}_pod_name)" for side in ("source", "destination")}
    own = {side: f"coalesce({side}_pod_name, {name})" if level == "pod" else name for side, name in resolved.items()}
    # An agent knows the workload of its own node's pods alone: the other end's is learned from what its node saw.
    return f"""
            SELECT asked.*, coalesce(source_outside, {own["source"]}) AS source_name,
                coalesce(destination_outside, {own["destination"]}) AS destination_name
            FROM asked
            LEFT JOIN workloads sw ON sw.cluster = asked.cluster AND sw.namespace = source_namespace AND sw.pod = source_pod_name
            LEFT JOIN workloads dw ON dw.cluster = asked.cluster AND dw.namespace = destination_namespace
                AND dw.pod = destination_pod_name
        """
