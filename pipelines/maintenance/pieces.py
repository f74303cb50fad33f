"""Reads pieces of a table's files, the rows of a time span and of a band, from as few row groups as possible.

How pieces are used, and how large they may be, does not belong here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.maintenance import layout
from pipelines.maintenance.compaction_plan import HOUR
from pipelines.maintenance.layout import DESTINATION, EVERYTHING, SOURCE, Band, Pair
from warehouse.lake.dictionaries import CodedFile, CodedRows
from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.schema import Table

Span = tuple[datetime, datetime]
"""A time span, from the first time up to but not including the second."""
Mask = npt.NDArray[np.bool_]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Pieces:
    """Reads pieces of one table. All methods raise LakeError."""

    def __init__(self, lake: Lake, table: Table) -> None:
        self._lake, self._table, self._schema = lake, table, table.file_schema
        self._has_ends = {SOURCE, DESTINATION} <= set(self._schema.names)

    def read(self, files: Sequence[StoredFile], span: Span, band: Band, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Return the rows of a time span and band; all columns, or the given ones and those needed to select rows."""
        needed = None if names is None else [*names, self._table.time_column, SOURCE, DESTINATION]
        for stored in files:
            with self._lake.coded_file(self._table, stored.path) as file:
                for group in file.groups:
                    in_time, in_band = self._within(file, group, span), self._within_band(file, group, band)
                    if in_time is False or in_band is False:
                        continue
                    rows = file.read(group, needed)
                    if in_time is None:
                        rows = rows.filter(pa.array(self._of(rows, span)))
                    if in_band is None:
                        rows = rows.filter(pa.array(_of_band(CodedRows(self._ends, [rows]), band)))
                    yield rows

    def count(self, files: Sequence[StoredFile], span: Span, band: Band = EVERYTHING) -> int:
        """Return the number of rows of a time span and band."""
        return sum(rows.num_rows for rows in self.read(files, span, band, []))

    def uuids(self, files: Sequence[StoredFile], span: Span) -> pa.Array:
        """Return the uuids of the rows of a time span; none in a table without uuids."""
        found = [pa.array([], pa.string())]
        for rows in self.read(files, span, EVERYTHING, ["uuid"]) if "uuid" in self._schema.names else ():
            found += rows["uuid"].chunks if "uuid" in rows.column_names else []
        return pa.concat_arrays(found)

    def outside(self, stored: StoredFile, hours: Sequence[datetime]) -> Iterator[pa.Table]:
        """Return the rows of a file that belong to none of the hours."""
        with self._lake.coded_file(self._table, stored.path) as file:
            for group in file.groups:
                spans = [(hour, hour + HOUR) for hour in hours]
                if not any(self._within(file, group, span) for span in spans):
                    read = file.read(group)
                    inside = np.logical_or.reduce([self._of(read, span) for span in spans])
                    yield CodedRows(self._schema, [read]).take(np.flatnonzero(~inside))

    def pairs(self, files: Sequence[StoredFile]) -> Counter[Pair]:
        """Return how many rows have each pair of namespaces; in a table without such columns both are None."""
        found: Counter[Pair] = Counter()
        for stored in files:
            if not self._has_ends:
                found[None, None] += stored.rows
                continue
            with self._lake.coded_file(self._table, stored.path) as file:
                for group in file.groups:
                    found.update(
                        layout.count_pairs(CodedRows(self._ends, [file.read(group, [SOURCE, DESTINATION, self._table.time_column])]))
                    )
        return found

    def row_bytes(self, stored: StoredFile) -> float:
        """Estimate the bytes a row of a file takes in memory."""
        with self._lake.coded_file(self._table, stored.path) as file:
            return file.row_bytes

    @property
    def _ends(self) -> pa.Schema:
        return pa.schema([self._schema.field(SOURCE), self._schema.field(DESTINATION)])

    def _of(self, rows: pa.Table, span: Span) -> Mask:
        """Return a mask of the rows within a time span."""
        times = rows[self._table.time_column].cast(pa.int64()).to_numpy()
        begin, end = ((moment - _EPOCH) // timedelta(microseconds=1) for moment in span)
        inside: Mask = (times >= begin) & (times < end)
        return inside

    def _within(self, file: CodedFile, group: int, span: Span) -> bool | None:
        """Return whether all (True) or none (False) of a row group is within a time span; None if neither is certain."""
        bounds = file.bounds(group, self._table.time_column)
        if bounds is None or bounds.has_null:
            return None
        if bounds.greatest < span[0] or bounds.least >= span[1]:
            return False
        return True if bounds.least >= span[0] and bounds.greatest < span[1] else None

    def _within_band(self, file: CodedFile, group: int, band: Band) -> bool | None:
        """Return whether all or none of a row group is in a band, judging by its sources; None if neither is certain."""
        if band.first is None and band.end is None:
            return True
        bounds = file.bounds(group, SOURCE)
        if bounds is None:
            return None
        least, greatest = (False, bounds.least), (bounds.has_null, "" if bounds.has_null else bounds.greatest)
        first = None if band.first is None else layout.sort_key(band.first)[:2]
        end = None if band.end is None else layout.sort_key(band.end)[:2]
        if (first is not None and greatest < first) or (end is not None and least > end):
            return False
        return True if (first is None or least > first) and (end is None or greatest < end) else None


def _of_band(rows: CodedRows, band: Band) -> Mask:
    """Return a mask of the rows in a band."""
    before = layout.places(rows, [bound for bound in (band.first, band.end) if bound is not None])
    inside: Mask = before == (0 if band.first is None else 1)
    return inside
