"""A cache on local disk for the files of a remote lake, so that repeating a question downloads nothing.

A data file never changes once it is written, so a copy stays right for as long as the file is in its table. Copies are bounded in
size, shared by all processes of the machine, and may be deleted at any time. What leaves the table leaves the copies soon after:
what was erased must not remain here. Which copies there are is recorded by warehouse.lake.copy_index.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.fs as pafs

from warehouse.lake.copy_index import Copy, CopyIndex
from warehouse.lake.files import StoredFile

LARGEST_SHARE = 8
"""A file larger than 1/LARGEST_SHARE of the cache is not copied but read remotely."""
PINNED_SECONDS = 600.0
"""A copy used within this time is not deleted to make room: a question may be about to open it."""
CHECK_SECONDS = 24 * 3600.0
"""The content of a copy is compared with its digest once in this time, and whenever the file was touched since."""
SWEEP_SECONDS = 300.0
"""How often a process deletes the copies of files that have left their table."""
GONE_SECONDS = 3600.0
"""A copy of a file that has left its table is deleted at this age even if it is still used, by questions about an earlier version."""
_AT_ONCE = 8
_UNUSABLE = (OSError, sqlite3.Error)


class LocalCopies:
    """The copies of one lake's files. Safe to use from several threads and processes."""

    def __init__(self, folder: Path, url: str, most_bytes: int) -> None:
        """Copies are stored below `folder`, in a folder named after a hash of the lake's address. `most_bytes` 0 disables copying."""
        self._folder = folder / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._swept = -SWEEP_SECONDS

    def folder(self, table: str) -> Path:
        """Return the folder with the copies of a table's files, which have the same paths as in the table."""
        return self._folder / table

    def fetch(self, table: str, filesystem: pafs.FileSystem, wanted: Sequence[StoredFile]) -> Mapping[str, Path]:
        """Return the copies of these files by path, downloading those that are missing; files that are too large are left out.

        Raises OSError if a remote file cannot be read. If the folder cannot be written to, nothing is returned.
        """
        small = {f"{table}/{file.path}": file for file in wanted if file.size * LARGEST_SHARE <= self._most_bytes}
        if not small:
            return {}
        try:
            with self._index() as index:
                known = index.find(small)
                good = {name for name, copy in known.items() if self._is_good(index, copy, small[name].size)}
                index.use(good)
                missing = {name: file.size for name, file in small.items() if name not in good}
                if missing and not index.make_room(missing, self._most_bytes, self._unlink, pinned_seconds=PINNED_SECONDS):
                    missing = {}
        except _UNUSABLE:
            return {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            digests = dict(zip(missing, pool.map(lambda name: self._download(filesystem, name, small[name]), missing), strict=True))
        with contextlib.suppress(*_UNUSABLE), self._index() as index:
            index.store([self._described(name, digest) for name, digest in digests.items() if digest])
        return {file.path: self._folder / name for name, file in small.items() if name in good or digests.get(name)}

    def sweep(self, listed: Callable[[str], Collection[str] | None]) -> None:
        """Delete the copies of files that have left their table, now and then.

        `listed` returns the paths of a table's files, given its name; None for a table that is to be left alone.
        """
        with self._lock:
            if not self._most_bytes or time.monotonic() - self._swept < SWEEP_SECONDS:
                return
            self._swept = time.monotonic()
        if not self._folder.exists():
            return
        with contextlib.suppress(*_UNUSABLE), self._index() as index:
            for table in index.tables():
                paths = listed(table)
                if paths is None:
                    continue
                left = {f"{table}/{path}" for path in paths}
                self._delete(index, [copy.name for copy in index.of_table(table) if copy.name not in left and _is_over(copy)])
                self._delete_unknown(index, table)

    def remove(self, table: str, paths: Iterable[str]) -> None:
        """Delete the copies of files that were deleted from the store, also those that were just used."""
        if self._folder.exists():
            with contextlib.suppress(*_UNUSABLE), self._index() as index:
                self._delete(index, [f"{table}/{path}" for path in paths])

    def _index(self) -> contextlib.closing[CopyIndex]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return contextlib.closing(CopyIndex(self._folder / "index.sqlite"))

    def _is_good(self, index: CopyIndex, copy: Copy, size: int) -> bool:
        """Whether a copy is there and holds what was downloaded."""
        try:
            stat = (self._folder / copy.name).stat()
            if stat.st_size != size:
                return False
            if (stat.st_ino, stat.st_mtime_ns) == (copy.inode, copy.modified) and time.time() - copy.checked < CHECK_SECONDS:
                return True
            if _digest((self._folder / copy.name).read_bytes()) != copy.digest:
                return False
            index.store([self._described(copy.name, copy.digest)])
        except FileNotFoundError:
            return False
        return True

    def _described(self, name: str, digest: str) -> Copy:
        stat = (self._folder / name).stat()
        return Copy(name=name, size=stat.st_size, digest=digest, inode=stat.st_ino, modified=stat.st_mtime_ns, checked=time.time())

    def _download(self, filesystem: pafs.FileSystem, name: str, file: StoredFile) -> str:
        """Write the copy of a file and return its digest; empty if the disk does not take it, and the file is read remotely."""
        with filesystem.open_input_stream(file.path) as source:
            content: bytes = source.read()
        if len(content) != file.size:
            raise OSError(f"{name} has {len(content)} bytes in the store, and {file.size} by the table's log")
        copy = self._folder / name
        unfinished = copy.with_name(f".{uuid.uuid4().hex}")
        try:
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            unfinished.write_bytes(content)
            unfinished.replace(copy)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            return ""
        return _digest(content)

    def _delete(self, index: CopyIndex, names: Sequence[str]) -> None:
        self._unlink(names)
        index.forget(names)

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self._folder / name).unlink()

    def _delete_unknown(self, index: CopyIndex, table: str) -> None:
        """Delete files that no process knows of: what a process that was killed left behind, and copies of an earlier Hindcast."""
        known = {copy.name for copy in index.of_table(table)}
        for folder, _, names in os.walk(self.folder(table)):
            for path in (Path(folder, name) for name in names):
                with contextlib.suppress(FileNotFoundError):
                    is_old = time.time() - path.stat().st_mtime > GONE_SECONDS
                    if is_old and str(path.relative_to(self._folder)) not in known:
                        path.unlink()


def _is_over(copy: Copy) -> bool:
    now = time.time()
    return now - copy.used > PINNED_SECONDS or now - copy.modified / 1e9 > GONE_SECONDS


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
