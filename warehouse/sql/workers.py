"""Workers for people's own SQL: started, kept warm, given the rows of one principal, and ended.

A worker ends when its rows were not asked for in IDLE_SECONDS, when its query does not end in time, when a query left it with
much more memory than before, and when all workers together hold more than memory.MOST_BYTES. What runs in a worker is
warehouse.sql.process; which rows a principal may have is decided in warehouse.access.
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
from warehouse.sql.worker import GRACE_SECONDS, LOAD_SECONDS, CancelledError, EndedError, Ran, Source, Worker

__all__ = ["WORKERS", "CancelledError", "Ran", "Source", "Workers"]

MOST_WORKERS = 64
IDLE_SECONDS = 300.0
"""How long a worker keeps rows that nobody asks for."""
LOADS_AT_ONCE = 2
"""Reading someone's rows takes this process more memory than what they are held in afterwards."""
_POLL_SECONDS = 0.05
_WATCH_SECONDS = 0.5
"""How often workers that are all idle are looked at."""


class Workers:
    """All workers of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Guards the table of workers, and is held for no longer than a look at it takes."""
        self._loading = threading.Semaphore(LOADS_AT_ONCE)
        self._parent = Parent()
        self._workers: dict[Hashable, Worker] = {}
        self._watcher: threading.Thread | None = None

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
        """Run `sql` over views of the tables, each of which is read when it is first named.

        `owner` has one worker at a time; one with another `key` (what may be seen, of which time) or with rows that are stale
        is ended and another started. Raises QueryError, QueryLimitError, CancelledError, and what reading a table raises.
        """
        with self._worker(owner, key, limits, tables, ()) as worker:
            missing = {name: source for name, source in tables.items() if name not in worker.stamps}
            if missing:
                with self._loading:
                    worker.load(missing, limits)
            worker.exchange({"do": "views", "views": {name: table.view for name, table in tables.items() if table.view}}, LOAD_SECONDS)
            return worker.ask(sql, limits, cancelled)

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
            worker.exchange({"do": "views", "views": dict(views)}, LOAD_SECONDS)
            told = worker.exchange({"do": "window", "sql": sql, "table": table}, limits.seconds + GRACE_SECONDS, cancelled)
            since, until = (told[name] and datetime.fromisoformat(told[name]) for name in ("since", "until"))
            worker.exchange({"do": "views", "views": {table: query(Window(since=since, until=until))}}, LOAD_SECONDS)
            worker.loaded_at = time.time()
            return worker.ask(sql, limits, cancelled)

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
        """The owner's worker, for one question at a time; ended if anything but a wrong query befalls it."""
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
                raise error.told from error.__cause__
            self._give_back(worker, limits)
            raise
        except BaseException:
            self._forget(worker)
            raise
        finally:
            worker.used = time.monotonic()
            worker.lock.release()

    def _give_back(self, worker: Worker, limits: Limits) -> None:
        """End a worker that a query left with much more memory than its rows need: the engine gives none of it back."""
        if worker.held_bytes - worker.resting_bytes > limits.memory_bytes // memory.SHARE_KEPT:
            self._forget(worker)

    def _claimed(self, owner: Hashable, key: Hashable, limits: Limits, tables: Mapping[str, Source]) -> Worker:
        """The owner's worker, or one that is still to be started, with its lock. Raises QueryLimitError after the query's time."""
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
                raise QueryLimitError(f"{running} people's queries are running: try again in a moment")
            if time.monotonic() > deadline:
                raise QueryLimitError("another query of yours is still running: wait for it, or cancel it")
            time.sleep(_POLL_SECONDS)

    def _make_room(self, ended: list[Worker]) -> bool:
        """Take idle workers out of the table, into `ended`, until another may start; False if too many are busy."""
        idle = sorted((item for item in self._workers.items() if not item[1].lock.locked()), key=lambda item: item[1].used)
        surplus = max(0, len(self._workers) - MOST_WORKERS + 1)
        ended += [self._workers.pop(owner) for owner, _ in idle[:surplus]]
        return surplus <= len(idle)

    def _start(self, worker: Worker, limits: Limits, readable: Sequence[str]) -> None:
        worker.connect(*self._parent.start())
        told = worker.exchange({"memory_bytes": limits.memory_bytes, "readable": list(readable)}, START_SECONDS)
        if readable and not told["is_shut"]:
            wrong = QueryError("this system cannot keep a process from writing files (Landlock), so the lake is not queried directly")
            raise EndedError(wrong)
        worker.base_bytes = memory.of(worker.process) or 0
        with self._lock:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="sql workers", daemon=True)
                self._watcher.start()

    def _forget(self, worker: Worker) -> None:
        """End a worker, which is used no more."""
        with self._lock:
            for owner in [owner for owner, one in self._workers.items() if one is worker]:
                del self._workers[owner]
        self._kill(worker)

    def _kill(self, worker: Worker) -> None:
        """End a worker's process and the talk with it."""
        if not worker.process:
            return
        self._parent.end(worker.process)
        for stream in (worker.source, worker.sink, worker.link):
            with suppress(OSError):
                stream.close()

    # Watching them --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """End what was idle for too long, and the greediest as long as all together hold too much; until there is no worker."""
        while True:
            with self._lock:
                workers = [worker for worker in self._workers.values() if worker.process and not worker.stopped]
                if not self._workers:
                    self._watcher = None
                    return
            idle = sorted((worker for worker in workers if not worker.lock.locked()), key=lambda worker: worker.used)
            held = {worker: worker.held_bytes for worker in workers}
            for worker in memory.giving_way(held, idle, memory.MOST_BYTES):
                self._end_from_outside(worker, held[worker])
            for worker in idle:
                if time.monotonic() - worker.used > IDLE_SECONDS:
                    self._end_from_outside(worker, 0)
            time.sleep(_WATCH_SECONDS if len(idle) == len(workers) else _POLL_SECONDS)

    def _end_from_outside(self, worker: Worker, held_bytes: int) -> None:
        """End a worker: at once if it is idle, else by its process alone, so that whoever waits for it hears why."""
        if worker.lock.acquire(blocking=False):
            self._forget(worker)
            worker.lock.release()
            return
        if not held_bytes:
            return  # it has just been taken into use
        worker.stopped = (
            f"the queries of all people together needed more than {memory.MOST_BYTES // 1024**2:,} MiB, and this one, with "
            f"{held_bytes // 1024**2:,} MiB, the most: ask for less time or fewer columns, or try again in a moment"
        )
        self._parent.end(worker.process)


WORKERS = Workers()
atexit.register(WORKERS.close)
