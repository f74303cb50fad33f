"""Manages the workers that run SQL written by users: starts them, loads the rows of one principal into each, and ends them.

A worker is ended if it is idle for IDLE_SECONDS, if its query does not end in time, if a query leaves it with much more memory than
before, and if all workers together use more than memory.MOST_BYTES. The code that runs in a worker is in warehouse.sql.process;
which rows a principal may see is decided in warehouse.access.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from warehouse.engine import Limits, Window
from warehouse.errors import QueryError, QueryLimitError
from warehouse.sql import memory
from warehouse.sql.parent import START_SECONDS, Parent
from warehouse.sql.worker import GRACE_SECONDS, LOAD_SECONDS, EndedError, Source, Worker

__all__ = ["WORKERS", "Source", "Workers"]

MOST_WORKERS = 64
IDLE_SECONDS = 300.0
"""How long a worker may be idle before it is ended."""
LOADS_AT_ONCE = 2
"""How many workers may be loaded at once: reading rows takes this process more memory than holding them takes the worker."""
_POLL_SECONDS = 0.05
_WATCH_SECONDS = 0.5
"""How often workers are checked while all of them are idle."""


class Workers:
    """All workers of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Guards the table of workers; it is held only briefly."""
        self._loading = threading.Semaphore(LOADS_AT_ONCE)
        self._parent = Parent()
        self._workers: dict[Hashable, Worker] = {}
        self._watcher: threading.Thread | None = None

    @contextmanager
    def over_rows(self, owner: Hashable, key: Hashable, tables: Mapping[str, Source], limits: Limits) -> Iterator[Worker]:
        """Context with a worker that has views of the tables, each of which is read on first use.

        `owner` has one worker at a time; a worker with another `key` (scope and window) or stale rows is ended and replaced.
        Raises QueryError, QueryLimitError, CancelledError, and any error of reading a table.
        """
        with self._worker(owner, key, limits, tables, ()) as worker:
            missing = {name: source for name, source in tables.items() if name not in worker.stamps}
            if missing:
                with self._loading:
                    worker.load(missing, limits)
            worker.exchange({"do": "views", "views": {name: table.view for name, table in tables.items() if table.view}}, LOAD_SECONDS)
            yield worker

    @contextmanager
    def over_files(
        self,
        owner: Hashable,
        sql: str,
        views: Mapping[str, str],
        pruned: tuple[str, Callable[[Window], str]],
        readable: Path,
        limits: Limits,
        *,
        cancelled: threading.Event | None = None,
    ) -> Iterator[Worker]:
        """Context with a worker that has views of files below the folder `readable`, for the query `sql`.

        The view `pruned` is limited to the window that the query reads. Raises QueryError, also if the system cannot confine a process.
        """
        with self._worker(owner, ("files", readable), limits, {}, (str(readable),)) as worker:
            table, query = pruned
            worker.exchange({"do": "views", "views": dict(views)}, LOAD_SECONDS)
            reply = worker.exchange({"do": "window", "sql": sql, "table": table}, limits.seconds + GRACE_SECONDS, cancelled)
            since, until = (reply[name] and datetime.fromisoformat(reply[name]) for name in ("since", "until"))
            worker.exchange({"do": "views", "views": {table: query(Window(since=since, until=until))}}, LOAD_SECONDS)
            worker.loaded_at = time.time()
            yield worker

    def close(self) -> None:
        """End all workers and their parent."""
        with self._lock:
            workers = list(self._workers.values())
            self._workers.clear()
        for worker in workers:
            self._kill(worker)
        self._parent.close()

    # A worker's life ------------------------------------------------------------------------------------------

    @contextmanager
    def _worker(
        self, owner: Hashable, key: Hashable, limits: Limits, tables: Mapping[str, Source], readable: Sequence[str]
    ) -> Iterator[Worker]:
        """Yield the owner's worker for one question; the worker is ended after any error except a wrong query."""
        worker = self._claimed(owner, (key, limits.memory_bytes), limits, tables)
        try:
            if not worker.process:
                self._start(worker, limits, readable)
            yield worker
            self._give_back(worker, limits)
        except QueryError as error:
            if worker.stopped:
                self._forget(worker)
                raise QueryLimitError(worker.stopped) from error
            if isinstance(error, EndedError):
                self._forget(worker)
                raise error.reason from error.__cause__
            self._give_back(worker, limits)
            raise
        except BaseException:
            self._forget(worker)
            raise
        finally:
            worker.used = time.monotonic()
            worker.lock.release()

    def _give_back(self, worker: Worker, limits: Limits) -> None:
        """End a worker whose rows were not all received, or that a query left with much more memory than its rows need.

        The engine does not free that memory.
        """
        if worker.is_streaming or worker.memory_bytes - worker.resting_bytes > limits.memory_bytes // memory.RESTING_SHARE:
            self._forget(worker)

    def _claimed(self, owner: Hashable, key: Hashable, limits: Limits, tables: Mapping[str, Source]) -> Worker:
        """Return the owner's worker, or a new one that has yet to be started, locked. Raises QueryLimitError at the time limit."""
        deadline = time.monotonic() + limits.seconds
        while True:
            ended: list[Worker] = []
            with self._lock:
                worker = self._workers.get(owner)
                if worker is not None and worker.lock.acquire(blocking=False):
                    if worker.key == key and not worker.stopped and not worker.is_stale(tables):
                        return worker
                    ended.append(self._workers.pop(owner))
                    worker = None
                made = None
                if worker is None and self._make_room(ended):
                    made = self._workers[owner] = Worker(key)
                    made.lock.acquire()
                running = len(self._workers)
            for one in ended:
                self._kill(one)
            if made is not None:
                return made
            if worker is None:
                raise QueryLimitError(f"{running} queries of other users are running: try again in a moment")
            if time.monotonic() > deadline:
                raise QueryLimitError("another query of yours is still running: wait for it, or cancel it")
            time.sleep(_POLL_SECONDS)

    def _make_room(self, ended: list[Worker]) -> bool:
        """Move idle workers from the table to `ended` until another one may start; False if too many are busy."""
        idle = sorted((item for item in self._workers.items() if not item[1].lock.locked()), key=lambda item: item[1].used)
        surplus = max(0, len(self._workers) - MOST_WORKERS + 1)
        ended += [self._workers.pop(owner) for owner, _ in idle[:surplus]]
        return surplus <= len(idle)

    def _start(self, worker: Worker, limits: Limits, readable: Sequence[str]) -> None:
        worker.connect(*self._parent.start())
        reply = worker.exchange({"memory_bytes": limits.memory_bytes, "readable": list(readable)}, START_SECONDS)
        if readable and not reply["is_shut"]:
            wrong = QueryError("this system cannot confine a process (Landlock is missing), so the lake's files cannot be queried directly")
            raise EndedError(wrong)
        worker.base_bytes = memory.of(worker.process) or 0
        with self._lock:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="sql workers", daemon=True)
                self._watcher.start()

    def _forget(self, worker: Worker) -> None:
        """Remove a worker from the table and end it."""
        with self._lock:
            for owner in [owner for owner, one in self._workers.items() if one is worker]:
                del self._workers[owner]
        self._kill(worker)

    def _kill(self, worker: Worker) -> None:
        """End a worker's process and close the connection to it."""
        if not worker.process:
            return
        self._parent.end(worker.process)
        for stream in (worker.source, worker.sink, worker.link):
            with suppress(OSError):
                stream.close()

    # Watching them --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """End workers that are idle for too long or use too much memory; runs until there are no workers left."""
        while True:
            with self._lock:
                workers = [worker for worker in self._workers.values() if worker.process and not worker.stopped]
                if not self._workers:
                    self._watcher = None
                    return
            idle = sorted((worker for worker in workers if not worker.lock.locked()), key=lambda worker: worker.used)
            held = {worker: worker.memory_bytes for worker in workers}
            for worker in memory.giving_way(held, idle, memory.MOST_BYTES):
                self._end_from_outside(worker, held[worker])
            for worker in idle:
                if time.monotonic() - worker.used > IDLE_SECONDS:
                    self._end_from_outside(worker, 0)
            time.sleep(_WATCH_SECONDS if len(idle) == len(workers) else _POLL_SECONDS)

    def _end_from_outside(self, worker: Worker, memory_bytes: int) -> None:
        """End a worker: at once if it is idle; otherwise only its process, so that the waiting caller gets the reason."""
        if worker.lock.acquire(blocking=False):
            self._forget(worker)
            worker.lock.release()
            return
        if not memory_bytes:
            return  # it has just been claimed
        worker.stopped = (
            f"the queries of all users together needed more than {memory.MOST_BYTES // 1024**2:,} MiB, and this one needed the most "
            f"({memory_bytes // 1024**2:,} MiB): ask for less time or fewer columns, or try again in a moment"
        )
        self._parent.end(worker.process)


WORKERS = Workers()
atexit.register(WORKERS.close)
