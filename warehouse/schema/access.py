"""The table `access_log`: who looked at whose flows. It does no I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Table, column

ACCESS_LOG = Table(
    name="access_log",
    doc="Who looked at whose flows: one row a question, answered or not. Auditors see all of it, owners who looked at theirs.",
    columns=(
        column("date", pa.date32(), "Day of `time`, UTC"),
        column("time", TIMESTAMP, "When it was asked"),
        column("principal", pa.string(), "User who asked, as signed in; operator for who runs the command line on the lake's own files"),
        column("groups", STRINGS, "Groups of the user"),
        column("purpose", pa.string(), "Where it was asked: a command, a page, a report, an API"),
        column("question", pa.string(), "Named query, e.g. flows, timeline, values, sql"),
        column("text", pa.string(), "The SQL, or the conditions as JSON; null for none"),
        column("namespaces", STRINGS, "What could be seen, as cluster/namespace with * and ?: the conditions' or else the principal's own"),
        column("since", TIMESTAMP, "Start of the window asked about; null for no bound"),
        column("until", TIMESTAMP, "End of the window asked about, exclusive; null for no bound"),
        column(
            "outcome",
            pa.string(),
            "answered, denied, refused (no such question can be answered), stopped (it ran into a limit) or failed (an error of ours)",
        ),
        column("detail", pa.string(), "Why it was not answered; null if it was"),
        column("rows", pa.int64(), "Rows given", unit="rows"),
        column("seconds", pa.float64(), "How long it took", unit="s"),
    ),
    partition_by=("date",),
    recorded='"time"',
)
