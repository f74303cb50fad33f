"""The engine that a process keeps warm: shared by its questions, and given up after a while with all that it remembers."""

from __future__ import annotations

import threading

import pytest

from warehouse import engine
from warehouse.engine import Limits
from warehouse.errors import CancelledError, QueryLimitError


def test_questions_share_an_engine_until_it_is_old_and_those_that_run_on_the_old_one_still_end(monkeypatch: pytest.MonkeyPatch) -> None:
    warm = engine._Warm()
    first, second = warm.connect(), warm.connect()
    first.execute("CREATE TABLE shared AS SELECT 1 AS one")
    assert second.execute("SELECT one FROM shared").fetchall() == [(1,)]
    monkeypatch.setattr(engine, "ENGINE_SECONDS", -1.0)
    renewed = warm.connect()
    assert renewed.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]
    assert first.execute("SELECT one FROM shared").fetchall() == [(1,)]


ENDLESS = "SELECT count(*) FROM range(1000000000) AS a(x), range(1000000000) AS b(y) WHERE x * y % 7 = 3"


def test_a_query_that_is_cancelled_while_it_runs_is_interrupted() -> None:
    cancelled = threading.Event()
    threading.Timer(0.2, cancelled.set).start()
    with engine.connect_warm() as connection, engine.cancelled_by(cancelled), pytest.raises(CancelledError):
        engine.ask(connection, ["nothing AS (SELECT 1)"], ENDLESS, [], Limits(seconds=600))


def test_a_query_that_nobody_cancels_is_stopped_at_its_limit() -> None:
    with engine.connect_warm() as connection, engine.cancelled_by(threading.Event()), pytest.raises(QueryLimitError, match=r"after 0\.2 s"):
        engine.ask(connection, ["nothing AS (SELECT 1)"], ENDLESS, [], Limits(seconds=0.2))
