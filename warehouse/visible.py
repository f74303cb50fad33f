"""Relations and rows of what a scope shows of the lake's tables. The rule itself is warehouse.scoping's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse import engine, scoping
from warehouse.access import Scope
from warehouse.engine import Window
from warehouse.schema import COVERAGE, TIMESTAMP, Table
from warehouse.tables import Lake

LONGEST_ROW = timedelta(days=1)
"""No row of the ledger spans more time: one that touches a window begins at most this long before it."""


def relations(
    connection: Any,
    lake: Lake,
    scope: Scope,
    table: Table,
    window: Window,
    clusters: Sequence[str] = (),
    *,
    peer_detail: str,
    columns: Collection[str] | None = None,
) -> tuple[list[str], int]:
    """The relation `visible_TABLE` of what a scope shows of a table in the window and, where any are named, of the clusters.

    `columns` are those it is to have, all for None. Gives also the number of files it may read. Every question is to be asked
    of such relations alone. Raises LakeError.
    """
    seen = scoping.clusters_seen(scope, lake.clusters(table))
    seen = [cluster for cluster in seen if not clusters or cluster in clusters]
    files = engine.files_of(lake, table, window, None if scope.everything and not clusters else seen)
    query = scoping.visible(scope, table, window, seen, peer_detail=peer_detail, columns=columns)
    stored = engine.query_of(connection, lake, table, files, table.name, as_of=window.as_of)
    return [engine.relation(table.name, stored), engine.relation(f"visible_{table.name}", query)], len(files)


def ledger(lake: Lake, scope: Scope, window: Window, clusters: Sequence[str] = ()) -> pa.Table:
    """The rows of `coverage` that touch a window, of clusters that the scope knows of. Raises LakeError."""
    margin = with_margin(window)
    rows = lake.read_kept(COVERAGE, clusters or None, margin.since, margin.until)
    if window.as_of is not None:
        rows = rows.filter(pc.field("recorded").is_null() | (pc.field("recorded") <= pa.scalar(window.as_of.instant, TIMESTAMP)))
    seen = {cluster: scope.sees_cluster(cluster) for cluster in rows.column("cluster").unique().to_pylist()}
    return rows.filter(pa.array([seen[cluster] for cluster in rows.column("cluster").to_pylist()], pa.bool_()))


def with_margin(window: Window) -> Window:
    """The window in which the rows of `coverage` begin that touch a window."""
    return replace(window, since=window.since and window.since - LONGEST_ROW)
