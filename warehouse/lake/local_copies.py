"""Copies on this machine of a remote lake's files, so that a question that is asked again fetches nothing.

A data file never changes once it is written, so a copy never needs to be checked. The folder is bounded in bytes and may be
shared by processes and deleted at any time; nothing in it is needed.
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
"""A file that would take more than this part of the room is read where it is."""
PINNED_SECONDS = 600.0
"""A copy that was used in this time is not deleted: a question may be about to open it."""
_AT_ONCE = 8


class LocalCopies:
    """The copies of one lake's files. Safe to use in several threads and processes."""

    def __init__(self, folder: Path, url: str, most_bytes: int) -> None:
        """Copies go below `folder`, in a folder named by the lake's address. With `most_bytes` 0 nothing is copied."""
        self._folder = folder / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] | None = None

    def folder(self, table: str) -> Path:
        """Where the copies of a table's files are, at the same paths as in the table."""
        return self._folder / table

    def fetch(self, table: str, filesystem: pafs.FileSystem, wanted: Sequence[StoredFile]) -> Mapping[str, Path]:
        """The copies of these files by their paths, fetched where there is none yet; files that are too large have none.

        Raises OSError if a file cannot be read where it is. A folder that cannot be written to has no copies.
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
        """Whether there is a copy, which is then marked as used now."""
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
        with contextlib.suppress(OSError):  # a full disk: the file is read where it is
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            unfinished = copy.with_name(f".{uuid.uuid4().hex}")
            unfinished.write_bytes(content)
            unfinished.replace(copy)

    def _make_room(self, size: int) -> bool:
        """Delete the copies that were not used longest until so many bytes more fit; gives whether they do."""
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
        """The copies there are, those used longest ago first, as this process knows them."""
        if self._sizes is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            listed = [(path.stat(), str(path)) for path in self._folder.rglob("*") if path.is_file()]
            self._sizes = OrderedDict((name, stat.st_size) for stat, name in sorted(listed, key=lambda one: one[0].st_mtime))
        return self._sizes
