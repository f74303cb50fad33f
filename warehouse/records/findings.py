"""Reads findings that stay open: those that are open now, or were at any past time.

Writing them belongs to pipelines; access control belongs to the query door.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.lake.tables import Lake
from warehouse.records.newest import newest
from warehouse.schema import FINDINGS

KEY = ("cluster", "key")
"""The columns that identify a finding while it is open."""


def open_findings(
    lake: Lake, *, at: datetime | None = None, clusters: Iterable[str] | None = None, kinds: Iterable[str] | None = None
) -> pa.Table:
    """Return the findings that are open now, or were at a time, of these kinds if given, by cluster and key. Raises LakeError."""
    rows = newest(lake, FINDINGS, KEY, at=at, clusters=clusters, state="open")
    if kinds is not None:
        rows = rows.filter(pc.is_in(rows["kind"], pa.array(list(kinds), pa.string())))
    return rows.sort_by([("cluster", "ascending"), ("key", "ascending")])
