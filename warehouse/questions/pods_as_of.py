"""The workloads of pods as they were known at a moment, remembered by a process: the reports of one run all ask for the same.

What is remembered does not depend on who asks: names are filled in before anything is hidden from a principal. It is found again only for
the same versions of the tables that it was learned from, so erasure and retention make it be learned again. Nothing is written.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import pyarrow as pa

MOST_BYTES = 256 * 1024**2
"""The memory for what is remembered; what has not been asked for the longest is forgotten first."""


class Memory:
    """Tables of pods by what they were learned from. Used by all threads of a process."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, pa.Table] = OrderedDict()
        self._most_bytes = most_bytes

    def recall(self, connection: Any, name: str, key: Hashable) -> bool:
        """Create a temporary table with this name of what is remembered; return False if nothing is.

        It is copied: DuckDB knows nothing of the size of Arrow tables, and joins all flows the wrong way round.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return False
            self._kept.move_to_end(key)
        connection.register(f"remembered_{name}", found)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM remembered_{name}")
        return True

    def keep(self, connection: Any, name: str, key: Hashable) -> None:
        """Remember the table with this name, unless it needs more memory than there is for all of them."""
        found = connection.sql(f"FROM {name}").to_arrow_table()
        with self._lock:
            self._kept[key] = found
            while self._kept and sum(table.nbytes for table in self._kept.values()) > self._most_bytes:
                self._kept.popitem(last=False)


MEMORY = Memory()
