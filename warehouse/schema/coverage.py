"""The table `coverage`: the ledger of what was observed and what was not. No I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import TIMESTAMP, Table, column, partition_columns

COVERAGE = Table(
    name="coverage",
    doc="The ledger of what was observed and what was not. Rows of one node may be adjacent, and rows in different states may overlap.",
    columns=(
        *partition_columns("from"),
        column("from", TIMESTAMP, "Start of the interval, inclusive"),
        column("to", TIMESTAMP, "End of the interval, exclusive"),
        column("node_name", pa.string(), "Node, named as in flows; null for a row about the whole cluster"),
        column(
            "state",
            pa.string(),
            "connected (observed), lost (a LostEvent), lost_undated (an imported LostEvent without a time: the flows were lost at an unknown "
            "time, which `detail` bounds), gap (inferred), disconnected (no stream), node_unavailable (relay had no stream to "
            "the node), joined (the node's agent started), left (the node is gone; it left between `from` and `to`), "
            "collecting (the collector was running and had nothing else to record)",
        ),
        column(
            "source",
            pa.string(),
            "Source of the row: stream, relay, heartbeat, import, PERF_EVENT_RING_BUFFER, OBSERVER_EVENTS_QUEUE, HUBBLE_RING_BUFFER, ring_overrun, node_restart, unreported (the node had no time to report losses), spool_full, spool_unreadable, decode, ...",
        ),
        column(
            "flows_received",
            pa.int64(),
            "Flows received in the interval and stored; null if not applicable",
            unit="flows",
        ),
        column(
            "flows_lost",
            pa.int64(),
            "Flows known lost in the interval; null if the number is not known. Of lost_undated, each day's row has the whole number",
            unit="flows",
        ),
        column("detail", pa.string(), "Description for users"),
        column("recorded", TIMESTAMP, "When the row was recorded"),
    ),
    partition_by=("cluster", "date"),
    time_column="from",
    statistics_columns=2,  # as in flows
    recorded='coalesce(recorded, "to")',
)
