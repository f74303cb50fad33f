"""Questions that count flows: over time, by namespace, by drop reason, or by the values of a column.

They are answered from timeline_1m if it has the required columns, otherwise from the flows themselves. As of a moment the flows are read,
unless `of_moments` lets rollups answer that hold exactly what the lake knew then; the answer is the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from warehouse.engine import Limits
from warehouse.questions import rollup_filter, rollup_sql, time_buckets
from warehouse.questions.flow_filter import FlowFilter, bucket_width, column_refusal, plain
from warehouse.questions.flow_table import MATCHING, FilteredQuestion, FlowQuestion
from warehouse.questions.question import FEW, USUAL
from warehouse.questions.rollup_filter import TIMELINE, is_by_hour, is_on_timeline
from warehouse.questions.rollup_table import RollupQuestion
from warehouse.questions.time_buckets import BUCKETS, MINUTE
from warehouse.schema import TIMELINE_1M

DENIED = "verdict IN ('DROPPED', 'ERROR')"
"""SQL condition for rows of flows that were denied."""
_MOST_PARTS = 1_000_000
_ON_TIMELINE = frozenset({"cluster", "source_namespace", "destination_namespace", "verdict", "drop_reason_desc"})
"""Columns of `flows` that timeline_1m also has."""


def timeline(wanted: FlowFilter, *, buckets: int = BUCKETS, limits: Limits = USUAL, of_moments: bool = False) -> FilteredQuestion:
    """Count flows by verdict per time bucket: columns `start` (UTC), `verdict`, `flows`, `repeats` (docs/counting.md).

    Buckets are `bucket_width` long and start at round times; the first and the last may extend beyond the window.
    """
    wanted = plain(wanted)
    width, limits = bucket_width(wanted, buckets), replace(limits, rows=_MOST_PARTS)
    sums = "sum(flows)::BIGINT AS flows, sum(repeats)::BIGINT AS repeats"
    if is_on_timeline(wanted, of_moments=of_moments) and width >= MINUTE:
        rows, values = rollup_filter.rows(TIMELINE, wanted)
        sql = f"SELECT time_bucket(?, minute) AS start, verdict, {sums} FROM ({rows}) GROUP BY ALL ORDER BY ALL"
        return _of_minutes("timeline", wanted, sql, [width, *values], limits, width)
    flows = rollup_sql.counted(MATCHING, ("time", "verdict"))
    sql = f"""SELECT time_bucket(?, "time") AS start, verdict, {sums} FROM ({flows}) GROUP BY ALL ORDER BY ALL"""
    return FlowQuestion(name="timeline", wanted=wanted, sql=sql, values=(width,), limits=limits)


def pulse(wanted: FlowFilter, *, buckets: int = BUCKETS, limits: Limits = USUAL) -> FilteredQuestion:
    """Count flows by verdict and drop reason per bucket of at least a minute: `start`, `verdict`, `reason`, `flows`, `repeats`."""
    wanted, limits = plain(wanted), replace(limits, rows=_MOST_PARTS)
    width = max(MINUTE, bucket_width(wanted, buckets))
    counts = "verdict, drop_reason_desc AS reason, sum(flows)::BIGINT AS flows, sum(repeats)::BIGINT AS repeats"
    if is_on_timeline(wanted):
        rows, values = rollup_filter.rows(TIMELINE, wanted)
        sql = f"SELECT time_bucket(?, minute) AS start, {counts} FROM ({rows}) GROUP BY ALL ORDER BY ALL"
        return _of_minutes("pulse", wanted, sql, [width, *values], limits, width)
    flows = rollup_sql.counted(MATCHING, ("time", "verdict", "drop_reason_desc"))
    sql = f"""SELECT time_bucket(?, "time") AS start, {counts} FROM ({flows}) GROUP BY ALL ORDER BY ALL"""
    return FlowQuestion(name="pulse", wanted=wanted, sql=sql, values=(width,), limits=limits)


def namespaces(wanted: FlowFilter, *, buckets: int = BUCKETS, limits: Limits = USUAL, of_moments: bool = False) -> FilteredQuestion:
    """Count flows from or to each namespace per bucket of at least a minute; a flow within a namespace counts once.

    Columns: `cluster`, `namespace`, `start`, `flows`, `denied`.
    """
    wanted, limits = plain(wanted), replace(limits, rows=_MOST_PARTS)
    width = max(MINUTE, bucket_width(wanted, buckets))
    if is_on_timeline(wanted, of_moments=of_moments):
        rows, values = rollup_filter.rows(TIMELINE, wanted)
        return _of_minutes("namespaces", wanted, _by_namespace(rows, "minute"), [width, *values], limits, width)
    columns = ("cluster", "source_namespace", "destination_namespace", "time", "verdict")
    sql = _by_namespace(rollup_sql.counted(MATCHING, columns), '"time"')
    return FlowQuestion(name="namespaces", wanted=wanted, sql=sql, values=(width,), limits=limits)


def _by_namespace(rows: str, moment: str) -> str:
    """Return the query that counts rows by the namespaces of either end; its placeholder is the width of a bucket."""
    return f"""WITH parts AS (
            SELECT cluster, source_namespace, destination_namespace, time_bucket(?, {moment}) AS start, sum(flows) AS flows,
                coalesce(sum(flows) FILTER ({DENIED}), 0) AS denied
            FROM ({rows}) GROUP BY ALL
        ), ends AS (
            SELECT cluster, source_namespace AS namespace, start, flows, denied FROM parts
            UNION ALL
            SELECT cluster, destination_namespace, start, flows, denied FROM parts
                WHERE destination_namespace IS DISTINCT FROM source_namespace
        )
        SELECT cluster, namespace, start, sum(flows)::BIGINT AS flows, sum(denied)::BIGINT AS denied
        FROM ends WHERE namespace IS NOT NULL GROUP BY ALL ORDER BY ALL"""


def drop_reasons(wanted: FlowFilter, *, limits: Limits = FEW, of_moments: bool = False) -> FilteredQuestion:
    """Count drops by cluster and reason, each drop once, most first.

    Columns: `cluster`, `drop_reason_desc` (null for drops at L7), `drops`, `flows`.
    """
    wanted = plain(wanted)
    sums = "sum(flows - repeats)::BIGINT AS drops, sum(flows)::BIGINT AS flows"
    order = "GROUP BY ALL ORDER BY drops DESC, cluster, drop_reason_desc"
    if is_on_timeline(wanted, of_moments=of_moments):
        rows, values = rollup_filter.rows(TIMELINE, wanted)
        sql = f"SELECT cluster, drop_reason_desc, {sums} FROM ({rows}) WHERE verdict = 'DROPPED' {order}"
        return _of_minutes("drop_reasons", wanted, sql, values, limits)
    flows = rollup_sql.counted(f"(SELECT * FROM {MATCHING} WHERE verdict = 'DROPPED')", ("cluster", "drop_reason_desc"))
    sql = f"SELECT cluster, drop_reason_desc, {sums} FROM ({flows}) {order}"
    return FlowQuestion(name="drop_reasons", wanted=wanted, sql=sql, limits=limits)


def values(column: str, wanted: FlowFilter, *, limits: Limits = FEW) -> FilteredQuestion:
    """Count the values of a column in the matching flows, most frequent first: columns `value`, `flows`."""
    wanted = plain(wanted)
    if column in _ON_TIMELINE and is_on_timeline(wanted):
        rows, given = rollup_filter.rows(TIMELINE, wanted)
        sql = f"""SELECT {column} AS value, sum(flows)::BIGINT AS flows
            FROM ({rows}) WHERE {column} IS NOT NULL GROUP BY ALL ORDER BY flows DESC, value"""
        width = MINUTE if column.endswith("_namespace") else time_buckets.HOUR
        return _of_minutes("values", wanted, sql, given, limits, width)
    sql = f"""SELECT "{column}" AS value, sum(flow_count)::BIGINT AS flows
        FROM {MATCHING} WHERE "{column}" IS NOT NULL GROUP BY ALL ORDER BY flows DESC, value"""
    return FlowQuestion(name="values", wanted=wanted, sql=sql, limits=limits, refusal=column_refusal([column]))


def _of_minutes(
    name: str, wanted: FlowFilter, sql: str, given: list[Any], limits: Limits, width: timedelta = time_buckets.HOUR
) -> RollupQuestion:
    return RollupQuestion(
        name=name,
        source=TIMELINE_1M,
        wanted=wanted,
        sql=sql,
        values=tuple(given),
        limits=limits,
        refusal=rollup_filter.timeline_refusal(wanted),
        by_hour=is_by_hour(wanted, width),
        of_moments=True,
    )
