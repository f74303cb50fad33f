"""The table `deliveries`: which messages were sent where, and whether they arrived. No I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Table, column

DELIVERIES = Table(
    name="deliveries",
    doc="Which reports and alerts were sent where: one row for each message and target, whether it arrived or not.",
    columns=(
        column("date", pa.date32(), "Day of `time`, UTC"),
        column("time", TIMESTAMP, "When the delivery ended"),
        column("message", pa.string(), "Id of the message, the same at every target and if it is sent again"),
        column("target", pa.string(), "Name of the target in the configuration's `deliveries`"),
        column("kind", pa.string(), "folder, smtp, slack or webhook"),
        column("title", pa.string(), "Title of the message"),
        column("made_for", pa.string(), "Principal whose rights the message was made with: a user, group:NAME, or operator"),
        column("source", pa.string(), "What sent it: the command or DAG"),
        column("files", STRINGS, "Names of the files that were sent with it"),
        column("bytes", pa.int64(), "Size of the text and the files", unit="bytes"),
        column(
            "outcome",
            pa.string(),
            "delivered; partly (some recipients of an e-mail were refused); failed; denied (not everyone who reads at the target may see it)",
        ),
        column("tries", pa.int32(), "How often it was tried; 0 if it was denied"),
        column("detail", pa.string(), "Why it was not delivered, or not to all recipients; null if it was"),
        column("seconds", pa.float64(), "How long it took, with all tries", unit="s"),
        column(
            "tells", STRINGS, "Digests of the alerts that it tells, each of the alert, when it fired, and whether it fires or has ended"
        ),
    ),
    partition_by=("date",),
    recorded='"time"',
    version=2,
)
