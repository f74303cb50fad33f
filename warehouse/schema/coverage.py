"""The table `coverage`: the ledger of what was seen and what was not. It does no I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import TIMESTAMP, Table, column, partition_columns

COVERAGE = Table(
    name="coverage",
    doc="The ledger of what was seen and what was not. Rows of one node may touch; the states answer different questions and may overlap.",
    columns=(
        *partition_columns("from"),
        column("from", TIMESTAMP, "Start of the interval, inclusive"),
        column("to", TIMESTAMP, "End of the interval, exclusive"),
        column("node_name", pa.string(), "Node, named as in flows; null where the row is about the whole cluster"),
        column(
            "state",
            pa.string(),
            "connected (observed), lost (a LostEvent), gap (inferred), disconnected (no stream), node_unavailable (relay had no stream to "
            "the node), joined (the node's agent started), left (the node is gone; it left between `from` and `to`), "
            "collecting (the collector was at work and had nothing else to record)",
        ),
        column(
            "source",
            pa.string(),
            "What says so: stream, relay, heartbeat, import, PERF_EVENT_RING_BUFFER, OBSERVER_EVENTS_QUEUE, HUBBLE_RING_BUFFER, ring_overrun, node_restart, spool_full, spool_unreadable, decode, ...",
        ),
        column(
            "flows_received",
            pa.int64(),
            "Flows stored that were received in the interval; null where that has no meaning",
            unit="flows",
        ),
        column("flows_lost", pa.int64(), "Flows known lost in the interval; null if the number is not known", unit="flows"),
        column("detail", pa.string(), "A sentence for people"),
        column("recorded", TIMESTAMP, "When the row was recorded"),
    ),
    partition_by=("cluster", "date"),
    time_column="from",
    recorded='coalesce(recorded, "to")',
)
