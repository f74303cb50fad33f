"""Tables in SQL: views and queries for a table's rows in only the files that a question may need.

Opening the engine and running within limits belong to warehouse.engine, access control to warehouse.access.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb

from warehouse.engine import Elsewhere, Window, literal
from warehouse.lake import time_travel
from warehouse.lake.time_travel import AsOf
from warehouse.schema import FLOWS, Table

if TYPE_CHECKING:
    from warehouse.lake.tables import Lake

_BOUND = r"\(?\"?{name}\"? (>=|>|<=|<|=) '([0-9:.+\- ]+)'::TIMESTAMP WITH TIME ZONE\)?"
_MICROSECOND = datetime.resolution


def add_view(connection: duckdb.DuckDBPyConnection, lake: Lake, table: Table, window: Window, clusters: Sequence[str] | None = None) -> int:
    """Create a view with the table's name over the files that may hold such rows; return their number. Raises LakeError."""
    files = files_of(lake, table, window, clusters)
    add_view_of_files(connection, lake, table, files, as_of=window.as_of)
    return len(files)


def files_of(lake: Lake, table: Table, window: Window, clusters: Sequence[str] | None = None) -> list[str]:
    """Return the files that may hold a table's rows in the window; versions count if they were in force then. Raises LakeError."""
    version = window.as_of.version if window.as_of and table.name == FLOWS.name else None
    return lake.files(table, clusters=clusters, since=None if table.folded_by else window.since, until=window.until, version=version)


def add_view_of_files(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    table: Table,
    files: Sequence[str],
    name: str | None = None,
    *,
    as_stored: bool = False,
    as_of: AsOf | None = None,
) -> None:
    """Create a view over files returned by `files_of`, with the table's name by default.

    If a version is stored with and without its end, the view has only the row with the end, or both with `as_stored`. With `as_of`
    it has what was known then.
    """
    name = name or table.name
    replace_view(connection, name, query_of(connection, lake, table, files, name, as_stored=as_stored, as_of=as_of))


def query_of(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    table: Table,
    files: Sequence[str],
    name: str,
    *,
    as_stored: bool = False,
    as_of: AsOf | None = None,
) -> str:
    """Return the query for a table's rows in its files, as in add_view_of_files, for this connection; `name` must be unique on it."""
    if isinstance(connection, Elsewhere):
        connection.add_files(f"{name}_files", lake, table, files)
        return _selected(table, f"{name}_files", as_stored=as_stored, as_of=as_of)
    if not files:
        return query_of_nothing(table)
    if lake.is_local:
        lacking = lake.files_may_lack_columns(table)
        return query_of_files(table, files, as_stored=as_stored, as_of=as_of, files_may_lack_columns=lacking)
    copies = lake.copies(table, files)
    if len(copies) == len(files):
        lacking = lake.files_may_lack_columns(table)
        return query_of_files(table, sorted(copies.values()), as_stored=as_stored, as_of=as_of, files_may_lack_columns=lacking)
    connection.register(f"{name}_files", lake.dataset(table, list(files)))
    return _selected(table, f"{name}_files", as_stored=as_stored, as_of=as_of)


def query_of_files(
    table: Table, files: Sequence[str], *, as_stored: bool = False, as_of: AsOf | None = None, files_may_lack_columns: bool = False
) -> str:
    """Return the query for a table's rows in its local files, at least one; `as_stored` and `as_of` as in add_view_of_files.

    If files may lack columns that were added later, it is slower, because the columns of every file are checked.
    """
    listed = ", ".join(literal(file) for file in files)
    types = ", ".join(f"{name}: {'DATE' if name == 'date' else 'VARCHAR'}" for name in table.partition_by)
    by_name = ", union_by_name = true" if files_may_lack_columns else ""
    source = f"read_parquet([{listed}], hive_partitioning = true, hive_types = {{{types}}}{by_name})"
    if files_may_lack_columns:  # adds columns that none of the files has
        source = f"({query_of_nothing(table)} UNION ALL BY NAME SELECT * FROM {source})"
    return _selected(table, source, as_stored=as_stored, as_of=as_of)


def _selected(table: Table, source: str, *, as_stored: bool, as_of: AsOf | None) -> str:
    """Return the query for the table's columns from a relation that has them."""
    columns = ", ".join(time_travel.known(table, name, as_of) for name in table.schema.names)
    condition = time_travel.condition(table, as_of)
    rows = f"SELECT {columns} FROM {source}" + (f" WHERE {condition}" if condition else "")
    return rows if as_stored else f"{rows} {_folded(table)}"


def _folded(table: Table) -> str:
    """Return the clause that keeps only the row with the end if a version is stored with and without its end."""
    if not table.folded_by:
        return ""
    return f"QUALIFY row_number() OVER (PARTITION BY {', '.join(table.folded_by)} ORDER BY valid_to NULLS LAST) = 1"


@functools.lru_cache(maxsize=64)
def query_of_nothing(table: Table) -> str:
    """Return a query with the table's columns and no rows."""
    with duckdb.connect() as connection:
        described = connection.from_arrow(table.schema.empty_table())
        columns = zip(described.columns, described.types, strict=True)
        return "SELECT " + ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns) + " WHERE false"


def window_of_query(connection: duckdb.DuckDBPyConnection, sql: str, table: Table) -> Window:
    """Return the span of a table's times outside which `sql` reads nothing, taken from the optimizer's plan.

    It has bounds only if they are certain: every scan must have simple bounds. The views must exist.
    """
    keep_bounds(connection)
    try:
        return planned_window(connection, sql, table)
    finally:
        connection.execute("RESET disabled_optimizers")


def keep_bounds(connection: duckdb.DuckDBPyConnection) -> None:
    """Prevent the optimizer from dropping bounds that, by the files' statistics, hold for all rows."""
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")


def planned_window(connection: duckdb.DuckDBPyConnection, sql: str, table: Table) -> Window:
    """Like window_of_query, on a connection prepared by keep_bounds."""
    try:
        ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    except (duckdb.Error, RuntimeError, ValueError):
        return Window()  # the error is reported when the query runs
    bound = re.compile(_BOUND.format(name=table.time_column))
    chain = re.compile(rf"\(?{bound.pattern}( AND {bound.pattern})*\)?")
    starts: list[datetime | None] = []
    ends: list[datetime | None] = []
    for scan in _scans(json.loads(plan)):
        filters = scan.get("Filters", [])
        first: list[datetime] = []
        last: list[datetime] = []
        for text in [filters] if isinstance(filters, str) else filters:
            if not chain.fullmatch(text):
                continue
            for operator, written in bound.findall(text):
                moment = datetime.fromisoformat(written)
                if operator in (">", ">=", "="):
                    first.append(moment)
                if operator in ("<", "<=", "="):
                    last.append(moment)
        starts.append(max(first, default=None))
        ends.append(min(last, default=None))
    since = min((start for start in starts if start), default=None) if starts and all(starts) else None
    until = max((end for end in ends if end), default=None) if ends and all(ends) else None
    return Window(since=since, until=None if until is None else until + _MICROSECOND)


def relation(name: str, query: str) -> str:
    """Return a relation for a WITH clause; it is not materialized, so that only what is needed of it is read."""
    return f'"{name}" AS NOT MATERIALIZED ({query})'


def replace_view(connection: duckdb.DuckDBPyConnection | Elsewhere, name: str, query: str) -> None:
    """Create a view on this connection, replacing one with the same name."""
    connection.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS {query}')


def _scans(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        if "Function" in node["extra_info"]:  # a table function: a scan of files or rows
            yield node["extra_info"]
        yield from _scans(node.get("children", []))
