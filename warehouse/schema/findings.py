"""The table `findings`: what users should look at. No I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import TIMESTAMP, Table, column, partition_columns

ERASURES = ("erasure_begun", "erased")
"""Kinds of findings about erasing a namespace's history: before the first row is deleted, and once all rows are deleted."""

FINDINGS = Table(
    name="findings",
    doc="What pipelines found that users should look at: one row for each time it is found.",
    columns=(
        *partition_columns(),
        column("time", TIMESTAMP, "When it was found"),
        column("kind", pa.string(), "What it is, e.g. erased, pipeline_failed, drift"),
        column("severity", pa.string(), "info, low, medium, high or critical"),
        column("namespace", pa.string(), "Namespace it is about; null if it is about the whole cluster"),
        column("subject", pa.string(), "What it is about: an object as kind/name, a table, a DAG's task"),
        column("summary", pa.string(), "Description for users"),
        column("detail", pa.string(), "Details, as a JSON object; null if there are none"),
        column("source", pa.string(), "What found it: the command or DAG"),
    ),
    partition_by=("cluster", "date"),
    recorded='"time"',
)
