"""An in-memory cache for the rows of small files that are read often. Files never change, so cached rows stay valid."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

import pyarrow as pa

MOST_BYTES = 64 * 1024**2


class FileCache:
    """The rows of the most recently used files; safe to use from several threads."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, pa.Table] = OrderedDict()
        self._bytes = 0

    def rows(self, paths: Iterable[str], read: Callable[[list[str]], Mapping[str, pa.Table]]) -> list[pa.Table]:
        """Return the rows of each file, in order; `read` is called for the files that are not cached."""
        paths = list(paths)
        with self._lock:
            found = {path: self._rows[path] for path in paths if path in self._rows}
            for path in found:
                self._rows.move_to_end(path)
        missing = [path for path in paths if path not in found]
        if missing:
            read_now = read(missing)
            found |= read_now
            self._store(read_now)
        return [found[path] for path in paths]

    def _store(self, rows: Mapping[str, pa.Table]) -> None:
        with self._lock:
            for path, table in rows.items():
                if path not in self._rows:
                    self._rows[path] = table
                    self._bytes += table.get_total_buffer_size()
            while self._bytes > self._most_bytes:
                _, dropped = self._rows.popitem(last=False)
                self._bytes -= dropped.get_total_buffer_size()
