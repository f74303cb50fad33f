"""One worker: a process that holds the rows of one principal, and the communication with it.

Managing workers belongs to warehouse.sql.workers; the code that runs in the process is in warehouse.sql.process.
"""

from __future__ import annotations

import builtins
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from warehouse.engine import Limits
from warehouse.errors import CancelledError, QueryError, QueryLimitError
from warehouse.sql import memory
from warehouse.sql.process import receive, send

FRESH_SECONDS = 30.0
"""Rows read less than this long ago are not read again, even if the lake has new ones."""
GRACE_SECONDS = 2.0
"""How long a query may run beyond its time limit before its process is killed."""
LOAD_SECONDS = 120.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows of a table: how to read them, and a stamp that changes when the rows do."""

    read: Callable[[], pa.RecordBatchReader]
    stamp: Hashable
    view: str = ""
    """The query over the loaded rows that becomes the view with the table's name; empty to query all loaded rows."""


class EndedError(QueryError):
    """The worker can no longer be used; `reason` is the error to raise to the caller."""

    def __init__(self, reason: QueryError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(eq=False)
class Worker:
    """A process with rows of one principal. Users of it must hold its lock; the first user starts it."""

    key: Hashable
    process: int = 0
    """0 until it is started."""
    stamps: dict[str, Hashable] = field(default_factory=dict)
    """The loaded tables, with the stamps of their rows."""
    loaded_at: float = field(default_factory=time.time)
    """When the oldest loaded rows were read, in seconds since 1970."""
    bytes: int = 0
    """The size of the loaded rows."""
    base_bytes: int = 0
    """The memory of the process before any rows were loaded."""
    resting_bytes: int = 0
    """The additional memory once the rows were loaded, before any query had run."""
    used: float = field(default_factory=time.monotonic)
    stopped: str = ""
    """Why the worker was ended by the watcher, in words for the user; empty if it was not."""
    is_streaming: bool = False
    """Whether rows of a query are still to be received."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def connect(self, process: int, link: socket.socket) -> None:
        """Connect to the process."""
        self.process, self.link = process, link
        link.settimeout(LOAD_SECONDS)  # every wait for a process has a time limit
        self.source, self.sink = link.makefile("rb", buffering=0), link.makefile("wb")

    @property
    def read_at(self) -> datetime:
        """When the oldest of the loaded rows were read from the lake."""
        return datetime.fromtimestamp(self.loaded_at, UTC)

    @property
    def memory_bytes(self) -> int:
        """The memory used now beyond what every worker needs; the size of the rows if the system does not report memory."""
        now = memory.of(self.process) if self.process else None
        return self.bytes if now is None else max(0, now - self.base_bytes)

    def is_stale(self, tables: Mapping[str, Source]) -> bool:
        """Whether the rows are too old and the lake has newer ones."""
        changed = any(self.stamps.get(name, source.stamp) != source.stamp for name, source in tables.items())
        return changed and time.time() - self.loaded_at > FRESH_SECONDS

    def load(self, tables: Mapping[str, Source], limits: Limits) -> None:
        """Send rows to the process; raises EndedError if they need more than half of the engine's memory limit."""
        try:
            send(self.sink, json.dumps({"do": "load", "tables": list(tables)}).encode())
            for source in tables.values():
                reader = source.read()
                with pa.ipc.new_stream(self.sink, reader.schema) as writer:
                    for batch in reader:
                        self.bytes += batch.nbytes
                        if self.bytes > limits.memory_bytes // 2:
                            raise EndedError(
                                QueryLimitError(
                                    f"your rows of this window need more than {limits.memory_bytes // 2 // 1024**2} MiB: ask for less time"
                                )
                            )
                        writer.write_batch(batch)
                self.sink.flush()
        except (OSError, pa.ArrowException) as error:
            raise EndedError(QueryLimitError("your rows of this window need more memory than there is: ask for less time")) from error
        self._reply(LOAD_SECONDS, None)
        self.resting_bytes = self.memory_bytes
        self.stamps |= {name: source.stamp for name, source in tables.items()}

    def ask(self, sql: str, limits: Limits, cancelled: threading.Event | None) -> tuple[pa.Table, bool]:
        """Return the rows of one statement over the loaded rows, and whether there were more than the limit.

        Raises QueryError, or EndedError, which may wrap a CancelledError.
        """
        job = {"do": "run", "sql": sql, "seconds": limits.seconds, "rows": limits.rows, "memory_bytes": limits.memory_bytes}
        self.exchange(job, limits.seconds + GRACE_SECONDS, cancelled)
        rows = pa.ipc.open_stream(self._receive()).read_all()
        return rows.slice(0, limits.rows), rows.num_rows > limits.rows

    def stream(self, sql: str, limits: Limits, cancelled: threading.Event | None) -> pa.RecordBatchReader:
        """Return the rows of one statement as they are found, at most one more than `limits.rows`; raises as `ask` does.

        Until they have been read to the end, the worker can do nothing else.
        """
        job = {"do": "stream", "sql": sql, "seconds": limits.seconds, "rows": limits.rows, "memory_bytes": limits.memory_bytes}
        deadline = time.monotonic() + limits.seconds + GRACE_SECONDS
        self.exchange(job, limits.seconds + GRACE_SECONDS, cancelled)

        def batches() -> Iterator[pa.RecordBatch]:
            while True:
                self._wait(limits.seconds, deadline, cancelled)
                content = self._receive()
                if not content:
                    break
                yield from pa.ipc.open_stream(content)
            self._reply(GRACE_SECONDS, cancelled)
            self.is_streaming = False

        self.is_streaming = True
        first = pa.ipc.open_stream(self._receive())  # the columns, without rows
        return pa.RecordBatchReader.from_batches(first.schema, batches())

    def exchange(self, job: dict[str, Any], seconds: float, cancelled: threading.Event | None = None) -> dict[str, Any]:
        """Send one job and return the reply. Raises QueryError for a wrong query, EndedError if the worker can no longer be used."""
        try:
            send(self.sink, json.dumps(job).encode())
        except OSError as error:
            raise EndedError(_ran_into_limits()) from error
        return self._reply(seconds, cancelled)

    def _reply(self, seconds: float, cancelled: threading.Event | None) -> dict[str, Any]:
        """Wait for the worker's reply. Raises the error that it reports, or EndedError if it does not reply in time."""
        self._wait(seconds - GRACE_SECONDS, time.monotonic() + seconds, cancelled)
        reply: dict[str, Any] = json.loads(self._receive())
        wrong: QueryError | None = None
        if "limit" in reply:
            wrong = QueryLimitError(reply["limit"])
        elif "refused" in reply:
            wrong = QueryError(reply["refused"])
        if reply.get("is_dead"):
            raise EndedError(wrong or _ran_into_limits())
        if wrong is not None:
            raise wrong
        return reply

    def _wait(self, seconds: float, deadline: float, cancelled: threading.Event | None) -> None:
        """Wait until there is something to receive. Raises EndedError when it is cancelled or the deadline has passed."""
        while not select.select([self.link], [], [], _POLL_SECONDS)[0]:
            if cancelled is not None and cancelled.is_set():
                raise EndedError(CancelledError("the query was cancelled"))
            if time.monotonic() > deadline:
                raise EndedError(QueryLimitError(f"the query was stopped after {seconds:g} s: ask for less time, or for fewer rows"))

    def _receive(self) -> builtins.bytes:
        try:
            return receive(self.source)
        except (EOFError, OSError, ValueError) as error:
            raise EndedError(_ran_into_limits()) from error


def _ran_into_limits() -> QueryLimitError:
    return QueryLimitError("the query ran into the limits of its process: ask for less time or fewer columns")
