"""Checks SQL written by users without a lake: whether it is a query over the tables, and which columns it returns.

The text may come from anybody's file, so it is prepared and run in a confined process that holds empty tables and nothing else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

import pyarrow as pa

from warehouse import engine
from warehouse.engine import Limits
from warehouse.errors import QueryError, QueryLimitError
from warehouse.schema import TABLES, Table
from warehouse.sql.worker import Source
from warehouse.sql.workers import WORKERS

LIMITS = Limits(seconds=10, rows=1, memory_bytes=256 * 1024**2)
MOST_SECONDS = 60.0
"""How long the queries of one call may take together."""
_OWNER = "queries over empty tables"
"""The worker that all such queries share. It holds no rows, so nobody can find anything of anybody else's there."""


def schemas(texts: Iterable[str]) -> list[pa.Schema | QueryError]:
    """Return for each query the columns that it returns, or what is wrong with it. The tables it reads are empty."""
    deadline = time.monotonic() + MOST_SECONDS
    found: list[pa.Schema | QueryError] = []
    for text in texts:
        if time.monotonic() > deadline:
            found.append(QueryLimitError(f"it was not checked: the queries before it took {MOST_SECONDS:g} s together"))
            continue
        try:
            found.append(_schema(text))
        except QueryError as error:
            found.append(error)
    return found


def _schema(text: str) -> pa.Schema:
    named = [table for table in TABLES.values() if re.search(rf"\b{table.name}\b", text, re.IGNORECASE)]
    with WORKERS.over_rows(_OWNER, _OWNER, {table.name: _nothing(table) for table in named}, LIMITS) as worker:
        rows, _ = worker.ask(text, LIMITS, None)
    return rows.schema


def _nothing(table: Table) -> Source:
    def read() -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(table.schema, [])

    return Source(read=read, stamp=(), view=f"SELECT * FROM {engine.LOADED}.{table.name}")
