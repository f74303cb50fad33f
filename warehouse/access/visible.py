"""Relations and rows of the lake's tables, limited to what a scope shows. The rules themselves belong to warehouse.access.scoping."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse import table_views
from warehouse.access import labels, scoping
from warehouse.access.principals import Scope
from warehouse.access.sight import Sight
from warehouse.engine import Window
from warehouse.errors import QueryLimitError
from warehouse.schema import COVERAGE, TIMESTAMP, Table

LAID_OUT = "day-"
"""File name prefix of closed days in their final layout (docs/layout.md)."""
ROWS_AT_ONCE, ROWS_IN_ORDER = 65_536, 100_000
LONGEST_ROW = timedelta(days=1)
"""No row of the ledger is longer than this, so a row that overlaps a window starts at most this long before it."""


@dataclass(frozen=True, kw_only=True)
class Visible:
    """The relations that a question reads."""

    relations: tuple[str, ...]
    """Relations as returned by `table_views.relation`; the last one is `visible_TABLE`."""
    parts: Mapping[str, bool]
    """The relations that make up `visible_TABLE`, and for each whether it is worth scanning it once per side."""
    files: int
    """The number of files that may be read."""


def relations(connection: Any, sight: Sight, table: Table, *, completed: Callable[[str], str] | None = None) -> Visible:
    """Return the relations that hold what a principal sees of a table. Questions must read only these. Raises LakeError.

    `completed` turns a query for the table's rows into one that fills in values from other rows, before anything is hidden.
    """
    lake, scope, window = sight.lake, sight.scope, sight.window
    seen = scoping.clusters_seen(scope, lake.clusters(table) if "cluster" in table.partition_by else ())
    seen = [cluster for cluster in seen if not sight.clusters or cluster in sight.clusters]
    files = table_views.files_of(lake, table, window, None if scope.everything and not sight.clusters else seen)
    found: list[str] = []
    parts: dict[str, bool] = {}
    for name, some, apart in _parts(table, files):
        rows = table_views.query_of(connection, lake, table, some, name, as_of=window.as_of)
        found.append(table_views.relation(name, rows if completed is None else completed(rows)))
        here = replace(table, name=name)
        shown = scoping.visible(scope, here, window, seen, peer_detail=sight.peer_detail, columns=sight.columns, ends_apart=apart)
        found.append(table_views.relation(f"visible_{name}", shown))
        parts[name] = apart
    if len(parts) > 1:
        found.append(table_views.relation(f"visible_{table.name}", " UNION ALL ".join(f"FROM visible_{name}" for name in parts)))
    return Visible(relations=tuple(found), parts={f"visible_{name}": apart for name, apart in parts.items()}, files=len(files))


def without_labels(scope: Scope, table: Table, rows: pa.Table, is_shown: Callable[[Mapping[str, Any], Scope], bool]) -> pa.Table:
    """Return rows without the labels that the scope includes only as an auditor. `is_shown` tells whether a scope shows a row.

    For rows that were not read from `visible_TABLE`, where these labels are already removed.
    """
    if scope.reads_every_label:
        return rows
    own = scope.without_audits
    return labels.stripped(table, rows, lambda row: is_shown(row, own))


def reader(connection: Any, shown: Visible, table: Table, *, most_rows: int | None) -> pa.RecordBatchReader:
    """Return the rows of `visible_TABLE` for SQL written by a user; raises QueryLimitError if there are more than `most_rows`.

    Rows are ordered by time and then by the visible columns only, because the order in the files could reveal hidden columns.
    With None, for a principal who sees everything, rows come in stored order.
    """
    named, view = f"WITH {', '.join(shown.relations)}", f"visible_{table.name}"
    if most_rows is None:
        return connection.sql(f"{named} FROM {view}").to_arrow_reader(ROWS_AT_ONCE)
    time = f'"{table.time_column}"'
    minutes = connection.sql(
        f"{named} SELECT epoch_us(time_bucket(INTERVAL 1 minute, {time})), count(*) FROM {view} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    if sum(rows for _, rows in minutes) > most_rows:
        raise QueryLimitError(f"you have more than {most_rows:,} rows in this window, which need too much memory: ask for less time")
    ordered = f"{named} SELECT r.* FROM {view} r WHERE epoch_us({time}) >= ? AND epoch_us({time}) < ? ORDER BY {time}, hash(r)"

    def batches() -> Iterator[pa.RecordBatch]:
        for span in _spans(minutes):
            yield from connection.sql(ordered, params=span).to_arrow_reader(ROWS_AT_ONCE)

    return pa.RecordBatchReader.from_batches(connection.sql(f"{named} FROM {view} LIMIT 0").to_arrow_table().schema, batches())


def _spans(minutes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans of time (in microseconds) to sort one by one, each with at most ROWS_IN_ORDER rows or one minute long."""
    spans: list[tuple[int, int]] = []
    rows = ROWS_IN_ORDER
    for minute, more in minutes:
        end = minute + 60_000_000
        if rows + more > ROWS_IN_ORDER:
            spans.append((minute, end))
            rows = more
        else:
            spans[-1] = (spans[-1][0], end)
            rows += more
    return spans


def _parts(table: Table, files: Sequence[str]) -> list[tuple[str, list[str], bool]]:
    """Split the files by layout: row groups can be pruned by either side only in a day's final layout."""
    laid_out = [file for file in files if PurePosixPath(file).name.startswith(LAID_OUT)]
    if not scoping.has_two_sides(table) or not laid_out or len(laid_out) == len(files):
        return [(table.name, list(files), bool(laid_out))]
    others = sorted(set(files) - set(laid_out))
    return [(f"{table.name}_laid_out", laid_out, True), (f"{table.name}_as_they_came", others, False)]


def ledger(sight: Sight) -> pa.Table:
    """Return the rows of `coverage` that overlap the window, for clusters that the principal may know of. Raises LakeError."""
    margin = with_margin(sight.window)
    rows = sight.lake.read_cached(COVERAGE, sight.clusters or None, margin.since, margin.until)
    if sight.window.as_of is not None:
        rows = rows.filter(pc.field("recorded").is_null() | (pc.field("recorded") <= pa.scalar(sight.window.as_of.instant, TIMESTAMP)))
    seen = {cluster: sight.scope.sees_cluster(cluster) for cluster in rows.column("cluster").unique().to_pylist()}
    return rows.filter(pa.array([seen[cluster] for cluster in rows.column("cluster").to_pylist()], pa.bool_()))


def with_margin(window: Window) -> Window:
    """Return the window in which rows of `coverage` start that overlap the given window."""
    return replace(window, since=window.since and window.since - LONGEST_ROW)
