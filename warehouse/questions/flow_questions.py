"""Questions that need the flows themselves, asked through the door: edges under any condition, completions, one whole flow.

Each is a function of a door, a principal and a filter, and gives an Answer. What a person may see is the door's to decide;
drawing is others' work.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from warehouse.access.principals import Principal
from warehouse.engine import Limits
from warehouse.questions.answers import Answer
from warehouse.questions.asking import ASKED
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter, bucket_width, plain
from warehouse.questions.rollup_questions import DENIED, EdgeScope
from warehouse.schema import FLOWS

Level = Literal["cluster", "namespace", "workload", "pod"]
LEVELS: tuple[Level, ...] = ("cluster", "namespace", "workload", "pod")
EDGES = Limits(rows=5_000)
OFFERED = Limits(rows=2_000)
BUCKETS = 24
"""Parts of the window in which an edge's flows are counted."""

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


def edges(door: Door, principal: Principal, wanted: FlowFilter, *, level: Level = "workload", limits: Limits = EDGES) -> Answer:
    """Who talks to whom, most flows first, with the columns of `questions.edges_in_time`: from the rollup where it can answer.

    With conditions that it does not keep, and for pods, the flows themselves are asked, and the parts of time are finer.
    """
    wanted = plain(wanted)
    if level != "pod" and not (wanted.conditions or wanted.pods or wanted.ips or wanted.nodes):
        return door.edges_in_time(principal, wanted, scope=EdgeScope(level), limits=limits)
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
            FROM {ASKED} GROUP BY ALL
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
    return door.ask(principal, "edges", sql, [width], wanted, limits)


COMPLETED: dict[str, str] = {
    "ns": "unnest(list_distinct([source_namespace, destination_namespace]))",
    "workload": "unnest(list_distinct([source_workload_name, destination_workload_name]))",
    "port": "destination_port::VARCHAR",
    "reason": "drop_reason_desc",
    "cluster": "cluster",
    "node": "node_name",
    "protocol": "l4_protocol",
    "direction": "traffic_direction",
    "name": "unnest(list_concat(source_names, destination_names))",
    "method": "l7_http_method",
    "code": "l7_http_code::VARCHAR",
    "dns": "l7_dns_query",
    "pod": "unnest(list_distinct([source_pod_name, destination_pod_name]))",
}
"""Fields of a filter whose values are offered, and where they come from."""


def completions(door: Door, principal: Principal, wanted: FlowFilter, *, each: int = 25, limits: Limits = OFFERED) -> Answer:
    """The commonest values of fields in the window, to be offered while one types: columns `field`, `value`, `flows`."""
    picked = [f"SELECT '{field}' AS field, {source} AS value, flow_count FROM asked" for field, source in COMPLETED.items()]
    needed = ("source_namespace", "destination_namespace", "source_workload_name", "destination_workload_name", "destination_port",
        "drop_reason_desc", "cluster", "node_name", "l4_protocol", "traffic_direction", "source_names", "destination_names",
        "l7_http_method", "l7_http_code", "l7_dns_query", "source_pod_name", "destination_pod_name")  # fmt: skip
    sql = f"""
        WITH asked AS MATERIALIZED (SELECT {", ".join(needed)}, sum(flow_count) AS flow_count FROM {ASKED} GROUP BY ALL),
        counted AS (SELECT field, value, sum(flow_count)::BIGINT AS flows FROM ({" UNION ALL ".join(picked)})
            WHERE value IS NOT NULL GROUP BY ALL)
        SELECT field, value, flows FROM counted
        QUALIFY row_number() OVER (PARTITION BY field ORDER BY flows DESC, value) <= {int(each)} ORDER BY field, flows DESC, value"""
    return door.ask(principal, "completions", sql, (), wanted, limits)


def one_flow(door: Door, principal: Principal, *, cluster: str, uuid: str, at: datetime, until: datetime) -> Answer:
    """Every column of a flow that is known by its uuid and, to the window, its time; no row if the principal may not see it."""
    names = ", ".join(f'"{name}"' for name in FLOWS.schema.names)
    wanted = FlowFilter(since=at, until=until, clusters=(cluster,))
    return door.ask(principal, "one_flow", f"SELECT {names} FROM {ASKED} WHERE uuid = ?", [uuid], wanted, Limits(rows=1))


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
