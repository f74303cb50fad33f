"""DNS names recorded for addresses outside the cluster: added to edges whose flows had none, and available as a question."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pyarrow as pa

from warehouse import config, engine, table_views
from warehouse.engine import Limits
from warehouse.questions import rollup_filter, rollup_relations, rollup_sql
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.question import Request
from warehouse.questions.rollup_relations import RollupRelation
from warehouse.schema import DNS_NAMES, STRINGS

SEEN_WITHIN = timedelta(days=1)
"""Sightings of a name no further apart than this belong to one interval."""
LOOK_BACK = timedelta(days=7)
"""How long before a window a name may have been seen and still be used for a peer in it."""
_MOST_NAMES = 1_000_000
_KNOWN = f"SELECT DISTINCT cluster, ip, name FROM visible_{DNS_NAMES.name} WHERE ip IS NOT NULL AND name IS NOT NULL"


def intervals(wanted: FlowFilter) -> tuple[str, list[object]]:
    """Return the query for which names each address had, and when; see `edge_questions.names` for its columns."""
    where, values = rollup_filter.among(
        [
            (["cluster"], wanted.clusters),
            (["source_namespace", "destination_namespace"], wanted.namespaces),
            (["ip"], wanted.ips),
        ]
    )
    sql = f"""SELECT cluster, ip, name, min(first_seen) AS first_seen, max(last_seen) AS last_seen, sum(flows)::BIGINT AS flows,
            list_sort(list(DISTINCT learned_from)) AS learned_from, true AS inferred
        FROM (
            SELECT *, sum(begins) OVER (
                PARTITION BY cluster, ip, name ORDER BY first_seen, last_seen ROWS UNBOUNDED PRECEDING
            ) AS interval_number FROM (
                SELECT *, coalesce(first_seen - max(last_seen) OVER (
                    PARTITION BY cluster, ip, name ORDER BY first_seen, last_seen ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                ) > ?, false)::INTEGER AS begins
                FROM visible_{DNS_NAMES.name} WHERE {where} AND ip IS NOT NULL AND name IS NOT NULL
            )
        ) GROUP BY cluster, ip, name, interval_number ORDER BY cluster, ip, first_seen, name"""
    return sql, [SEEN_WITHIN, *values]


def added(edges: pa.Table, request: Request, limits: Limits) -> pa.Table:
    """Return edges with the columns `source_names_inferred` and `destination_names_inferred`, null where no name is recorded.

    The names are those that the principal may see, from the window and LOOK_BACK before it. Raises QueryError, LakeError.
    """
    known = DNS_NAMES.schema.empty_table()
    since = request.sight.window.since
    if since is not None and {*edges["source_cidr"].to_pylist(), *edges["destination_cidr"].to_pylist()} - {None}:
        sight = request.sight.within(replace(request.sight.window, since=since - LOOK_BACK))
        with engine.connect_warm() as connection:
            relation = RollupRelation(table=DNS_NAMES, name="names", stored_only=True)
            query, _ = rollup_relations.query(connection, sight, relation, request.rollups)
            visible = table_views.relation(f"visible_{DNS_NAMES.name}", query)
            known, _ = engine.ask(connection, [visible], _KNOWN, (), replace(limits, rows=_MOST_NAMES))
    return _with_names(edges, known, request.rollups)


def _with_names(edges: pa.Table, names: pa.Table, settings: config.Rollups) -> pa.Table:
    known: dict[tuple[str, str | None], set[str]] = {}
    for cluster, address, name in zip(*(names[column].to_pylist() for column in ("cluster", "ip", "name")), strict=True):
        known.setdefault((cluster, rollup_sql.range_of(address, settings)), set()).add(name)
    clusters = edges["cluster"].to_pylist()
    for side in ("source", "destination"):
        inferred = [
            sorted(known[cluster, range_]) if range_ is not None and (cluster, range_) in known else None
            for cluster, range_ in zip(clusters, edges[f"{side}_cidr"].to_pylist(), strict=True)
        ]
        edges = edges.append_column(f"{side}_names_inferred", pa.array(inferred, STRINGS))
    return edges
