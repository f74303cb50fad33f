"""Says which rows left the lake since a report was made: by which finding about an erasure, or which commit of retention.

The report's subject is told of erasures of what the subject owned then, and of clusters that the subject may know of; of other erasures
only that rows were removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pipelines.evidence.reports import words
from pipelines.evidence.reports.asked import ReportOf
from warehouse.access.principals import Scope
from warehouse.lake.tables import Lake
from warehouse.schema import ERASURES, FINDINGS, FLOWS, TABLES


def since(lake: Lake, request: ReportOf, described: Mapping[str, Any], scope: Scope) -> list[str]:
    """Return sentences about rows of the report's window that were removed after it was made. Raises LakeError."""
    made = datetime.fromisoformat(described["made"])
    return [*_erased(lake, request, made, scope), *_retained(lake, request, described, scope)]


def _erased(lake: Lake, request: ReportOf, made: datetime, scope: Scope) -> list[str]:
    found, others = [], False
    for row in lake.read(FINDINGS, since=made).sort_by("time").to_pylist():
        if row["kind"] not in ERASURES:
            continue
        detail = json.loads(row["detail"] or "{}")
        begin, end = (datetime.fromisoformat(detail[name]) if detail.get(name) else None for name in ("since", "until"))
        begin, end = max(begin or request.since, request.since), min(end or request.until, request.until)
        if begin >= end:
            continue
        if all(_owned(scope, row, at) for at in (begin, end - timedelta(microseconds=1))):
            found.append(
                f"erasure: finding {row['kind']} of {row['time']:%Y-%m-%d %H:%M:%S} UTC about {row['cluster']}/{row['namespace']}: "
                f"{row['summary']} (reason: {detail.get('reason', 'none given')})"
            )
        else:
            others = others or scope.sees_cluster(row["cluster"])
    return [*found, "rows were removed"] if others else found


def _owned(scope: Scope, row: Mapping[str, Any], at: datetime) -> bool:
    if row["namespace"] is None:
        return scope.sees_whole(row["cluster"], at)
    return scope.owns(row["cluster"], row["namespace"], at)


def _retained(lake: Lake, request: ReportOf, described: Mapping[str, Any], scope: Scope) -> list[str]:
    found = []
    for name, version in described["tables"].items():
        table = TABLES.get(name)
        if table is None:
            continue
        for removal in lake.removals(table, after=version):
            days = sorted(
                (cluster, day)
                for cluster, day in removal.partitions
                if request.since.date() <= day <= request.until.date() and (scope.everything or scope.sees_cluster(cluster))
            )
            if removal.why == "retention" and days:
                listed = ", ".join(f"{cluster} {day}" for cluster, day in days)
                found.append(
                    f"retention: version {removal.version} of {name}, committed {words.moment(removal.time)}, removed rows of {listed}"
                )
    if not found:
        kept = [file.first for file in lake.contents(FLOWS) if file.first and scope.sees_cluster(file.partition["cluster"])]
        if kept and min(kept) > request.since:
            found.append(f"the oldest flow in the lake is of {words.moment(min(kept))}, after the start of the report's window")
    return found
