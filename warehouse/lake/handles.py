"""The open tables below one address: Delta handles, and snapshots that follow the log. Public operations do not belong here."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from warehouse.errors import LakeError
from warehouse.lake import evolution, log, remote
from warehouse.lake.file_cache import FileCache
from warehouse.lake.local_copies import LocalCopies
from warehouse.lake.snapshots import Snapshot, Wanted
from warehouse.schema import Table

PROPERTIES = {"delta.checkpointInterval": "100"}
FAILURES = (DeltaError, OSError, ValueError, pa.ArrowException)
"""What reading and writing a table may raise."""
_LOOK_ANEW_SECONDS = 300.0
"""A version checked longer ago than this is not updated entry by entry, since entries may have been deleted. Less than log.LEAST_AGE."""
_LOOK_AWAY_SECONDS = 1.0
"""A remote lake's log is checked at most this often: each check is a request, and a question makes several."""


class Handles:
    """What a `Lake` knows of its tables. May be shared by threads."""

    def __init__(self, url: str, options: Mapping[str, str], copies: LocalCopies) -> None:
        self._url = url
        self._copies = copies
        self._options = dict(options)
        self._lock = threading.RLock()
        self._tables: dict[str, DeltaTable] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._transactions: dict[str, dict[str, int | None]] = {}
        """The last version of each app id that was asked for or seen in the log, as of the snapshot of the table."""
        self._pinned: dict[str, Snapshot] = {}
        """Versions that this handle keeps to, instead of following the log."""
        self._updated: dict[str, float] = {}
        self._looked: dict[str, float] = {}
        self._cache = FileCache()
        self._filesystems: dict[str, pafs.FileSystem] = {}

    def address(self, table: Table) -> str:
        """Return the absolute folder or URL of a table."""
        return f"{self._url}/{table.name}"

    @property
    def is_local(self) -> bool:
        """Whether the tables are folders on this machine."""
        return "://" not in self._url

    def _open_table(self, table: Table) -> None:
        address = self.address(table)
        for last_try in (False, True):
            try:
                handle = self._opened(table)
                evolution.bring_up_to_date(handle, table, where=address)
                self._tables[table.name] = handle
                if "://" in address:
                    self._filesystems[table.name] = remote.files(address, self._options)
                else:
                    self._filesystems[table.name] = pafs.SubTreeFileSystem(address, pafs.LocalFileSystem())
                return
            except FAILURES as error:  # another process may have just created it: try once more
                if last_try:
                    raise self._error(table, "cannot be opened", error) from error

    def _opened(self, table: Table) -> DeltaTable:
        """Return a handle on a stored table, which is created if it does not exist."""
        address = self.address(table)
        with contextlib.suppress(TableNotFoundError):
            return DeltaTable(address, storage_options=self._options)
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
        return DeltaTable(address, storage_options=self._options)

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

    def _at(self, table: Table, version: int) -> Snapshot:
        """Return an earlier version."""
        handle = DeltaTable(self.address(table), version=version, storage_options=self._options)
        return Snapshot.of_actions(table, version, pa.table(handle.get_add_actions(flatten=True)))

    def _known(self, table: Table) -> Snapshot:
        """Return the newest version. Raises LakeError."""
        try:
            return self._snapshot(table)
        except FAILURES as error:
            raise self._error(table, "cannot be read", error) from error

    def _snapshot(self, table: Table, *, at_least: int = 0, anew: bool = False) -> Snapshot:
        """Return the newest version: the known snapshot, updated with later commits.

        The result is not older than `at_least`, a version known to exist. `anew` checks a remote log even if it was just checked.
        """
        if table.name in self._pinned:
            return self._pinned[table.name]
        with self._lock:
            known, now = self._snapshots.get(table.name), time.monotonic()
            looks_again = anew or self.is_local or known is None or known.version < at_least
            if known is not None and not looks_again and now - self._looked[table.name] < _LOOK_AWAY_SECONDS:
                return known
            if known is not None and now - self._looked.get(table.name, -_LOOK_ANEW_SECONDS) < _LOOK_ANEW_SECONDS:
                with contextlib.suppress(log.SchemaChangedError):
                    entries = list(log.entries_after(table, self._filesystems[table.name], known.version))
                    known = known.after(entries) if entries else known
                    for entry in entries:
                        self._transactions.setdefault(table.name, {}).update(entry.transactions)
                    if known.version >= at_least:
                        self._snapshots[table.name], self._looked[table.name] = known, now
                        return known
            handle = self._newest(table)
            evolution.refuse_newer(handle, table, where=self.address(table), rewrites=False)
            known = Snapshot.of_actions(table, handle.version(), pa.table(handle.get_add_actions(flatten=True)))
            self._snapshots[table.name], self._looked[table.name] = known, now
            self._transactions.pop(table.name, None)
            return known

    def _transaction_versions(self, table: Table, app_ids: Collection[str]) -> dict[str, int | None]:
        """Return the last version that each of `app_ids` committed, as of now.

        deltalake reads the log back to the newest checkpoint to find it, so that is done once, and commits are followed from then on.
        """
        with self._lock:
            handle = self._newest(table)
            self._snapshot(table, at_least=handle.version(), anew=True)
            known = self._transactions.setdefault(table.name, {})
            for app_id in app_ids:
                if app_id not in known:
                    known[app_id] = handle.transaction_version(app_id)
            return {app_id: known[app_id] for app_id in app_ids}

    def _pruned(
        self, table: Table, clusters: Iterable[str] | None, since: datetime | None, until: datetime | None, version: int | None = None
    ) -> list[str]:
        """Return the paths below the table's folder of the files that may hold such rows; an unknown bound never excludes a file."""
        wanted = Wanted(clusters=None if clusters is None else set(clusters), since=since, until=until)
        try:
            stored = self._snapshot(table) if version is None else self._at(table, version)
        except FAILURES as error:
            raise self._error(table, "cannot be read", error) from error
        return [file.path for file in stored.files(wanted)]

    def _error(self, table: Table, what: str, error: BaseException) -> LakeError:
        said = str(error) if self.is_local else remote.explained(error)
        return LakeError(f"table {table.name} at {self.address(table)} {what}: {said}")
