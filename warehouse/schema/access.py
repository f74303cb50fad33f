"""The table `access_log`: who asked which questions. No I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Table, column

ACCESS_LOG = Table(
    name="access_log",
    doc="Who asked which questions: one row per question, answered or not. Auditors see all rows, owners those about their namespaces.",
    columns=(
        column("date", pa.date32(), "Day of `time`, UTC"),
        column("time", TIMESTAMP, "When the question was asked"),
        column("principal", pa.string(), "User who asked, as signed in; operator for commands that run on the lake's own files"),
        column("groups", STRINGS, "Groups of the user"),
        column("purpose", pa.string(), "Where the question came from: a command, a page, a report, an API"),
        column("question", pa.string(), "Name of the question, e.g. flows, timeline, values, sql"),
        column("text", pa.string(), "The SQL, or the conditions as JSON; null for none"),
        column(
            "namespaces",
            STRINGS,
            "Namespaces that could be seen, as cluster/namespace with * and ?: those in the conditions, else the principal's own",
        ),
        column("since", TIMESTAMP, "Start of the window; null for no bound"),
        column("until", TIMESTAMP, "End of the window, exclusive; null for no bound"),
        column(
            "outcome",
            pa.string(),
            "answered, denied, refused (invalid question), stopped (a limit was exceeded) or failed (an internal error)",
        ),
        column("detail", pa.string(), "Why it was not answered; null if it was"),
        column("rows", pa.int64(), "Rows returned", unit="rows"),
        column("seconds", pa.float64(), "How long answering took", unit="s"),
    ),
    partition_by=("date",),
    recorded='"time"',
)
