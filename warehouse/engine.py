"""The embedded engine, DuckDB: connections to it, and queries that run within limits of time, rows and memory.

Only this module, warehouse.table_views and warehouse.sql.statements import duckdb. What a table is in SQL belongs to
warehouse.table_views, access control to warehouse.access.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from warehouse.errors import CancelledError, QueryError, QueryLimitError
from warehouse.lake.time_travel import AsOf
from warehouse.schema import Table

if TYPE_CHECKING:
    from warehouse.lake.tables import Lake


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a query: time, number of rows, memory."""

    seconds: float = 60.0
    rows: int = 10_000
    memory_bytes: int = 4 * 1024**3


@dataclass(frozen=True, kw_only=True)
class Window:
    """A span of time, [since, until); None means no bound. `as_of` limits it to what was known then; None means now."""

    since: datetime | None = None
    until: datetime | None = None
    as_of: AsOf | None = None


MOST_LIMIT = 2**31 - 2
"""The greatest number of rows that engines elsewhere take as a limit; a greater one is none."""


class Elsewhere(ABC):
    """A connection to another engine, which takes the SQL and the calls that a DuckDB connection takes, as far as they are used here."""

    @abstractmethod
    def add_files(self, name: str, lake: Lake, table: Table, files: Sequence[str]) -> None:
        """Give the rows of files of a table (as listed by `Lake.files`) a name. Raises EngineError."""

    @abstractmethod
    def register(self, name: str, rows: pa.Table) -> None:
        """Give rows of ours a name. Raises EngineError."""

    @abstractmethod
    def interrupt(self) -> None:
        """Stop what the connection runs."""

    @abstractmethod
    def sql(self, sql: str, *, params: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """Return the rows of a query, which is not run yet. Raises QueryError, EngineError."""

    @abstractmethod
    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Run a query, or create a temporary table or view of one. Raises QueryError, EngineError."""


def connect(limits: Limits, *, confined: bool = False, threads: int = 2) -> duckdb.DuckDBPyConnection:
    """Return an empty in-memory engine. Times are UTC and nothing is downloaded; if confined, it writes no files and uses `threads`.

    Unless it is confined, what a query cannot hold in memory goes to files of this user in the system's folder for temporary files.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{limits.memory_bytes // 1024**2}MiB",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    if confined:
        config |= {"threads": str(threads), "async_threads": "1", "temp_directory": "", "max_temp_directory_size": "0KB"}
    else:
        config["temp_directory"] = _spill_folder()
    connection = duckdb.connect(config=config)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET GLOBAL parquet_metadata_cache = true")
    # DuckDB estimates few rows where a rollup has many, and would then compare each of them with every start of a span.
    connection.execute("SET GLOBAL asof_loop_join_threshold = 0")
    return connection


def _spill_folder() -> str:
    """Return the folder for what queries cannot hold in memory, "" for none. DuckDB's own choice is the working directory."""
    folder = Path(tempfile.gettempdir(), f"hindcast-{os.getuid()}", "spill")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Somebody else who made the folder before us could read what is written to it.
        return str(folder) if folder.parent.stat().st_uid == folder.lstat().st_uid == os.getuid() else ""
    except OSError:
        return ""


ENGINE_SECONDS = 1800.0
"""How long an engine is reused. Replacing it frees cached metadata of files that have left their tables."""


class _Warm:
    """The engine that a process reuses for its own questions, so that the footers of files are read only once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: duckdb.DuckDBPyConnection | None = None
        self._began = 0.0

    def connect(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._engine is None or time.monotonic() - self._began > ENGINE_SECONDS:
                self._engine, self._began = connect(Limits()), time.monotonic()  # the previous engine ends with its last question
            return self._engine.cursor()


_WARM = _Warm()


def connect_warm() -> duckdb.DuckDBPyConnection:
    """Return a connection to the shared engine of this process, for SQL written by us, never for SQL written by users.

    Views and temporary tables belong to the connection and end with it. All connections share the memory of `Limits()` and the threads.
    """
    return _WARM.connect()


def run(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] | Mapping[str, Any], limits: Limits
) -> tuple[pa.Table, bool]:
    """Return the rows of one query, at most `limits.rows`, and whether there were more. Raises QueryError, QueryLimitError."""
    with within(connection, limits):
        rows = connection.sql(sql, params=parameters or None).limit(limits.rows + 1).to_arrow_table()
    return rows.slice(0, limits.rows), rows.num_rows > limits.rows


EVERY_ROW = 2**62
"""A limit of rows that no query reaches, for `Limits`."""
STREAM_ROWS = 64 * 1024
"""Most rows of a batch of `streaming`."""


@contextmanager
def streaming(connection: duckdb.DuckDBPyConnection, sql: str, limits: Limits) -> Iterator[pa.RecordBatchReader]:
    """Context in which the rows of one query are read as they are found, at most one more than `limits.rows`.

    All the time spent within the context counts as the query's. Raises QueryError, QueryLimitError, also while rows are read.
    """
    timer = threading.Timer(limits.seconds, connection.interrupt)
    timer.start()
    try:
        try:
            found = connection.sql(sql).limit(limits.rows + 1).to_arrow_reader(STREAM_ROWS)
        except (duckdb.Error, RuntimeError, ValueError) as error:
            raise explain(error, limits) from error

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                yield from found
            except (duckdb.Error, RuntimeError, ValueError, OSError) as error:  # a reader raises OSError for every error of the query
                raise explain(error, limits) from error

        yield pa.RecordBatchReader.from_batches(found.schema, batches())
    finally:
        timer.cancel()


def ask(
    connection: duckdb.DuckDBPyConnection | Elsewhere, relations: Sequence[str], sql: str, parameters: Sequence[Any], limits: Limits
) -> tuple[pa.Table, bool]:
    """Like `run`, for SQL written by us over relations returned by `relation`, which are planned together in one statement."""
    text = f"WITH {', '.join(relations)} FROM ({sql}) LIMIT {limits.rows + 1}"
    with within(connection, limits):
        rows = connection.sql(text, params=list(parameters) or None).to_arrow_table()
    return rows.slice(0, limits.rows), rows.num_rows > limits.rows


_CANCELLED: ContextVar[threading.Event | None] = ContextVar("cancelled", default=None)
_POLL_SECONDS = 0.05


@contextmanager
def cancelled_by(event: threading.Event | None) -> Iterator[None]:
    """Context in which whatever `within` runs is interrupted once the event is set."""
    token = _CANCELLED.set(event)
    try:
        yield
    finally:
        _CANCELLED.reset(token)


@contextmanager
def within(connection: duckdb.DuckDBPyConnection | Elsewhere, limits: Limits) -> Iterator[None]:
    """Interrupt the connection after `limits.seconds`, and translate DuckDB's errors.

    Raises QueryError, QueryLimitError, and within `cancelled_by` CancelledError.
    """
    cancelled, over = _CANCELLED.get(), threading.Event()
    if cancelled is None:
        watch: threading.Thread = threading.Timer(limits.seconds, connection.interrupt)
    else:
        watch = threading.Thread(target=_interrupt, args=(connection, limits.seconds, cancelled, over), daemon=True)
    watch.start()
    try:
        yield
    except (duckdb.Error, RuntimeError, ValueError) as error:
        if cancelled is not None and cancelled.is_set():
            raise CancelledError("the query was cancelled") from error
        raise explain(error, limits) from error
    finally:
        over.set()
        if isinstance(watch, threading.Timer):
            watch.cancel()


def _interrupt(
    connection: duckdb.DuckDBPyConnection | Elsewhere, seconds: float, cancelled: threading.Event, over: threading.Event
) -> None:
    """Interrupt a connection when its time is up or the event is set; again and again, since it may be between two statements."""
    deadline = time.monotonic() + seconds
    while not over.wait(_POLL_SECONDS):
        if cancelled.is_set() or time.monotonic() >= deadline:
            connection.interrupt()


def explain(error: BaseException, limits: Limits) -> QueryError:
    """Translate a DuckDB error; exceeded time and memory limits are named."""
    text = str(error)
    if isinstance(error, duckdb.InterruptException) or "INTERRUPT" in text:
        return QueryLimitError(f"the query was stopped after {limits.seconds:g} s: ask for less time, or raise --timeout")
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryLimitError(f"the query needs more than {limits.memory_bytes // 1024**2} MiB: ask for less time or fewer columns")
    return QueryError(re.sub(r"^(\w+ Error: )", "", text).strip())


def lock(connection: duckdb.DuckDBPyConnection, readable: Sequence[Path] = ()) -> None:
    """Deny the connection access to files except those below `readable`, to Python objects, and to settings."""
    if readable:
        connection.execute(f"SET allowed_directories = [{', '.join(literal(str(path)) for path in readable)}]")
    connection.execute("SET enable_external_access = false")
    lock_settings(connection)


def lock_settings(connection: duckdb.DuckDBPyConnection) -> None:
    """Prevent any further change of settings, including by functions such as `enable_logging()`, which writes files."""
    connection.execute("SET lock_configuration = true")


LOADED = "memory.main"
"""The schema of tables created by `load`, needed where a view has the same name."""


def load(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.RecordBatchReader) -> None:
    """Create an in-memory table from a stream of rows. Raises QueryLimitError."""
    try:
        connection.from_arrow(rows).create(name)
    except (duckdb.Error, RuntimeError) as error:
        raise QueryLimitError("your rows of this window need more memory than there is: ask for less time") from error


@contextmanager
def reading(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Context in which no table can be written to: even a statement that looks like a SELECT may contain an INSERT."""
    connection.execute("BEGIN TRANSACTION READ ONLY").fetchall()
    try:
        yield
    finally:
        with suppress(duckdb.Error, RuntimeError):  # some errors end the transaction
            connection.execute("ROLLBACK").fetchall()


def is_alive(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the engine still works; after some internal errors it never recovers."""
    try:
        connection.execute("SELECT 1").fetchall()
    except (duckdb.Error, RuntimeError):
        return False
    return True


def literal(value: str) -> str:
    """Return a text as an SQL literal, for views, which take no parameters. Doubling quotes is DuckDB's only escape."""
    return "'" + value.replace("'", "''") + "'"
