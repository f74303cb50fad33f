"""What keeps the tables' folders and logs small and is no change of any row: vacuum, checkpoint; and what they amount to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from warehouse.lake.tables import Lake
from warehouse.schema import TABLES


@dataclass(frozen=True, kw_only=True)
class Vacuumed:
    """What left the disk, or would, of one table."""

    table: str
    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class TableStatistics:
    """A table from outside, by its log alone."""

    table: str
    files: int
    rows: int
    bytes: int
    days: int
    """Days that it has rows of; 0 where rows belong to none."""
    oldest: datetime | None
    newest: datetime | None
    largest_partition_files: int
    """Files of the partition that has most: many are slow to read, and say that compaction is behind."""

    @property
    def bytes_per_row(self) -> float | None:
        """None without rows."""
        return self.bytes / self.rows if self.rows else None


def vacuum(
    lake: Lake, *, older_than: timedelta, dry_run: bool = False, progress: Callable[[str], None] = lambda _table: None
) -> list[Vacuumed]:
    """Delete files that left each table, or never were in it, longer than `older_than` ago. Running it again deletes nothing.

    Raises LakeError, ValueError for less than an hour.
    """
    done = []
    for table in TABLES.values():
        progress(table.name)
        sizes = lake.vacuum(table, older_than=older_than, dry_run=dry_run)
        done.append(Vacuumed(table=table.name, files=len(sizes), bytes=sum(sizes.values())))
    return done


def in_groups(clusters: Sequence[str], *, size: int = 8) -> list[list[str]]:
    """The clusters in groups for tasks beside each other: small enough to spread, large enough not to drown in start-up."""
    return [list(clusters[begin : begin + size]) for begin in range(0, len(clusters), size)]


def checkpoint(lake: Lake) -> dict[str, int]:
    """Write each table's log as one file; gives the tables' versions. Raises LakeError."""
    return {table.name: lake.checkpoint(table) for table in TABLES.values()}


def statistics(lake: Lake) -> list[TableStatistics]:
    """Of every table. Raises LakeError."""
    told = []
    for table in TABLES.values():
        files = lake.contents(table)
        partitions: dict[tuple[str, ...], int] = {}
        for file in files:
            key = tuple(file.partition.values())
            partitions[key] = partitions.get(key, 0) + 1
        told.append(
            TableStatistics(
                table=table.name,
                files=len(files),
                rows=sum(file.rows for file in files),
                bytes=sum(file.size for file in files),
                days=len({file.partition["date"] for file in files if "date" in file.partition}),
                oldest=min((file.first for file in files if file.first), default=None),
                newest=max((file.last for file in files if file.last), default=None),
                largest_partition_files=max(partitions.values(), default=0),
            )
        )
    return told
