"""Runs SQL written by users: directly on the lake for its operator, in a separate confined process for anyone else.

The access log and everything in an answer besides its rows belong to `warehouse.questions`; starting and ending processes
belongs to `warehouse.sql.workers`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from warehouse import engine, table_views
from warehouse.access import access_log as log
from warehouse.access import scoping, visible
from warehouse.access.principals import Scope
from warehouse.access.sight import Sight
from warehouse.engine import Limits, Window
from warehouse.lake.tables import Lake
from warehouse.schema import ACCESS_LOG, FLOWS, TABLES, Table
from warehouse.sql import confinement, statements, windows, workers
from warehouse.sql.worker import Worker
from warehouse.sql.workers import WORKERS

MOST_MEMORY_BYTES = 512 * 1024**2
"""Memory limit for the SQL of an owner; it is four times as much for principals whose SQL reads files directly."""
LEAST_COLUMN_BYTES = 4
"""The minimum size of a value in a row, even of an empty one."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """The result of a user's SQL."""

    rows: pa.Table
    cut: bool
    """True if there were more rows than the limit."""
    window: Window
    """The span of time that the query covered."""
    files: int


@dataclass(frozen=True, kw_only=True)
class Running:
    """A user's SQL while its rows are read."""

    rows: pa.RecordBatchReader
    """At most one row more than the limit."""
    window: Window
    """The span of time that the query covers."""
    files: int


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A statement in the process appropriate for the principal, ready to run."""

    run: Callable[[], tuple[pa.Table, bool]]
    """Return the rows, and whether there were more than the limit."""
    stream: Callable[[], AbstractContextManager[pa.RecordBatchReader]]
    window: Window
    files: int


def run(sight: Sight, text: str, limits: Limits, cancelled: threading.Event | None, *, confined: bool = False) -> Ran:
    """Run one statement in the process appropriate for the principal. Raises QueryError, LakeError.

    If `confined`, the operator's statement runs in a confined process as well, where one can read the lake's files.
    """
    with _prepared(sight, text, limits, cancelled, confined=confined) as ready:
        rows, cut = ready.run()
    return Ran(rows=rows, cut=cut, window=ready.window, files=ready.files)


@contextmanager
def stream(sight: Sight, text: str, limits: Limits, cancelled: threading.Event | None) -> Iterator[Running]:
    """Context in which the rows of one statement are read while it runs. Raises QueryError, LakeError."""
    with _prepared(sight, text, limits, cancelled) as ready, ready.stream() as rows:
        yield Running(rows=rows, window=ready.window, files=ready.files)


def _prepared(
    sight: Sight, text: str, limits: Limits, cancelled: threading.Event | None, *, confined: bool = False
) -> AbstractContextManager[_Prepared]:
    reads_files = _reads_files(sight.lake, sight.scope)
    if sight.principal.is_operator and not (confined and reads_files):
        return _over_lake(sight.lake, text, sight.window, limits)
    if reads_files:
        limits = replace(limits, memory_bytes=min(limits.memory_bytes, 4 * MOST_MEMORY_BYTES))
        return _over_files(sight, text, limits, cancelled)
    limits = replace(limits, memory_bytes=min(limits.memory_bytes, MOST_MEMORY_BYTES))
    return _over_rows(sight, text, limits, cancelled)


@contextmanager
def _over_lake(lake: Lake, text: str, window: Window, limits: Limits) -> Iterator[_Prepared]:
    with engine.connect(limits) as connection:
        statements.check_is_query(connection, text)
        read = window
        for table in TABLES.values():
            _add_view(connection, lake, table, window, window)
        statements.check_writes_nothing(connection, text, limits)
        if not text.lstrip().upper().startswith("EXPLAIN"):
            asked = table_views.window_of_query(connection, text, FLOWS)
            read = replace(window, since=asked.since or window.since, until=asked.until or window.until)
        files = _add_view(connection, lake, FLOWS, window, read)
        engine.lock_settings(connection)
        with engine.reading(connection):
            yield _Prepared(
                run=lambda: engine.run(connection, text, (), limits),
                stream=lambda: engine.streaming(connection, text, limits),
                window=read,
                files=files,
            )


def _add_view(connection: Any, lake: Lake, table: Table, window: Window, read: Window) -> int:
    """Create a view of the rows that overlap `window`, reading only files for the window `read`; return the number of files."""
    files = table_views.files_of(lake, table, windows.beginnings(table, read))
    rows = table_views.query_of(connection, lake, table, files, table.name, as_of=window.as_of)
    table_views.replace_view(connection, table.name, windows.touching(table, f"({rows})", window))
    return len(files)


def _reads_files(lake: Lake, scope: Scope) -> bool:
    """Whether a user's SQL may read the files directly; that of an auditor may not, because auditors do not read labels."""
    return scope.administers and lake.is_local and confinement.is_possible()


@contextmanager
def _over_files(sight: Sight, text: str, limits: Limits, cancelled: threading.Event | None) -> Iterator[_Prepared]:
    lake, window = sight.lake, sight.window
    read, within = 0, window

    def query(table: Table, span: Window) -> str:
        nonlocal read, within
        files = table_views.files_of(lake, table, windows.beginnings(table, span))
        read, within = len(files), span
        if not files:
            return table_views.query_of_nothing(table)
        lacking = lake.files_may_lack_columns(table)
        rows = table_views.query_of_files(table, files, as_of=span.as_of, files_may_lack_columns=lacking)
        return windows.touching(table, f"({rows})", window)

    def asked(by_text: Window) -> str:
        return query(FLOWS, replace(window, since=by_text.since or window.since, until=by_text.until or window.until))

    views = {table.name: query(table, window) for table in TABLES.values()}
    folder = Path(lake.address(FLOWS)).parent
    owner = (str(folder), sight.principal)
    with WORKERS.over_files(owner, text, views, (FLOWS.name, asked), folder, limits, cancelled=cancelled) as worker:
        yield _in_worker(worker, text, limits, cancelled, window=within, files=read)


def _in_worker(worker: Worker, text: str, limits: Limits, cancelled: threading.Event | None, *, window: Window, files: int) -> _Prepared:
    return _Prepared(
        run=lambda: worker.ask(text, limits, cancelled),
        stream=lambda: nullcontext(worker.stream(text, limits, cancelled)),
        window=window,
        files=files,
    )


@contextmanager
def _over_rows(sight: Sight, text: str, limits: Limits, cancelled: threading.Event | None) -> Iterator[_Prepared]:
    since = sight.window.since or datetime.now(UTC) - timedelta(days=1)
    window = replace(sight.window, since=since)
    # Rows are read from the start of the hour, so that the process holding them can also answer the next query.
    read = replace(window, since=since.astimezone(UTC).replace(minute=0, second=0, microsecond=0))
    sight = sight.within(read)
    offered = [table for table in TABLES.values() if sight.scope.everything or scoping.is_shared(table) or table is ACCESS_LOG]
    named = [table for table in offered if re.search(rf"\b{table.name}\b", text, re.IGNORECASE)]
    with ExitStack() as opened:
        sources = {table.name: _source(opened, sight, table, window, limits) for table in named}
        key = (sight.scope, sight.peer_detail, read)
        files = sum(isinstance(source.stamp, tuple) and len(source.stamp) for source in sources.values())
        with WORKERS.over_rows((sight.lake.address(FLOWS), sight.principal), key, sources, limits) as worker:
            read = replace(window, until=window.until or worker.read_at)
            yield _in_worker(worker, text, limits, cancelled, window=read, files=files)


def _source(opened: ExitStack, sight: Sight, table: Table, window: Window, limits: Limits) -> workers.Source:
    """Return a table's rows as a source for a user's SQL: read on first use, and queried only where they overlap the window."""
    lake = sight.lake
    within = windows.beginnings(table, sight.window)

    def read() -> pa.RecordBatchReader:
        if table is ACCESS_LOG:
            log.flush()
            return log.visible(lake.read(table, since=within.since, until=within.until), sight.scope, sight.principal).to_reader()
        connection = opened.enter_context(engine.connect_warm())
        shown = visible.relations(connection, sight.within(within), table)
        most_rows = limits.memory_bytes // 2 // (LEAST_COLUMN_BYTES * len(table.columns))
        return visible.reader(connection, shown, table, most_rows=None if sight.scope.administers else most_rows)

    view = windows.touching(table, f"{engine.LOADED}.{table.name}", window)
    return workers.Source(read=read, stamp=tuple(table_views.files_of(lake, table, within)), view=view)
