"""The files of one version of a table, by partition, and how the next version is derived from it.

A snapshot is immutable. Reading the log belongs to warehouse.lake.tables and warehouse.lake.log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from warehouse.lake.changes import Key, LastChanges
from warehouse.lake.files import StoredFile
from warehouse.lake.log import LogEntry
from warehouse.schema import Table

_SLACK = timedelta(milliseconds=1)  # some engines truncate the times in a file's statistics to milliseconds
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Selects files of a table: of these clusters (None for all) that may hold rows in [since, until) (None for no bound)."""

    clusters: Collection[str] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for times without a time zone."""
        for moment in (self.since, self.until):
            if moment is not None and moment.utcoffset() is None:
                raise ValueError(f"{moment.isoformat()} has no time zone; give one, e.g. UTC")


class Snapshot:
    """One version of a table."""

    def __init__(
        self, table: Table, version: int, partitions: Mapping[Key, Mapping[str, StoredFile]], changes: LastChanges | None = None
    ) -> None:
        """`partitions` maps each partition to its files by decoded path."""
        self._table = table
        self._changes = changes or LastChanges()
        self.version = version
        self._partitions = partitions

    @classmethod
    def of_actions(cls, table: Table, version: int, actions: pa.Table) -> Snapshot:
        """Build a snapshot from add actions as flattened by deltalake, one row per file."""
        names = [f"{bound}.{table.time_column}" for bound in ("min", "max")]
        bounds = [actions[name].to_pylist() if name in actions.column_names else [None] * actions.num_rows for name in names]
        keys = [actions[f"partition.{name}"].cast(pa.string()).to_pylist() for name in table.partition_by]
        columns = (actions[name].to_pylist() for name in ("path", "size_bytes", "num_records"))
        partitions: dict[Key, dict[str, StoredFile]] = {}
        values: dict[Key, dict[str, str]] = {}
        for path, size, rows, first, last, *key_values in zip(*columns, *bounds, *keys, strict=True):
            key = tuple(key_values)
            decoded = unquote(path)
            partitions.setdefault(key, {})[decoded] = StoredFile(
                path=decoded,
                partition=values.setdefault(key, dict(zip(table.partition_by, key, strict=True))),
                size=size,
                rows=rows or 0,
                first=as_utc(first),
                last=as_utc(last),
            )
        return cls(table, version, partitions)

    def after(self, entries: Iterable[LogEntry]) -> Snapshot:
        """Return the snapshot after further log entries, the first of which belongs to the next version."""
        partitions = dict(self._partitions)
        changed: dict[Key, dict[str, StoredFile]] = {}
        version, changes = self.version, self._changes

        def files_of(key: Key) -> dict[str, StoredFile]:
            if key not in changed:
                partitions[key] = changed[key] = dict(partitions.get(key, {}))
            return changed[key]

        for entry in entries:
            version += 1
            gone: dict[Key, list[StoredFile]] = {}
            come: dict[Key, list[StoredFile]] = {}
            for path, values in entry.removed:
                key = self._key(values) if values is not None else next((k for k, files in partitions.items() if path in files), None)
                if key is not None and (file := files_of(key).pop(path, None)) is not None:
                    gone.setdefault(key, []).append(file)
            for file in entry.added:
                key = self._key(file.partition)
                files_of(key)[file.path] = file
                come.setdefault(key, []).append(file)
            changes = changes.after(_changed(gone, come, is_rearrangement=entry.is_rearrangement))
        for key, files in changed.items():
            if not files:
                del partitions[key]
        return Snapshot(self._table, version, partitions, changes)

    def last_change(self, values: Mapping[str, str], since: datetime, until: datetime) -> int:
        """Return the number of the last change of a partition's rows in [since, until): see LastChanges."""
        return self._changes.number(self._key(values), since, until)

    def files(self, wanted: Wanted | None = None) -> Iterator[StoredFile]:
        """Yield the files that may hold the wanted rows; all files for None. An unknown bound excludes no file."""
        if wanted is None:
            for files in self._partitions.values():
                yield from files.values()
            return
        least = None if wanted.since is None else wanted.since - _SLACK if wanted.since - _EARLIEST > _SLACK else wanted.since
        for files in self._among(wanted):
            for file in files.values():
                if least is not None and file.last is not None and file.last < least:
                    continue
                if wanted.until is not None and file.first is not None and file.first >= wanted.until:
                    continue
                yield file

    def of_days(self, wanted: Wanted) -> Iterator[StoredFile]:
        """Yield all files of the partitions whose day may have wanted rows."""
        for files in self._among(wanted):
            yield from files.values()

    def partition(self, values: Mapping[str, str]) -> Mapping[str, StoredFile]:
        """Return the files of one partition by path."""
        return self._partitions.get(self._key(values), {})

    def holds(self, path: str, values: Mapping[str, str]) -> bool:
        """Whether a file of the partition is in this version."""
        return path in self.partition(values)

    def values(self, column: str) -> set[str]:
        """Return the distinct values of a partition column, without null."""
        place = self._table.partition_by.index(column)
        return {value for key in self._partitions if (value := key[place]) is not None}

    def _among(self, wanted: Wanted) -> Iterator[Mapping[str, StoredFile]]:
        """Yield the partitions of the wanted clusters and days."""
        names = self._table.partition_by
        cluster_at = names.index("cluster") if "cluster" in names and wanted.clusters is not None else None
        date_at = names.index("date") if "date" in names else None
        clusters = frozenset(wanted.clusters or ())
        first = None if wanted.since is None else wanted.since.astimezone(UTC).date().isoformat()
        last = None
        if wanted.until is not None:
            last = (wanted.until.astimezone(UTC) - (_MICROSECOND if wanted.until > _EARLIEST else timedelta(0))).date().isoformat()
        for key, files in self._partitions.items():
            if cluster_at is not None and (cluster := key[cluster_at]) is not None and cluster not in clusters:
                continue
            if date_at is not None and (day := key[date_at]) is not None and ((first and day < first) or (last and day > last)):
                continue
            yield files

    def _key(self, values: Mapping[str, Any]) -> Key:
        return tuple(values.get(name) for name in self._table.partition_by)


def _changed(
    gone: Mapping[Key, list[StoredFile]], come: Mapping[Key, list[StoredFile]], *, is_rearrangement: bool
) -> dict[Key, list[StoredFile]]:
    """Return the files of the partitions whose rows an entry may have changed.

    Also an entry that claims to change nothing may have left out rows, as compaction does with duplicates.
    """
    both = {key: ([*gone.get(key, ())], [*come.get(key, ())]) for key in {*gone, *come}}
    return {
        key: [*old, *new]
        for key, (old, new) in both.items()
        if not is_rearrangement or sum(file.rows for file in old) != sum(file.rows for file in new)
    }


def as_utc(moment: datetime | None) -> datetime | None:
    """Return a time in UTC; statistics in some versions of the log have no time zone."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
