"""The lake's tables: exactly-once appends, and reads through pruned file lists.

Writing takes two steps: `write_files` puts Parquet files into the table's folder, and `commit` makes all of them part of the
table, or none. A `Lake` may be shared by threads. How it writes is in `commits`, how it reads in `reads`, what it takes over
from other engines in `adopting`.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from warehouse import config
from warehouse.lake import remote
from warehouse.lake.adopting import Adopting
from warehouse.lake.commits import Commits
from warehouse.lake.local_copies import LocalCopies
from warehouse.lake.reads import Reads
from warehouse.schema import TABLES, Table

_AT_ONCE = 8
"""Tables of a remote lake are opened side by side: each takes several requests, one after the other."""


class Lake(Commits, Reads, Adopting):
    """A handle on the tables below one address.

    Each call sees the newest commit; in a remote lake, commits of other handles may become visible a second later.
    """

    @classmethod
    def open(cls, settings: config.Lake) -> Lake:
        """Open the lake, creating missing tables and columns; safe to do in several processes at once.

        Raises LakeError naming the table and address, also for a table written by a newer Hindcast, and ConfigError if an option
        names a variable or a file that is not there, or the store is not safe for commits.
        """
        options = remote.resolved(settings.options)
        url = str(Path(settings.url).absolute()) if settings.is_local else settings.url.rstrip("/")
        folder = settings.cache or Path(tempfile.gettempdir(), f"hindcast-{os.getuid()}")
        if not settings.is_local:
            options = remote.with_limits(options)
            remote.require_conditional_puts(url, options)
        lake = cls(url, options, LocalCopies(folder, url, settings.cache_bytes))
        with ThreadPoolExecutor(1 if settings.is_local else _AT_ONCE) as pool:
            list(pool.map(lake._open_table, TABLES.values()))
        return lake

    def apart(self, table: Table) -> Lake:
        """Return a handle on one table only, so that readers of this handle do not wait for its commits. Raises LakeError."""
        lake = Lake(self._url, self._options, self._copies)
        lake._open_table(table)
        return lake
