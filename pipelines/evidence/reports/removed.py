"""Says which rows left the lake since a report was made: by which finding about an erasure, or which commit of retention."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipelines.evidence.reports import words
from pipelines.evidence.reports.asked import ReportOf
from warehouse.lake.tables import Lake
from warehouse.schema import ERASURES, FINDINGS, FLOWS, TABLES


def since(lake: Lake, request: ReportOf, described: Mapping[str, Any]) -> list[str]:
    """Return sentences about rows of the report's window that were removed after it was made. Raises LakeError."""
    made = datetime.fromisoformat(described["made"])
    return [*_erased(lake, request, made), *_retained(lake, request, described)]


def _erased(lake: Lake, request: ReportOf, made: datetime) -> list[str]:
    found = []
    for row in lake.read(FINDINGS, since=made).sort_by("time").to_pylist():
        if row["kind"] not in ERASURES:
            continue
        detail = json.loads(row["detail"] or "{}")
        begin, end = (datetime.fromisoformat(detail[name]) if detail.get(name) else None for name in ("since", "until"))
        if (begin is None or begin < request.until) and (end is None or end > request.since):
            found.append(
                f"erasure: finding {row['kind']} of {row['time']:%Y-%m-%d %H:%M:%S} UTC about {row['cluster']}/{row['namespace']}: "
                f"{row['summary']} (reason: {detail.get('reason', 'none given')})"
            )
    return found


def _retained(lake: Lake, request: ReportOf, described: Mapping[str, Any]) -> list[str]:
    found = []
    for name, version in described["tables"].items():
        table = TABLES.get(name)
        if table is None:
            continue
        for removal in lake.removals(table, after=version):
            days = sorted({(cluster, day) for cluster, day in removal.partitions if request.since.date() <= day <= request.until.date()})
            if removal.why == "retention" and days:
                listed = ", ".join(f"{cluster} {day}" for cluster, day in days)
                found.append(
                    f"retention: version {removal.version} of {name}, committed {words.moment(removal.time)}, removed rows of {listed}"
                )
    if not found:
        oldest, _ = lake.span(FLOWS)
        if oldest is not None and oldest > request.since:
            found.append(f"the oldest flow in the lake is of {words.moment(oldest)}, after the start of the report's window")
    return found
