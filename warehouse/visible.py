"""Relations and rows of what a scope shows of the lake's tables. The rule itself is warehouse.scoping's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse import engine, scoping
from warehouse.access import Scope
from warehouse.engine import Window
from warehouse.schema import COVERAGE, TIMESTAMP, Table
from warehouse.tables import Lake

LAID_OUT = "day-"
"""How the names of files begin that hold a closed day in its final layout (docs/layout.md)."""
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
    parts = {table.name: files}
    if not scope.everything and scoping.has_two_sides(table):
        # Only in a day's final layout can row groups be left out for either end.
        laid_out = [file for file in files if PurePosixPath(file).name.startswith(LAID_OUT)]
        others = {f"{table.name}_as_they_came": [file for file in files if file not in set(laid_out)]}
        parts = others if not laid_out else {table.name: laid_out} | (others if len(laid_out) < len(files) else {})
    found: list[str] = []
    shown: list[str] = []
    for name, some in parts.items():
        found.append(engine.relation(name, engine.query_of(connection, lake, table, some, name, as_of=window.as_of)))
        here, apart = replace(table, name=name), name == table.name
        shown.append(scoping.visible(scope, here, window, seen, peer_detail=peer_detail, columns=columns, ends_apart=apart))
    return [*found, engine.relation(f"visible_{table.name}", " UNION ALL ".join(shown))], len(files)


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
