"""The table `findings`: what people should look at. It does no I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import TIMESTAMP, Table, column, partition_columns

ERASURES = ("erasure_begun", "erased")
"""Kinds that say a namespace's history was taken out, when the first row was about to go and when all had gone."""

FINDINGS = Table(
    name="findings",
    doc="What pipelines found that people should look at: one row each time it is found.",
    columns=(
        *partition_columns(),
        column("time", TIMESTAMP, "When it was found"),
        column("kind", pa.string(), "What it is, e.g. erased, pipeline_failed, drift"),
        column("severity", pa.string(), "info, low, medium, high or critical"),
        column("namespace", pa.string(), "Namespace it is about; null where it is about the whole cluster"),
        column("subject", pa.string(), "What it is about: an object as kind/name, a table, a DAG's task"),
        column("summary", pa.string(), "A sentence for people"),
        column("detail", pa.string(), "More of it, as a JSON object; null for none"),
        column("source", pa.string(), "What found it: the command or DAG"),
    ),
    partition_by=("cluster", "date"),
    recorded='"time"',
)
