"""DuckDB over the lake: tables as views of just the files a question can touch. The one module that imports duckdb.

Deciding who may see what is warehouse.query's work.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from warehouse.errors import QueryError, QueryLimitError
from warehouse.schema import Table
from warehouse.tables import Lake

_BOUND = r"\(?\"?{name}\"? (>=|>|<=|<|=) '([0-9:.+\- ]+)'::TIMESTAMP WITH TIME ZONE\)?"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a query may go."""

    seconds: float = 60.0
    rows: int = 10_000
    memory_bytes: int = 4 * 1024**3


@dataclass(frozen=True, kw_only=True)
class Window:
    """A span of time, [since, until); None is no bound."""

    since: datetime | None = None
    until: datetime | None = None


def connect(limits: Limits) -> duckdb.DuckDBPyConnection:
    """An empty engine in memory; times are UTC, and nothing is downloaded."""
    connection = duckdb.connect(
        config={
            "memory_limit": f"{limits.memory_bytes // 1024**2}MiB",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def add_view(connection: duckdb.DuckDBPyConnection, lake: Lake, table: Table, window: Window, clusters: Sequence[str] | None = None) -> int:
    """A view named as the table over the files that may hold such rows; gives their number. Raises LakeError.

    Of a version that is stored with and without its end, the view has the row with the end; and those that began before the window.
    """
    since = None if table.folded_by else window.since
    files = lake.files(table, clusters=clusters, since=since, until=window.until)
    name = f"{table.name}_rows" if table.folded_by else table.name
    add_files(connection, lake, table, name, files)
    if table.folded_by:
        fold = f"QUALIFY row_number() OVER (PARTITION BY {', '.join(table.folded_by)} ORDER BY valid_to NULLS LAST) = 1"
        connection.execute(f"CREATE OR REPLACE VIEW {table.name} AS SELECT * FROM {name} {fold}")
    return len(files)


def add_files(connection: duckdb.DuckDBPyConnection, lake: Lake, table: Table, name: str, files: Sequence[str]) -> None:
    """A view with a name of its own over files of a table, given by their addresses."""
    if not files:
        connection.from_arrow(table.schema.empty_table()).create_view(name, replace=True)
    elif lake.is_local:
        listed = ", ".join(literal(file) for file in files)
        types = ", ".join(f"{name}: {'DATE' if name == 'date' else 'VARCHAR'}" for name in table.partition_by)
        columns = ", ".join(f'"{name}"' for name in table.schema.names)
        source = f"read_parquet([{listed}], hive_partitioning = true, hive_types = {{{types}}})"
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT {columns} FROM {source}")
    else:
        connection.register(name, lake.dataset(table, files))


def asked_window(connection: duckdb.DuckDBPyConnection, sql: str, table: Table) -> Window:
    """The span of a table's times outside of which `sql` reads nothing, from the optimizer's own plan.

    Found only where it is certain: every scan has to have plain bounds. The views must exist.
    """
    # Statistics of the files would let the optimizer drop a bound that holds for all rows there are.
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")
    try:
        ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    except (duckdb.Error, RuntimeError):
        return Window()  # what is wrong with it is said when it runs
    finally:
        connection.execute("RESET disabled_optimizers")
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


def run(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] | Mapping[str, Any], limits: Limits
) -> tuple[pa.Table, bool]:
    """The rows of one query, at most `limits.rows`, and whether there were more. Raises QueryError, QueryLimitError."""
    with _deadline(connection, limits.seconds):
        try:
            relation = connection.sql(sql, params=parameters or None)
            rows = relation.limit(limits.rows + 1).to_arrow_table()
        except (duckdb.Error, RuntimeError) as error:
            raise explain(error, limits) from error
    return rows.slice(0, limits.rows), rows.num_rows > limits.rows


def check_is_query(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise QueryError unless `sql` is one statement that reads."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise explain(error, Limits()) from error
    if len(statements) != 1:
        raise QueryError(f"give one statement, not {len(statements)}")
    kind = statements[0].type.name
    if kind not in ("SELECT", "EXPLAIN"):
        raise QueryError(f"only queries are answered; this is {kind}: use --output and --file to write results elsewhere")


def explain(error: BaseException, limits: Limits) -> QueryError:
    """DuckDB's error in our words; time and memory limits are named."""
    text = str(error)
    if isinstance(error, duckdb.InterruptException) or "INTERRUPT" in text:
        return QueryLimitError(f"the query was stopped after {limits.seconds:g} s: ask for less time, or raise --timeout")
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryLimitError(f"the query needs more than {limits.memory_bytes // 1024**2} MiB: ask for less time or fewer columns")
    return QueryError(re.sub(r"^(\w+ Error: )", "", text).strip())


def create_locked(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table]) -> None:
    """Load tables, then shut every door: no files, no Python objects, no settings."""
    for name, rows in tables.items():
        connection.from_arrow(rows).create(name)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def literal(value: str) -> str:
    """A text in SQL, for views, which take no parameters. DuckDB knows no escape but the doubled quote."""
    return "'" + value.replace("'", "''") + "'"


_MICROSECOND = datetime.resolution


def _scans(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        if "Function" in node["extra_info"]:  # a table function: a scan of files or rows
            yield node["extra_info"]
        yield from _scans(node.get("children", []))


@contextmanager
def _deadline(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, connection.interrupt)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
