"""The table `reports`: which reports were made, for whom, and what verifying them said. No I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Table, column

REPORTS = Table(
    name="reports",
    doc="Reports that were made: one row when a report is made and one each time it is verified. Administrators see all rows, "
    "auditors all but what may hold labels, owners the reports that were made for them.",
    columns=(
        column("date", pa.date32(), "Day of `time`, UTC"),
        column("time", TIMESTAMP, "When it was made, or verified"),
        column("id", pa.string(), "Id of the report, the same in all its rows"),
        column(
            "event",
            pa.string(),
            "made, identical (made again from the lake, it said the same) or differs (it did not: see `detail`)",
        ),
        column("report", pa.string(), "Name of the report: fleet, owner, ... or that of a report of your own"),
        column("title", pa.string(), "Its title"),
        column("made_by", pa.string(), "Who made or verified it: a user, a DAG"),
        column("made_for", pa.string(), "The subject whose ownership it was made within, as user or group:NAME; null for the platform"),
        column("groups", STRINGS, "Groups of the subject"),
        column("since", TIMESTAMP, "Start of its window"),
        column("until", TIMESTAMP, "End of its window, exclusive"),
        column("known", TIMESTAMP, "The report holds what the lake had recorded by this time"),
        column("formats", STRINGS, "Its formats: html, csv, json, parquet, oscal"),
        column("manifest_hash", pa.string(), "SHA-256 of the manifest, which has the hash of every part"),
        column("manifest", pa.string(), "The manifest, as JSON; null in rows about verifying"),
        column("files", pa.binary(), "All files of the report, as a ZIP archive; null in rows about verifying"),
        column("detail", pa.string(), "What differed, one sentence a line; null otherwise"),
    ),
    partition_by=("date",),
    statistics_columns=3,
    recorded='"time"',
)
