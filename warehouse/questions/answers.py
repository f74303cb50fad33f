"""The answer to a question: its rows, and the coverage and sources needed to judge how far to trust them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from warehouse.access import visible
from warehouse.access.sight import Sight
from warehouse.engine import Window
from warehouse.records.coverage import NodeCoverage, cluster_shares, flows_lost, flows_lost_undated, node_coverage
from warehouse.schema import COVERAGE, FLOWS
from warehouse.wording import counted


class Coverage(tuple[NodeCoverage, ...]):
    """The coverage of each node in a window, and the losses in it, also those of nodes that are not known."""

    flows_lost: Mapping[str, int]
    """Number of flows known lost in the window, by cluster, without losses of unknown time."""
    flows_lost_undated: int
    """Number of flows lost at an unknown time that may lie in the window, also of nodes that are not known."""

    def __new__(
        cls, nodes: Iterable[NodeCoverage] = (), flows_lost: Mapping[str, int] | None = None, flows_lost_undated: int = 0
    ) -> Coverage:
        made = super().__new__(cls, nodes)
        made.flows_lost = flows_lost or {}
        made.flows_lost_undated = flows_lost_undated
        return made


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The rows of an answer, and what is needed to judge how far to trust them."""

    rows: pa.Table
    cut: bool = False
    """True if there were more rows than the limit."""
    window: Window
    """The span of time that was read."""
    coverage: Coverage = field(default_factory=Coverage)
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
        """The number of flows known to be lost in the window, also of nodes that are not known."""
        return sum(self.coverage.flows_lost.values())

    @property
    def losses(self) -> str:
        """The flows known lost, in words for users; empty if there are none."""
        dated = f"{counted(self.flows_lost, 'flow')} known lost" if self.flows_lost else ""
        undated = f"{counted(self.coverage.flows_lost_undated, 'flow')} lost at an unknown time, perhaps in this window"
        return ", ".join(part for part in (dated, undated if self.coverage.flows_lost_undated else "") if part)


@dataclass(frozen=True, kw_only=True)
class LakeSummary:
    """The size of a lake and the span of its flows."""

    bytes: int | None
    files: int | None
    """Totals over all tables; None for a principal who does not see everything."""
    oldest: datetime | None
    """The time of the oldest flow."""
    newest: datetime | None


SECONDS = 5.0
"""For how long the coverage of a window is remembered. It depends on the ledger, and on whether collectors are alive now."""
_MOST = 8
_REMEMBERED: OrderedDict[Hashable, tuple[float, Coverage]] = OrderedDict()
_LOCK = threading.Lock()


def coverage_of(sight: Sight, rows: pa.Table | None = None) -> Coverage:
    """Return the coverage of each node in a sight's window; empty if the window has no start.

    Pass the ledger rows of that sight as `rows` if they have already been read. The questions of a page are about the same window and
    are answered one after the other, so the answer is remembered for SECONDS, for the same scope and as long as the ledger has not
    changed. Raises LakeError.
    """
    if sight.window.since is None:
        return Coverage()
    version = sight.lake.version(COVERAGE)  # before its rows are read
    key = (sight.lake.address(COVERAGE), version, sight.scope, sight.clusters, sight.window)
    with _LOCK:
        kept = _REMEMBERED.get(key)
    if kept is not None and time.monotonic() - kept[0] < SECONDS:
        return kept[1]
    found = _computed(sight, sight.window.since, rows)
    with _LOCK:
        _REMEMBERED[key] = (time.monotonic(), found)
        while len(_REMEMBERED) > _MOST:
            _REMEMBERED.popitem(last=False)
    return found


def _computed(sight: Sight, since: datetime, rows: pa.Table | None) -> Coverage:
    window = sight.window
    now = datetime.now(UTC) if window.as_of is None else window.as_of.instant
    until = min(window.until or now, now)
    if until <= since:
        return Coverage()
    rows = visible.ledger(sight) if rows is None else rows
    bounds = since, until
    return Coverage(node_coverage(rows, *bounds, now=now), flows_lost(rows, *bounds), flows_lost_undated(rows, *bounds))
