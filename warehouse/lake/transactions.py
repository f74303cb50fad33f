"""The last version that each app id committed to one table, followed through the table's log.

deltalake answers this for one app id at a time, and searches the log for each: with hundreds of them that costs more than a commit.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow.fs as pafs
from deltalake import DeltaTable

from warehouse.lake import log


class Transactions:
    """What is known of one table. Not thread-safe."""

    def __init__(self) -> None:
        self._version = -1
        self._known: dict[str, int | None] = {}

    def versions(self, handle: DeltaTable, filesystem: pafs.FileSystem, app_ids: Iterable[str]) -> dict[str, int | None]:
        """Return the last version of each app id, as of the handle's version; None for one that never committed.

        Raises what reading the log raises.
        """
        self._follow(handle.version(), filesystem)
        for app_id in (wanted := list(app_ids)):
            if app_id not in self._known:
                self._known[app_id] = handle.transaction_version(app_id)
        return {app_id: self._known[app_id] for app_id in wanted}

    def _follow(self, newest: int, filesystem: pafs.FileSystem) -> None:
        """Bring what is known to the newest version; forget all of it if an entry on the way has been deleted."""
        if newest < self._version:
            self._known.clear()
        for version in range(self._version + 1, newest + 1) if self._known else ():
            committed = log.transactions(filesystem, version)
            if committed is None:
                self._known.clear()
                break
            self._known.update({app_id: number for app_id, number in committed.items() if app_id in self._known})
        self._version = newest
