"""Compaction on an engine elsewhere: the same plan, order of rows and rule for duplicates as in `compaction`, as SQL.

The engine writes files; they are committed here, under the partition's guard. It sorts up to ROWS_AT_ONCE rows at once: a longer hour
is cut by time and a longer day by bands, as in `compaction`, since not every engine sorts on disk what does not fit into its memory.
Its row groups do not end where bands do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from pipelines.maintenance import layout
from pipelines.maintenance.compaction_plan import DAY, HOUR, Task, is_loose
from pipelines.maintenance.layout import DESTINATION, LAYOUTS, SOURCE, Band, Pair
from pipelines.maintenance.pieces import Span
from warehouse.engine import literal
from warehouse.errors import EngineError
from warehouse.lake.files import DataFile, StoredFile
from warehouse.lake.tables import Lake
from warehouse.wording import counted

if TYPE_CHECKING:
    from warehouse.engines.spark import SparkConnection  # its client is optional

ROWS_AT_ONCE = 4_000_000
"""How many rows the engine is given to sort: Sail 0.7 takes about 1.4 KB of memory for each."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALL, _LOOSE, _STORED = "compacted_files", "loose_files", "stored_files"


class EngineWork:
    """A task in progress on one connection. Its methods raise QueryError, EngineError, LakeError."""

    def __init__(self, connection: SparkConnection, lake: Lake, task: Task) -> None:
        self._connection, self._lake, self._task, self._table = connection, lake, task, task.table
        self._partition = {"cluster": task.cluster, "date": f"{task.day:%Y-%m-%d}"}
        self._time = f'"{task.table.time_column}"'
        self.written: list[DataFile] = []

    def hours(self) -> list[StoredFile]:
        """Write each hour that has loose rows; return the files that are replaced."""
        loose = [file for file in self._task.files if is_loose(file)]
        self._add(_LOOSE, loose)
        numbers = self._connection.sql(
            f"SELECT DISTINCT epoch_us({self._time}) // 3600000000 AS hour FROM {_LOOSE}"
        ).to_arrow_table()["hour"].to_pylist()  # fmt: skip
        due = [begin for begin in self._task.hours if int(begin.timestamp()) // 3600 in numbers]
        prefixes = {f"hour-{begin:%H}-": begin for begin in due}
        used = [*loose, *(file for file in self._task.files if file.name.startswith(tuple(prefixes)))] if due else []
        if due:
            self._read(used)
            self._add(_STORED, self._task.day_files)
        for prefix, begin in prefixes.items():
            self._write(prefix, (begin, begin + HOUR), LAYOUTS[self._table.name].hour, sum(file.rows for file in used))
        outside = " AND ".join(f"NOT {self._within((begin, begin + HOUR))}" for begin in self._task.hours)
        if due and set(numbers) - {int(begin.timestamp()) // 3600 for begin in self._task.hours}:
            self.written += self._connection.write(
                f"SELECT {self._columns} FROM {_LOOSE} WHERE {outside}", self._lake, self._table, self._partition
            )
        return used

    def day(self) -> list[StoredFile]:
        """Write the day in its final layout; return the files that are replaced."""
        used = list(self._task.files)
        self._read(used)
        self._add(_STORED, ())
        whole, keys = (self._task.day, self._task.day + DAY), LAYOUTS[self._table.name].day
        if not {SOURCE, DESTINATION} <= set(self._table.schema.names):
            self._write("day-", whole, keys, sum(file.rows for file in used))
            return used
        rows = self._connection.sql(f"SELECT {SOURCE}, {DESTINATION}, count(*) AS flows FROM {_ALL} GROUP BY ALL").to_arrow_table()
        pairs: dict[Pair, int] = {(row[SOURCE], row[DESTINATION]): row["flows"] for row in rows.to_pylist()}
        for bands in layout.together(layout.cut(pairs), ROWS_AT_ONCE):
            self._write("day-", whole, [_place(bands), *keys], sum(band.rows for band in bands), _among(bands))
        return used

    def _add(self, name: str, files: Iterable[StoredFile]) -> None:
        self._connection.add_files(name, self._lake, self._table, [f"{self._lake.address(self._table)}/{file.path}" for file in files])

    def _write(self, prefix: str, span: Span, keys: Sequence[str], rows: int, among: str = "true") -> None:
        """Write the rows of a time span for which a condition holds, at most `rows`, each flow once, in order of keys and then time."""
        ends = [span[1]]
        if rows > ROWS_AT_ONCE:
            microseconds = f"epoch_us({self._time})"
            sql = f"SELECT count(*), min({microseconds}), max({microseconds}) FROM {_ALL} WHERE {self._within(span)} AND {among}"
            ((found, first, last),) = self._connection.sql(sql).fetchall()
            parts = -(-found // ROWS_AT_ONCE)
            ends = [_EPOCH + timedelta(microseconds=first + (last - first) * part // parts) for part in range(1, parts)] + ends
        for part in pairwise([span[0], *ends]):
            self._write_part(prefix, f"{self._within(part)} AND {among}", keys)

    def _write_part(self, prefix: str, condition: str, keys: Sequence[str]) -> None:
        """Write the rows for which a condition holds into files of their own."""
        rows = f"SELECT * FROM {_ALL} WHERE {condition}"
        counts = f"SELECT count(*) AS rows, count(*) AS due FROM ({rows})"
        stored = f"""LEFT JOIN (SELECT DISTINCT uuid AS stored_uuid FROM {_STORED} WHERE {condition}) AS stored
            ON found.uuid = stored.stored_uuid"""
        if "uuid" in self._table.schema.names:
            new = "count(*) - count(uuid) + count(DISTINCT CASE WHEN stored_uuid IS NULL THEN uuid END)"
            counts = f"SELECT count(*) AS rows, {new} AS due FROM ({rows}) AS found {stored}"
        ((found, due),) = self._connection.sql(counts).fetchall()
        if not due:
            return
        if found != due:  # otherwise no flow is there twice, and finding copies would sort all columns once more
            # What was first known of a flow is kept. Flows without uuid are all kept: the time only spreads them.
            rows = f"""SELECT * FROM (
                    SELECT *, row_number() OVER (
                        PARTITION BY uuid, CASE WHEN uuid IS NULL THEN {self._time} END ORDER BY coalesce(recorded_lag_ms, 0)
                    ) AS copy FROM ({rows})
                ) AS found {stored} WHERE uuid IS NULL OR (copy = 1 AND stored_uuid IS NULL)"""
        sql = f"SELECT {self._columns} FROM ({rows}) ORDER BY {', '.join([*keys, self._time])}"
        files = self._connection.write(sql, self._lake, self._table, self._partition, prefix=prefix)
        self.written += files
        self._check(sum(file.rows for file in files), due)

    def _check(self, rows: int, due: int) -> None:
        """Raise EngineError unless the engine read or wrote as many rows as are due, so that none can be lost unseen."""
        if rows != due:
            raise EngineError(f"the engine has {counted(rows, 'row')} of {self._task} where there are {due:,}")

    def _read(self, used: Sequence[StoredFile]) -> None:
        """Give the files to the engine, and check that it finds all their rows."""
        self._add(_ALL, used)
        ((rows,),) = self._connection.sql(f"SELECT count(*) AS rows FROM {_ALL}").fetchall()
        self._check(rows, sum(file.rows for file in used))

    def _within(self, span: Span) -> str:
        since, until = (f"'{moment.isoformat()}'::TIMESTAMPTZ" for moment in span)
        return f"({self._time} >= {since} AND {self._time} < {until})"

    @property
    def _columns(self) -> str:
        return ", ".join(f'"{name}"' for name in self._table.file_schema.names)


def _among(bands: Sequence[Band]) -> str:
    """Return the SQL for whether a row is in one of some adjacent bands.

    The bounds of the source alone follow from the others, and let an engine pass over parts of files by their statistics.
    """
    first, end = bands[0].first, bands[-1].end
    found = ["true"]
    if first:
        at_least = f"{SOURCE} IS NULL" if first[0] is None else f"({SOURCE} IS NULL OR {SOURCE} >= {literal(first[0])})"
        found += [at_least, _not_before(*first)]
    if end:
        found += [*([] if end[0] is None else [f"{SOURCE} <= {literal(end[0])}"]), f"NOT {_not_before(*end)}"]
    return " AND ".join(found)


def _place(bands: Sequence[Band]) -> str:
    """Return the SQL for the number of a row's band: how many of the bands' starts its pair of namespaces is not before."""
    starts = [f"CASE WHEN {_not_before(*band.first)} THEN 1 ELSE 0 END" for band in bands if band.first]
    return " + ".join(starts) or "0"


def _not_before(source: str | None, destination: str | None) -> str:
    """Return the SQL for whether a row's pair sorts at or after another, null last: see `layout.sort_key`."""
    equal = f"{SOURCE} IS NULL" if source is None else f"{SOURCE} = {literal(source)}"
    after = "false" if source is None else f"{SOURCE} IS NULL OR {SOURCE} > {literal(source)}"
    then = f"{DESTINATION} IS NULL" if destination is None else f"({DESTINATION} IS NULL OR {DESTINATION} >= {literal(destination)})"
    return f"({after} OR ({equal} AND {then}))"
