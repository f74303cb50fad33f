"""A cache on local disk for the files of a remote lake, so that repeating a question downloads nothing.

A data file never changes once it is written, so copies need no validation. The size of the folder is limited. It may be
shared by several processes and deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.fs as pafs

from warehouse.lake.files import StoredFile

LARGEST_SHARE = 8
"""A file larger than 1/LARGEST_SHARE of the cache is not copied but read remotely."""
PINNED_SECONDS = 600.0
"""A copy used within this time is not deleted: a question may be about to open it."""
_AT_ONCE = 8


class LocalCopies:
    """The copies of one lake's files. Safe to use from several threads and processes."""

    def __init__(self, folder: Path, url: str, most_bytes: int) -> None:
        """Copies are stored below `folder`, in a folder named after a hash of the lake's address. `most_bytes` 0 disables copying."""
        self._folder = folder / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] | None = None

    def folder(self, table: str) -> Path:
        """Return the folder with the copies of a table's files, which have the same paths as in the table."""
        return self._folder / table

    def fetch(self, table: str, filesystem: pafs.FileSystem, wanted: Sequence[StoredFile]) -> Mapping[str, Path]:
        """Return the copies of these files by path, downloading those that are missing; files that are too large are left out.

        Raises OSError if a remote file cannot be read. If the folder cannot be written to, nothing is returned.
        """
        small = [file for file in wanted if file.size * LARGEST_SHARE <= self._most_bytes]
        found = {file.path: self.folder(table) / file.path for file in small}
        try:
            missing = [file for file in small if not self._is_there(found[file.path], file.size)]
            room = self._make_room(sum(file.size for file in missing))
        except OSError:
            return {}
        missing = missing if room else []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda file: self._copy(filesystem, file, found[file.path]), missing))
        with self._lock:
            sizes = self._known()
            sizes.update({str(found[file.path]): file.size for file in missing})
            for copy in map(str, found.values()):
                if copy in sizes:
                    sizes.move_to_end(copy)
        return {path: copy for path, copy in found.items() if copy.exists()}

    def _is_there(self, copy: Path, size: int) -> bool:
        """Whether a copy exists; if so, mark it as used now."""
        try:
            if copy.stat().st_size != size:
                return False
            os.utime(copy)
        except FileNotFoundError:
            return False
        return True

    def _copy(self, filesystem: pafs.FileSystem, file: StoredFile, copy: Path) -> None:
        with filesystem.open_input_file(file.path) as source:
            content = source.read()
        with contextlib.suppress(OSError):  # if the disk is full, the file is read remotely
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            unfinished = copy.with_name(f".{uuid.uuid4().hex}")
            unfinished.write_bytes(content)
            unfinished.replace(copy)

    def _make_room(self, size: int) -> bool:
        """Delete the least recently used copies until `size` more bytes fit; return whether they do."""
        with self._lock:
            sizes = self._known()
            left = sum(sizes.values()) + size
            for name in list(sizes):
                if left <= self._most_bytes:
                    break
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - Path(name).stat().st_mtime < PINNED_SECONDS:
                        continue
                    Path(name).unlink()
                left -= sizes.pop(name)
            return left <= self._most_bytes

    def _known(self) -> OrderedDict[str, int]:
        """Return the sizes of the copies known to this process, least recently used first."""
        if self._sizes is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            listed = [(path.stat(), str(path)) for path in self._folder.rglob("*") if path.is_file()]
            self._sizes = OrderedDict((name, stat.st_size) for stat, name in sorted(listed, key=lambda one: one[0].st_mtime))
        return self._sizes
