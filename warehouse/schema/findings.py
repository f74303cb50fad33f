"""The table `findings`: what users should look at. No I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import TIMESTAMP, Table, column, partition_columns

ERASURES = ("erasure_begun", "erased")
"""Kinds of findings about erasing a namespace's history: before the first row is deleted, and once all rows are deleted."""

FINDINGS = Table(
    name="findings",
    doc="What pipelines found that users should look at. Of a finding with a `key`, such as those of policy audits, one row when it opens, "
    "when it changes, when someone accepts or reopens it and when it is closed: the newest row of a (cluster, key) is its current state. "
    "Others have one row each time.",
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
        column("key", pa.string(), "What identifies the finding within its cluster while it is open; null if it does not stay open"),
        column(
            "state",
            pa.string(),
            "open; acknowledged (someone accepts it until `expires`, after which it counts as open); closed (it is gone since `time`); "
            "null if it does not stay open",
        ),
        column("since", TIMESTAMP, "When it was first found; constant while it is open; null if it does not stay open"),
        column("by", pa.string(), "Who accepted or reopened it; null for what pipelines found"),
        column("reason", pa.string(), "Why it is accepted or was reopened, in words for users"),
        column("expires", TIMESTAMP, "Until when it is accepted; null if it is not"),
    ),
    partition_by=("cluster", "date"),
    recorded='"time"',
    version=3,
)
