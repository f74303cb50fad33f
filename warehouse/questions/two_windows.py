"""The flows of a window and of the one before it, summed up once for everything in an owner's report.

Reading flows is what costs, so volume, edges of both windows and denials come from one scan. `edges_in_time` and
`count_questions` explain the sums and give the same ones.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from warehouse.access import scoping
from warehouse.engine import Limits
from warehouse.questions import edge_rule, edges_in_time
from warehouse.questions.edge_rule import SIDES
from warehouse.questions.flow_filter import FlowFilter, bucket_width, plain
from warehouse.questions.flow_table import CONNECTIONS, FlowQuestion
from warehouse.questions.rollup_sql import DROP, PACKET, POLICY_VERDICT
from warehouse.questions.time_buckets import MINUTE
from warehouse.schema import FLOWS

_MOST_PARTS = Limits(seconds=900, rows=5_000_000)
_MINUTE_US = 60_000_000


def two_windows(wanted: FlowFilter, *, limits: Limits = _MOST_PARTS) -> FlowQuestion:
    """Return the parts that flows of the filter's window, and of the one of the same length before it, sum up to.

    Columns: `cluster`, both ends, `port` and `protocol` as in `edges_in_time` between workloads; `verdict`, `reason`; `start`, the time
    bucket as in `timeline`, null in the window before; `flows`, `repeats`, `first`, `last`. Rows with `repeats` have neither ends nor
    flows. Refused for a window whose buckets are shorter than a minute.
    """
    wanted = plain(wanted)
    width, length = bucket_width(wanted), wanted.until - wanted.since
    counted = "bucket AS start, flows, 0::BIGINT AS repeats, first, last"
    ends = ", ".join(f"NULL AS {name}" for name in edges_in_time.KEYS[1:])
    sql = f"""WITH parts AS MATERIALIZED ({_parts()}),
        repeated AS (
            SELECT cluster, bucket, coalesce(least(sum(flows) FILTER (event_type = {POLICY_VERDICT}),
                sum(flows) FILTER (event_type = {DROP})), 0) AS repeats
            FROM parts WHERE packet IS NOT NULL GROUP BY cluster, bucket, packet
        )
        SELECT {", ".join(edges_in_time.KEYS)}, verdict, reason, start, sum(flows)::BIGINT AS flows, sum(repeats)::BIGINT AS repeats,
            min(first) AS first, max(last) AS last
        FROM (
            SELECT {edges_in_time.named("workload")}, verdict, drop_reason_desc AS reason, {counted} FROM parts
            UNION ALL
            SELECT cluster, {ends}, 'DROPPED', NULL, bucket, 0, repeats, NULL, NULL FROM repeated WHERE repeats > 0
        ) GROUP BY ALL"""
    return FlowQuestion(
        name="two_windows",
        wanted=replace(wanted, since=wanted.since - length),
        sql=sql,
        values=(wanted.since, width, wanted.since),
        limits=limits,
        connections=True,
        resolves_workloads=True,
        learned_until=(wanted.since, wanted.until),
        refusal=None if is_possible(wanted) else "the window is too short to be compared with the one before it",
    )


def is_possible(wanted: FlowFilter) -> bool:
    """Whether a window is long enough: repeats are counted by whole minutes, so no bucket may be shorter than that."""
    return bucket_width(wanted) >= MINUTE and wanted.until - wanted.since >= timedelta(hours=1)


def _parts() -> str:
    """The query that sums flows up by the stored columns, so that names are worked out for thousands of rows rather than millions."""
    stored = ", ".join(
        f"""{side}_namespace, {side}_workload_name, {side}_pod_name,
                CASE WHEN {scoping.is_local(FLOWS, side)} THEN NULL ELSE {side}_cluster_name END AS {side}_cluster_name,
                {edge_rule.dns_name(side)} AS {side}_dns_name, {edge_rule.entity(side)} AS {side}_entity"""
        for side in SIDES
    )
    packet = ", ".join(f'epoch_us("time") // {_MINUTE_US}' if name == "time" else name for name in PACKET)
    both = f"verdict = 'DROPPED' AND event_type IN ({DROP}, {POLICY_VERDICT})"
    return f"""SELECT cluster, verdict, drop_reason_desc, CASE WHEN "time" >= ? THEN time_bucket(?, "time") END AS bucket, {stored},
            server_port, l4_protocol, CASE WHEN {both} THEN event_type END AS event_type,
            CASE WHEN {both} AND "time" >= ? THEN row({packet}) END AS packet,
            coalesce(sum(flow_count), 0) AS flows, min("time") AS first, max("time") AS last
        FROM {CONNECTIONS} GROUP BY ALL"""
