"""The table `access_log`: writing an entry for each question, and which entries a principal sees.

Entries are stored in batches, by default every two seconds, so that a question does not wait for a commit. The first question
of a process is stored before its answer is given; later ones are stored within seconds. As long as an entry could not be
stored, no question is answered: answers are withheld until the lake takes entries again, and entries are tried again until
they are stored.
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
"""After a failed write, questions are refused without another try for this long."""
ATTEMPTS_AT_EXIT, EXIT_PAUSE_SECONDS = 3, 1.0
MOST_UNANSWERED = 20_000
"""Entries of questions without an answer that are kept while the lake takes nothing; older ones are dropped."""
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
    """Entries that are not stored yet, by lake."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._entries: dict[Lake, list[Entry]] = {}
        self._timer: threading.Timer | None = None
        self._handles: weakref.WeakKeyDictionary[Lake, Lake] = weakref.WeakKeyDictionary()
        self._stored: weakref.WeakSet[Lake] = weakref.WeakSet()
        self._failures: weakref.WeakKeyDictionary[Lake, tuple[float, Exception]] = weakref.WeakKeyDictionary()

    def add(self, lake: Lake, entry: Entry) -> None:
        """Queue an entry; it is stored within FLUSH_SECONDS, or as soon as the lake takes it."""
        with self._lock:
            self._entries.setdefault(lake, []).append(entry)
            self._schedule(FLUSH_SECONDS)

    def add_answered(self, lake: Lake, entry: Entry) -> None:
        """Queue the entry of a question that is about to be answered.

        Raises LakeError if entries cannot be stored at present: the answer must not be given then. The entry then says so.
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
            withheld = replace(entry, outcome="failed", rows=0, detail="the answer was withheld: the access log could not be written")
            with self._lock:
                self._entries[lake] = [withheld if one is entry else one for one in self._entries.get(lake, [])]
                self._schedule(RETRY_SECONDS)
            raise LakeError(f"the question cannot be noted in the access log, so it is not answered: {error}") from error

    def flush(self) -> None:
        """Store all entries that wait; those that cannot be stored go on waiting."""
        with self._storing:  # whoever flushes next knows that all earlier entries were stored or put back
            with self._lock:
                taken, self._entries = self._entries, {}
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            try:
                for lake in list(taken):
                    self._store(lake, taken[lake])
                    del taken[lake]
            finally:  # after an interrupt
                for lake, entries in taken.items():
                    self._put_back(lake, entries)

    def finish(self) -> None:
        """Store what waits when the process ends, with a few attempts; what cannot be stored is written to the program's log."""
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
        except Exception as error:  # whatever it is, the entries are not stored
            self._put_back(lake, entries)
            with self._lock:
                self._failures[lake] = (time.monotonic(), error)
                waiting = len(self._entries[lake])
            import structlog  # commands start without it: it takes a tenth of a second

            structlog.get_logger().warning("access log not stored", error=str(error), waiting=waiting)
            return
        with self._lock:
            self._stored.add(lake)
            self._failures.pop(lake, None)

    def _put_back(self, lake: Lake, entries: list[Entry]) -> None:
        with self._lock:
            waiting = entries + self._entries.get(lake, [])
            surplus = sum(entry.outcome != "answered" for entry in waiting) - MOST_UNANSWERED
            kept = []
            for entry in waiting:
                if surplus > 0 and entry.outcome != "answered":
                    surplus -= 1
                else:
                    kept.append(entry)
            self._entries[lake] = kept
            self._schedule(RETRY_SECONDS)

    def _schedule(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(seconds, self.flush)
            self._timer.daemon = True
            self._timer.start()


_waiting = _Waiting()
atexit.register(_waiting.finish)


def flush() -> None:
    """Store the entries that wait, now."""
    _waiting.flush()


def _table(entries: list[Entry]) -> pa.Table:
    """Rows of the table. An entry that cannot be represented is stored without its text and window: one bad entry drops no other."""
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
    """A value with whatever UTF-8 cannot hold (lone surrogates) written as an escape."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return [_encodable(one) for one in value] if isinstance(value, list | tuple) else value


# One question --------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Note:
    """What the code that answers a question fills in for its entry."""

    namespaces: tuple[str, ...] = ()
    rows: int = 0


@contextmanager
def noted(
    lake: Lake, principal: Principal, *, purpose: str, question: str, text: str | None, since: datetime | None, until: datetime | None
) -> Iterator[Note]:
    """Note one question, whether it is answered or fails. Raises LakeError instead of letting an answer through that cannot be noted."""
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
    """The entries that a principal may see.

    Who sees everything sees all of them, an auditor without the labels that others asked for. Anyone else sees the own ones, and
    of those who looked at owned namespaces who it was, when and why, without the text, the rows and other namespaces.
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
