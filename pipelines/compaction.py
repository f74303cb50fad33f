"""Compaction: a closed hour's many small files become few, sorted, each flow once. When it runs is others' work.

A file named `hour-HH-...` holds flows of that hour of its day alone, sorted. Whatever else has flows of a closed hour
is loose and goes into it; so late flows reopen an hour by themselves, and a second run finds nothing to do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.errors import CommitConflictError
from warehouse.files import StoredFile
from warehouse.schema import COVERAGE, FLOWS, Table
from warehouse.tables import Lake

GRACE = timedelta(minutes=10)
"""An hour counts as closed this long after its end: by then what was on its way has come."""
SLICE_ROWS = 400_000
"""Rows that are sorted at once; a larger hour becomes several files, each of a part of its time."""
SLACK = timedelta(milliseconds=1)
"""Some engines cut the times in a file's statistics to milliseconds."""
SORTED_BY = {
    FLOWS.name: ("source_namespace", "source_workload_name", "destination_namespace", "destination_workload_name", "time"),
    COVERAGE.name: ("node_name", "from"),
}
HOUR = timedelta(hours=1)


def guard(cluster: str, day: str) -> str:
    """What whoever replaces files of a partition commits as, so that no two do at a time."""
    return f"compact:{cluster}/{day}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One hour of one cluster to be compacted."""

    table: Table
    cluster: str
    hour: datetime
    """Its start, UTC."""
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files)

    @property
    def guard(self) -> str:
        """What no two may replace at a time."""
        return guard(self.cluster, f"{self.hour:%Y-%m-%d}")

    @property
    def prefix(self) -> str:
        """How the hour's files begin."""
        return f"hour-{self.hour:%H}-"


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a task."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    duplicates: int


def plan(
    lake: Lake, *, now: datetime, clusters: frozenset[str] | None = None, hour: datetime | None = None, table: Table = FLOWS
) -> list[Task]:
    """The closed hours that have loose files, oldest first; of these clusters, and of one hour, if given. Raises LakeError."""
    tasks: dict[tuple[str, datetime], list[StoredFile]] = {}
    contents = [file for file in lake.contents(table) if clusters is None or file.partition["cluster"] in clusters]
    for file in contents:
        if not file.name.startswith("hour-"):
            for begin in _hours(file):
                if begin + HOUR + GRACE <= now and hour in (None, begin):
                    tasks.setdefault((file.partition["cluster"], begin), []).append(file)
    for file in contents:
        own = _hour_of(file)
        if own is not None and (file.partition["cluster"], own) in tasks:
            tasks[file.partition["cluster"], own].append(file)
    found = [Task(table=table, cluster=cluster, hour=begin, files=tuple(files)) for (cluster, begin), files in tasks.items()]
    return sorted(found, key=lambda task: (task.hour, task.cluster))


def clusters_to_compact(lake: Lake, *, now: datetime) -> list[str]:
    """Names of the clusters that have closed hours with loose files. Raises LakeError."""
    return sorted({task.cluster for table in (FLOWS, COVERAGE) for task in plan(lake, now=now, table=table)})


def compact(lake: Lake, task: Task) -> Done | None:
    """Do a task in one commit; None if none of its files has rows of the hour, or another process did it first. Raises LakeError."""
    column = task.table.time_column
    type_ = task.table.schema.field(column).type
    begin, end = pa.scalar(task.hour, type_), pa.scalar(task.hour + HOUR, type_)
    field = pc.field(column)
    inside = (field >= begin) & (field < end)
    sources = [(file, lake.dataset(task.table, [f"{lake.address(task.table)}/{file.path}"])) for file in task.files]
    counted = [(file, source, source.count_rows(filter=inside)) for file, source in sources]
    used = [(file, source, count) for file, source, count in counted if count]
    if not any(not file.name.startswith("hour-") for file, _, _ in used):
        return None
    rows = sum(count for _, _, count in used)
    whole = lake.dataset(task.table, [f"{lake.address(task.table)}/{file.path}" for file, _, _ in used])
    written, duplicates = [], 0
    for first, last in _slices(task.hour, rows):
        part = whole.to_table(filter=(field >= pa.scalar(first, type_)) & (field < pa.scalar(last, type_)))
        once = _each_once(part)
        duplicates += part.num_rows - once.num_rows
        order = [(name, "ascending") for name in SORTED_BY[task.table.name]]
        written += lake.write_files(task.table, once.sort_by(order), prefix=task.prefix)
    rest = whole.to_table(filter=~inside)
    written += lake.write_files(task.table, rest)
    old = [file for file, _, _ in used]
    try:
        lake.replace(task.table, old, written, guard=task.guard)
    except CommitConflictError:
        return None
    return Done(
        files_before=len(old),
        files_after=len(written),
        bytes_before=sum(file.size for file in old),
        bytes_after=sum(file.size for file in written),
        duplicates=duplicates,
    )


def compact_closed_hours(
    lake: Lake,
    *,
    now: datetime,
    clusters: frozenset[str] | None = None,
    hour: datetime | None = None,
    progress: Callable[[Task, Done | None], None] = lambda _task, _done: None,
) -> list[Done]:
    """Compact flows and the ledger, hour by hour, and tell of each; a file that reaches into the next hour is read again then."""
    done: list[Done] = []
    for table in (FLOWS, COVERAGE):
        for planned in plan(lake, now=now, clusters=clusters, hour=hour, table=table):
            # What the hour before left over of a file that reached into this one has a new name by now.
            current = plan(lake, now=now, clusters=frozenset([planned.cluster]), hour=planned.hour, table=table)
            result = compact(lake, current[0]) if current else None
            progress(planned, result)
            if result:
                done.append(result)
    return done


def _each_once(rows: pa.Table) -> pa.Table:
    """The rows without those whose uuid came before; rows without uuid all stay."""
    if "uuid" not in rows.column_names or not rows.num_rows:
        return rows
    codes = rows["uuid"].combine_chunks().dictionary_encode().indices
    numbers = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    kept = np.zeros(rows.num_rows, bool)
    kept[np.unique(numbers, return_index=True)[1]] = True
    kept |= numbers == -1
    return rows if kept.all() else rows.filter(pa.array(kept))


def _slices(hour: datetime, rows: int) -> Iterator[tuple[datetime, datetime]]:
    parts = max(1, -(-rows // SLICE_ROWS))
    bounds = [hour + HOUR * part / parts for part in range(parts)] + [hour + HOUR]
    yield from itertools.pairwise(bounds)


def _hours(file: StoredFile) -> Iterator[datetime]:
    """Starts of the hours of its day that a file may have rows of."""
    day = datetime.fromisoformat(file.partition["date"]).replace(tzinfo=UTC)
    first = day if file.first is None else max(day, file.first)
    last = day + 23 * HOUR if file.last is None else min(day + 24 * HOUR - SLACK, file.last + SLACK)
    begin = first.replace(minute=0, second=0, microsecond=0)
    while begin <= last:
        yield begin
        begin += HOUR


def _hour_of(file: StoredFile) -> datetime | None:
    """The hour whose compacted file it is."""
    if not file.name.startswith("hour-"):
        return None
    return datetime.fromisoformat(file.partition["date"]).replace(hour=int(file.name[5:7]), tzinfo=UTC)
