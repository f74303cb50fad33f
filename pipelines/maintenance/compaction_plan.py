"""Decides what is due to be compacted, from the table's log alone. The work itself belongs in pipelines.maintenance.compaction.

File names state what a file is: `hour-HH-...` contains flows of that hour only, `day-...` flows of a day in its final
layout; every other file is loose. Loose files of a closed hour go into its hour files, so late flows reopen an hour without
further bookkeeping. A closed day's hour files become day files; late flows of such a day stay in hour files beside them until
they exceed LATE_SHARE of its flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS, Table

GRACE = timedelta(minutes=10)
"""An hour counts as closed this long after its end, when delayed flows have arrived."""
DAY_GRACE = timedelta(hours=3)
"""A day gets its final layout this long after its end: hour files serve questions about the last hours better."""
LATE_SHARE = 0.02
"""The share of a day's flows in hour files beside its day files above which the day is laid out again."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_SLACK = timedelta(milliseconds=1)  # some engines truncate the times in file statistics to milliseconds


def guard(cluster: str, day: str) -> str:
    """Return the guard under which files of a partition are replaced, so that only one process replaces them at a time."""
    return f"compact:{cluster}/{day}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """Hours of one cluster and day that share loose files, or its whole day, to be compacted in one commit."""

    table: Table
    cluster: str
    day: datetime
    """Start of the day, UTC."""
    hours: tuple[datetime, ...]
    """Starts of the hours; empty if the day is to get its final layout."""
    files: tuple[StoredFile, ...]
    day_files: tuple[StoredFile, ...] = ()
    """For hours: the day's files in final layout, which stay, and may contain flows that arrive a second time."""

    @property
    def size(self) -> int:
        """Total bytes of the task's files."""
        return sum(file.size for file in self.files)

    @property
    def rows(self) -> int:
        """Total rows of the task's files."""
        return sum(file.rows for file in self.files)

    @property
    def guard(self) -> str:
        """The guard of the partition, so that only one process replaces its files at a time."""
        return guard(self.cluster, f"{self.day:%Y-%m-%d}")

    def __str__(self) -> str:
        if not self.hours:
            return f"{self.table.name} {self.cluster} {self.day:%Y-%m-%d}"
        last = f"..{self.hours[-1]:%H}" if len(self.hours) > 1 else ""
        return f"{self.table.name} {self.cluster} {self.hours[0]:%Y-%m-%dT%H}{last}"


def plan(
    lake: Lake,
    *,
    now: datetime,
    clusters: frozenset[str] | None = None,
    hour: datetime | None = None,
    day: datetime | None = None,
    table: Table = FLOWS,
) -> list[Task]:
    """Return the closed hours with loose files, oldest first; optionally of some clusters, one hour or one day. Raises LakeError."""
    tasks = []
    for (cluster, begin), files in _days(lake, table, clusters, day):
        loose = [
            (file, hours)
            for file in files
            if is_loose(file) and (hours := {h for h in _hours(file) if h + HOUR + GRACE <= now and hour in (None, h)})
        ]
        for hours, together in _connected(loose):
            own = [file for file in files if _hour_of(file) in hours]
            kept = [file for file in files if file.name.startswith("day-")]
            tasks.append(
                Task(table=table, cluster=cluster, day=begin, hours=tuple(sorted(hours)), files=(*together, *own), day_files=tuple(kept))
            )
    return sorted(tasks, key=lambda task: (task.hours[0], task.cluster))


def plan_days(
    lake: Lake, *, now: datetime, clusters: frozenset[str] | None = None, day: datetime | None = None, table: Table = FLOWS
) -> list[Task]:
    """Return closed days due for their final layout, oldest first. Loose files go into hour files before that. Raises LakeError."""
    tasks = []
    for (cluster, begin), files in _days(lake, table, clusters, day):
        rows = sum(file.rows for file in files)
        waiting = sum(file.rows for file in files if not file.name.startswith("day-"))
        has_layout = any(file.name.startswith("day-") for file in files)
        if begin + DAY + DAY_GRACE <= now and waiting > (LATE_SHARE * rows if has_layout else 0):
            tasks.append(Task(table=table, cluster=cluster, day=begin, hours=(), files=tuple(files)))
    return sorted(tasks, key=lambda task: (task.day, task.cluster))


def is_loose(file: StoredFile) -> bool:
    """Return whether a file has not been compacted yet."""
    return not file.name.startswith(("hour-", "day-"))


def is_within(file: StoredFile, hour: datetime) -> bool:
    """Return whether all of a file's rows belong to an hour, according to the log."""
    return file.rows > 0 and file.first is not None and file.last is not None and hour <= file.first and file.last + _SLACK < hour + HOUR


def _days(
    lake: Lake, table: Table, clusters: frozenset[str] | None, day: datetime | None
) -> Iterable[tuple[tuple[str, datetime], list[StoredFile]]]:
    """Yield each cluster and day with its files."""
    found: dict[tuple[str, datetime], list[StoredFile]] = {}
    for file in lake.contents(table):
        begin, cluster = _day_of(file), file.partition["cluster"]
        if (clusters is None or cluster in clusters) and day in (None, begin):
            found.setdefault((cluster, begin), []).append(file)
    return found.items()


def _connected(files: Iterable[tuple[StoredFile, set[datetime]]]) -> list[tuple[set[datetime], list[StoredFile]]]:
    """Group files with those that they share hours with."""
    groups: list[tuple[set[datetime], list[StoredFile]]] = []
    for file, hours in files:
        apart = []
        joined: tuple[set[datetime], list[StoredFile]] = (set(hours), [file])
        for group in groups:
            if group[0] & hours:
                joined = (joined[0] | group[0], [*group[1], *joined[1]])
            else:
                apart.append(group)
        groups = [*apart, joined]
    return groups


def _hours(file: StoredFile) -> Iterator[datetime]:
    """Return the starts of the hours of its day that a file may have rows of."""
    day = _day_of(file)
    first = day if file.first is None else max(day, file.first)
    last = day + 23 * HOUR if file.last is None else min(day + DAY - _SLACK, file.last + _SLACK)
    begin = first.replace(minute=0, second=0, microsecond=0)
    while begin <= last:
        yield begin
        begin += HOUR


def _hour_of(file: StoredFile) -> datetime | None:
    """Return the hour of a compacted hour file."""
    return _day_of(file).replace(hour=int(file.name[5:7])) if file.name.startswith("hour-") else None


def _day_of(file: StoredFile) -> datetime:
    return datetime.fromisoformat(file.partition["date"]).replace(tzinfo=UTC)
