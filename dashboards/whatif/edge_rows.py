"""Rows of a simulation as the page shows them: the same edge of several clusters in one row, with names, owners and filters. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboards.edges import edges
from dashboards.edges.edges import OUTSIDE
from pipelines.replay.changed_edges import END_COLUMNS, ChangedEdge, Shown
from pipelines.replay.outcomes import Change
from warehouse.questions.conditions import Condition

CHANGES = {
    Change.NEWLY_DENIED: "✕ Newly denied",
    Change.NEWLY_ALLOWED: "✓ Newly allowed",
    Change.UNCERTAIN: "? Uncertain",
    Change.UNCHANGED: "= Unchanged",
}
"""A sign and words for each change, in the order in which they matter."""


@dataclass(frozen=True, kw_only=True)
class EdgeRow:
    """One edge and what becomes of it, in one or more clusters."""

    change: Change
    source: Shown
    destination: Shown
    port: int | None
    protocol: str | None
    clusters: tuple[str, ...]
    flows: int
    first_seen: datetime
    last_seen: datetime
    owners: tuple[str, ...]
    rules: tuple[str, ...]
    reason: str
    before: str
    after: str

    def __str__(self) -> str:
        port = f" :{self.port}" if self.port is not None else f" {self.protocol}" if self.protocol else ""
        return f"{title(self.source)} → {title(self.destination)}{port}"

    @property
    def key(self) -> str:
        """What names the row in an address."""
        parts = (self.change, *self.source, *self.destination, self.port, self.protocol)
        return "|".join("" if part is None else str(part) for part in parts)


def of_row(row: Mapping[str, Any]) -> str:
    """Return the words for an edge of `proposed_edges`, or of `ChangedEdge.row`."""
    columns = ("cluster_name", *END_COLUMNS)
    source, destination = (title(tuple(row[f"{side}_{name}"] for name in columns)) for side in ("source", "destination"))
    port = row["destination_port"] or row["l4_protocol"] or ""
    return f"{source} → {destination} :{port}" if port else f"{source} → {destination}"


def rows_of(found: Iterable[ChangedEdge]) -> list[EdgeRow]:
    """Return the edges, those of several clusters added up, in the order of CHANGES and by flows."""
    groups: dict[tuple[Any, ...], list[ChangedEdge]] = {}
    for edge in found:
        groups.setdefault((edge.change, edge.source, edge.destination, edge.destination_port, edge.l4_protocol), []).append(edge)
    order = list(CHANGES)
    return sorted((_row(group) for group in groups.values()), key=lambda row: (order.index(row.change), -row.flows, str(row)))


def _row(group: Sequence[ChangedEdge]) -> EdgeRow:
    largest = max(group, key=lambda edge: edge.flows)
    return EdgeRow(
        change=largest.change,
        source=largest.source,
        destination=largest.destination,
        port=largest.destination_port,
        protocol=largest.l4_protocol,
        clusters=tuple(sorted({edge.cluster for edge in group})),
        flows=sum(edge.flows for edge in group),
        first_seen=min(edge.first_seen for edge in group),
        last_seen=max(edge.last_seen for edge in group),
        owners=tuple(sorted({owner for edge in group for owner in edge.owners})),
        rules=largest.rules,
        reason=largest.reason,
        before=largest.before,
        after=largest.after,
    )


def title(shown: Shown) -> str:
    """An end as people call it."""
    cluster, namespace, workload, entity, dns_name, cidr = shown
    where = f"{cluster}:" if cluster else ""
    if namespace:
        return where + (f"{namespace}/{workload}" if workload else namespace)
    return where + (dns_name or cidr or entity or "unknown")


def filter_of(row: EdgeRow, owns: Callable[[str], bool]) -> list[Condition]:
    """Conditions that find the row's flows, in its clusters only."""
    found = [Condition(field="cluster", operator="=", values=row.clusters)]
    for side, shown in (("source", row.source), ("destination", row.destination)):
        found += _filter_of_end(shown, side, owns)
    if row.port is not None:
        found.append(Condition(field="port", operator="=", values=(str(row.port),), side="destination"))
    if row.protocol:
        found.append(Condition(field="protocol", operator="=", values=(row.protocol,)))
    return found


def _filter_of_end(shown: Shown, side: Any, owns: Callable[[str], bool]) -> list[Condition]:
    _, namespace, workload, entity, dns_name, cidr = shown
    if namespace:
        return edges.conditions_of(edges.End(namespace, workload or ""), side, owns)
    if cidr and not dns_name:
        return [Condition(field="ip", operator="=", values=(cidr.removesuffix("/32").removesuffix("/128"),), side=side)]
    return edges.conditions_of(edges.End(OUTSIDE, dns_name or entity or ""), side, owns)
