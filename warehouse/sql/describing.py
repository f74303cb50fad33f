"""Checks SQL written by users without a lake: whether it is a query over the tables, and which columns it returns."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
import pyarrow as pa

from warehouse import engine
from warehouse.engine import Limits
from warehouse.errors import QueryError
from warehouse.schema import TABLES
from warehouse.sql import statements


def schemas(texts: Iterable[str]) -> list[pa.Schema | QueryError]:
    """Return for each query the columns that it returns, or what is wrong with it. The tables it reads are empty."""
    limits = Limits(seconds=10)
    found: list[pa.Schema | QueryError] = []
    with engine.connect(limits) as connection:
        for table in TABLES.values():
            engine.replace_view(connection, table.name, engine.query_of_nothing(table))
        engine.lock(connection)
        for text in texts:
            try:
                statements.check_is_query(connection, text)
                statements.check_writes_nothing(connection, text, limits)
                found.append(engine.run(connection, text, (), limits)[0].schema)
            except QueryError as error:
                found.append(error)
            except duckdb.Error as error:
                found.append(engine.explain(error, limits))
    return found
