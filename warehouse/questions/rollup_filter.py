"""SQL over the rows of rollups for those conditions of a filter that rollups can apply. Pure. The relation is already limited in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.time_buckets import HOUR
from warehouse.schema import EDGES_1H, TIMELINE_1M

TIMELINE, EDGES = f"visible_{TIMELINE_1M.name}", f"visible_{EDGES_1H.name}"
"""The relations that questions over these rollups read."""
_SIDES = ("source", "destination")


def is_on_timeline(wanted: FlowFilter, *, of_moments: bool = False) -> bool:
    """Whether timeline_1m has every column that the filter needs; as of a moment only if `of_moments`."""
    if not is_of_rollups(wanted, of_moments=of_moments):
        return False
    return not (wanted.pods or wanted.ips or wanted.ports or wanted.nodes or wanted.conditions)


def is_of_rollups(wanted: FlowFilter, *, of_moments: bool) -> bool:
    """Whether rollups may answer at all: about what is known now, and as of a moment if `of_moments`, but never as of a version."""
    return wanted.as_of is None or (of_moments and wanted.as_of.version is None)


def is_by_hour(wanted: FlowFilter, width: timedelta = HOUR) -> bool:
    """Whether whole hours of edges_1h can answer with time buckets of this width.

    The source of an edge opened the connection; it did not necessarily send the flow. A filter by one side needs the minutes.
    """
    return width >= HOUR and not (wanted.source_namespaces or wanted.destination_namespaces)


def timeline_refusal(wanted: FlowFilter) -> str | None:
    """Return why timeline_1m alone cannot answer for the filter; None if it can."""
    if is_on_timeline(wanted, of_moments=True):
        return None
    return "minutes are stored by cluster, namespace, verdict and drop reason only: remove the other filters"


def edges_refusal(wanted: FlowFilter) -> str | None:
    """Return why edges_1h alone cannot answer for the filter; None if it can."""
    lacking = {"pods": wanted.pods, "ips": wanted.ips, "nodes": wanted.nodes}
    unsupported = [name for name, listed in lacking.items() if listed] + [str(condition) for condition in wanted.conditions]
    return f"edges cannot be filtered by {' or '.join(unsupported)}: remove that, or query flows" if unsupported else None


def rows(relation: str, wanted: FlowFilter) -> tuple[str, list[Any]]:
    """Return the query for the rows of a rollup that match the filter, with placeholders, and their values.

    A condition on either end becomes one scan per end, as in `flow_filter.matching`.
    """
    where, values = among(
        [
            (["cluster"], wanted.clusters),
            (["source_namespace"], wanted.source_namespaces),
            (["destination_namespace"], wanted.destination_namespaces),
            (["verdict"], wanted.verdicts),
            (["drop_reason_desc"], wanted.drop_reasons),
            (["destination_port"], wanted.ports),
        ]
    )
    if not wanted.namespaces:
        return f"SELECT * FROM {relation} WHERE {where}", values
    marks = ", ".join("?" * len(wanted.namespaces))
    first, second = (f"{side}_namespace IN ({marks})" for side in _SIDES)
    scans = [f"SELECT * FROM {relation} WHERE {where} AND {part}" for part in (first, f"{second} AND NOT coalesce({first}, false)")]
    return " UNION ALL ".join(scans), [*values, *wanted.namespaces, *values, *wanted.namespaces, *wanted.namespaces]


def among(conditions: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> tuple[str, list[Any]]:
    """Return the condition that, for each pair, any of its columns has any of its values; a pair without values is ignored."""
    parts: list[str] = ["true"]
    placed: list[Any] = []
    for columns, listed in conditions:
        if listed:
            marks = ", ".join("?" * len(listed))
            parts.append("(" + " OR ".join(f"{column} IN ({marks})" for column in columns) + ")")
            placed.extend([*listed] * len(columns))
    return " AND ".join(parts), placed
