"""Questions that rollups answer, as SQL over the views `visible_<rollup>`. Pure: asking, scoping and limits are the door's.

`flows_once` counts what happened, not who reported it; docs/counting.md has the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from warehouse.errors import QueryError
from warehouse.questions import rollup_notes, rollup_sql
from warehouse.schema import STRINGS, TIMELINE_1M

if TYPE_CHECKING:
    from warehouse import config
    from warehouse.questions.flow_filter import FlowFilter

WIDTHS = tuple(
    timedelta(seconds=seconds)
    for seconds in (
        1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800,
    )
)  # fmt: skip
"""What a part of a timeline may span: each begins at a round time, so that minutes add up to it."""
MINUTE = timedelta(minutes=1)
SEEN_WITHIN = timedelta(days=1)
"""Sightings of a name that are no further apart belong to one interval."""
LOOK_BACK = timedelta(days=7)
"""How long before a window a name may have been seen that still names a peer in it."""
PORTS_SHOWN = 10
KNOWN_NAMES = "SELECT DISTINCT cluster, ip, name FROM visible_dns_names WHERE ip IS NOT NULL AND name IS NOT NULL"
"""What `with_inferred_names` takes."""
DENIED = "verdict IN ('DROPPED', 'ERROR')"

Asked = tuple[str, list[Any]]


class EdgeScope(StrEnum):
    """What the ends of an edge are."""

    CLUSTER = "cluster"
    NAMESPACE = "namespace"
    WORKLOAD = "workload"


_ENDS = {
    EdgeScope.CLUSTER: ("cluster_name", "entity"),
    EdgeScope.NAMESPACE: ("cluster_name", "namespace", "entity"),
    EdgeScope.WORKLOAD: ("cluster_name", "namespace", "workload_name", "entity", "dns_name", "cidr"),
}
_SIDES = ("source", "destination")


def on_timeline(wanted: FlowFilter) -> bool:
    """Whether timeline_1m can answer for the filter."""
    return not (wanted.pods or wanted.ips or wanted.ports or wanted.nodes or wanted.conditions or wanted.as_of)


def is_by_hour(wanted: FlowFilter, width: timedelta = rollup_notes.HOUR) -> bool:
    """Whether parts of such a width can do with whole hours of edges_1h, whose source is who opened the connection: not who sent a flow."""
    return width >= rollup_notes.HOUR and not (wanted.source_namespaces or wanted.destination_namespaces)


def check_timeline(wanted: FlowFilter) -> None:
    """Raise QueryError for conditions that timeline_1m does not keep."""
    if not on_timeline(wanted):
        raise QueryError("minutes are kept by cluster, namespace, verdict and drop reason alone: leave other filters out")


def bucket_width(since: datetime, until: datetime, buckets: int) -> timedelta:
    """The least round width of which at most `buckets` (and one) span the window."""
    least = (until - since) / max(1, buckets)
    return next((width for width in WIDTHS if width >= least), WIDTHS[-1] * -(-least // WIDTHS[-1]))


def timeline(wanted: FlowFilter, width: timedelta) -> Asked:
    """Flows by verdict in parts of the window: `start`, `verdict`, `flows`, `repeats`."""
    rows, values = _rows("visible_timeline_1m", wanted)
    sql = f"""SELECT time_bucket(?, minute) AS start, verdict, sum(flows)::BIGINT AS flows, sum(repeats)::BIGINT AS repeats
        FROM ({rows}) GROUP BY ALL ORDER BY ALL"""
    return sql, [width, *values]


def pulse(wanted: FlowFilter, width: timedelta) -> Asked:
    """Flows by verdict and reason in parts of the window: `start`, `verdict`, `reason`, `flows`, `repeats`."""
    rows, values = _rows("visible_timeline_1m", wanted)
    sql = f"""SELECT time_bucket(?, minute) AS start, verdict, drop_reason_desc AS reason, sum(flows)::BIGINT AS flows,
            sum(repeats)::BIGINT AS repeats
        FROM ({rows}) GROUP BY ALL ORDER BY ALL"""
    return sql, [width, *values]


def namespaces(wanted: FlowFilter, width: timedelta) -> Asked:
    """Flows from or to each namespace, a flow within one counted once: `cluster`, `namespace`, `start`, `flows`, `denied`."""
    rows, values = _rows("visible_timeline_1m", wanted)
    sql = f"""WITH asked AS (
            SELECT cluster, source_namespace, destination_namespace, time_bucket(?, minute) AS start, sum(flows) AS flows,
                coalesce(sum(flows) FILTER ({DENIED}), 0) AS denied
            FROM ({rows}) GROUP BY ALL
        ), ends AS (
            SELECT cluster, source_namespace AS namespace, start, flows, denied FROM asked
            UNION ALL
            SELECT cluster, destination_namespace, start, flows, denied FROM asked
                WHERE destination_namespace IS DISTINCT FROM source_namespace
        )
        SELECT cluster, namespace, start, sum(flows)::BIGINT AS flows, sum(denied)::BIGINT AS denied
        FROM ends WHERE namespace IS NOT NULL GROUP BY ALL ORDER BY ALL"""
    return sql, [width, *values]


def edges_in_time(wanted: FlowFilter, scope: EdgeScope) -> Asked:
    """Who talks to whom by port, most flows first, with its hours.

    Columns: `cluster`; for both ends `_namespace` (null outside; at the scope of clusters the cluster) and `_name` (null above
    workloads, or where it is hidden); `port`, `protocol` (null above workloads); `flows`, `denied`, `audited` as reported;
    `reason`, the commonest of drops; `first`, `last`, `first_denied`; `bucket_starts`, `bucket_flows`.
    """
    rows, values = _rows("visible_edges_1h", wanted)
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
    return sql, values


def values(column: str, wanted: FlowFilter) -> Asked:
    """A column's values, most frequent first: `value`, `flows`."""
    rows, conditions = _rows("visible_timeline_1m", wanted)
    sql = f"""SELECT {column} AS value, sum(flows)::BIGINT AS flows
        FROM ({rows}) WHERE {column} IS NOT NULL GROUP BY ALL ORDER BY flows DESC, value"""
    return sql, conditions


def has_values(column: str) -> bool:
    """Whether timeline_1m knows a column of flows."""
    return column in {"cluster", "source_namespace", "destination_namespace", "verdict", "drop_reason_desc"} & set(TIMELINE_1M.schema.names)


def drop_reasons(wanted: FlowFilter) -> Asked:
    """Drops by cluster and reason: `cluster`, `drop_reason_desc` (null for drops at L7), `drops`, `flows`, most first."""
    rows, conditions = _rows("visible_timeline_1m", wanted)
    sql = f"""SELECT cluster, drop_reason_desc, sum(flows - repeats)::BIGINT AS drops, sum(flows)::BIGINT AS flows
        FROM ({rows}) WHERE verdict = 'DROPPED' GROUP BY ALL ORDER BY drops DESC, cluster, drop_reason_desc"""
    return sql, conditions


def edges(wanted: FlowFilter, scope: EdgeScope, view: str = "visible_edges_1h") -> Asked:
    """Who talks to whom: both ends, counts, why and where it was dropped, first and last time; most flows first."""
    met, conditions = _met(wanted, view)
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
    return sql, conditions


def new_edges(wanted: FlowFilter, scope: EdgeScope, before: str) -> Asked:
    """The edges of `visible_edges_1h` that the view `before` does not have."""
    now, conditions = edges(wanted, scope)
    met, more = _met(wanted, before)
    names = ["cluster", *(f"{side}_{part}" for side in _SIDES for part in _ENDS[scope])]
    on = " AND ".join(f"old.{name} IS NOT DISTINCT FROM now.{name}" for name in names)
    sql = f"""SELECT * FROM ({now}) AS now
        WHERE NOT EXISTS (SELECT 1 FROM (SELECT DISTINCT {", ".join(names)} FROM ({met})) AS old WHERE {on})
        ORDER BY first_seen, {", ".join(names)}"""
    return sql, [*conditions, *more]


def talkers(wanted: FlowFilter, scope: EdgeScope) -> Asked:
    """Ends by how much they talk: `flows_once` and its parts as client and as server, `dropped`; most first."""
    met, conditions = _met(wanted, "visible_edges_1h")
    parts = _ENDS[scope]
    sides = " UNION ALL ".join(
        f"""SELECT cluster, {", ".join(f"{side}_{part} AS {part}" for part in parts)}, flows_once, verdict,
            {("flows_once", "0")[side != "source"]} AS as_client, {("0", "flows_once")[side != "source"]} AS as_server FROM met"""
        for side in _SIDES
    )
    sql = f"""WITH met AS ({met}) SELECT cluster, {", ".join(parts)}, sum(flows_once)::BIGINT AS flows_once,
            sum(as_client)::BIGINT AS as_client, sum(as_server)::BIGINT AS as_server,
            coalesce(sum(flows_once) FILTER (verdict = 'DROPPED'), 0)::BIGINT AS dropped
        FROM ({sides}) GROUP BY ALL ORDER BY flows_once DESC, cluster, {", ".join(parts)}"""
    return sql, conditions


def names(wanted: FlowFilter) -> Asked:
    """Which names an address had, with intervals: `cluster`, `ip`, `name`, `first_seen`, `last_seen`, `flows`, `learned_from`.

    `inferred` is true in every row: between two sightings the name is taken to have stayed.
    """
    where, conditions = _among([(["cluster"], wanted.clusters), (["source_namespace", "destination_namespace"], wanted.namespaces)])
    if wanted.ips:
        where += f" AND ip IN ({', '.join('?' * len(wanted.ips))})"
        conditions += wanted.ips
    sql = f"""SELECT cluster, ip, name, min(first_seen) AS first_seen, max(last_seen) AS last_seen, sum(flows)::BIGINT AS flows,
            list_sort(list(DISTINCT learned_from)) AS learned_from, true AS inferred
        FROM (
            SELECT *, sum(begins) OVER (
                PARTITION BY cluster, ip, name ORDER BY first_seen, last_seen ROWS UNBOUNDED PRECEDING
            ) AS interval_number FROM (
                SELECT *, coalesce(first_seen - max(last_seen) OVER (
                    PARTITION BY cluster, ip, name ORDER BY first_seen, last_seen ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) > ?, false)::INTEGER AS begins
                FROM visible_dns_names WHERE {where} AND ip IS NOT NULL AND name IS NOT NULL
            )
        ) GROUP BY cluster, ip, name, interval_number ORDER BY cluster, ip, first_seen, name"""
    return sql, [SEEN_WITHIN, *conditions]


def with_inferred_names(edges_: pa.Table, names_: pa.Table, settings: config.Rollups) -> pa.Table:
    """The edges, with the names that addresses in an end's range are remembered by: `*_names_inferred`, null for none."""
    known: dict[tuple[str, str | None], set[str]] = {}
    for cluster, address, name in zip(*(names_[column].to_pylist() for column in ("cluster", "ip", "name")), strict=True):
        known.setdefault((cluster, rollup_sql.range_of(address, settings)), set()).add(name)
    clusters = edges_["cluster"].to_pylist()
    for side in _SIDES:
        ranges = edges_[f"{side}_cidr"].to_pylist()
        inferred = [
            sorted(known[cluster, range_]) if range_ is not None and (cluster, range_) in known else None
            for cluster, range_ in zip(clusters, ranges, strict=True)
        ]
        edges_ = edges_.append_column(f"{side}_names_inferred", pa.array(inferred, STRINGS))
    return edges_


def _met(wanted: FlowFilter, view: str) -> Asked:
    """Both reports of a connection as one row: `flows_once` is the greater, and what neither end is known to have reported."""
    rows, conditions = _rows(view, wanted)
    ends = ", ".join(f"{side}_{part}" for side in _SIDES for part in _ENDS[EdgeScope.WORKLOAD])

    def at(direction: str) -> str:
        return f"coalesce(sum(flows - repeats) FILTER (traffic_direction {direction}), 0)"

    sql = f"""SELECT cluster, hour, {ends}, destination_port, l4_protocol, verdict, drop_reason_desc,
            max(source_workload_kind) AS source_workload_kind, max(destination_workload_kind) AS destination_workload_kind,
            sum(flows) AS flows, {at("= 'EGRESS'")} AS at_source, {at("= 'INGRESS'")} AS at_destination,
            greatest(at_source, at_destination) + {at("IS NULL OR traffic_direction NOT IN ('EGRESS', 'INGRESS')")} AS flows_once,
            min(first_seen) AS first_seen, max(last_seen) AS last_seen
        FROM ({rows}) GROUP BY ALL"""
    return sql, conditions


def check_edges(wanted: FlowFilter) -> None:
    """Raise QueryError for conditions that edges do not keep."""
    kept = {"pods": wanted.pods, "ips": wanted.ips, "nodes": wanted.nodes}
    asked = [name for name, listed in kept.items() if listed] + [str(condition) for condition in wanted.conditions]
    if asked:
        raise QueryError(f"edges are not kept by {' or '.join(asked)}: leave that out, or ask for flows")


def _rows(view: str, wanted: FlowFilter) -> Asked:
    """The rows of a rollup that the filter lets through, one end after the other as `flow_filter.matching`; the time is the view's."""
    where, values = _among(
        [
            (["cluster"], wanted.clusters),
            (["source_namespace"], wanted.source_namespaces),
            (["destination_namespace"], wanted.destination_namespaces),
            (["verdict"], wanted.verdicts),
            (["drop_reason_desc"], wanted.drop_reasons),
            (["destination_port"], wanted.ports),
        ]
    )
    if not wanted.namespaces:
        return f"SELECT * FROM {view} WHERE {where}", values
    marks = ", ".join("?" * len(wanted.namespaces))
    first, second = (f"{side}_namespace IN ({marks})" for side in _SIDES)
    scans = [f"SELECT * FROM {view} WHERE {where} AND {part}" for part in (first, f"{second} AND NOT coalesce({first}, false)")]
    return " UNION ALL ".join(scans), [*values, *wanted.namespaces, *values, *wanted.namespaces, *wanted.namespaces]


def _among(asked: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> Asked:
    """All conditions hold, each by any of its columns and values."""
    parts: list[str] = ["true"]
    placed: list[Any] = []
    for columns, listed in asked:
        if listed:
            marks = ", ".join("?" * len(listed))
            parts.append("(" + " OR ".join(f"{column} IN ({marks})" for column in columns) + ")")
            placed.extend([*listed] * len(columns))
    return " AND ".join(parts), placed
