"""A principal's view of a lake. Everything that reads the lake on behalf of a principal gets this object."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from warehouse.access.principals import Principal, Scope
from warehouse.engine import Window
from warehouse.lake.tables import Lake


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one principal may see of a lake while one question is answered."""

    principal: Principal
    lake: Lake
    scope: Scope
    """What the principal may see under the grants in force now."""
    peer_detail: str
    """How much detail an owner sees of the other side of a flow: one of `redaction.LEVELS`."""
    window: Window
    """The span of time that the question is about."""
    clusters: tuple[str, ...] = ()
    """The clusters that the question is about; empty means all."""
    columns: frozenset[str] | None = None
    """The columns that the question reads; None means all. The fewer there are, the faster DuckDB plans the query."""

    def within(self, window: Window) -> Sight:
        """Return the same sight for another span of time."""
        return replace(self, window=window)

    def of_clusters(self, clusters: Sequence[str]) -> Sight:
        """Return the same sight for the named clusters, or for all if none are named."""
        return replace(self, clusters=tuple(clusters))

    def of_columns(self, columns: Collection[str]) -> Sight:
        """Return the same sight for the named columns only."""
        return replace(self, columns=frozenset(columns))
