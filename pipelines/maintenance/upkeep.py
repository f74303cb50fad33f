"""Keeps the tables' folders and logs small without changing any row (vacuum, checkpoint), and reports their sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from warehouse.lake.tables import Lake
from warehouse.schema import TABLES


@dataclass(frozen=True, kw_only=True)
class Vacuumed:
    """The files of one table that were deleted from disk, or would be."""

    table: str
    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class TableStatistics:
    """Sizes of a table, from its log alone."""

    table: str
    files: int
    rows: int
    bytes: int
    days: int
    """The number of days it has rows of; 0 where rows do not belong to days."""
    oldest: datetime | None
    newest: datetime | None
    largest_partition_files: int
    """Files of the partition with the most files: many are slow to read, and show that compaction is behind."""

    @property
    def bytes_per_row(self) -> float | None:
        """Average bytes per row; None without rows."""
        return self.bytes / self.rows if self.rows else None


def vacuum(
    lake: Lake, *, older_than: timedelta, dry_run: bool = False, progress: Callable[[str], None] = lambda _table: None
) -> list[Vacuumed]:
    """Delete files that each table no longer refers to, or never did, for longer than `older_than`. A second run deletes nothing.

    Raises LakeError, ValueError for less than an hour.
    """
    done = []
    for table in TABLES.values():
        progress(table.name)
        sizes = lake.vacuum(table, older_than=older_than, dry_run=dry_run)
        done.append(Vacuumed(table=table.name, files=len(sizes), bytes=sum(sizes.values())))
    return done


def in_groups(clusters: Sequence[str], *, size: int = 8) -> list[list[str]]:
    """Group clusters for parallel tasks: small enough to spread, large enough that start-up time does not dominate."""
    return [list(clusters[begin : begin + size]) for begin in range(0, len(clusters), size)]


def checkpoint(lake: Lake) -> dict[str, int]:
    """Write a checkpoint of each table's log; return the tables' versions. Raises LakeError."""
    return {table.name: lake.checkpoint(table) for table in TABLES.values()}


def statistics(lake: Lake) -> list[TableStatistics]:
    """Return the sizes of every table. Raises LakeError."""
    tables = []
    for table in TABLES.values():
        files = lake.contents(table)
        partitions: dict[tuple[str, ...], int] = {}
        for file in files:
            key = tuple(file.partition.values())
            partitions[key] = partitions.get(key, 0) + 1
        tables.append(
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
    return tables
