"""Reading the lake's tables through pruned file lists."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from warehouse.lake import evolution, log
from warehouse.lake.dictionaries import CodedFile, present_columns
from warehouse.lake.files import StoredFile
from warehouse.lake.handles import FAILURES, Handles
from warehouse.lake.snapshots import Snapshot, Wanted
from warehouse.schema import TABLES, Table


class Reads(Handles):
    """The part of a `Lake` that reads."""

    def files(
        self,
        table: Table,
        *,
        clusters: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        version: int | None = None,
    ) -> list[str]:
        """Return absolute paths (or URLs) of the files that may hold rows of these clusters with `since` <= time < `until`.

        Time is `time` in flows and `from` in coverage; None means no limit. `version` selects an earlier version of the table.
        Raises LakeError, and ValueError for naive times.
        """
        return [f"{self.address(table)}/{path}" for path in self._pruned(table, clusters, since, until, version)]

    def contents(
        self, table: Table, *, clusters: Collection[str] | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> Sequence[StoredFile]:
        """Return every file of the table, or those of these clusters in the days that [since, until) overlaps. Raises LakeError."""
        wanted = Wanted(clusters=clusters, since=since, until=until)
        return list(self._known(table).of_days(wanted))

    def last_change(self, table: Table) -> Callable[[Mapping[str, str], datetime, datetime], int]:
        """Return a function from a partition and a span of time to the number of its rows' last change: see warehouse.lake.changes.

        Ask for it before the files that are read: then what was computed from them is no older than its number. Raises LakeError.
        """
        return self._known(table).last_change

    def read(
        self,
        table: Table,
        columns: Sequence[str] | None = None,
        clusters: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        matching: pc.Expression | None = None,
    ) -> pa.Table:
        """Return rows of these clusters with `since` <= time < `until`, unordered; limits as in `files`, all columns for None.

        `matching` is an additional condition; only matching rows are loaded into memory. Raises LakeError, ValueError for naive times.
        """
        clusters = None if clusters is None else list(clusters)
        condition = _condition(table, clusters, since, until)
        if matching is not None:
            condition = condition & matching
        paths = self._pruned(table, clusters, since, until)
        names = list(columns) if columns is not None else table.schema.names
        try:
            if not paths:
                return table.schema.empty_table().select(names)
            return self._dataset(table, paths).to_table(columns=names, filter=condition)
        except (*FAILURES, KeyError) as error:
            raise self._error(table, "cannot be read", error) from error

    def read_cached(
        self, table: Table, clusters: Iterable[str] | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> pa.Table:
        """Like `read` with all columns, for a table of small files, which are cached in memory once read. Raises LakeError."""
        clusters = None if clusters is None else list(clusters)

        def read(paths: list[str]) -> dict[str, pa.Table]:
            parts = self._dataset(table, paths).get_fragments()
            with ThreadPoolExecutor(4) as pool:
                return dict(zip(paths, pool.map(lambda part: part.to_table(schema=table.schema), parts), strict=True))

        try:
            paths = self._pruned(table, clusters, since, until)
            rows = pa.concat_tables([table.schema.empty_table(), *self._cache.rows(paths, read)])
            return rows.filter(_condition(table, clusters, since, until))
        except (*FAILURES, KeyError) as error:
            raise self._error(table, "cannot be read", error) from error

    def dataset(self, table: Table, addresses: Sequence[str]) -> pads.Dataset:
        """Return the rows of files listed by `files` as a dataset that pyarrow and DuckDB can read, whether local or remote."""
        return self._dataset(table, [address.removeprefix(f"{self.address(table)}/") for address in addresses])

    def copies(self, table: Table, addresses: Sequence[str]) -> dict[str, str]:
        """Return local copies of files of a remote lake (as listed by `files`), by address. Raises LakeError.

        Files that are too large to copy are left out and have to be read remotely.
        """
        begin = len(self.address(table)) + 1
        found = self._fetched(table, [address[begin:] for address in addresses])
        return {f"{self.address(table)}/{path}": str(copy) for path, copy in found.items()}

    @contextlib.contextmanager
    def coded_file(self, table: Table, path: str) -> Iterator[CodedFile]:
        """Open a file of the table to read it one row group at a time. Raises LakeError naming the file, also while it is read."""
        try:
            with self._filesystems[table.name].open_input_file(path) as source:
                yield CodedFile(source, table.file_schema)
        except FAILURES as error:
            raise self._error(table, f"has a file that cannot be read, {path}", error) from error

    def coded_rows(self, table: Table, path: str) -> Iterator[pa.Table]:
        """Yield the row groups of a file of the table, as read by CodedFile. Raises LakeError naming the file."""
        with self.coded_file(table, path) as file:
            for group in file.groups:
                yield file.read(group)

    def plain_rows(self, table: Table, path: str) -> pa.Table:
        """Return all rows of a small file, without the partition columns and without columns that are all null in it.

        Much faster than `coded_rows` for a few thousand rows, and much larger in memory for many. Raises LakeError naming the file.
        """
        try:
            with self._filesystems[table.name].open_input_file(path) as source:
                file = pq.ParquetFile(source)
                return file.read(columns=sorted(present_columns(file.metadata) & set(table.file_schema.names)), use_threads=False)
        except FAILURES as error:
            raise self._error(table, f"has a file that cannot be read, {path}", error) from error

    def _fetched(self, table: Table, paths: Sequence[str]) -> Mapping[str, Path]:
        try:
            sizes = {file.path: file for file in self._snapshot(table).files()}
            wanted = [sizes[path] for path in paths if path in sizes]
            self._copies.sweep(self._listed)
            return self._copies.fetch(table.name, self._filesystems[table.name], wanted)
        except FAILURES as error:
            raise self._error(table, "cannot be read", error) from error

    def _listed(self, name: str) -> list[str] | None:
        """Return the paths of a table's files; None if this handle does not know the table."""
        return [file.path for file in self._snapshot(TABLES[name]).files()] if name in self._tables else None

    def _dataset(self, table: Table, paths: list[str]) -> pads.Dataset:
        folders = pads.partitioning(pa.schema([table.schema.field(name) for name in table.partition_by]), flavor="hive")
        filesystem = self._filesystems[table.name]
        if not self.is_local and len(self._fetched(table, paths)) == len(set(paths)):
            filesystem = pafs.SubTreeFileSystem(str(self._copies.folder(table.name)), pafs.LocalFileSystem())
        return pads.dataset(paths, schema=table.schema, format="parquet", filesystem=filesystem, partitioning=folders)

    def version(self, table: Table) -> int:
        """Return the table's newest version. Raises LakeError."""
        return self._known(table).version

    def pinned(self, table: Table) -> Self:
        """Return a handle for which `table` stays as it is now, whatever is committed later. Raises LakeError.

        Its files may be deleted by a vacuum that runs much later.
        """
        return self._pinned_at(table, self._known(table))

    def appended(self, table: Table, after: int) -> tuple[Self, int]:
        """Return a handle for which `table` holds only what was appended after a version, and the version up to which this was read.

        Commits that also remove files store rows again that the table already had, so they are not counted as appended.
        Raises LakeError, also if the log no longer has an entry.
        """
        version = after
        added: dict[tuple[str | None, ...], dict[str, StoredFile]] = {}
        try:
            newest = self._known(table).version  # before the entries are read, so that a commit in between is not taken for a deleted entry
            for entry in log.entries_after(table, self._filesystems[table.name], after):
                version += 1
                for file in () if entry.removed else entry.added:
                    key = tuple(file.partition.get(name) for name in table.partition_by)
                    added.setdefault(key, {})[file.path] = file
            if version == after and newest > after:
                raise ValueError(f"the entry of version {after + 1} has been deleted")
        except log.SchemaChangedError:
            version += 1
        except FAILURES as error:
            raise self._error(table, f"cannot be read after version {after}", error) from error
        return self._pinned_at(table, Snapshot(table, version, added)), version

    def _pinned_at(self, table: Table, snapshot: Snapshot) -> Self:
        pinned = copy.copy(self)
        pinned._pinned = {**self._pinned, table.name: snapshot}
        return pinned

    def commit_time(self, table: Table, version: int) -> datetime:
        """Return when a version was committed. Raises LakeError."""
        try:
            # deltalake's history returns entries of other versions if this version's entry has been deleted.
            commit_info = log.metadata(self._filesystems[table.name], version)
            return datetime.fromtimestamp(commit_info["timestamp"] / 1000, UTC)
        except (*FAILURES, KeyError) as error:
            raise self._error(table, f"has no version {version} in its log, or no longer", error) from error

    def removals(self, table: Table, *, after: int) -> list[log.Removals]:
        """Return the commits after a version that removed rows for good, as far as the log still has them. Raises LakeError."""
        try:
            return list(log.removals(self._filesystems[table.name], after=after))
        except (*FAILURES, KeyError) as error:
            raise self._error(table, "has a log that cannot be read", error) from error

    def has_files_of(self, table: Table, version: int) -> bool:
        """Whether every file of an earlier version still exists, that is, was not vacuumed. Raises LakeError."""
        try:
            newest = self._snapshot(table)
            left = [file.path for file in self._at(table, version).files() if not newest.holds(file.path, file.partition)]
            return all(info.type == pafs.FileType.File for info in self._filesystems[table.name].get_file_info(left))
        except FAILURES as error:
            raise self._error(table, f"cannot be read at version {version}", error) from error

    def clusters(self, table: Table) -> list[str]:
        """Return the names of the clusters with rows in the table, sorted. Raises LakeError."""
        return sorted(self._known(table).values("cluster"))

    def files_may_lack_columns(self, table: Table) -> bool:
        """Whether some files may have fewer columns than the schema, because columns were added after they were written."""
        with self._lock:
            return evolution.files_may_lack_columns(self._tables[table.name])

    def size(self, table: Table) -> tuple[int, int]:
        """Return the total size in bytes and the number of the table's files. Raises LakeError."""
        sizes = [file.size for file in self._known(table).files()]
        return sum(sizes), len(sizes)

    def rows(self, table: Table) -> int:
        """Return the number of rows in the table, from the log alone. Raises LakeError."""
        return sum(file.rows for file in self._known(table).files())

    def span(self, table: Table) -> tuple[datetime | None, datetime | None]:
        """Return the earliest and the latest time recorded in the log; None without rows. Raises LakeError."""
        files = list(self._known(table).files())
        firsts, lasts = ([bound for bound in bounds if bound] for bounds in ([f.first for f in files], [f.last for f in files]))
        return min(firsts, default=None), max(lasts, default=None)


def _condition(table: Table, clusters: Sequence[str] | None, since: datetime | None, until: datetime | None) -> pc.Expression:
    column, instant = pc.field(table.time_column), table.schema.field(table.time_column).type
    condition = pc.scalar(True)
    if clusters is not None:
        condition = condition & pc.field("cluster").isin(pa.array(clusters, pa.string()))
    if since is not None:
        condition = condition & (column >= pa.scalar(since, instant))
    if until is not None:
        condition = condition & (column < pa.scalar(until, instant))
    return condition
