"""DuckDB over the lake: tables as views of just the files a question can touch. With warehouse.sql.statements alone it imports duckdb.

Deciding who may see what is warehouse.questions.door's work.
"""

from __future__ import annotations

import functools
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from warehouse.errors import QueryError, QueryLimitError
from warehouse.lake import time_travel
from warehouse.lake.time_travel import AsOf
from warehouse.schema import FLOWS, Table

if TYPE_CHECKING:
    from warehouse.lake.tables import Lake

_BOUND = r"\(?\"?{name}\"? (>=|>|<=|<|=) '([0-9:.+\- ]+)'::TIMESTAMP WITH TIME ZONE\)?"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a query may go."""

    seconds: float = 60.0
    rows: int = 10_000
    memory_bytes: int = 4 * 1024**3


@dataclass(frozen=True, kw_only=True)
class Window:
    """A span of time, [since, until); None is no bound. `as_of` asks for what was known of it then; None for all that is known."""

    since: datetime | None = None
    until: datetime | None = None
    as_of: AsOf | None = None


def connect(limits: Limits, *, confined: bool = False, threads: int = 2) -> duckdb.DuckDBPyConnection:
    """An empty engine in memory; times are UTC, and nothing is downloaded. A confined one writes nothing to disk and has `threads`."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{limits.memory_bytes // 1024**2}MiB",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    if confined:
        config |= {"threads": str(threads), "async_threads": "1", "temp_directory": "", "max_temp_directory_size": "0KB"}
    connection = duckdb.connect(config=config)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET GLOBAL parquet_metadata_cache = true")
    return connection


KEPT_SECONDS = 1800.0
"""How long an engine is kept warm: what it remembers of files that have left their tables is given back with it."""


class _Warm:
    """The engine that a process keeps for its own questions: the footers of files it has read need not be read again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: duckdb.DuckDBPyConnection | None = None
        self._began = 0.0

    def connect(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._engine is None or time.monotonic() - self._began > KEPT_SECONDS:
                self._engine, self._began = connect(Limits()), time.monotonic()  # the one before ends with its last question
            return self._engine.cursor()


_WARM = _Warm()


def connect_warm() -> duckdb.DuckDBPyConnection:
    """A connection to the engine that this process keeps, for questions of our own making: never for a person's SQL.

    Views and tables made on it are its own and end with it. All share the memory of `Limits()` and the threads.
    """
    return _WARM.connect()


def add_view(connection: duckdb.DuckDBPyConnection, lake: Lake, table: Table, window: Window, clusters: Sequence[str] | None = None) -> int:
    """A view named as the table over the files that may hold such rows; gives their number. Raises LakeError."""
    files = files_of(lake, table, window, clusters)
    add_view_of_files(connection, lake, table, files, as_of=window.as_of)
    return len(files)


def files_of(lake: Lake, table: Table, window: Window, clusters: Sequence[str] | None = None) -> list[str]:
    """The files that may hold a table's rows of the window, which for a version is any time it held. Raises LakeError."""
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
    """A view, named as the table unless told otherwise, over files of it that `files_of` gave.

    Of a version that is stored with and without its end it has the row with the end, but both `as_stored`. With `as_of` it has
    what was known then.
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
    """The query for a table's rows in files of it, as add_view_of_files; on this connection, where `name` is told apart from others."""
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
    """The query for a table's rows in local files of it, one at least; `as_stored` and `as_of` as in add_view_of_files.

    Where columns were added to the table after files were, it takes longer: every file is asked for its columns.
    """
    listed = ", ".join(literal(file) for file in files)
    types = ", ".join(f"{name}: {'DATE' if name == 'date' else 'VARCHAR'}" for name in table.partition_by)
    by_name = ", union_by_name = true" if files_may_lack_columns else ""
    source = f"read_parquet([{listed}], hive_partitioning = true, hive_types = {{{types}}}{by_name})"
    if files_may_lack_columns:  # also a column that none of the files has
        source = f"({query_of_nothing(table)} UNION ALL BY NAME SELECT * FROM {source})"
    return _selected(table, source, as_stored=as_stored, as_of=as_of)


def _selected(table: Table, source: str, *, as_stored: bool, as_of: AsOf | None) -> str:
    """The table's columns from a relation that has them."""
    columns = ", ".join(time_travel.known(table, name, as_of) for name in table.schema.names)
    condition = time_travel.condition(table, as_of)
    rows = f"SELECT {columns} FROM {source}" + (f" WHERE {condition}" if condition else "")
    return rows if as_stored else f"{rows} {_folded(table)}"


def _folded(table: Table) -> str:
    """Of a version that is stored with and without its end, only the row with the end."""
    if not table.folded_by:
        return ""
    return f"QUALIFY row_number() OVER (PARTITION BY {', '.join(table.folded_by)} ORDER BY valid_to NULLS LAST) = 1"


@functools.lru_cache(maxsize=64)
def query_of_nothing(table: Table) -> str:
    """The query for no rows of a table."""
    with duckdb.connect() as connection:
        described = connection.from_arrow(table.schema.empty_table())
        columns = zip(described.columns, described.types, strict=True)
        return "SELECT " + ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in columns) + " WHERE false"


def asked_window(connection: duckdb.DuckDBPyConnection, sql: str, table: Table) -> Window:
    """The span of a table's times outside of which `sql` reads nothing, from the optimizer's own plan.

    Found only where it is certain: every scan has to have plain bounds. The views must exist.
    """
    keep_bounds(connection)
    try:
        return planned_window(connection, sql, table)
    finally:
        connection.execute("RESET disabled_optimizers")


def keep_bounds(connection: duckdb.DuckDBPyConnection) -> None:
    """Let the optimizer drop no bound because, by the files' statistics, it holds for all rows there are."""
    connection.execute("SET disabled_optimizers = 'statistics_propagation'")


def planned_window(connection: duckdb.DuckDBPyConnection, sql: str, table: Table) -> Window:
    """As asked_window, on a connection that keeps bounds already."""
    try:
        ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    except (duckdb.Error, RuntimeError, ValueError):
        return Window()  # what is wrong with it is said when it runs
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
    with within(connection, limits):
        rows = connection.sql(sql, params=parameters or None).limit(limits.rows + 1).to_arrow_table()
    return rows.slice(0, limits.rows), rows.num_rows > limits.rows


def ask(
    connection: duckdb.DuckDBPyConnection, relations: Sequence[str], sql: str, parameters: Sequence[Any], limits: Limits
) -> tuple[pa.Table, bool]:
    """As `run`, for a question of our own over relations that `relation` gave: all is understood by DuckDB at once, which is cheap."""
    text = f"WITH {', '.join(relations)} FROM ({sql}) LIMIT {limits.rows + 1}"
    with within(connection, limits):
        rows = connection.sql(text, params=list(parameters) or None).to_arrow_table()
    return rows.slice(0, limits.rows), rows.num_rows > limits.rows


def relation(name: str, query: str) -> str:
    """A relation of a question; never computed ahead, so that of each only what is asked for is read."""
    return f'"{name}" AS NOT MATERIALIZED ({query})'


@contextmanager
def within(connection: duckdb.DuckDBPyConnection, limits: Limits) -> Iterator[None]:
    """Stop what the connection does after `limits.seconds`, and say errors in our words. Raises QueryError, QueryLimitError."""
    timer = threading.Timer(limits.seconds, connection.interrupt)
    timer.start()
    try:
        yield
    except (duckdb.Error, RuntimeError, ValueError) as error:
        raise explain(error, limits) from error
    finally:
        timer.cancel()


def explain(error: BaseException, limits: Limits) -> QueryError:
    """DuckDB's error in our words; time and memory limits are named."""
    text = str(error)
    if isinstance(error, duckdb.InterruptException) or "INTERRUPT" in text:
        return QueryLimitError(f"the query was stopped after {limits.seconds:g} s: ask for less time, or raise --timeout")
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryLimitError(f"the query needs more than {limits.memory_bytes // 1024**2} MiB: ask for less time or fewer columns")
    return QueryError(re.sub(r"^(\w+ Error: )", "", text).strip())


def lock(connection: duckdb.DuckDBPyConnection, readable: Sequence[Path] = ()) -> None:
    """Shut every door: no files but those below `readable`, no Python objects, no settings."""
    if readable:
        connection.execute(f"SET allowed_directories = [{', '.join(literal(str(path)) for path in readable)}]")
    connection.execute("SET enable_external_access = false")
    lock_settings(connection)


def lock_settings(connection: duckdb.DuckDBPyConnection) -> None:
    """From now on no setting is changed, also not by a query: `enable_logging()` is one, and writes files."""
    connection.execute("SET lock_configuration = true")


LOADED = "memory.main"
"""Where tables that `load` made are found, also behind a view of the same name."""


def load(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.RecordBatchReader) -> None:
    """A table in memory of rows as they come. Raises QueryLimitError."""
    try:
        connection.from_arrow(rows).create(name)
    except (duckdb.Error, RuntimeError) as error:
        raise QueryLimitError("your rows of this window need more memory than there is: ask for less time") from error


@contextmanager
def reading(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Within, nothing can be written to any table: a query may hold an INSERT, even if it is a SELECT to look at."""
    connection.execute("BEGIN TRANSACTION READ ONLY").fetchall()
    try:
        yield
    finally:
        with suppress(duckdb.Error, RuntimeError):  # after some errors there is no transaction any more
            connection.execute("ROLLBACK").fetchall()


def is_alive(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the engine still answers: after some errors of its own it never does again."""
    try:
        connection.execute("SELECT 1").fetchall()
    except (duckdb.Error, RuntimeError):
        return False
    return True


def replace_view(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    """A view of this connection, in the place of one of the same name."""
    connection.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS {query}')


def literal(value: str) -> str:
    """A text in SQL, for views, which take no parameters. DuckDB knows no escape but the doubled quote."""
    return "'" + value.replace("'", "''") + "'"


_MICROSECOND = datetime.resolution


def _scans(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        if "Function" in node["extra_info"]:  # a table function: a scan of files or rows
            yield node["extra_info"]
        yield from _scans(node.get("children", []))
