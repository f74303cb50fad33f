"""Finds the newest row of each key in an append-only table, without reading all columns of its history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from warehouse import engine, table_views
from warehouse.engine import Limits, Window
from warehouse.lake.tables import Lake
from warehouse.schema import Table

_LIMITS = Limits(seconds=600, rows=2**62)


def newest(
    lake: Lake,
    table: Table,
    key: Sequence[str],
    *,
    at: datetime | None = None,
    clusters: Iterable[str] | None = None,
    state: str | Sequence[str] | None = None,
) -> pa.Table:
    """Return the newest row of each `key`, now or as of a time, with the table's columns.

    `state` selects keys whose newest row has that state, or one of those. If several rows have the same key and time, any one of them is
    returned. Raises LakeError.
    """
    time, keys = table.time_column, ", ".join(key)
    wanted = [] if state is None else [state] if isinstance(state, str) else list(state)
    of_state = f" HAVING arg_max(state, {time}) IN ({', '.join('?' * len(wanted))})" if wanted else ""
    same = " AND ".join(f"stored.{name} IS NOT DISTINCT FROM found.{name}" for name in [*key, time])
    with history(lake, table, at=at, clusters=clusters) as ask:
        # First read only keys and times, which are a small part of a row; then the rows at those times.
        found = ask(f"SELECT {keys}, max({time}) AS {time} FROM stored GROUP BY {keys}{of_state}", wanted)
        if not found.num_rows:
            return table.schema.empty_table()
        ask.connection.register("found", found)
        moments = sorted(set(found[time].to_pylist()))
        rows = ask(
            f"""SELECT stored.* FROM stored WHERE {time} IN ({", ".join("?" * len(moments))})
                AND EXISTS (SELECT 1 FROM found WHERE {same})
                QUALIFY row_number() OVER (PARTITION BY {keys}) = 1""",
            moments,
        )
    return rows.select(table.schema.names).cast(table.schema)


@dataclass(frozen=True)
class Ask:
    """Answers SQL over the view `stored`."""

    connection: Any

    def __call__(self, sql: str, values: Sequence[Any]) -> pa.Table:
        """Return the rows of a query. Raises QueryError."""
        return engine.run(self.connection, sql, values, _LIMITS)[0]


@contextmanager
def history(lake: Lake, table: Table, *, at: datetime | None, clusters: Iterable[str] | None) -> Iterator[Ask]:
    """Provide the rows of a table up to a time, for these clusters if given, as the view `stored`. Raises LakeError."""
    names = None if clusters is None else list(clusters)
    until = None if at is None else at + timedelta(microseconds=1)
    conditions = ["true"]
    if names is not None:
        conditions.append(f"cluster IN ({', '.join(map(engine.literal, names)) or 'NULL'})")
    if until is not None:
        conditions.append(f'"{table.time_column}" < {engine.literal(until.isoformat())}::TIMESTAMPTZ')
    with engine.connect_warm() as connection:
        files = table_views.files_of(lake, table, Window(until=until), names)
        rows = table_views.query_of(connection, lake, table, files, "stored")
        table_views.replace_view(connection, "stored", f"SELECT * FROM ({rows}) WHERE {' AND '.join(conditions)}")
        yield Ask(connection)
