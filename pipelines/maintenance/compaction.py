"""Compaction: closed hours become a few sorted files, closed days get their final layout, and duplicate flows are dropped.

`compaction_plan` decides what is due, `layout` decides the order of rows. Work is done in pieces that fit in memory,
whatever the size of an hour or a day.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.maintenance import elsewhere, layout
from pipelines.maintenance.compaction_plan import DAY, GRACE, HOUR, Task, guard, is_loose, is_within, plan, plan_days
from pipelines.maintenance.engine_compaction import EngineWork
from pipelines.maintenance.layout import DAY_GROUP_ROWS, EVERYTHING, LAYOUTS, Band
from pipelines.maintenance.pieces import Pieces, Span
from warehouse.engines.opening import Engine
from warehouse.errors import CommitConflictError
from warehouse.lake.dictionaries import CodedRows
from warehouse.lake.files import ROW_GROUP_ROWS, DataFile, StoredFile
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS

MEMORY_BYTES = 1_000_000_000
"""Approximate memory for the rows of one piece; sorting and writing them takes half as much again."""
ROW_BYTES, UNPACKED = 1_000, 20
"""A safe upper bound for the memory of a row, including decoded strings: files that fit by this bound are not inspected."""
SHORTEST = timedelta(seconds=1)
"""The number of parts that a time span with too many rows is cut into."""

__all__ = ["GRACE", "Done", "Task", "clusters_to_compact", "compact", "compact_closed_hours", "guard", "plan", "plan_days"]


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result of a task."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    duplicates: int


def clusters_to_compact(lake: Lake, *, now: datetime) -> list[str]:
    """Return the names of the clusters that have something due. Raises LakeError."""
    return sorted({task.cluster for table in (FLOWS, COVERAGE) for due in (plan, plan_days) for task in due(lake, now=now, table=table)})


def compact_closed_hours(
    lake: Lake,
    *,
    now: datetime,
    clusters: frozenset[str] | None = None,
    hour: datetime | None = None,
    day: datetime | None = None,
    progress: Callable[[Task, Done | None], None] = lambda _task, _done: None,
    on: Engine | None = None,
) -> list[Done]:
    """Compact flows and the ledger, closed hours first and then closed days, and yield the result of each task.

    Covers all clusters or the given ones, and optionally only one hour or one day; on an engine elsewhere if given. Raises LakeError.
    """
    done: list[Done] = []
    for table in (FLOWS, COVERAGE):
        for task in plan(lake, now=now, clusters=clusters, hour=hour, day=day, table=table):
            result = compact(lake, task, on=on)
            progress(task, result)
            done += [result] if result else []
        for task in plan_days(lake, now=now, clusters=clusters, day=day, table=table) if hour is None else ():
            result = compact(lake, task, on=on)
            progress(task, result)
            done += [result] if result else []
    return done


def compact(lake: Lake, task: Task, *, on: Engine | None = None) -> Done | None:
    """Do a task in one commit; return None if nothing is left to do or another process did it first. Raises LakeError.

    `on` writes the files if given, or else, and if it fails, the embedded engine; they are committed here in any case.
    """
    if not task.hours and any(is_loose(file) for file in task.files):
        return None  # flows have arrived meanwhile; they go into their hours' files first
    used, written = elsewhere.tried(on, lambda engine: _there(lake, task, engine), lambda: _here(lake, task))
    if not used:
        return None
    try:
        lake.replace(task.table, used, written, guard=task.guard)
    except CommitConflictError:
        return None
    return Done(
        files_before=len(used),
        files_after=len(written),
        bytes_before=sum(file.size for file in used),
        bytes_after=sum(file.size for file in written),
        duplicates=sum(file.rows for file in used) - sum(file.rows for file in written),
    )


def _here(lake: Lake, task: Task) -> tuple[list[StoredFile], list[DataFile]]:
    """Return the files that are replaced, and those that the embedded engine wrote instead."""
    work = _Work(lake, task)
    return work.hours() if task.hours else work.day(), work.written


def _there(lake: Lake, task: Task, on: Engine) -> tuple[list[StoredFile], list[DataFile]]:
    """Return the files that are replaced, and those that an engine elsewhere wrote instead."""
    with on.connect() as connection:
        work = EngineWork(connection, lake, task)
        try:
            return work.hours() if task.hours else work.day(), work.written
        except BaseException:
            lake.forget(task.table, work.written)
            raise


class _Work:
    """A task in progress: the files it has written."""

    def __init__(self, lake: Lake, task: Task) -> None:
        self._lake, self._task, self._table = lake, task, task.table
        self._layout = LAYOUTS[task.table.name]
        self._pieces = Pieces(lake, task.table)
        self._partition = {"cluster": task.cluster, "date": f"{task.day:%Y-%m-%d}"}
        self._files = sorted(task.files, key=lambda file: (file.first or task.day, file.path))
        self.written: list[DataFile] = []

    def hours(self) -> list[StoredFile]:
        """Write each hour that has loose rows; return the files that are replaced."""
        used: dict[str, StoredFile] = {}
        for begin in self._task.hours:
            span, prefix = (begin, begin + HOUR), f"hour-{begin:%H}-"
            own = [file for file in self._files if is_loose(file) or file.name.startswith(prefix)]
            files = [file for file in own if is_within(file, begin) or self._pieces.count([file], span)]
            if any(is_loose(file) for file in files):
                used |= {file.path: file for file in files}
                for part in self._parts(files, span, EVERYTHING):
                    self._write(files, part, prefix, self._layout.hour, [EVERYTHING])
        for file in used.values():
            if is_loose(file) and not any(is_within(file, begin) for begin in self._task.hours):
                self.written += self._lake.write_file(self._table, self._partition, self._pieces.outside(file, self._task.hours))
        return list(used.values())

    def day(self) -> list[StoredFile]:
        """Write the day in its final layout; return the files that are replaced."""
        span = (self._task.day, self._task.day + DAY)
        for bands in layout.together(layout.cut(self._pieces.pairs(self._files)), self._rows_at_once):
            for part in self._parts(self._files, span, _around(bands)):
                self._write(self._files, part, "day-", self._layout.day, bands)
        return self._files

    def _write(self, files: Sequence[StoredFile], span: Span, prefix: str, keys: Sequence[str], bands: Sequence[Band]) -> None:
        """Write one file with the rows of a time span and of adjacent bands."""
        rows = CodedRows(self._table.file_schema, self._pieces.read(files, span, _around(bands)))
        lead = layout.places(rows, [band.first for band in bands[1:] if band.first]) if len(bands) > 1 else None
        order = layout.ordered(rows, keys, self._table.time_column, lead)
        chosen = _each_once(rows, self._pieces.uuids(self._task.day_files, span))
        groups = layout.row_groups(order[chosen[order]], ROW_GROUP_ROWS if self._task.hours else DAY_GROUP_ROWS, lead)
        self.written += self._lake.write_file(self._table, self._partition, (rows.take(group) for group in groups), prefix=prefix)
        del rows
        pa.default_memory_pool().release_unused()

    def _parts(self, files: Sequence[StoredFile], span: Span, band: Band) -> list[Span]:
        """Halve a time span until the rows of each part fit in memory; needed if one pair of namespaces dominates a day."""
        if span[1] - span[0] <= SHORTEST or sum(file.rows * ROW_BYTES + file.size * UNPACKED for file in files) < MEMORY_BYTES:
            return [span]
        if self._pieces.count(files, span, band) <= self._rows_at_once:
            return [span]
        middle = span[0] + (span[1] - span[0]) / 2
        return [*self._parts(files, (span[0], middle), band), *self._parts(files, (middle, span[1]), band)]

    @functools.cached_property
    def _rows_at_once(self) -> int:
        return max(1, int(MEMORY_BYTES / max(map(self._pieces.row_bytes, self._files))))


def _around(bands: Sequence[Band]) -> Band:
    """Merge adjacent bands into one."""
    return Band(first=bands[0].first, end=bands[-1].end, rows=sum(band.rows for band in bands))


def _each_once(rows: CodedRows, stored: pa.Array) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows to write: the first recorded row of each uuid that is not stored yet, and all rows without uuid."""
    uuids = rows.column("uuid")
    chosen = np.ones(len(rows), bool)
    if uuids is None:
        return chosen
    numbers = uuids.dictionary_encode().indices.fill_null(-1).to_numpy()
    chosen[:] = numbers == -1
    firsts = np.unique(numbers, return_index=True)[1]
    if len(firsts) < len(rows):  # time travel uses what was first known of a flow
        lag = rows.column("recorded_lag_ms")
        known = np.arange(len(rows)) if lag is None else np.argsort(lag.fill_null(0).to_numpy(zero_copy_only=False), kind="stable")
        firsts = known[np.unique(numbers[known], return_index=True)[1]]
    chosen[firsts] = True
    if len(stored):
        chosen &= ~pc.is_in(uuids, stored, skip_nulls=True).to_numpy(zero_copy_only=False)
    return chosen
