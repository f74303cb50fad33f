"""The edges of a window and of the one before it, for everything in an owner's report, as of a moment.

They are read from rollups where those hold exactly what the lake knew then, and else summed up from flows by the same rules, so the same
moment gives the same rows whatever comes later. `edges_in_time` explains the sums and gives the same ones.
"""

from __future__ import annotations

from warehouse.engine import Limits, Window
from warehouse.questions import edges_in_time, rollup_filter
from warehouse.questions.flow_filter import FlowFilter, bucket_width, plain
from warehouse.questions.rollup_filter import EDGES
from warehouse.questions.rollup_table import BEFORE, RollupQuestion
from warehouse.questions.time_buckets import MINUTE
from warehouse.schema import EDGES_1H

_MOST_PARTS = Limits(seconds=900, rows=5_000_000)


def two_windows(wanted: FlowFilter, *, limits: Limits = _MOST_PARTS) -> RollupQuestion:
    """Return the edges of the filter's window, and of the one of the same length before it, by verdict and drop reason.

    Columns: `cluster`, both ends, `port` and `protocol` as in `edges_in_time` between workloads; `verdict`, `reason`; `before`, true for
    those of the window before; `flows`, `first`, `last`.
    """
    wanted = plain(wanted)
    now, values = rollup_filter.rows(EDGES, wanted)
    old, more = rollup_filter.rows(BEFORE, wanted)
    keys = ", ".join(edges_in_time.KEYS)
    rows = " UNION ALL ".join(
        f"""SELECT {edges_in_time.named_hours()}, verdict, drop_reason_desc AS reason, {before} AS before, flows, first_seen, last_seen
        FROM ({one})"""
        for one, before in ((now, "false"), (old, "true"))
    )
    sql = f"""SELECT {keys}, verdict, reason, before, sum(flows)::BIGINT AS flows, min(first_seen) AS first, max(last_seen) AS last
        FROM ({rows}) GROUP BY ALL"""
    return RollupQuestion(
        name="two_windows",
        source=EDGES_1H,
        wanted=wanted,
        sql=sql,
        values=(*values, *more),
        limits=limits,
        before=Window(since=wanted.since - (wanted.until - wanted.since), until=wanted.since, as_of=wanted.as_of),
        of_moments=True,
        refusal=rollup_filter.edges_refusal(wanted),
    )


def is_possible(wanted: FlowFilter) -> bool:
    """Whether the window is long enough for its volume to be told by whole minutes."""
    return bucket_width(wanted) >= MINUTE
