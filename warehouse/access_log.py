"""Writing the table `access_log`: entries are gathered and stored by the second, so that no question waits for it.

What is not stored yet is stored when the process ends; a crash loses two seconds at most. When the lake takes nothing,
entries wait and are tried again.
"""

from __future__ import annotations

import atexit
import threading
from dataclasses import asdict, dataclass
from datetime import datetime

import pyarrow as pa
import structlog

from warehouse.errors import LakeError
from warehouse.schema import ACCESS_LOG
from warehouse.tables import Lake

FLUSH_SECONDS = 2.0
RETRY_SECONDS = 30.0
MOST_WAITING = 20_000
"""Entries that wait for a lake which takes nothing; the oldest go first, and are counted in the program's own log."""
TEXT_CHARACTERS = 20_000
_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One question; see the table's columns."""

    time: datetime
    principal: str
    groups: tuple[str, ...]
    purpose: str
    question: str
    text: str | None
    namespaces: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    outcome: str
    detail: str | None
    rows: int
    seconds: float


class _Waiting:
    """Entries on their way to their lakes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._entries: dict[Lake, list[Entry]] = {}
        self._timer: threading.Timer | None = None

    def add(self, lake: Lake, entry: Entry) -> None:
        with self._lock:
            self._entries.setdefault(lake, []).append(entry)
            self._schedule(FLUSH_SECONDS)

    def flush(self) -> None:
        """Store all that waits; what cannot be stored goes on waiting."""
        with self._storing:  # one at a time, and who flushes knows that all of before is stored
            with self._lock:
                taken, self._entries = self._entries, {}
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            for lake, entries in taken.items():
                try:
                    lake.commit(ACCESS_LOG, lake.write_files(ACCESS_LOG, _table(entries)), transactions={}, metadata={})
                except LakeError as error:
                    self._keep(lake, entries, error)

    def _keep(self, lake: Lake, entries: list[Entry], error: LakeError) -> None:
        with self._lock:
            waiting = entries + self._entries.get(lake, [])
            self._entries[lake] = waiting[-MOST_WAITING:]
            self._schedule(RETRY_SECONDS)
        _log.warning("access log not stored", error=str(error), waiting=len(waiting), dropped=max(0, len(waiting) - MOST_WAITING))

    def _schedule(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(seconds, self.flush)
            self._timer.daemon = True
            self._timer.start()


_waiting = _Waiting()
atexit.register(_waiting.flush)


def note(lake: Lake, entry: Entry) -> None:
    """Add an entry; gives at once."""
    _waiting.add(lake, entry)


def flush() -> None:
    """Store what waits, now."""
    _waiting.flush()


def _table(entries: list[Entry]) -> pa.Table:
    rows = [
        asdict(entry)
        | {
            "date": entry.time.date(),
            "groups": list(entry.groups),
            "namespaces": list(entry.namespaces),
            "text": entry.text and entry.text[:TEXT_CHARACTERS],
        }
        for entry in entries
    ]
    return pa.Table.from_pylist(rows, schema=ACCESS_LOG.schema)
