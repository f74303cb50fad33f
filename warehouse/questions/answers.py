"""The answer to a question: its rows, and the coverage and sources needed to judge how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from warehouse.access import visible
from warehouse.access.sight import Sight
from warehouse.engine import Window
from warehouse.records.coverage import NodeCoverage, cluster_shares, node_coverage
from warehouse.schema import FLOWS


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The rows of an answer, and what is needed to judge how far to trust them."""

    rows: pa.Table
    cut: bool = False
    """True if there were more rows than the limit."""
    window: Window
    """The span of time that was read."""
    coverage: tuple[NodeCoverage, ...] = ()
    """The coverage of each node of the requested clusters in the window; empty if the window has no bounds."""
    files: int = 0
    """The number of files in the lake that may have been read for the answer."""
    seconds: float = 0.0
    """How long the answer took, in seconds."""
    source: str = FLOWS.name
    """The tables that the rows come from; names the rollup if one was read instead of flows."""

    @property
    def shares(self) -> dict[str, float]:
        """Each cluster's share of the time in which its nodes were expected to be observed, 0 to 1."""
        return cluster_shares(list(self.coverage))

    @property
    def flows_lost(self) -> int:
        """The number of flows known to be lost in the window."""
        return sum(node.flows_lost for node in self.coverage)


@dataclass(frozen=True, kw_only=True)
class LakeSummary:
    """The size of a lake and the span of its flows."""

    bytes: int | None
    files: int | None
    """Totals over all tables; None for a principal who does not see everything."""
    oldest: datetime | None
    """The time of the oldest flow."""
    newest: datetime | None


def coverage_of(sight: Sight, rows: pa.Table | None = None) -> tuple[NodeCoverage, ...]:
    """Return the coverage of each node in a sight's window; empty if the window has no start.

    Pass the ledger rows of that sight as `rows` if they have already been read. Raises LakeError.
    """
    window, now = sight.window, datetime.now(UTC)
    if window.since is None:
        return ()
    until = min(window.until or now, now)
    if until <= window.since:
        return ()
    return tuple(node_coverage(visible.ledger(sight) if rows is None else rows, window.since, until))
