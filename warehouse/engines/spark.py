"""A connection to a Spark Connect server that takes the SQL written for DuckDB, and the calls that Hindcast makes of a DuckDB connection.

Each connection is a session of its own on the server: its views end with it. What it writes are plain Parquet files outside the
table's log; committing them belongs to warehouse.lake.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

import pyarrow as pa

from warehouse import engine
from warehouse.engines import dialect
from warehouse.engines.client import DataFrame, PySparkException, SparkSession, from_arrow_schema
from warehouse.errors import EngineError, QueryError, QueryLimitError
from warehouse.schema import Table

if TYPE_CHECKING:
    from warehouse.lake.files import DataFile
    from warehouse.lake.tables import Lake

SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",  # Spark's default is a type that Delta readers do not take
    "spark.sql.parquet.enableVectorizedReader": "false",  # it does not read BYTE_STREAM_SPLIT, in which older files have ports
    # The client of 4.2 takes these for numbers, but a server of 4.1 has units in its defaults.
    "spark.sql.session.localRelationSizeLimit": str(1024**3),
    "spark.sql.session.localRelationChunkSizeBytes": str(16 * 1024**2),
    "spark.sql.session.localRelationBatchOfChunksSizeBytes": str(1024**3),
}
WRITTEN = {"compression": "zstd"}
"""How files are written."""
_DETAIL = re.compile(r'details = "(.*)"')
_UNAVAILABLE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "SESSION_CLOSED", "SESSION_NOT_FOUND", "Connection refused", "Socket closed")


class SparkConnection(engine.Elsewhere):
    """One session on a server. Not thread-safe, except for `interrupt`."""

    def __init__(self, session: SparkSession, lake_url: str | None = None) -> None:
        """`lake_url` is the lake's address as the server knows it, if that is another than ours."""
        self._session = session
        self._lake_url = lake_url
        self._columns: dict[str, list[str]] = {}
        self._files_of: tuple[Lake, Table] | None = None
        self._folders: list[tuple[Lake, Table, str]] = []
        self._interrupted = False
        with self._translated_errors():
            for name, value in SETTINGS.items():
                session.conf.set(name, value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session; a server that is gone has ended it already."""
        with contextlib.suppress(Exception):
            self._session.stop()
        for lake, table, folder in self._folders:
            lake.discard(table, folder)

    @property
    def version(self) -> str:
        """The version of Spark that the server has, or claims to be like. Raises EngineError."""
        with self._translated_errors():
            return str(self._session.version)

    def interrupt(self) -> None:
        """Stop what the session runs."""
        self._interrupted = True
        with contextlib.suppress(Exception):
            self._session.interruptAll()

    def sql(self, sql: str, *, params: Sequence[Any] | Mapping[str, Any] | None = None) -> Rows:
        """Return the rows of a query, which is translated but not run yet. Raises QueryError, EngineError."""
        return Rows(self, self._frame(sql, params))

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Run a query, or create a temporary table or view of one. Raises QueryError, EngineError."""
        made = dialect.definition(sql)
        if made is None:
            return self.sql(sql, params=parameters)
        name, query, is_table = made
        found = self._frame(query, parameters)
        if is_table and self._files_of is not None:
            found = self._stored(found, *self._files_of)
        self._name(name, found)
        return Rows(self, found)

    def _stored(self, rows: DataFrame, lake: Lake, table: Table) -> DataFrame:
        """Write rows that several queries need into a folder that is deleted with the connection, and return them as read from there.

        Without this each of these queries would compute them again: Sail ignores `persist`. So they do where the server cannot write.
        """
        folder = lake.folder_to_write(table, {})
        self._folders.append((lake, table, folder))
        address = f"{self.address(lake, table)}/{folder}"
        try:
            rows.write.options(**WRITTEN).parquet(address)
            return self._session.read.schema(rows.schema).parquet(address)
        except PySparkException:
            return rows  # what is wrong with the rows themselves, the queries will tell

    def register(self, name: str, rows: pa.Table) -> None:
        """Give rows of ours a name. Raises EngineError."""
        with self._translated_errors():
            self._name(name, self._session.createDataFrame(rows))

    def add_files(self, name: str, lake: Lake, table: Table, files: Sequence[str]) -> None:
        """Give the rows of files of a table (as listed by `Lake.files`) a name. Raises EngineError."""
        with self._translated_errors():
            self._files_of = (lake, table)
            schema, of_files = from_arrow_schema(table.schema), from_arrow_schema(table.file_schema)
            base, ours = self.address(lake, table), lake.address(table)
            parts = []
            # Sail does not read partition columns of single files, so each partition's are given: the same for all servers.
            for folder, listed in itertools.groupby(sorted(files), lambda file: file.rpartition("/")[0]):
                rows = self._session.read.schema(of_files).parquet(*(base + file.removeprefix(ours) for file in listed))
                values = dict(unquote(part).split("=", 1) for part in folder.removeprefix(ours).strip("/").split("/"))
                parts.append(rows.selectExpr(*dialect.with_constants(table, values)))
            found = _together(parts) if parts else self._session.createDataFrame(table.schema.empty_table(), schema=schema)
            self._name(name, found)

    def address(self, lake: Lake, table: Table) -> str:
        """Return the address of a table's folder as the server knows it."""
        if self._lake_url is not None:
            return f"{self._lake_url.rstrip('/')}/{table.name}"
        return f"file://{lake.address(table)}" if lake.is_local else lake.address(table)

    def write(self, sql: str, lake: Lake, table: Table, partition: Mapping[str, str], *, prefix: str = "") -> list[DataFile]:
        """Write the rows of a query, in its order, as files of a partition that are not yet visible.

        Raises QueryError, EngineError, LakeError; nothing is then left behind.
        """
        found = self._frame(sql, ())
        folder = lake.folder_to_write(table, partition)
        try:
            with self._translated_errors():
                found.write.options(**WRITTEN).mode("error").parquet(f"{self.address(lake, table)}/{folder}")
        except BaseException:
            lake.discard(table, folder)
            raise
        return lake.adopt(table, partition, folder, prefix=prefix)

    def _frame(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None) -> DataFrame:
        text = dialect.translated(sql, self._columns)
        if isinstance(parameters, Mapping):
            raise QueryError("the engine takes parameters by place, not by name")
        values = {f"p{place}": dialect.value_of(value) for place, value in enumerate(parameters or ())}
        with self._translated_errors():
            return self._session.sql(text, args=values) if values else self._session.sql(text)

    def _name(self, name: str, rows: DataFrame) -> None:
        with self._translated_errors():
            rows.createOrReplaceTempView(name)
            self._columns[name] = rows.columns

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Translate the server's errors."""
        try:
            yield
        except PySparkException as error:
            if self._interrupted:
                raise QueryLimitError("the query was stopped on the engine: ask for less time, or raise --timeout") from error
            text = str(error).strip()
            detail = _DETAIL.search(text)
            first = detail[1] if detail else text.splitlines()[0] if text else type(error).__name__
            if any(word in text for word in _UNAVAILABLE):
                raise EngineError(f"the engine does not answer any more: {first}") from error
            raise QueryError(f"the engine refused a query: {first}") from error


def _together(parts: list[DataFrame]) -> DataFrame:
    """Return the rows of all parts, as a tree of unions that is no deeper than it must be."""
    while len(parts) > 1:
        parts = [parts[place].unionAll(parts[place + 1]) if place + 1 < len(parts) else parts[place] for place in range(0, len(parts), 2)]
    return parts[0]


class Rows:
    """Rows of a query that the server has not run yet."""

    def __init__(self, connection: SparkConnection, frame: DataFrame) -> None:
        self._connection, self._frame = connection, frame

    def limit(self, rows: int) -> Rows:
        """Return the same, with at most so many rows."""
        return self if rows > engine.MOST_LIMIT else Rows(self._connection, self._frame.limit(rows))

    def to_arrow_table(self) -> pa.Table:
        """Run the query and return its rows. Raises QueryError, EngineError."""
        with self._connection._translated_errors():
            return self._frame.toArrow()

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Run the query and return its rows as tuples. Raises QueryError, EngineError."""
        return [tuple(row.values()) for row in self.to_arrow_table().to_pylist()]
