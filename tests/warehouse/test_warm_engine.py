"""The engine that a process keeps warm: shared by its questions, and given up after a while with all that it remembers."""

from __future__ import annotations

import pytest

from warehouse import engine


def test_questions_share_an_engine_until_it_is_old_and_those_that_run_on_the_old_one_still_end(monkeypatch: pytest.MonkeyPatch) -> None:
    warm = engine._Warm()
    first, second = warm.connect(), warm.connect()
    first.execute("CREATE TABLE shared AS SELECT 1 AS one")
    assert second.execute("SELECT one FROM shared").fetchall() == [(1,)]
    monkeypatch.setattr(engine, "ENGINE_SECONDS", -1.0)
    renewed = warm.connect()
    assert renewed.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]
    assert first.execute("SELECT one FROM shared").fetchall() == [(1,)]
