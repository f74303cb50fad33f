"""Writing to the lake's tables: exactly-once appends, replacement of files, and upkeep of the log."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, CommitProperties, PostCommitHookProperties, RemoveAction, Transaction

from warehouse.errors import CommitConflictError
from warehouse.lake import evolution, files, log
from warehouse.lake.files import DataFile, StoredFile
from warehouse.lake.handles import FAILURES, Handles
from warehouse.schema import Table

_HOOKS = PostCommitHookProperties(cleanup_expired_logs=False)
"""After each commit deltalake would list the whole log to find expired entries; `tidy_log` and `checkpoint` delete those."""


MOST_ATTEMPTS = 100
"""How often a commit is tried when other processes commit first, each time on top of theirs. deltalake gives up after 15."""


class Commits(Handles):
    """The part of a `Lake` that writes."""

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

    def commit(self, table: Table, data_files: Sequence[DataFile], *, transactions: Mapping[str, int], metadata: Mapping[str, str]) -> None:
        """Append files to the table, all or none, and record the version of each app id in `transactions` with them.

        Versions of an app id must increase. Raises CommitConflictError if a version is already committed or another process
        commits the same app id at the same time, LakeError for anything else. After an error the files are deleted and nothing is
        stored; write them again to retry. Only if the table cannot even be read after an error are the files left in place,
        because the commit may have succeeded: check `transaction_version` before retrying.
        """
        actions: list[Any] = [AddAction(file.path, file.size, file.partition, file.modified, True, file.statistics) for file in data_files]
        properties = CommitProperties(
            custom_metadata=dict(metadata),
            max_commit_retries=MOST_ATTEMPTS,
            app_transactions=[Transaction(app_id, version) for app_id, version in transactions.items()],
        )
        with self._lock:
            try:
                handle = self._newest(table)
                evolution.refuse_newer(handle, table, where=self.address(table), rewrites=False)
                # deltalake only refuses conflicts committed since the handle was read; older ones are checked here.
                self._refuse_repeated(table, transactions)
                self._write(table, handle, actions, properties)
                self._expire(table)
            except BaseException as error:
                committed = self._is_committed(table, data_files)
                if committed is False:
                    files.delete_files(self._filesystems[table.name], [file.path for file in data_files])
                if not isinstance(error, FAILURES):
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
                evolution.refuse_newer(handle, table, where=self.address(table), rewrites=bool(new))
                # The snapshot checked here must not be older than the version that deltalake compares with: see _snapshot.
                stored = self._snapshot(table, at_least=handle.version())
                there = set() if whole is None else set(stored.partition(whole))
                if not all(stored.holds(file.path, file.partition) for file in old) or not there <= {file.path for file in old}:
                    raise CommitConflictError(f"table {table.name} at {self.address(table)}: {named} was replaced by another process")
                # From here to the commit, deltalake itself refuses any other commit with one of the same guards.
                properties = CommitProperties(
                    custom_metadata=dict(metadata or {}),
                    max_commit_retries=MOST_ATTEMPTS,
                    app_transactions=[Transaction(name, handle.version()) for name in guards],
                )
                self._write(table, handle, [*removed, *added], properties)
                self._expire(table)
            except BaseException as error:
                # Without new files, the commit succeeded if the old files are gone, unless another process removed them.
                committed = self._is_committed(table, new) if new else self._is_committed(table, old) is False
                if committed is False:
                    files.delete_files(self._filesystems[table.name], [file.path for file in new])
                if not new and isinstance(error, CommitFailedError):
                    committed = False
                if isinstance(error, CommitConflictError) or not isinstance(error, FAILURES):
                    raise
                if committed:
                    return
                if isinstance(error, CommitFailedError):
                    raise CommitConflictError(
                        f"table {table.name} at {self.address(table)}: {named} is being replaced by another process"
                    ) from error
                raise self._error(table, "cannot be committed to", error) from error

    def _write(self, table: Table, handle: DeltaTable, actions: Sequence[Any], properties: CommitProperties) -> None:
        handle.create_write_transaction(
            list(actions),
            "append",
            handle.schema(),
            partition_by=list(table.partition_by),
            commit_properties=properties,
            post_commithook_properties=_HOOKS,
        )

    def _refuse_repeated(self, table: Table, transactions: Mapping[str, int]) -> None:
        known = self._transaction_versions(table, list(transactions))
        for app_id, version in transactions.items():
            last = known[app_id]
            if last is not None and last >= version:
                raise CommitConflictError(
                    f"table {table.name} at {self.address(table)}: {app_id} has committed version {last}, so {version} is refused"
                )

    def _is_committed(self, table: Table, data_files: Sequence[DataFile | StoredFile]) -> bool | None:
        """Whether the files are in the log after all; None if that cannot be determined."""
        try:
            stored = self._snapshot(table, anew=True)
        except FAILURES:
            return None
        return any(stored.holds(file.path, file.partition) for file in data_files)

    def delete_replaced(self, table: Table, paths: Sequence[str]) -> None:
        """Delete files that `replace` removed from the table; vacuum deletes any that cannot be deleted now. Raises LakeError."""
        known = {file.path for file in self._known(table).files()}
        gone = [path for path in paths if path not in known]
        files.delete_files(self._filesystems[table.name], gone)
        self._copies.remove(table.name, gone)

    def transaction_version(self, table: Table, app_id: str) -> int | None:
        """Return the last version that `app_id` committed; None if there is none. Raises LakeError."""
        return self.transaction_versions(table, [app_id])[app_id]

    def transaction_versions(self, table: Table, app_ids: Collection[str]) -> dict[str, int | None]:
        """Return the last version that each app id committed; None for one that never did. Raises LakeError."""
        try:
            return self._transaction_versions(table, app_ids)
        except FAILURES as error:
            raise self._error(table, "cannot be read", error) from error

    def metadata_after(self, table: Table, version: int, *, prefix: str) -> tuple[int, dict[str, str]]:
        """Return the newest version, and of the commits after `version` the newest value of each key that begins with `prefix`.

        -1 stands for all commits. Raises LakeError.
        """
        filesystem, found = self._filesystems[table.name], dict[str, str]()
        try:
            for entry in [one for one in log.versions(filesystem) if one > version]:
                commit_info = log.metadata(filesystem, entry)
                found |= {key: str(value) for key, value in commit_info.items() if key.startswith(prefix)}
                version = entry
        except FAILURES as error:
            raise self._error(table, "cannot be read", error) from error
        return version, found

    def last_metadata(self, table: Table, key: str) -> str | None:
        """Return the value of `key` in the metadata of the newest commit that has it; None if no commit has it. Raises LakeError."""
        filesystem = self._filesystems[table.name]
        try:
            for version in reversed(log.versions(filesystem)):
                commit_info = log.metadata(filesystem, version)
                if key in commit_info:
                    return str(commit_info[key])
            return None
        except FAILURES as error:
            raise self._error(table, "cannot be read", error) from error

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
                if not dry_run:
                    self._copies.remove(table.name, [unquote(path) for path in found])
            except FAILURES as error:
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
            except FAILURES as error:
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
        except FAILURES as error:
            raise self._error(table, "has a log that cannot be tidied", error) from error
