"""One worker: a process that holds the rows of one principal, and the talk with it.

Which workers there are, and when each starts and ends, is warehouse.sql.workers; what runs in the process is warehouse.sql.process.
"""

from __future__ import annotations

import builtins
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from warehouse.engine import Limits
from warehouse.errors import QueryError, QueryLimitError
from warehouse.sql import memory
from warehouse.sql.process import receive, send

FRESH_SECONDS = 30.0
"""Rows younger than this are not read again, whatever the lake has got since."""
GRACE_SECONDS = 2.0
"""How long after its time limit a query may take to notice; then its process is ended."""
LOAD_SECONDS = 120.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows of a table: how to read them, and a stamp that changes when there are others."""

    read: Callable[[], pa.RecordBatchReader]
    stamp: Hashable
    view: str = ""
    """The query over the loaded rows that takes the table's name; without one the rows as they were loaded are queried."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a query gave."""

    rows: pa.Table
    cut: bool
    """True if there were more rows than the limit."""
    read_at: datetime
    """When the oldest of the rows it ran over were read."""


class CancelledError(QueryLimitError):
    """The query was cancelled by whoever asked it."""


class EndedError(QueryError):
    """The worker is of no more use; `told` is the error for whoever asked."""

    def __init__(self, told: QueryError) -> None:
        super().__init__(str(told))
        self.told = told


@dataclass(eq=False)
class Worker:
    """A process with rows of one principal. Whoever uses it holds its lock; it is started by the first who does."""

    key: Hashable
    process: int = 0
    """0 until it is started."""
    stamps: dict[str, Hashable] = field(default_factory=dict)
    """The tables it holds, with the stamps of their rows."""
    loaded_at: float = field(default_factory=time.time)
    """When the oldest of its rows were read, in seconds since 1970."""
    bytes: int = 0
    """Of the rows it was sent."""
    base_bytes: int = 0
    """The memory it held before it was sent any row."""
    resting_bytes: int = 0
    """The memory it held, above that, when it had its rows and no query had run."""
    used: float = field(default_factory=time.monotonic)
    stopped: str = ""
    """Why it was ended from outside, for whoever uses it; empty if it was not."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def connect(self, process: int, link: socket.socket) -> None:
        """Begin to talk to the process."""
        self.process, self.link = process, link
        link.settimeout(LOAD_SECONDS)  # no wait for a process is without an end
        self.source, self.sink = link.makefile("rb"), link.makefile("wb")

    @property
    def held_bytes(self) -> int:
        """The memory it holds by now, above what every worker needs; where the system does not say, its rows."""
        now = memory.of(self.process) if self.process else None
        return self.bytes if now is None else max(0, now - self.base_bytes)

    def is_stale(self, tables: Mapping[str, Source]) -> bool:
        """Whether its rows are older than people expect, and there are others."""
        changed = any(self.stamps.get(name, source.stamp) != source.stamp for name, source in tables.items())
        return changed and time.time() - self.loaded_at > FRESH_SECONDS

    def load(self, tables: Mapping[str, Source], limits: Limits) -> None:
        """Send rows, stopping where they need more than half of the memory the engine may take."""
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
        self._told(LOAD_SECONDS, None)
        self.resting_bytes = self.held_bytes
        self.stamps |= {name: source.stamp for name, source in tables.items()}

    def ask(self, sql: str, limits: Limits, cancelled: threading.Event | None) -> Ran:
        """Run one statement over its rows. Raises QueryError, EndedError, CancelledError within it."""
        job = {"do": "run", "sql": sql, "seconds": limits.seconds, "rows": limits.rows, "memory_bytes": limits.memory_bytes}
        self.exchange(job, limits.seconds + GRACE_SECONDS, cancelled)
        rows = pa.ipc.open_stream(self._receive()).read_all()
        read_at = datetime.fromtimestamp(self.loaded_at, UTC)
        return Ran(rows=rows.slice(0, limits.rows), cut=rows.num_rows > limits.rows, read_at=read_at)

    def exchange(self, job: dict[str, Any], seconds: float, cancelled: threading.Event | None = None) -> dict[str, Any]:
        """Send one job and give its answer. Raises QueryError for a wrong query, EndedError if the worker is of no more use."""
        try:
            send(self.sink, json.dumps(job).encode())
        except OSError as error:
            raise EndedError(_ran_into_limits()) from error
        return self._told(seconds, cancelled)

    def _told(self, seconds: float, cancelled: threading.Event | None) -> dict[str, Any]:
        """The worker's answer. Raises the error that it reports, or what its silence means."""
        deadline = time.monotonic() + seconds
        while not select.select([self.link], [], [], _POLL_SECONDS)[0]:
            if cancelled is not None and cancelled.is_set():
                raise EndedError(CancelledError("the query was cancelled"))
            if time.monotonic() > deadline:
                raise EndedError(
                    QueryLimitError(f"the query was stopped after {seconds - GRACE_SECONDS:g} s: ask for less time, or for fewer rows")
                )
        told: dict[str, Any] = json.loads(self._receive())
        wrong: QueryError | None = None
        if "limit" in told:
            wrong = QueryLimitError(told["limit"])
        elif "refused" in told:
            wrong = QueryError(told["refused"])
        if told.get("is_dead"):
            raise EndedError(wrong or _ran_into_limits())
        if wrong is not None:
            raise wrong
        return told

    def _receive(self) -> builtins.bytes:
        try:
            return receive(self.source)
        except (EOFError, OSError, ValueError) as error:
            raise EndedError(_ran_into_limits()) from error


def _ran_into_limits() -> QueryLimitError:
    return QueryLimitError("the query ran into the limits of its process: ask for less time or fewer columns")
