"""Removal on an engine elsewhere: counts the rows that go, and writes the rows that stay.

What goes is decided by pipelines.maintenance.removal and those who call it.

Names are judged here, as for the embedded engine: the server is asked which names there are, and gets back lists of those that match.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from warehouse.engine import literal
from warehouse.errors import EngineError
from warehouse.lake.files import DataFile, StoredFile
from warehouse.lake.tables import Lake
from warehouse.schema import Table
from warehouse.wording import counted

if TYPE_CHECKING:
    from warehouse.engines.spark import SparkConnection  # its client is optional

Names = Callable[[str], list[str]]
"""Returns the distinct names in a column of the files in question."""
_FILES_AT_ONCE = 50


class Files:
    """Files of one partition, on one connection. All methods raise QueryError, EngineError, LakeError."""

    def __init__(self, connection: SparkConnection, lake: Lake, table: Table, files: Sequence[StoredFile]) -> None:
        self._connection, self._lake, self._table, self._files = connection, lake, table, list(files)
        for place, file in enumerate(self._files):
            connection.add_files(f"file_{place}", lake, table, [f"{lake.address(table)}/{file.path}"])
        connection.add_files("files_together", lake, table, [f"{lake.address(table)}/{file.path}" for file in self._files])

    def names(self, column: str) -> list[str]:
        """Return the distinct names in a column, without null."""
        found = self._connection.sql(f'SELECT DISTINCT "{column}" AS name FROM files_together').to_arrow_table()["name"].to_pylist()
        return sorted(name for name in found if name is not None)

    def counts(self, goes: str, held: str) -> list[tuple[StoredFile, int, int]]:
        """Return each file with the number of rows that go, and of those that would if they were not held."""
        found: dict[int, tuple[int, int, int]] = {}
        for begin in range(0, len(self._files), _FILES_AT_ONCE):
            places = range(begin, min(begin + _FILES_AT_ONCE, len(self._files)))
            sql = " UNION ALL ".join(
                f"""SELECT {place} AS place, count(*) AS rows, count(CASE WHEN {goes} AND NOT {held} THEN 1 END) AS going,
                    count(CASE WHEN {goes} AND {held} THEN 1 END) AS kept FROM file_{place}"""
                for place in places
            )
            for row in self._connection.sql(sql).to_arrow_table().to_pylist():
                found[row["place"]] = (row["rows"], row["going"], row["kept"])
        for place, file in enumerate(self._files):
            self._check(file, found[place][0], file.rows)
        return [(file, *found[place][1:]) for place, file in enumerate(self._files)]

    def write_without(self, goes: str, prefixes: Sequence[str]) -> list[DataFile]:
        """Write the rows of each file that stay, under these prefixes of names."""
        columns = ", ".join(f'"{name}"' for name in self._table.file_schema.names)
        written: list[DataFile] = []
        try:
            for place, (file, prefix) in enumerate(zip(self._files, prefixes, strict=True)):
                ((due,),) = self._connection.sql(f"SELECT count(*) AS rows FROM file_{place} WHERE NOT {goes}").fetchall()
                sql = f"SELECT {columns} FROM file_{place} WHERE NOT {goes}"
                made = self._connection.write(sql, self._lake, self._table, file.partition, prefix=prefix)
                written += made
                self._check(file, sum(one.rows for one in made), due)
        except BaseException:
            self._lake.forget(self._table, written)
            raise
        return written

    def _check(self, file: StoredFile, rows: int, due: int) -> None:
        """Raise EngineError unless the engine read or wrote as many rows as are due, so that none can be lost unseen."""
        if rows != due:
            raise EngineError(f"the engine has {counted(rows, 'row')} of {file.path} where there are {due:,}")


def one_of(column: str, names: Sequence[str], *, none: bool) -> str:
    """Return the SQL for whether a column has one of these names; `none` is the result for null."""
    if not names:
        return f'("{column}" IS NULL)' if none else "false"
    return f'coalesce("{column}" IN ({", ".join(literal(name) for name in names)}), {str(none).lower()})'


def moment(given: datetime) -> str:
    """Return a time as SQL."""
    return f"'{given.astimezone(UTC).isoformat()}'::TIMESTAMPTZ"
