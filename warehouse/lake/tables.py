"""The lake's tables: exactly-once appends, and reads through pruned file lists.

Writing takes two steps: `write_files` puts Parquet files into the table's folder, and `commit` makes all of them part of the
table, or none. A `Lake` may be shared by threads.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, CommitProperties, RemoveAction, Transaction

from warehouse import config
from warehouse.errors import CommitConflictError, LakeError
from warehouse.lake import evolution, files, log
from warehouse.lake.dictionaries import CodedFile, present_columns
from warehouse.lake.file_cache import KeptFiles
from warehouse.lake.files import DataFile, StoredFile
from warehouse.lake.local_copies import LocalCopies
from warehouse.lake.snapshots import Snapshot, Wanted
from warehouse.schema import TABLES, Table

PROPERTIES = {"delta.checkpointInterval": "100"}
_FAILURES = (DeltaError, OSError, ValueError, pa.ArrowException)
_LOOK_ANEW_SECONDS = 300.0
"""A version checked longer ago than this is not updated entry by entry, since entries may have been deleted. Less than log.KEPT."""
_LOOK_AWAY_SECONDS = 1.0
"""A remote lake's log is checked at most this often: each check is a request, and a question makes several."""


class Lake:
    """A handle on the tables below one address.

    Each call sees the newest commit; in a remote lake, commits of other handles may become visible a second later.
    """

    def __init__(self, url: str, options: Mapping[str, str], copies: LocalCopies) -> None:
        self._url = url
        self._copies = copies
        self._options = dict(options)
        self._lock = threading.RLock()
        self._tables: dict[str, DeltaTable] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._updated: dict[str, float] = {}
        self._looked: dict[str, float] = {}
        self._kept = KeptFiles()
        self._filesystems: dict[str, pafs.FileSystem] = {}

    @classmethod
    def open(cls, settings: config.Lake) -> Lake:
        """Open the lake, creating missing tables and columns; safe to do in several processes at once.

        Raises LakeError naming the table and address, also for a table written by a newer Hindcast, and ConfigError if an option
        names an environment variable that is not set.
        """
        options = {
            name: config.read_secret(None, value.removeprefix("env:")) if value.startswith("env:") else value
            for name, value in settings.options.items()
        }
        url = str(Path(settings.url).absolute()) if settings.is_local else settings.url.rstrip("/")
        folder = settings.cache or Path(tempfile.gettempdir(), f"hindcast-{os.getuid()}")
        lake = cls(url, options, LocalCopies(folder, url, settings.cache_bytes))
        for table in TABLES.values():
            lake._open_table(table)
        return lake

    def apart(self, table: Table) -> Lake:
        """Return a handle on one table only, so that readers of this handle do not wait for its commits. Raises LakeError."""
        lake = Lake(self._url, self._options, self._copies)
        lake._open_table(table)
        return lake

    def address(self, table: Table) -> str:
        """Return the absolute folder or URL of a table."""
        return f"{self._url}/{table.name}"

    def write_files(self, table: Table, rows: pa.Table, *, prefix: str = "") -> list[DataFile]:
        """Write rows (including partition columns) as one Parquet file per cluster and day, not yet visible to readers.

        Rows keep their order, no rows give no files, and file names start with `prefix`. Raises LakeError and then leaves nothing behind.
        """
        return files.write_files(table, rows, self._filesystems[table.name], where=self.address(table), prefix=prefix)

    def write_file(self, table: Table, partition: Mapping[str, str], groups: Iterable[pa.Table], *, prefix: str = "") -> list[DataFile]:
        """Write row groups of one partition, without the partition columns, as one file that is not yet visible; no rows give no file.

        Strings may be dictionary-encoded (warehouse.lake.dictionaries). Raises LakeError and then leaves nothing behind.
        """
        return files.write_file(table, partition, groups, self._filesystems[table.name], where=self.address(table), prefix=prefix)

    @contextlib.contextmanager
    def coded_file(self, table: Table, path: str) -> Iterator[CodedFile]:
        """Open a file of the table to read it one row group at a time. Raises LakeError naming the file, also while it is read."""
        try:
            with self._filesystems[table.name].open_input_file(path) as source:
                yield CodedFile(source, table.file_schema)
        except _FAILURES as error:
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
        except _FAILURES as error:
            raise self._error(table, f"has a file that cannot be read, {path}", error) from error

    def commit(self, table: Table, data_files: Sequence[DataFile], *, transactions: Mapping[str, int], metadata: Mapping[str, str]) -> None:
        """Append files to the table, all or none, and record the version of each app id in `transactions` with them.

        Versions of an app id must increase. Raises CommitConflictError if a version is already committed or another process
        commits the same app id at the same time, LakeError for anything else. After an error the files are deleted and nothing is
        stored; write them again to retry. Only if the table cannot even be read after an error are the files left in place,
        because the commit may have succeeded: check `transaction_version` before retrying.
        """
        actions: list[Any] = [AddAction(file.path, file.size, file.partition, file.modified, True, file.statistics) for file in data_files]
        properties = CommitProperties(
            custom_metadata=dict(metadata), app_transactions=[Transaction(app_id, version) for app_id, version in transactions.items()]
        )
        with self._lock:
            try:
                handle = self._newest(table)
                # deltalake only refuses conflicts committed since the handle was read; older ones are checked here.
                self._refuse_repeated(table, handle, transactions)
                handle.create_write_transaction(
                    actions, "append", handle.schema(), partition_by=list(table.partition_by), commit_properties=properties
                )
                self._expire(table)
            except BaseException as error:
                committed = self._is_committed(table, data_files)
                if committed is False:
                    files.delete_files(self._filesystems[table.name], [file.path for file in data_files])
                if not isinstance(error, _FAILURES):
                    raise
                if committed:
                    return  # the failure came after the commit, e.g. while writing a checkpoint: the rows are stored
                if isinstance(error, CommitFailedError) and "oncurrent transaction" in str(error):
                    raise CommitConflictError(
                        f"table {table.name} at {self.address(table)}: another process commits as one of {', '.join(transactions)}"
                    ) from error
                raise self._error(table, "cannot be committed to", error) from error

    def replace(
        self,
        table: Table,
        old: Sequence[StoredFile],
        new: Sequence[DataFile],
        *,
        guard: str | Sequence[str],
        whole: Mapping[str, str] | None = None,
        data_change: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Replace files by others in one commit; readers see either the old or the new files, and appends are not blocked.

        `guard` names one or more things that must not be replaced concurrently, such as a partition. If `whole` names a partition,
        the old files must be all files in it. `data_change` marks the rows as changed for consumers of the table's changes.
        Raises CommitConflictError if another process replaced some of the files first (the new files are then deleted: read the
        table again), LakeError for anything else.
        """
        guards = [guard] if isinstance(guard, str) else sorted(set(guard))
        named = ", ".join(guards[:3]) + (f" or {len(guards) - 3} others" if len(guards) > 3 else "")
        now_ms = time.time_ns() // 1_000_000
        removed = [RemoveAction(file.path, data_change, now_ms, file.size, dict(file.partition)) for file in old]
        added = [AddAction(file.path, file.size, file.partition, file.modified, data_change, file.statistics) for file in new]
        with self._lock:
            try:
                handle = self._newest(table)
                # The snapshot checked here must not be older than the version that deltalake compares with: see _snapshot.
                stored = self._snapshot(table, at_least=handle.version())
                there = set() if whole is None else set(stored.partition(whole))
                if not all(stored.holds(file.path, file.partition) for file in old) or not there <= {file.path for file in old}:
                    raise CommitConflictError(f"table {table.name} at {self.address(table)}: {named} was replaced by another process")
                # From here to the commit, deltalake itself refuses any other commit with one of the same guards.
                properties = CommitProperties(
                    custom_metadata=dict(metadata or {}), app_transactions=[Transaction(name, handle.version()) for name in guards]
                )
                handle.create_write_transaction(
                    [*removed, *added], "append", handle.schema(), partition_by=list(table.partition_by), commit_properties=properties
                )
                self._expire(table)
            except BaseException as error:
                # Without new files, the commit succeeded if the old files are gone, unless another process removed them.
                committed = self._is_committed(table, new) if new else self._is_committed(table, old) is False
                if committed is False:
                    files.delete_files(self._filesystems[table.name], [file.path for file in new])
                if not new and isinstance(error, CommitFailedError):
                    committed = False
                if isinstance(error, CommitConflictError) or not isinstance(error, _FAILURES):
                    raise
                if committed:
                    return
                if isinstance(error, CommitFailedError):
                    raise CommitConflictError(
                        f"table {table.name} at {self.address(table)}: {named} is being replaced by another process"
                    ) from error
                raise self._error(table, "cannot be committed to", error) from error

    def contents(
        self, table: Table, *, clusters: Collection[str] | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> Sequence[StoredFile]:
        """Return every file of the table, or those of these clusters in the days that [since, until) overlaps. Raises LakeError."""
        wanted = Wanted(clusters=clusters, since=since, until=until)
        return list(self._known(table).of_days(wanted))

    def vacuum(self, table: Table, *, older_than: timedelta, dry_run: bool) -> dict[str, int]:
        """Delete files that have not been in the table for longer than `older_than` (whole hours, at least one), or never were.

        Returns their paths below the table's folder with their sizes in bytes; `dry_run` deletes nothing. Raises LakeError,
        and ValueError for less than an hour.
        """
        hours = -(-older_than // timedelta(hours=1))
        if older_than < timedelta(hours=1):
            raise ValueError(f"a vacuum after {older_than} could delete files that are still being read or written: give an hour at least")
        with self._lock:
            try:
                handle = self._newest(table)
                # Dry run first: a vacuum writes two commits even if it finds nothing, and it also lists files already deleted.
                found = handle.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=True)
                existing = self._filesystems[table.name].get_file_info([unquote(path) for path in found])
                existing = [info for info in existing if info.type == pafs.FileType.File]
                if existing and not dry_run:
                    handle.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
            except _FAILURES as error:
                raise self._error(table, "cannot be vacuumed", error) from error
        return {info.path: info.size for info in existing}

    def checkpoint(self, table: Table) -> int:
        """Write a checkpoint, which makes opening the table fast, and delete expired log entries. Returns the version.

        Raises LakeError.
        """
        with self._lock:
            try:
                handle = self._newest(table)
                handle.create_checkpoint()
                handle.cleanup_metadata()
                return handle.version()
            except _FAILURES as error:
                raise self._error(table, "cannot be checkpointed", error) from error

    def tidy_log(self, table: Table, *, now: datetime) -> int:
        """Keep the table's log small (see log.delete_old) and return how many of its files were deleted. Raises LakeError.

        A checkpoint is written first if the newest one is too old for anything to be deleted.
        """
        filesystem = self._filesystems[table.name]
        try:
            if log.size(filesystem) <= log.MOST_BYTES:
                return 0
            if self._known(table).version - log.newest_checkpoint(filesystem) >= log.CHECKPOINT_EVERY:
                with self._lock:
                    self._newest(table).create_checkpoint()
            return log.delete_old(filesystem, now=now, most_bytes=log.MOST_BYTES)
        except _FAILURES as error:
            raise self._error(table, "has a log that cannot be tidied", error) from error

    def delete_replaced(self, table: Table, paths: Sequence[str]) -> None:
        """Delete files that `replace` removed from the table; vacuum deletes any that cannot be deleted now. Raises LakeError."""
        known = {file.path for file in self._known(table).files()}
        files.delete_files(self._filesystems[table.name], [path for path in paths if path not in known])

    def transaction_version(self, table: Table, app_id: str) -> int | None:
        """Return the last version that `app_id` committed; None if there is none. Raises LakeError."""
        with self._lock:
            try:
                return self._newest(table).transaction_version(app_id)
            except _FAILURES as error:
                raise self._error(table, "cannot be read", error) from error

    def last_metadata(self, table: Table, key: str) -> str | None:
        """Return the value of `key` in the metadata of the newest commit that has it; None if no commit has it. Raises LakeError."""
        filesystem = self._filesystems[table.name]
        try:
            for version in reversed(log.versions(filesystem)):
                commit_info = log.metadata(filesystem, version)
                if key in commit_info:
                    return str(commit_info[key])
            return None
        except _FAILURES as error:
            raise self._error(table, "cannot be read", error) from error

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

    def version(self, table: Table) -> int:
        """Return the table's newest version. Raises LakeError."""
        return self._known(table).version

    def commit_time(self, table: Table, version: int) -> datetime:
        """Return when a version was committed. Raises LakeError."""
        try:
            # deltalake's history returns entries of other versions if this version's entry has been deleted.
            commit_info = log.metadata(self._filesystems[table.name], version)
            return datetime.fromtimestamp(commit_info["timestamp"] / 1000, UTC)
        except (*_FAILURES, KeyError) as error:
            raise self._error(table, f"has no version {version} in its log, or no longer", error) from error

    def has_files_of(self, table: Table, version: int) -> bool:
        """Whether every file of an earlier version still exists, that is, was not vacuumed. Raises LakeError."""
        try:
            newest = self._snapshot(table)
            left = [file.path for file in self._at(table, version).files() if not newest.holds(file.path, file.partition)]
            return all(info.type == pafs.FileType.File for info in self._filesystems[table.name].get_file_info(left))
        except _FAILURES as error:
            raise self._error(table, f"cannot be read at version {version}", error) from error

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
        except (*_FAILURES, KeyError) as error:
            raise self._error(table, "cannot be read", error) from error

    def read_kept(
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
            rows = pa.concat_tables([table.schema.empty_table(), *self._kept.rows(paths, read)])
            return rows.filter(_condition(table, clusters, since, until))
        except (*_FAILURES, KeyError) as error:
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

    def _fetched(self, table: Table, paths: Sequence[str]) -> Mapping[str, Path]:
        try:
            sizes = {file.path: file for file in self._snapshot(table).files()}
            wanted = [sizes[path] for path in paths if path in sizes]
            return self._copies.fetch(table.name, self._filesystems[table.name], wanted)
        except _FAILURES as error:
            raise self._error(table, "cannot be read", error) from error

    def _dataset(self, table: Table, paths: list[str]) -> pads.Dataset:
        folders = pads.partitioning(pa.schema([table.schema.field(name) for name in table.partition_by]), flavor="hive")
        filesystem = self._filesystems[table.name]
        if not self.is_local and len(self._fetched(table, paths)) == len(set(paths)):
            filesystem = pafs.SubTreeFileSystem(str(self._copies.folder(table.name)), pafs.LocalFileSystem())
        return pads.dataset(paths, schema=table.schema, format="parquet", filesystem=filesystem, partitioning=folders)

    def clusters(self, table: Table) -> list[str]:
        """Return the names of the clusters with rows in the table, sorted. Raises LakeError."""
        return sorted(self._known(table).values("cluster"))

    def files_may_lack_columns(self, table: Table) -> bool:
        """Whether some files may have fewer columns than the schema, because columns were added after they were written."""
        with self._lock:
            return evolution.files_may_lack_columns(self._tables[table.name])

    @property
    def is_local(self) -> bool:
        """Whether the tables are folders on this machine."""
        return "://" not in self._url

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

    def _open_table(self, table: Table) -> None:
        address = self.address(table)
        for last_try in (False, True):
            try:
                if not DeltaTable.is_deltatable(address, self._options):
                    DeltaTable.create(
                        address,
                        table.schema,
                        mode="ignore",
                        partition_by=list(table.partition_by),
                        name=table.name,
                        description=table.doc,
                        configuration=PROPERTIES | evolution.properties(table),
                        storage_options=self._options,
                        raise_if_key_not_exists=False,
                    )
                handle = DeltaTable(address, storage_options=self._options)
                evolution.bring_up_to_date(handle, table, where=address)
                self._tables[table.name] = handle
                if "://" in address:
                    self._filesystems[table.name] = pafs.PyFileSystem(DeltaStorageHandler(address, self._options))
                else:
                    self._filesystems[table.name] = pafs.SubTreeFileSystem(address, pafs.LocalFileSystem())
                return
            except _FAILURES as error:  # another process may have just created it: try once more
                if last_try:
                    raise self._error(table, "cannot be opened", error) from error

    def _newest(self, table: Table) -> DeltaTable:
        handle = self._tables[table.name]
        now = time.monotonic()
        # Versions are numbered without gaps, so the file of the next version exists if there is a newer one. Log entries expire,
        # but not within _LOOK_ANEW_SECONDS.
        is_next = Path(self.address(table), "_delta_log", f"{handle.version() + 1:020}.json")
        if not self.is_local or is_next.exists() or now - self._updated.get(table.name, -_LOOK_ANEW_SECONDS) >= _LOOK_ANEW_SECONDS:
            handle.update_incremental()
            self._updated[table.name] = now
        return handle

    def _expire(self, table: Table) -> None:
        """Make the next call check the log again, because this handle has just added to it."""
        if table.name in self._looked:
            self._looked[table.name] -= _LOOK_AWAY_SECONDS

    def _refuse_repeated(self, table: Table, handle: DeltaTable, transactions: Mapping[str, int]) -> None:
        for app_id, version in transactions.items():
            last = handle.transaction_version(app_id)
            if last is not None and last >= version:
                raise CommitConflictError(
                    f"table {table.name} at {self.address(table)}: {app_id} has committed version {last}, so {version} is refused"
                )

    def _is_committed(self, table: Table, data_files: Sequence[DataFile | StoredFile]) -> bool | None:
        """Whether the files are in the log after all; None if that cannot be determined."""
        try:
            stored = self._snapshot(table, anew=True)
        except _FAILURES:
            return None
        return any(stored.holds(file.path, file.partition) for file in data_files)

    def _at(self, table: Table, version: int) -> Snapshot:
        """Return an earlier version."""
        handle = DeltaTable(self.address(table), version=version, storage_options=self._options)
        return Snapshot.of_actions(table, version, pa.table(handle.get_add_actions(flatten=True)))

    def _known(self, table: Table) -> Snapshot:
        """Return the newest version. Raises LakeError."""
        try:
            return self._snapshot(table)
        except _FAILURES as error:
            raise self._error(table, "cannot be read", error) from error

    def _snapshot(self, table: Table, *, at_least: int = 0, anew: bool = False) -> Snapshot:
        """Return the newest version: the known snapshot, updated with later commits.

        The result is not older than `at_least`, a version known to exist. `anew` checks a remote log even if it was just checked.
        """
        with self._lock:
            known, now = self._snapshots.get(table.name), time.monotonic()
            looks_again = anew or self.is_local or known is None or known.version < at_least
            if known is not None and not looks_again and now - self._looked[table.name] < _LOOK_AWAY_SECONDS:
                return known
            if known is not None and now - self._looked.get(table.name, -_LOOK_ANEW_SECONDS) < _LOOK_ANEW_SECONDS:
                with contextlib.suppress(log.SchemaChangedError):
                    entries = list(log.entries_after(table, self._filesystems[table.name], known.version))
                    known = known.after(entries) if entries else known
                    if known.version >= at_least:
                        self._snapshots[table.name], self._looked[table.name] = known, now
                        return known
            handle = self._newest(table)
            known = Snapshot.of_actions(table, handle.version(), pa.table(handle.get_add_actions(flatten=True)))
            self._snapshots[table.name], self._looked[table.name] = known, now
            return known

    def _pruned(
        self, table: Table, clusters: Iterable[str] | None, since: datetime | None, until: datetime | None, version: int | None = None
    ) -> list[str]:
        """Return the paths below the table's folder of the files that may hold such rows; an unknown bound never excludes a file."""
        wanted = Wanted(clusters=None if clusters is None else set(clusters), since=since, until=until)
        try:
            stored = self._snapshot(table) if version is None else self._at(table, version)
        except _FAILURES as error:
            raise self._error(table, "cannot be read", error) from error
        return [file.path for file in stored.files(wanted)]

    def _error(self, table: Table, what: str, error: BaseException) -> LakeError:
        return LakeError(f"table {table.name} at {self.address(table)} {what}: {error}")


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
