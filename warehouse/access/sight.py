"""How one principal sees a lake: the object that everything which reads the lake for someone is given."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from warehouse.access.principals import Principal, Scope
from warehouse.engine import Window
from warehouse.lake.tables import Lake


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one principal sees of a lake while one question is answered."""

    principal: Principal
    lake: Lake
    scope: Scope
    """What the principal may see, by the grants in force now."""
    peer_detail: str
    """How much an owner sees of the other side of a flow: one of `redaction.LEVELS`."""
    window: Window
    """The span of time that the question is about."""
    clusters: tuple[str, ...] = ()
    """The clusters that the question is about; all of them when empty."""
    columns: frozenset[str] | None = None
    """The columns that the question reads; all of the table's for None. The fewer, the sooner DuckDB has planned it."""

    def within(self, window: Window) -> Sight:
        """The same sight of another span of time."""
        return replace(self, window=window)

    def of_clusters(self, clusters: Sequence[str]) -> Sight:
        """The same sight of the named clusters; of all clusters for none."""
        return replace(self, clusters=tuple(clusters))

    def of_columns(self, columns: Collection[str]) -> Sight:
        """The same sight of the named columns alone."""
        return replace(self, columns=frozenset(columns))
