"""The table `access_log`: writes an entry for each question, and decides which entries a principal sees.

Entries are stored in batches, every two seconds, so a question does not wait for a commit. The entry of a process's first
question is stored before its answer is returned; later entries are stored within seconds. If an entry cannot be stored,
answers are withheld until the lake accepts entries again; storing is retried until it succeeds.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa

from warehouse.access.labels import stripped
from warehouse.access.principals import Principal, Scope, glob
from warehouse.errors import AccessDeniedError, LakeError, QueryError, QueryLimitError
from warehouse.lake.tables import Lake
from warehouse.schema import ACCESS_LOG

FLUSH_SECONDS = 2.0
RETRY_SECONDS = 30.0
PAUSE_SECONDS = 1.0
"""For this long after a failed write, questions are refused without another attempt to write."""
ATTEMPTS_AT_EXIT, EXIT_PAUSE_SECONDS = 3, 1.0
MOST_UNANSWERED = 20_000
"""How many entries of unanswered questions are queued while the lake accepts none; the oldest beyond that are dropped."""
TEXT_CHARACTERS = 20_000
MOST_NAMESPACES = 500
"""An entry with more namespaces than this names clusters instead."""


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
    """The queue of entries that are not stored yet, by lake."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._entries: dict[Lake, list[Entry]] = {}
        self._timer: threading.Timer | None = None
        self._handles: weakref.WeakKeyDictionary[Lake, Lake] = weakref.WeakKeyDictionary()
        self._stored: weakref.WeakSet[Lake] = weakref.WeakSet()
        self._failures: weakref.WeakKeyDictionary[Lake, tuple[float, Exception]] = weakref.WeakKeyDictionary()

    def add(self, lake: Lake, entry: Entry) -> None:
        """Queue an entry; it is stored within FLUSH_SECONDS, or as soon as the lake accepts it."""
        with self._lock:
            self._entries.setdefault(lake, []).append(entry)
            self._schedule(FLUSH_SECONDS)

    def add_answered(self, lake: Lake, entry: Entry) -> None:
        """Queue the entry of a question that is about to be answered.

        Raises LakeError if entries cannot be stored at present: the answer must then be withheld, and the entry records that.
        """
        with self._lock:
            trusted = lake in self._stored and lake not in self._failures
        if trusted:
            self.add(lake, entry)
            return
        with self._lock:
            failed_at, error = self._failures.get(lake, (float("-inf"), None))
            self._entries.setdefault(lake, []).append(entry)
        if time.monotonic() - failed_at > PAUSE_SECONDS:
            self.flush()
            with self._lock:
                _, error = self._failures.get(lake, (0.0, None))
        if error is not None:
            withheld = replace(
                entry, outcome="failed", rows=0, detail="the answer was withheld because the access log could not be written"
            )
            with self._lock:
                self._entries[lake] = [withheld if one is entry else one for one in self._entries.get(lake, [])]
                self._schedule(RETRY_SECONDS)
            raise LakeError(f"the question cannot be recorded in the access log, so it is not answered: {error}") from error

    def flush(self) -> None:
        """Store all queued entries; those that cannot be stored remain queued."""
        with self._storing:  # the next flush can rely on all earlier entries being stored or queued again
            with self._lock:
                taken, self._entries = self._entries, {}
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            try:
                for lake in list(taken):
                    self._store(lake, taken[lake])
                    del taken[lake]
            finally:  # entries left after an interrupt are queued again
                for lake, entries in taken.items():
                    self._put_back(lake, entries)

    def finish(self) -> None:
        """Store the queued entries when the process ends, with a few attempts; log those that cannot be stored as errors."""
        for attempt in range(ATTEMPTS_AT_EXIT):
            self.flush()
            if not self._entries:
                return
            if attempt + 1 < ATTEMPTS_AT_EXIT:
                time.sleep(EXIT_PAUSE_SECONDS)
        import structlog

        for entry in (entry for entries in self._entries.values() for entry in entries):
            structlog.get_logger().error(
                "access log entry lost",
                time=entry.time.isoformat(),
                principal=entry.principal,
                purpose=entry.purpose,
                question=entry.question,
                outcome=entry.outcome,
            )

    def _store(self, lake: Lake, entries: list[Entry]) -> None:
        try:
            if lake not in self._handles:
                self._handles[lake] = lake.apart(ACCESS_LOG)
            handle = self._handles[lake]
            handle.commit(ACCESS_LOG, handle.write_files(ACCESS_LOG, _table(entries)), transactions={}, metadata={})
        except Exception as error:  # whatever the cause, the entries are not stored
            self._put_back(lake, entries)
            with self._lock:
                self._failures[lake] = (time.monotonic(), error)
                waiting = len(self._entries[lake])
            import structlog  # imported here because it would slow the start of every command by 0.1 s

            structlog.get_logger().warning("access log not stored", error=str(error), waiting=waiting)
            return
        with self._lock:
            self._stored.add(lake)
            self._failures.pop(lake, None)

    def _put_back(self, lake: Lake, entries: list[Entry]) -> None:
        with self._lock:
            waiting = entries + self._entries.get(lake, [])
            surplus = sum(entry.outcome != "answered" for entry in waiting) - MOST_UNANSWERED
            remaining = []
            for entry in waiting:
                if surplus > 0 and entry.outcome != "answered":
                    surplus -= 1
                else:
                    remaining.append(entry)
            self._entries[lake] = remaining
            self._schedule(RETRY_SECONDS)

    def _schedule(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(seconds, self.flush)
            self._timer.daemon = True
            self._timer.start()


_waiting = _Waiting()
atexit.register(_waiting.finish)


def flush() -> None:
    """Store the queued entries now."""
    _waiting.flush()


def _table(entries: list[Entry]) -> pa.Table:
    """Return the entries as rows. An entry that cannot be represented is stored without text and window, so it affects no other."""
    try:
        return pa.Table.from_pylist([_row(entry) for entry in entries], schema=ACCESS_LOG.schema)
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        if len(entries) > 1:
            return pa.concat_tables([_table([entry]) for entry in entries])
        bare = replace(entries[0], text=None, since=None, until=None, namespaces=(), detail="the question could not be represented")
        return pa.Table.from_pylist([_row(bare)], schema=ACCESS_LOG.schema)


def _row(entry: Entry) -> dict[str, Any]:
    values = asdict(entry) | {"text": entry.text and entry.text[:TEXT_CHARACTERS]}
    return {name: _encodable(value) for name, value in values.items()} | {"date": entry.time.date()}


def _encodable(value: Any) -> Any:
    """Return a value in which characters that UTF-8 cannot encode (lone surrogates) are escaped."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return [_encodable(one) for one in value] if isinstance(value, list | tuple) else value


# One question --------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Note:
    """The part of an entry that is filled in by the code that answers the question."""

    namespaces: tuple[str, ...] = ()
    rows: int = 0


@contextmanager
def noted(
    lake: Lake, principal: Principal, *, purpose: str, question: str, text: str | None, since: datetime | None, until: datetime | None
) -> Iterator[Note]:
    """Record one question, whether it is answered or fails. Raises LakeError if the answer must be withheld for lack of a record."""
    asked, began, note = datetime.now(UTC), time.monotonic(), Note()

    def entry(outcome: str, detail: str | None) -> Entry:
        return Entry(
            time=asked,
            principal=principal.user,
            groups=tuple(sorted(principal.groups)),
            purpose=purpose,
            question=question,
            text=text,
            namespaces=note.namespaces,
            since=since,
            until=until,
            outcome=outcome,
            detail=detail,
            rows=note.rows if outcome == "answered" else 0,
            seconds=time.monotonic() - began,
        )

    try:
        yield note
    except BaseException as error:
        _waiting.add(lake, entry(_outcome(error), str(error) or type(error).__name__))
        raise
    _waiting.add_answered(lake, entry("answered", None))


def looked_at(scope: Scope, clusters: Sequence[str], namespaces: Sequence[str]) -> tuple[str, ...]:
    """Return what a question could show, as cluster/namespace with * and ?: the namespaces it names, else the whole scope."""
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
    """Return the entries that a principal may see.

    A principal who sees everything gets all entries (auditors without labels in the queries of others). Anyone else gets their own
    entries, and those about namespaces they own with who asked, when and why, but without the text, rows and other namespaces.
    """
    if scope.everything:
        return rows if scope.reads_every_label else stripped(ACCESS_LOG, rows, lambda row: row["principal"] == principal.user)
    found = []
    for row in rows.to_pylist():
        if row["principal"] == principal.user and not principal.is_operator:
            found.append(row)
            continue
        mine = sorted({shown for name in row["namespaces"] or () if (shown := _mine(scope, name, row["since"], row["until"]))})
        if mine:
            found.append(row | {"namespaces": mine, "text": None, "detail": None, "rows": None, "groups": None})
    return pa.Table.from_pylist(found, schema=rows.schema)


def _mine(scope: Scope, looked: str, since: datetime | None, until: datetime | None) -> str | None:
    """Return the part of a cluster/namespace pattern that the scope owned at some time in the window; None if there is none."""
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
    """Return the narrower of two patterns if one covers the other; None otherwise."""
    if fnmatchcase(one, glob(other)):
        return one
    return other if fnmatchcase(other, glob(one)) else None


def _outcome(error: BaseException) -> str:
    if isinstance(error, AccessDeniedError):
        return "denied"
    if isinstance(error, QueryLimitError | KeyboardInterrupt):
        return "stopped"
    return "refused" if isinstance(error, QueryError) else "failed"
