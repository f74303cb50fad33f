"""Workers for people's own SQL: started, kept warm, fed with the rows of one principal, ended when they do not end by themselves.

What runs in them is warehouse.sql.process; which rows a principal may have is warehouse.questions.door's to say.
"""

from __future__ import annotations

import atexit
import json
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from warehouse.engine import Limits, Window
from warehouse.errors import QueryError, QueryLimitError
from warehouse.sql.process import LENGTH, receive, send

MOST_WORKERS = 64
MOST_BYTES = 3 * 1024**3
"""Rows that all workers hold together; those not asked for longest end first."""
IDLE_SECONDS = 900.0
FRESH_SECONDS = 30.0
"""Rows younger than this are not read again, whatever the lake has got since."""
GRACE_SECONDS = 2.0
"""How long after its time limit a query may take to notice; then its process is ended."""
LOAD_SECONDS = 120.0
LOADS_AT_ONCE = 2
"""Reading someone's rows takes this process more memory than what they are held in afterwards."""
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows of a table: how to read them, and what tells whether they are still the same."""

    read: Callable[[], pa.RecordBatchReader]
    stamp: Hashable


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a query gave."""

    rows: pa.Table
    cut: bool
    """True if there were more rows than the limit."""
    read_at: datetime
    """When the oldest of the rows it ran over were read."""


class CancelledError(QueryLimitError):
    """Whoever asked does not want to know any more."""


@dataclass(eq=False)
class Worker:
    """A process with rows of one principal."""

    process: int
    link: socket.socket
    key: Hashable
    stamps: dict[str, Hashable] = field(default_factory=dict)
    """The tables it holds, with what tells their rows from newer ones."""
    loaded_at: float = field(default_factory=time.time)
    """When the oldest of its rows were read, in seconds since 1970."""
    bytes: int = 0
    used: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.source, self.sink = self.link.makefile("rb"), self.link.makefile("wb")


class Workers:
    """All workers of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loading = threading.Semaphore(LOADS_AT_ONCE)
        self._parent: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._workers: dict[Hashable, Worker] = {}

    def run(
        self,
        owner: Hashable,
        key: Hashable,
        sql: str,
        tables: Mapping[str, Source],
        limits: Limits,
        *,
        cancelled: threading.Event | None = None,
    ) -> Ran:
        """Run `sql` over the tables, each of which is read when it is first asked for.

        `owner` has one worker at a time; one with another `key` (what it may see, of which time) or with rows that are stale
        is ended and another started. Raises QueryError, QueryLimitError, CancelledError, and what reading a table raises.
        """
        with self._worker(owner, key, limits, tables, ()) as worker:
            missing = {name: source for name, source in tables.items() if name not in worker.stamps}
            if missing:
                with self._loading:
                    self._load(worker, missing, limits)
            return self._ask(worker, sql, limits, cancelled)

    def run_over_files(
        self,
        owner: Hashable,
        sql: str,
        views: Mapping[str, str],
        pruned: tuple[str, Callable[[Window], str]],
        readable: Path,
        limits: Limits,
        *,
        cancelled: threading.Event | None = None,
    ) -> Ran:
        """Run `sql` over views of files below the folder `readable`; one of them, `pruned`, is made of the window that is asked for.

        Raises QueryError also where the system cannot shut a process in.
        """
        with self._worker(owner, ("files", readable), limits, {}, (str(readable),)) as worker:
            table, query = pruned
            self._exchange(worker, {"do": "views", "views": dict(views)}, LOAD_SECONDS)
            told = self._exchange(worker, {"do": "window", "sql": sql, "table": table}, limits.seconds + GRACE_SECONDS, cancelled)
            since, until = (told[name] and datetime.fromisoformat(told[name]) for name in ("since", "until"))
            self._exchange(worker, {"do": "views", "views": {table: query(Window(since=since, until=until))}}, LOAD_SECONDS)
            worker.loaded_at = time.time()
            return self._ask(worker, sql, limits, cancelled)

    def close(self) -> None:
        """End all workers and their parent."""
        with self._lock:
            for worker in list(self._workers.values()):
                self._end(worker)
            if self._control is not None:
                self._control.close()
            if self._parent is not None:
                with suppress(subprocess.TimeoutExpired):
                    self._parent.wait(GRACE_SECONDS)
                self._parent.kill()
                self._parent.wait()
            self._parent = self._control = None

    # A worker's life ------------------------------------------------------------------------------------------

    @contextmanager
    def _worker(
        self, owner: Hashable, key: Hashable, limits: Limits, tables: Mapping[str, Source], readable: Sequence[str]
    ) -> Iterator[Worker]:
        """The owner's worker, for one question at a time; ended if anything but a wrong query befalls it."""
        deadline = time.monotonic() + limits.seconds
        while True:
            with self._lock:
                worker = self._workers.get(owner)
                fits = worker is not None and worker.key == (key, limits.memory_bytes)
                if worker is None or (not worker.lock.locked() and (not fits or _is_stale(worker, tables))):
                    if worker is not None:
                        self._end(worker)
                    worker = self._start(owner, (key, limits.memory_bytes), limits, readable)
                    fits = True
                if fits and worker.lock.acquire(blocking=False):
                    break
            if time.monotonic() > deadline:
                raise QueryLimitError("another query of yours is still running: wait for it, or cancel it")
            time.sleep(_POLL_SECONDS)
        try:
            yield worker
            worker.used = time.monotonic()
        except QueryError as error:
            if isinstance(error, _EndedError):
                self._forget(worker)
                raise error.told from error.__cause__
            worker.used = time.monotonic()
            raise
        except BaseException:
            self._forget(worker)
            raise
        finally:
            worker.lock.release()

    def _start(self, owner: Hashable, key: Hashable, limits: Limits, readable: Sequence[str]) -> Worker:
        self._make_room()
        control = self._started_parent()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(control, [b"f"], [theirs.fileno()])
                (process,) = LENGTH.unpack(control.recv(LENGTH.size, socket.MSG_WAITALL))
            except (OSError, struct.error) as error:
                self._parent = self._control = None
                raise QueryLimitError("no process could be started for the query: try again") from error
        worker = Worker(process, ours, key, used=time.monotonic())
        self._workers[owner] = worker
        try:
            told = self._exchange(worker, {"memory_bytes": limits.memory_bytes, "readable": list(readable)}, LOAD_SECONDS)
            if readable and not told["is_shut"]:
                raise QueryError("this system cannot keep a process from writing files (Landlock), so the lake is not queried directly")
        except QueryError as error:
            self._end(worker)
            raise error.told if isinstance(error, _EndedError) else error from error.__cause__
        return worker

    def _started_parent(self) -> socket.socket:
        if self._control is None or self._parent is None or self._parent.poll() is not None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._parent = subprocess.Popen(
                    [sys.executable, "-I", "-m", "warehouse.sql.process"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    cwd="/",
                    start_new_session=True,
                )
            self._control = ours
            self._workers.clear()
        return self._control

    def _make_room(self) -> None:
        now = time.monotonic()
        idle = sorted((worker for worker in self._workers.values() if not worker.lock.locked()), key=lambda worker: worker.used)
        for worker in idle:
            held = sum(one.bytes for one in self._workers.values())
            if now - worker.used > IDLE_SECONDS or len(self._workers) >= MOST_WORKERS or held > MOST_BYTES:
                self._end(worker)
        if len(self._workers) >= MOST_WORKERS:
            raise QueryLimitError(f"{len(self._workers)} people's queries are running: try again in a moment")

    def _forget(self, worker: Worker) -> None:
        with self._lock:
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        for owner, one in list(self._workers.items()):
            if one is worker:
                del self._workers[owner]
        if self._control is not None:
            with suppress(OSError):
                self._control.sendall(b"k" + LENGTH.pack(worker.process))
        for stream in (worker.source, worker.sink, worker.link):
            with suppress(OSError):
                stream.close()

    # Talking to it --------------------------------------------------------------------------------------------

    def _load(self, worker: Worker, tables: Mapping[str, Source], limits: Limits) -> None:
        """Send rows, stopping where they need more than half of the memory the engine may take."""
        try:
            send(worker.sink, json.dumps({"do": "load", "tables": list(tables)}).encode())
            for source in tables.values():
                reader = source.read()
                with pa.ipc.new_stream(worker.sink, reader.schema) as writer:
                    for batch in reader:
                        worker.bytes += batch.nbytes
                        if worker.bytes > limits.memory_bytes // 2:
                            raise _EndedError(
                                QueryLimitError(
                                    f"your rows of this window need more than {limits.memory_bytes // 2 // 1024**2} MiB: ask for less time"
                                )
                            )
                        writer.write_batch(batch)
                worker.sink.flush()
        except (OSError, pa.ArrowException) as error:
            raise _EndedError(QueryLimitError("your rows of this window need more memory than there is: ask for less time")) from error
        self._told(worker, LOAD_SECONDS, None)
        worker.stamps |= {name: source.stamp for name, source in tables.items()}

    def _ask(self, worker: Worker, sql: str, limits: Limits, cancelled: threading.Event | None) -> Ran:
        job = {"do": "run", "sql": sql, "seconds": limits.seconds, "rows": limits.rows, "memory_bytes": limits.memory_bytes}
        self._exchange(worker, job, limits.seconds + GRACE_SECONDS, cancelled)
        rows = pa.ipc.open_stream(self._receive(worker)).read_all()
        read_at = datetime.fromtimestamp(worker.loaded_at, UTC)
        return Ran(rows=rows.slice(0, limits.rows), cut=rows.num_rows > limits.rows, read_at=read_at)

    def _exchange(self, worker: Worker, job: dict[str, Any], seconds: float, cancelled: threading.Event | None = None) -> dict[str, Any]:
        try:
            send(worker.sink, json.dumps(job).encode())
        except OSError as error:
            raise _EndedError(_ran_into_limits()) from error
        return self._told(worker, seconds, cancelled)

    def _told(self, worker: Worker, seconds: float, cancelled: threading.Event | None) -> dict[str, Any]:
        """The worker's answer. Raises what it says went wrong, or what it means that it says nothing."""
        deadline = time.monotonic() + seconds
        while not select.select([worker.link], [], [], _POLL_SECONDS)[0]:
            if cancelled is not None and cancelled.is_set():
                raise _EndedError(CancelledError("the query was cancelled"))
            if time.monotonic() > deadline:
                raise _EndedError(
                    QueryLimitError(f"the query was stopped after {seconds - GRACE_SECONDS:g} s: ask for less time, or for fewer rows")
                )
        told: dict[str, Any] = json.loads(self._receive(worker))
        wrong: QueryError | None = None
        if "limit" in told:
            wrong = QueryLimitError(told["limit"])
        elif "refused" in told:
            wrong = QueryError(told["refused"])
        if told.get("is_dead"):
            raise _EndedError(wrong or _ran_into_limits())
        if wrong is not None:
            raise wrong
        return told

    def _receive(self, worker: Worker) -> bytes:
        try:
            return receive(worker.source)
        except (EOFError, OSError, ValueError) as error:
            raise _EndedError(_ran_into_limits()) from error


class _EndedError(QueryError):
    """The worker is of no more use; `told` is what to say."""

    def __init__(self, told: QueryError) -> None:
        super().__init__(str(told))
        self.told = told


def _is_stale(worker: Worker, tables: Mapping[str, Source]) -> bool:
    """Whether a worker's rows are older than people expect, and there are others."""
    changed = any(worker.stamps.get(name, source.stamp) != source.stamp for name, source in tables.items())
    return changed and time.time() - worker.loaded_at > FRESH_SECONDS


def _ran_into_limits() -> QueryLimitError:
    return QueryLimitError("the query ran into the limits of its process: ask for less time or fewer columns")


WORKERS = Workers()
atexit.register(WORKERS.close)
