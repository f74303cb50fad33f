"""Questions about who talks to whom, counting each connection once however many nodes reported it (see docs/counting.md).

The source is the side that opened the connection. Only filter conditions that edges_1h can apply are accepted.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from warehouse.engine import Limits, Window
from warehouse.questions import inferred_names, rollup_filter
from warehouse.questions.flow_filter import FlowFilter, plain
from warehouse.questions.question import FEW, USUAL
from warehouse.questions.rollup_table import BEFORE, RollupQuestion
from warehouse.schema import DNS_NAMES, EDGES_1H

PORTS_SHOWN = 10
_SIDES = ("source", "destination")


class EdgeScope(StrEnum):
    """What the ends of an edge stand for."""

    CLUSTER = "cluster"
    NAMESPACE = "namespace"
    WORKLOAD = "workload"


_ENDS = {
    EdgeScope.CLUSTER: ("cluster_name", "entity"),
    EdgeScope.NAMESPACE: ("cluster_name", "namespace", "entity"),
    EdgeScope.WORKLOAD: ("cluster_name", "namespace", "workload_name", "entity", "dns_name", "cidr"),
}


def edges(wanted: FlowFilter, *, scope: EdgeScope = EdgeScope.WORKLOAD, limits: Limits = USUAL) -> RollupQuestion:
    """Return who talks to whom, most flows first.

    Columns: `cluster`, both ends (`source_` and `destination_` with the parts of the scope), `flows`, `flows_once`, `forwarded`,
    `dropped`, `audited`, `flows_at_source`, `flows_at_destination`, `observers`, `drop_reasons`, `first_seen` and `last_seen`
    (within the window), `ports` (the busiest), `port_count`; at the scope of workloads also `_workload_kind` and
    `_names_inferred` of both ends.
    """
    wanted = plain(wanted)
    sql, values = _edges(wanted, scope)
    return _question("edges", wanted, sql, values, scope, limits)


def new_edges(wanted: FlowFilter, before: Window, *, scope: EdgeScope = EdgeScope.WORKLOAD, limits: Limits = USUAL) -> RollupQuestion:
    """Return the edges of the window that are absent from the window `before` (with both bounds), in order of appearance."""
    wanted = plain(wanted)
    now, values = _edges(wanted, scope)
    met, more = _met(wanted, BEFORE)
    names = ["cluster", *(f"{side}_{part}" for side in _SIDES for part in _ENDS[scope])]
    on = " AND ".join(f"old.{name} IS NOT DISTINCT FROM now.{name}" for name in names)
    sql = f"""SELECT * FROM ({now}) AS now
        WHERE NOT EXISTS (SELECT 1 FROM (SELECT DISTINCT {", ".join(names)} FROM ({met})) AS old WHERE {on})
        ORDER BY first_seen, {", ".join(names)}"""
    return _question("new_edges", wanted, sql, [*values, *more], scope, limits, before=before)


def talkers(wanted: FlowFilter, *, scope: EdgeScope = EdgeScope.WORKLOAD, limits: Limits = FEW) -> RollupQuestion:
    """Rank ends by traffic, most first: `flows_once`, split into `as_client` and `as_server`, and `dropped`."""
    wanted = plain(wanted)
    met, values = _met(wanted, rollup_filter.EDGES)
    parts = ", ".join(_ENDS[scope])
    sides = " UNION ALL ".join(
        f"""SELECT cluster, {", ".join(f"{side}_{part} AS {part}" for part in _ENDS[scope])}, flows_once, verdict,
            {("flows_once", "0")[side != "source"]} AS as_client, {("0", "flows_once")[side != "source"]} AS as_server FROM met"""
        for side in _SIDES
    )
    sql = f"""WITH met AS ({met}) SELECT cluster, {parts}, sum(flows_once)::BIGINT AS flows_once,
            sum(as_client)::BIGINT AS as_client, sum(as_server)::BIGINT AS as_server,
            coalesce(sum(flows_once) FILTER (verdict = 'DROPPED'), 0)::BIGINT AS dropped
        FROM ({sides}) GROUP BY ALL ORDER BY flows_once DESC, cluster, {parts}"""
    refusal = rollup_filter.edges_refusal(wanted)
    return RollupQuestion(name="talkers", source=EDGES_1H, wanted=wanted, sql=sql, values=tuple(values), limits=limits, refusal=refusal)


def names(wanted: FlowFilter, *, limits: Limits = USUAL) -> RollupQuestion:
    """Return which DNS names each address had, and when; for all addresses if the filter names none.

    Columns: `cluster`, `ip`, `name`, `first_seen`, `last_seen`, `flows`, `learned_from`; `inferred` is true in every row,
    because the name is assumed not to have changed between two sightings.
    """
    sql, values = inferred_names.intervals(wanted)
    return RollupQuestion(name="names", source=DNS_NAMES, wanted=wanted, sql=sql, values=tuple(values), limits=limits)


def _question(
    name: str, wanted: FlowFilter, sql: str, values: list[Any], scope: EdgeScope, limits: Limits, before: Window | None = None
) -> RollupQuestion:
    return RollupQuestion(
        name=name,
        source=EDGES_1H,
        wanted=wanted,
        sql=sql,
        values=tuple(values),
        limits=limits,
        refusal=rollup_filter.edges_refusal(wanted),
        before=before,
        infers_names=scope is EdgeScope.WORKLOAD,
    )


def _edges(wanted: FlowFilter, scope: EdgeScope) -> tuple[str, list[Any]]:
    met, values = _met(wanted, rollup_filter.EDGES)
    ends = [f"{side}_{part}" for side in _SIDES for part in _ENDS[scope]]
    key = ", ".join(["cluster", *ends])
    on = " AND ".join(f"edges.{name} IS NOT DISTINCT FROM ports.{name}" for name in ["cluster", *ends])
    kinds = "" if scope is not EdgeScope.WORKLOAD else "".join(f"max({side}_workload_kind) AS {side}_workload_kind, " for side in _SIDES)
    counted = ", ".join(
        f"coalesce(sum(flows_once) FILTER (verdict IN ({verdicts})), 0)::BIGINT AS {name}"
        for name, verdicts in (("forwarded", "'FORWARDED', 'REDIRECTED'"), ("dropped", "'DROPPED'"), ("audited", "'AUDIT'"))
    )
    sql = f"""WITH met AS ({met}), edges AS (
            SELECT {key}, {kinds} sum(flows)::BIGINT AS flows, sum(flows_once)::BIGINT AS flows_once, {counted},
                sum(at_source)::BIGINT AS flows_at_source, sum(at_destination)::BIGINT AS flows_at_destination,
                (sum(at_source) > 0)::INTEGER + (sum(at_destination) > 0)::INTEGER AS observers,
                list_sort(list(DISTINCT drop_reason_desc) FILTER (drop_reason_desc IS NOT NULL)) AS drop_reasons,
                min(first_seen) AS first_seen, max(last_seen) AS last_seen
            FROM met GROUP BY ALL
        ), ports AS (
            SELECT {key}, list(port ORDER BY flows DESC, port)[1:{PORTS_SHOWN}] AS ports, count(*) AS port_count FROM (
                SELECT {key}, concat_ws('/', destination_port, l4_protocol) AS port, sum(flows_once) AS flows
                FROM met WHERE destination_port IS NOT NULL GROUP BY ALL
            ) GROUP BY ALL
        )
        SELECT edges.*, ports.ports, coalesce(ports.port_count, 0) AS port_count FROM edges LEFT JOIN ports ON {on}
        ORDER BY flows_once DESC, {", ".join("edges." + name for name in ["cluster", *ends])}"""
    return sql, values


def _met(wanted: FlowFilter, relation: str) -> tuple[str, list[Any]]:
    """Merge both reports of a connection into one row.

    `flows_once` is the greater of the two counts, plus flows whose direction (and so the reporting end) is unknown.
    """
    rows, values = rollup_filter.rows(relation, wanted)
    ends = ", ".join(f"{side}_{part}" for side in _SIDES for part in _ENDS[EdgeScope.WORKLOAD])

    def at(direction: str) -> str:
        return f"coalesce(sum(flows - repeats) FILTER (traffic_direction {direction}), 0)"

    sql = f"""SELECT cluster, hour, {ends}, destination_port, l4_protocol, verdict, drop_reason_desc,
            max(source_workload_kind) AS source_workload_kind, max(destination_workload_kind) AS destination_workload_kind,
            sum(flows) AS flows, {at("= 'EGRESS'")} AS at_source, {at("= 'INGRESS'")} AS at_destination,
            greatest(at_source, at_destination) + {at("IS NULL OR traffic_direction NOT IN ('EGRESS', 'INGRESS')")} AS flows_once,
            min(first_seen) AS first_seen, max(last_seen) AS last_seen
        FROM ({rows}) GROUP BY ALL"""
    return sql, values
