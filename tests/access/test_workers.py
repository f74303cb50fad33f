"""Workers for people's own SQL: when they end, what they may hold together, and that nobody waits for another's worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.engine import Limits
from warehouse.errors import QueryError, QueryLimitError
from warehouse.sql import memory, workers
from warehouse.sql.parent import Parent
from warehouse.sql.worker import Source
from warehouse.sql.workers import Workers

MIB = 1024**2
LIMITS = Limits(seconds=300, memory_bytes=512 * MIB)
HEAVY = "SELECT count(*) AS n FROM (SELECT x, count(*) AS c FROM range(8000000) t(x) GROUP BY x)"
"""Takes some 400 MiB."""


@pytest.fixture
def pool() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()


def rows(number: int = 3) -> dict[str, Source]:
    table = pa.table({"number": list(range(number))})
    return {"numbers": Source(read=table.to_reader, stamp=1)}


def count(pool: Workers, owner: str, sql: str = "SELECT count(*) AS n FROM numbers") -> int:
    found: int = pool.run(owner, "key", sql, rows(), LIMITS).rows["n"][0].as_py()
    return found


def eventually(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_worker_that_nobody_asks_gives_up_its_rows_by_itself(pool: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count(pool, "ada") == 3
    (worker,) = pool._workers.values()
    assert is_running(worker.process)
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.1)
    eventually(lambda: not pool._workers and not is_running(worker.process))
    assert count(pool, "ada") == 3


def test_a_worker_that_is_asked_is_not_idle(pool: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.1)
    assert count(pool, "ada", "SELECT count(*) + coalesce(sleep_ms(2000)::INTEGER, 0) AS n FROM numbers") == 3


def test_nobody_waits_for_the_start_of_another_ones_worker(pool: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count(pool, "ada") == 3
    begun, go_on, start = threading.Event(), threading.Event(), Parent.start

    def slow(self: Parent) -> tuple[int, object]:
        begun.set()
        go_on.wait(120)
        return start(self)

    monkeypatch.setattr(Parent, "start", slow)
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(count(pool, "bea")))
    other.start()
    assert begun.wait(120)
    assert count(pool, "ada") == 3
    assert not found
    go_on.set()
    other.join(120)
    assert found == [3]


def test_a_parent_that_does_not_answer_is_given_up_and_another_is_started(pool: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    count(pool, "ada")
    control = pool._parent._control
    assert control is not None
    control.settimeout(0.2)
    process = pool._parent._process
    assert process is not None
    process.send_signal(19)  # SIGSTOP: it takes orders and does nothing
    with pytest.raises(QueryLimitError, match="try again"):
        count(pool, "bea")
    assert count(pool, "bea") == 3


def test_a_heavy_query_gives_its_memory_back(pool: Workers) -> None:
    count(pool, "ada")
    (worker,) = pool._workers.values()
    light = worker.memory_bytes
    assert count(pool, "ada", HEAVY) == 8_000_000
    eventually(lambda: not is_running(worker.process))
    assert not pool._workers
    assert count(pool, "ada") == 3
    (fresh,) = pool._workers.values()
    assert fresh.memory_bytes < light + 64 * MIB


def test_a_light_query_keeps_its_worker(pool: Workers) -> None:
    count(pool, "ada")
    (worker,) = pool._workers.values()
    count(pool, "ada")
    with pytest.raises(QueryError, match="nope"):
        count(pool, "ada", "SELECT nope")
    assert list(pool._workers.values()) == [worker]


def test_of_queries_that_together_need_too_much_the_greediest_is_ended_with_a_clear_error(
    pool: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_BYTES", 200 * MIB)
    for owner in ("ada", "bea", "cat"):
        count(pool, owner)
    errors: list[QueryLimitError] = []

    def greedy() -> None:
        with pytest.raises(QueryLimitError) as told:
            count(pool, "ada", HEAVY.replace("8000000", "9000000"))
        errors.append(told.value)

    thread = threading.Thread(target=greedy)
    thread.start()
    assert count(pool, "bea", "SELECT count(*) + coalesce(sleep_ms(3000)::INTEGER, 0) AS n FROM numbers") == 3
    thread.join(240)
    (error,) = errors
    assert "the queries of all users together needed more than 200 MiB" in str(error)
    assert "try again" in str(error)
    assert count(pool, "ada") == 3


workers_and_bytes = st.dictionaries(st.integers(0, 9), st.integers(0, 100), max_size=8)


@given(held=workers_and_bytes, idle=st.lists(st.integers(0, 9), unique=True), most=st.integers(0, 400))
def test_idle_workers_give_way_before_busy_ones_and_no_more_than_need_to(held: dict[int, int], idle: list[int], most: int) -> None:
    idle = [worker for worker in idle if worker in held]
    ends = memory.giving_way(held, idle, most)
    left = sum(held.values()) - sum(held[worker] for worker in ends)
    busy = [worker for worker in ends if worker not in idle]
    if sum(held.values()) <= most:
        assert ends == []
    assert ends[: len(ends) - len(busy)] == idle[: len(ends) - len(busy)]
    assert len(busy) <= 1
    if busy:
        assert set(idle) <= set(ends)
        assert held[busy[0]] == max(bytes_ for worker, bytes_ in held.items() if worker not in idle)
    elif left > most:
        assert set(held) <= set(idle)
    if ends:
        assert left + held[ends[-1]] > most


def test_the_memory_of_a_process_that_is_not_there_is_not_known() -> None:
    assert memory.of(2**22 + 1) is None
