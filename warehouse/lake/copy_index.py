"""The record of the copies in a folder: their sizes, digests and last use, in an SQLite file that all processes of the machine share."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_WAIT_SECONDS = 20.0
_SELDOM_SECONDS = 60.0
"""The last use of a copy is noted this often at most: a question that is repeated should not write."""
_TABLE = """CREATE TABLE IF NOT EXISTS copies (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL, digest TEXT NOT NULL, inode INTEGER NOT NULL, modified INTEGER NOT NULL,
    checked REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID"""
_COLUMNS = "name, size, digest, inode, modified, checked, used"


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A copy that was downloaded, or that a process is about to download."""

    name: str
    """The table's name and the path below the table's folder."""
    size: int
    digest: str
    """Of the content as it was downloaded; empty until then."""
    inode: int
    modified: int
    """Nanoseconds since 1970."""
    checked: float
    """When the content was last compared with the digest, seconds since 1970; as is `used`."""
    used: float = 0.0


class CopyIndex:
    """A connection to the record. Every method may raise sqlite3.Error."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")  # a record that is lost costs downloads, nothing else
        self._connection.execute(_TABLE)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def find(self, names: Collection[str]) -> dict[str, Copy]:
        """Return what is recorded of these copies, without those that were never finished."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM copies WHERE digest <> '' AND name IN (SELECT value FROM json_each(?))", [json.dumps(list(names))]
        )
        return {copy.name: copy for copy in map(_copy, rows)}

    def use(self, names: Iterable[str]) -> None:
        """Note that these copies are used now."""
        now = time.time()
        listed = json.dumps(list(names))
        where = "used < ? AND name IN (SELECT value FROM json_each(?))"
        if self._connection.execute(f"SELECT 1 FROM copies WHERE {where} LIMIT 1", [now - _SELDOM_SECONDS, listed]).fetchone():
            self._connection.execute(f"UPDATE copies SET used = ? WHERE {where}", [now, now - _SELDOM_SECONDS, listed])

    def make_room(
        self, sizes: Mapping[str, int], most_bytes: int, delete: Callable[[Iterable[str]], None], *, pinned_seconds: float
    ) -> bool:
        """Record that copies of these sizes are about to be downloaded, and return whether they fit.

        `delete` is called with the copies that must go for it, those used longest ago first; those used just now stay.
        """
        now, needed = time.time(), sum(sizes.values())
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._remove(sizes)
            (total,) = self._connection.execute("SELECT coalesce(sum(size), 0) FROM copies").fetchone()
            going, excess = [], total + needed - most_bytes
            if excess > 0:
                oldest = self._connection.execute("SELECT name, size FROM copies WHERE used < ? ORDER BY used", [now - pinned_seconds])
                for name, size in oldest:
                    going.append(name)
                    excess -= size
                    if excess <= 0:
                        break
            delete(going)
            self._remove(going)
            if excess <= 0:
                self._connection.executemany(
                    "INSERT INTO copies VALUES (?, ?, '', 0, 0, 0, ?)", [(name, size, now) for name, size in sizes.items()]
                )
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return bool(excess <= 0)

    def store(self, copies: Iterable[Copy]) -> None:
        """Record copies as they are on the disk now, as used now."""
        now = time.time()
        self._connection.executemany(
            "INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(one.name, one.size, one.digest, one.inode, one.modified, one.checked, now) for one in copies],
        )

    def forget(self, names: Iterable[str]) -> None:
        """Remove copies from the record."""
        self._remove(names)

    def tables(self) -> list[str]:
        """Return the names of the tables with copies."""
        return [name for (name,) in self._connection.execute("SELECT DISTINCT substr(name, 1, instr(name, '/') - 1) FROM copies")]

    def of_table(self, table: str) -> list[Copy]:
        """Return the copies of a table's files."""
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM copies WHERE name >= ? AND name < ?", [f"{table}/", f"{table}0"])
        return [_copy(row) for row in rows]

    def _remove(self, names: Iterable[str]) -> None:
        self._connection.execute("DELETE FROM copies WHERE name IN (SELECT value FROM json_each(?))", [json.dumps(list(names))])


def _copy(row: tuple[str, int, str, int, int, float, float]) -> Copy:
    return Copy(**dict(zip(_COLUMNS.split(", "), row, strict=True)))  # type: ignore[arg-type]
