"""What policies are replayed over: the distinct edges of a window with their label sets, and the connections of flows.

Judging them does not belong here: see pipelines.replay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse import config, engine, table_views
from warehouse.access import scoping
from warehouse.access.sight import Sight
from warehouse.engine import Limits, Window
from warehouse.errors import QueryError, QueryLimitError
from warehouse.questions import edge_rule, flow_filter, large_questions, rollup_filter, rollup_relations
from warehouse.questions.answers import Answer, coverage_of
from warehouse.questions.edge_rule import SIDES
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.flow_table import CONNECTIONS, FlowQuestion
from warehouse.questions.question import Question, Request, Subject
from warehouse.questions.rollup_relations import RollupRelation, SummedUp
from warehouse.questions.rollup_sql import ENDS
from warehouse.schema import EDGES_1H, FLOWS, LABEL_SETS, TIMESTAMP

MANY = Limits(rows=5_000_000, seconds=300)
Begins = tuple[tuple[str, datetime], ...]
"""Clusters and times at which something changed in them."""
_SPANS, _SETS = "spans_of_time", "named_sets"
_LABELS = f"visible_{LABEL_SETS.name}"
_NAMED_SETS = f"SELECT id, any_value(labels) AS labels FROM {_LABELS} WHERE id IN ({{}}) GROUP BY id"
_NO_SETS = LABEL_SETS.schema.empty_table().select(["id", "labels"])
_COUNTS = (
    "sum(flows)::BIGINT AS flows, sum(repeats)::BIGINT AS repeats, sum(replies)::BIGINT AS replies, "
    "min(first_seen) AS first_seen, max(last_seen) AS last_seen"
)
_KEPT_UUIDS = 3
_PORTION = 500_000
"""Edges that are read at once."""
_MOST_SALTS = 4
"""How often the keys of ends are made again when two ends have the same one, of which the chance is about 1 in a billion."""


@dataclass(frozen=True, kw_only=True)
class EdgesAnswer(Answer):
    """Edges, the distinct ends that they have, and the label sets that those name."""

    ends: pa.Table
    """`cluster`, and the columns of edges_1h for one end, without `source_` or `destination_`; each end of a cluster once, in order."""
    label_sets: pa.Table
    """Columns `id` and `labels`; each id once. An id without a row has labels that are no longer stored, or not visible."""

    def plain(self) -> pa.Table:
        """Return the edges with the columns of both ends in place of the two numbers of ends."""
        found = self.rows
        for side in SIDES:
            of_end = self.ends.take(found[side])
            for part in ENDS:
                found = found.append_column(f"{side}_{part}", of_end[part])
        return found.drop_columns(list(SIDES))


@dataclass(frozen=True, kw_only=True)
class DistinctEdges(Question[EdgesAnswer]):
    """The distinct edges of a window, with the ids of their label sets.

    Columns: `cluster`; `since`, the start of the edge's hour or, with `begins`, of its span; `source` and `destination`, the places
    of both ends in `EdgesAnswer.ends`; `destination_port`, `l4_protocol`, `verdict`, `drop_reason_desc`, `traffic_direction`,
    `flows`, `repeats`, `replies`, `first_seen` and `last_seen`. Rows are in no order. Months of edges have millions of rows but few
    distinct ends, so each end is read once.
    """

    name: str = "distinct_edges"
    limits: Limits = MANY
    wanted: FlowFilter
    """Selects edges as it does for `edge_questions.edges`: by cluster, namespace, verdict, drop reason and port."""
    begins: Begins = ()
    """Starts of spans, as whole hours: rows of one span are added up. Times before a cluster's first start have no `since`.
    When empty, every hour is a span of its own."""
    with_labels: bool = True
    """False for edges that do not differ by labels and carry none, which is faster where hours are not rolled up yet."""

    @property
    def subject(self) -> Subject:
        """The filter, as the access log records it."""
        wanted = self.wanted
        return Subject(
            window=Window(since=wanted.since, until=wanted.until),
            text=flow_filter.as_text(wanted),
            clusters=wanted.clusters,
            namespaces=(*wanted.namespaces, *wanted.source_namespaces, *wanted.destination_namespaces),
        )

    def answer(self, request: Request) -> EdgesAnswer:
        """Return the edges with the coverage of the window, which may be extended: see `rollup_relations.widened`."""
        wanted = flow_filter.plain(self.wanted)
        refusal = rollup_filter.edges_refusal(wanted)
        if refusal is not None:
            raise QueryError(refusal)
        sight = request.sight.within(rollup_relations.widened(request.sight, EDGES_1H))
        return large_questions.answered(
            request.engine, sight, EDGES_1H, lambda connection: self._answered(connection, sight, wanted, request.rollups)
        )

    def _answered(self, connection: Any, sight: Sight, wanted: FlowFilter, rollups: config.Rollups) -> EdgesAnswer:
        """Return the answer from one connection, which may be one to an engine elsewhere."""
        made, sources, summed_up = [], [], SummedUp()
        for name, table in ((rollup_filter.EDGES, EDGES_1H), (_LABELS, LABEL_SETS))[: 2 if self.with_labels else 1]:
            relation = RollupRelation(table=table, name=name, namespaces=wanted.namespaces, labels=self.with_labels)
            with engine.within(connection, self.limits):
                query, source = rollup_relations.query(connection, sight, relation, rollups, summed_up)
            made.append(table_views.relation(name, query))
            sources.append(source)
        ends, salt = self._ends(connection, made[0], wanted)
        parts, cut, left = [], False, self.limits.rows
        for clusters in _portions(ends):
            rows, values = self._rows(replace(wanted, clusters=clusters))
            sql, limits = _spans(rows, self.begins, salt), replace(self.limits, rows=left)
            placed = _placed(self.begins)
            if self.begins and isinstance(connection, engine.Elsewhere):
                connection.register(_SPANS, _spans_of(self.begins))
                sql, placed = _spans_elsewhere(rows, salt), []
            part, cut = engine.ask(connection, made[:1], sql, [*values, *placed], limits)
            parts.append(_compact(part, ends["key"]))
            left -= part.num_rows
            if cut:
                break
        labels = _NO_SETS
        if self.with_labels and isinstance(connection, engine.Elsewhere):
            connection.register(_SETS, pa.table({"id": pa.array(_named(ends), pa.string())}))
            labels, _ = engine.ask(connection, made[1:], _NAMED_SETS.format(f"SELECT id FROM {_SETS}"), (), self.limits)
        elif self.with_labels:
            labels, _ = engine.ask(connection, made[1:], _NAMED_SETS.format("SELECT unnest(?::VARCHAR[])"), (_named(ends),), self.limits)
        return EdgesAnswer(
            rows=pa.concat_tables(parts).unify_dictionaries(),
            ends=ends.drop_columns(["key", "edges"]),
            label_sets=labels,
            cut=cut,
            window=sight.window,
            coverage=coverage_of(sight),
            files=sum(source.files for source in sources),
            source=rollup_relations.source_text(EDGES_1H, sources[:1]),
        )

    def _rows(self, wanted: FlowFilter) -> tuple[str, list[Any]]:
        """Return the query for the rows of edges_1h that match, and the values of its placeholders."""
        rows, values = rollup_filter.rows(rollup_filter.EDGES, wanted)
        if not self.with_labels:
            rows = f"SELECT * REPLACE ({', '.join(f'NULL::VARCHAR AS {side}_labels_id' for side in SIDES)}) FROM ({rows})"
        return rows, values

    def _ends(self, connection: Any, relation: str, wanted: FlowFilter) -> tuple[pa.Table, int]:
        """Return the distinct ends with a `key` and their number of `edges`, and the salt with which no two ends have the same key."""
        rows, values = self._rows(wanted)
        for salt in range(_MOST_SALTS):
            ends, cut = engine.ask(connection, [relation], _distinct_ends(rows, salt), [*values, *values], self.limits)
            if cut:
                raise QueryLimitError(f"there are more than {self.limits.rows:,} different ends: ask for less time or fewer namespaces")
            if pc.count_distinct(ends["key"]).as_py() == ends.num_rows:
                return ends, salt
        raise QueryError("the ends of these edges cannot be distinguished by their keys: ask for less time or fewer namespaces")


def _key(side: str, salt: int) -> str:
    """Return the expression for a number that tells one end from another."""
    return f"hash({salt}, cluster, {', '.join(f'{side}_{part}' for part in ENDS)})"


def _distinct_ends(rows: str, salt: int) -> str:
    """Return the query for the ends of rows, in order."""
    names = ", ".join(("cluster", *ENDS))
    renamed = {side: ", ".join(f"{side}_{part} AS {part}" for part in ENDS) for side in SIDES}
    both = " UNION ALL ".join(f"SELECT cluster, {_key(side, salt)} AS key, {renamed[side]} FROM ({rows})" for side in SIDES)
    return f"SELECT {names}, key, count(*) AS edges FROM ({both}) GROUP BY ALL ORDER BY {names}"


def _portions(ends: pa.Table) -> list[tuple[str, ...]]:
    """Divide the clusters of ends into portions whose edges are read at once, since grouping millions of rows takes much memory."""
    by_cluster = ends.group_by("cluster", use_threads=False).aggregate([("edges", "sum")])
    found: list[list[str]] = [[]]
    size = 0
    for cluster, edges in zip(by_cluster["cluster"].to_pylist(), by_cluster["edges_sum"].to_pylist(), strict=True):
        if size and size + edges > 2 * _PORTION:
            found.append([])
            size = 0
        found[-1].append(cluster)
        size += edges
    return [tuple(clusters) for clusters in found]


def _compact(edges: pa.Table, keys: pa.ChunkedArray) -> pa.Table:
    """Return edges with the places of their ends among those with these keys, and with texts as dictionaries."""
    found = edges
    for place, name in enumerate(edges.column_names):
        if name in SIDES:
            found = found.set_column(place, name, pc.index_in(edges[name], value_set=keys))
        elif pa.types.is_string(edges.schema.field(name).type):
            found = found.set_column(place, name, edges[name].dictionary_encode())
    return found


def _spans(rows: str, begins: Begins, salt: int) -> str:
    """Return the query that adds up the rows of each span, with the keys of ends as `source` and `destination`."""
    ends = ", ".join(f"{_key(side, salt)} AS {side}" for side in SIDES)
    key = f"{ends}, destination_port, l4_protocol, verdict, drop_reason_desc, traffic_direction"
    if not begins:
        return f"SELECT cluster, hour AS since, {key}, {_COUNTS} FROM ({rows}) GROUP BY ALL"
    return f"""SELECT cluster, spans.begins AS since, {key}, {_COUNTS}
        FROM ({rows}) AS edges ASOF LEFT JOIN (SELECT unnest(?::VARCHAR[]) AS at_cluster, unnest(?::TIMESTAMPTZ[]) AS begins) AS spans
            ON edges.cluster = spans.at_cluster AND edges.hour >= spans.begins
        GROUP BY ALL"""


def _spans_of(begins: Begins) -> pa.Table:
    """Return each span with its cluster, its start and its end, which is the next start of the cluster."""
    ordered = sorted(begins)
    ends = [after[1] if after and after[0] == cluster else None for (cluster, _), after in zip(ordered, [*ordered[1:], None], strict=True)]
    schema = pa.schema([("at_cluster", pa.string()), ("begins", TIMESTAMP), ("ends", TIMESTAMP)])
    return pa.table([[cluster for cluster, _ in ordered], [moment for _, moment in ordered], ends], schema=schema)


def _spans_elsewhere(rows: str, salt: int) -> str:
    """Return the query of `_spans` for an engine without ASOF joins, over the registered spans."""
    ends = ", ".join(f"{_key(side, salt)} AS {side}" for side in SIDES)
    key = f"{ends}, destination_port, l4_protocol, verdict, drop_reason_desc, traffic_direction"
    return f"""SELECT cluster, spans.begins AS since, {key}, {_COUNTS}
        FROM ({rows}) AS edges LEFT JOIN {_SPANS} AS spans
            ON edges.cluster = spans.at_cluster AND edges.hour >= spans.begins AND (spans.ends IS NULL OR edges.hour < spans.ends)
        GROUP BY ALL"""


def _named(ends: pa.Table) -> list[str]:
    """The label sets that ends name. No others are shown, since a label set does not say of which cluster's namespace it is."""
    return sorted(name for name in pc.unique(ends["labels_id"]).to_pylist() if name is not None)


def _placed(begins: Begins) -> list[object]:
    return [[cluster for cluster, _ in begins], [moment for _, moment in begins]] if begins else []


_REQUEST = ("l7_type", "l7_http_method", "l7_http_url", "l7_http_headers", "l7_dns_query")


def connections(wanted: FlowFilter, *, cuts: Begins = (), examples: bool = True, limits: Limits = MANY) -> FlowQuestion:
    """Return the distinct connections of a window's flows: what `DistinctEdges` returns, undivided by neither address nor request.

    Columns are those of `DistinctEdges` without `repeats`, label ids, ranges and kinds of workloads. For both ends there are also
    `_labels`, `_ip` (of an end outside the cluster only) and `_names`, the DNS names that the agent had learned for it. Further
    columns: `icmp_type` (null for 0), `event_type`, the request as `l7_type`, `l7_http_method`, `l7_http_url`, `l7_http_headers`
    and `l7_dns_query`, and with `examples` `uuids`, of the first three flows. `since` is the start of the hour, or the last
    of `cuts` before the flows: times at which something changed within an hour. Flows are many: choose short windows.
    """
    ends = ", ".join(
        f"""CASE WHEN {scoping.is_local(FLOWS, side)} THEN NULL ELSE {side}_cluster_name END AS {side}_cluster_name,
            {side}_namespace, {side}_workload_name,
            {edge_rule.entity(side)} AS {side}_entity, rtrim({edge_rule.dns_name(side)}, '.') AS {side}_dns_name, {side}_labels,
            CASE WHEN {edge_rule.outside(side)} THEN {side}_ip END AS {side}_ip, {side}_names"""
        for side in SIDES
    )
    columns = f"""{ends}, server_port AS destination_port, l4_protocol, icmp_type, event_type, {", ".join(_REQUEST)},
            verdict, drop_reason_desc, traffic_direction,
            coalesce(sum(flow_count), 0)::BIGINT AS flows, coalesce(sum(flow_count) FILTER (is_reply), 0)::BIGINT AS replies,
            min("time") AS first_seen, max("time") AS last_seen"""
    if examples:
        columns += f""", list(uuid ORDER BY "time", uuid)[1:{_KEPT_UUIDS}] AS uuids"""
    hour = 'time_bucket(INTERVAL 1 hour, "time")'
    if cuts:
        # Not an ASOF join, which would sort all columns of all flows.
        since = f'coalesce(list_last(list_filter(cuts.moments, lambda moment: moment <= "time")), {hour})'
        sql = f"""SELECT cluster, {since} AS since, {columns}
            FROM {CONNECTIONS} AS flows LEFT JOIN (
                SELECT at_cluster, time_bucket(INTERVAL 1 hour, moment) AS at_hour, list(moment ORDER BY moment) AS moments
                FROM (SELECT unnest(?::VARCHAR[]) AS at_cluster, unnest(?::TIMESTAMPTZ[]) AS moment) GROUP BY ALL
            ) AS cuts ON flows.cluster = at_cluster AND {hour} = at_hour
            GROUP BY ALL"""
    else:
        sql = f"SELECT cluster, {hour} AS since, {columns} FROM {CONNECTIONS} GROUP BY ALL"
    return FlowQuestion(
        name="replayed_connections",
        wanted=wanted,
        sql=sql,
        values=tuple(_placed(cuts)),
        limits=limits,
        connections=True,
        resolves_workloads=True,
    )
