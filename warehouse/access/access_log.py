"""The table `access_log`: writing it, and who sees what of it.

Entries are gathered and stored by the second, so that no question waits for it. What is not stored yet is stored when the
process ends; a crash loses two seconds at most. When the lake takes nothing, entries wait and are tried again.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pyarrow as pa

from warehouse.access.principals import Principal, Scope, glob
from warehouse.errors import AccessDeniedError, LakeError, QueryError, QueryLimitError
from warehouse.lake.tables import Lake
from warehouse.schema import ACCESS_LOG

FLUSH_SECONDS = 2.0
RETRY_SECONDS = 30.0
MOST_WAITING = 20_000
"""Entries that wait for a lake which takes nothing; the oldest go first, and are counted in the program's own log."""
TEXT_CHARACTERS = 20_000
MOST_NAMESPACES = 500
"""Above it, an entry names clusters instead."""


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
        self._handles: weakref.WeakKeyDictionary[Lake, Lake] = weakref.WeakKeyDictionary()

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
                    if lake not in self._handles:
                        self._handles[lake] = lake.apart(ACCESS_LOG)
                    handle = self._handles[lake]
                    handle.commit(ACCESS_LOG, handle.write_files(ACCESS_LOG, _table(entries)), transactions={}, metadata={})
                except LakeError as error:
                    self._keep(lake, entries, error)

    def _keep(self, lake: Lake, entries: list[Entry], error: LakeError) -> None:
        with self._lock:
            waiting = entries + self._entries.get(lake, [])
            self._entries[lake] = waiting[-MOST_WAITING:]
            self._schedule(RETRY_SECONDS)
        import structlog  # commands start without it: it takes a tenth of a second

        dropped = max(0, len(waiting) - MOST_WAITING)
        structlog.get_logger().warning("access log not stored", error=str(error), waiting=len(waiting), dropped=dropped)

    def _schedule(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(seconds, self.flush)
            self._timer.daemon = True
            self._timer.start()


_waiting = _Waiting()
atexit.register(_waiting.flush)


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


# One question --------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Note:
    """What becomes of a question; who answers it fills it in."""

    namespaces: tuple[str, ...] = ()
    rows: int = 0


@contextmanager
def noted(
    lake: Lake, principal: Principal, *, purpose: str, question: str, text: str | None, since: datetime | None, until: datetime | None
) -> Iterator[Note]:
    """Note one question, whatever becomes of it."""
    asked, began, what, outcome, detail = datetime.now(UTC), time.monotonic(), Note(), "answered", None
    try:
        yield what
    except BaseException as error:
        outcome, detail = _outcome(error), str(error) or type(error).__name__
        raise
    finally:
        entry = Entry(
            time=asked,
            principal=principal.user,
            groups=tuple(sorted(principal.groups)),
            purpose=purpose,
            question=question,
            text=text,
            namespaces=what.namespaces,
            since=since,
            until=until,
            outcome=outcome,
            detail=detail,
            rows=what.rows if outcome == "answered" else 0,
            seconds=time.monotonic() - began,
        )
        _waiting.add(lake, entry)


def looked_at(scope: Scope, clusters: Sequence[str], namespaces: Sequence[str]) -> tuple[str, ...]:
    """What a question could show, as cluster/namespace with * and ?: what it names, else all that the scope gives."""
    if namespaces:
        return tuple(f"{cluster}/{namespace}" for cluster in clusters or ("*",) for namespace in namespaces)
    found = {
        f"{cluster}/{grant.namespace or '*'}"
        for grant in scope.grants
        for cluster in (clusters or (grant.cluster,))
        if fnmatchcase(cluster, glob(grant.cluster)) or cluster == grant.cluster
    }
    if len(found) > MOST_NAMESPACES:
        found = {f"{name.partition('/')[0]}/*" for name in found}
    return tuple(sorted(found))


def visible(rows: pa.Table, scope: Scope, principal: Principal) -> pa.Table:
    """Those entries that someone may see: all, for who sees everything; else one's own, and of those who looked at one's
    namespaces who it was, when and why, without the text and the rows, and without other namespaces.
    """
    if scope.everything:
        return rows
    told = []
    for row in rows.to_pylist():
        if row["principal"] == principal.user and not principal.is_operator:
            told.append(row)
            continue
        mine = sorted({shown for name in row["namespaces"] or () if (shown := _mine(scope, name, row["since"], row["until"]))})
        if mine:
            told.append(row | {"namespaces": mine, "text": None, "detail": None, "rows": None, "groups": None})
    return pa.Table.from_pylist(told, schema=rows.schema)


def _mine(scope: Scope, looked: str, since: datetime | None, until: datetime | None) -> str | None:
    """The part of what was looked at that is the scope's own, at some time that was looked at."""
    cluster, _, namespace = looked.partition("/")
    for grant in scope.grants:
        if (grant.until and since and grant.until <= since) or (grant.since and until and grant.since >= until):
            continue
        shared = (_narrower(cluster, grant.cluster), _narrower(namespace, grant.namespace or "*"))
        if None in shared:
            continue
        if until and any(fnmatchcase(c, shared[0] or "") and n == shared[1] and cut >= until for c, n, cut in grant.not_before):
            continue
        denied = any(d.since is None and d.until is None and d.covers(shared[0] or "", shared[1]) for d in scope.denials)
        if not denied:
            return f"{shared[0]}/{shared[1]}"
    return None


def _narrower(one: str, other: str) -> str | None:
    """The one of two patterns that the other covers; None if neither does."""
    if fnmatchcase(one, glob(other)):
        return one
    return other if fnmatchcase(other, glob(one)) else None


def _outcome(error: BaseException) -> str:
    if isinstance(error, AccessDeniedError):
        return "denied"
    if isinstance(error, QueryLimitError | KeyboardInterrupt):
        return "stopped"
    return "refused" if isinstance(error, QueryError) else "failed"
