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
from warehouse.errors import CancelledError, QueryError, QueryLimitError
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
    with pool.over_rows(owner, "key", rows(), LIMITS) as worker:
        found: int = worker.ask(sql, LIMITS, None)[0]["n"][0].as_py()
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


def test_a_worker_that_runs_a_query_is_not_idle(pool: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_error_in_the_middle_of_a_stream_is_raised_and_the_worker_goes_on(pool: Workers) -> None:
    text = "SELECT CASE WHEN x > 900000 THEN error('too far') ELSE x END AS n FROM range(1000000) t(x)"
    with pytest.raises(QueryError, match="too far"), pool.over_rows("ada", "key", rows(), LIMITS) as worker:
        worker.stream(text, Limits(rows=2_000_000, seconds=300), None).read_all()
    assert count(pool, "ada") == 3


def test_a_stream_refuses_what_is_not_a_query(pool: Workers) -> None:
    with pytest.raises(QueryError), pool.over_rows("ada", "key", rows(), LIMITS) as worker:
        worker.stream("CREATE TABLE t (a INTEGER)", LIMITS, None)
    assert count(pool, "ada") == 3


def test_a_stream_that_is_left_early_ends_its_worker_and_the_next_query_gets_another(pool: Workers) -> None:
    with pool.over_rows("ada", "key", rows(), LIMITS) as worker:
        assert next(iter(worker.stream("SELECT x FROM range(10000000) t(x)", LIMITS, None))).num_rows
    assert not pool._workers
    assert count(pool, "ada") == 3


def test_a_stream_stops_when_it_is_cancelled(pool: Workers) -> None:
    cancelled = threading.Event()
    with pytest.raises(CancelledError), pool.over_rows("ada", "key", rows(), LIMITS) as worker:
        for _ in worker.stream("SELECT count(*) AS n FROM range(10000000000) t(x) WHERE hash(x) = 1", LIMITS, cancelled_soon(cancelled)):
            pass
    assert count(pool, "ada") == 3


def cancelled_soon(cancelled: threading.Event) -> threading.Event:
    threading.Timer(0.3, cancelled.set).start()
    return cancelled


@pytest.mark.parametrize("most", [1, 70_000, 10_000_000])
def test_a_stream_brings_every_row_once_in_order_and_one_more_than_the_limit(pool: Workers, most: int) -> None:
    with pool.over_rows("ada", "key", rows(), LIMITS) as worker:
        reader = worker.stream("SELECT x AS n FROM range(5000000) t(x)", Limits(rows=most, seconds=300), None)
        found = reader.read_all()["n"].to_numpy()
    assert found.tolist() == list(range(min(most + 1, 5_000_000)))


def test_a_stream_without_rows_has_its_columns(pool: Workers) -> None:
    with pool.over_rows("ada", "key", rows(), LIMITS) as worker:
        assert worker.stream("SELECT number FROM numbers WHERE false", LIMITS, None).read_all().schema.names == ["number"]
    assert count(pool, "ada") == 3


def test_a_value_larger_than_a_message_is_a_clear_error(pool: Workers) -> None:
    with pytest.raises(QueryLimitError), pool.over_rows("ada", "key", rows(), LIMITS) as worker:
        worker.stream("SELECT repeat('x', 80000000) AS wide", LIMITS, None).read_all()
    assert count(pool, "ada") == 3
