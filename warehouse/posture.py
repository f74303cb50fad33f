"""Reads the record of posture: the drift that is open and the fleet's controls, now or at any past time.

Writing it is pipelines' work; who may see which rows is the query door's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from warehouse.schema import DRIFT, POSTURE, Table
from warehouse.tables import Lake

DRIFT_KEY = ("cluster", "drift", "blueprint", "kind", "namespace", "name")
"""What names a drift as long as it is open."""
CONTROL_KEY = ("cluster", "control")


def open_drift(lake: Lake, *, at: datetime | None = None, clusters: Iterable[str] | None = None) -> pa.Table:
    """Rows of the drift that is open, or was at a time, by cluster and object. Raises LakeError."""
    rows = [row for row in _newest(lake, DRIFT, DRIFT_KEY, at, clusters) if row["state"] == "open"]
    order = ("cluster", "namespace", "kind", "name", "drift")
    return pa.Table.from_pylist(sorted(rows, key=lambda row: [str(row[name] or "") for name in order]), schema=DRIFT.schema)


def controls(lake: Lake, *, at: datetime | None = None, clusters: Iterable[str] | None = None) -> pa.Table:
    """The newest row of each cluster and control, of now or of a time. Raises LakeError."""
    rows = sorted(_newest(lake, POSTURE, CONTROL_KEY, at, clusters), key=lambda row: (row["cluster"], row["control"]))
    return pa.Table.from_pylist(rows, schema=POSTURE.schema)


def _newest(
    lake: Lake, table: Table, key: Sequence[str], at: datetime | None, clusters: Iterable[str] | None
) -> Iterable[Mapping[str, Any]]:
    until = None if at is None else at + timedelta(microseconds=1)
    newest: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in lake.read(table, clusters=clusters, until=until).to_pylist():
        name = tuple(row[column] for column in key)
        if name not in newest or newest[name]["time"] <= row["time"]:
            newest[name] = row
    return newest.values()
