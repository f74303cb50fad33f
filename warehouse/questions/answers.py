"""What a question is answered with: rows, and what has to be known to trust them. Asking is warehouse.questions.door's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from warehouse.engine import Window
from warehouse.records.coverage import NodeCoverage, cluster_shares
from warehouse.schema import FLOWS


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Rows, and what has to be known to trust them."""

    rows: pa.Table
    cut: bool
    """True if there were more rows than the limit."""
    window: Window
    """The span of time that was looked at."""
    coverage: tuple[NodeCoverage, ...]
    """Of the nodes of the clusters asked for, in the window; empty where the window has no bounds."""
    files: int
    seconds: float
    source: str = FLOWS.name
    """The tables that the rows come from: a rollup is named where it stands in for flows."""

    @property
    def shares(self) -> dict[str, float]:
        """Each cluster's share of the time in which its nodes were expected to be observed, 0 to 1."""
        return cluster_shares(list(self.coverage))

    @property
    def flows_lost(self) -> int:
        """Flows known lost in the window."""
        return sum(node.flows_lost for node in self.coverage)


@dataclass(frozen=True, kw_only=True)
class LakeSummary:
    """The lake from outside."""

    bytes: int | None
    files: int | None
    """Of all tables; None for who does not see everything."""
    oldest: datetime | None
    """Time of the oldest flow."""
    newest: datetime | None
