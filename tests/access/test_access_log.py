"""The access log when things go wrong: what cannot be encoded, and lakes that take no entry."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from warehouse import config
from warehouse.access import access_log
from warehouse.access.principals import OPERATOR
from warehouse.engine import Window
from warehouse.errors import LakeError, QueryError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.record_questions import AccessLog
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import ACCESS_LOG


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    yield Lake.open(config.Lake(url=str(tmp_path / "lake")))
    access_log.flush()


@pytest.fixture
def door(lake: Lake) -> Door:
    return Door(lake, config.Ownership(), purpose="a test")


def stored(lake: Lake) -> list[dict[str, Any]]:
    access_log.flush()
    return sorted(lake.read(ACCESS_LOG).to_pylist(), key=lambda row: row["time"])


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Nothing can be committed to any lake until this is undone, and questions are not refused without a try."""
    monkeypatch.setattr(access_log, "PAUSE_SECONDS", 0.0)
    commit = Lake.commit

    def fails(self: Lake, table: Any, *args: Any, **kwargs: Any) -> Any:
        if table is ACCESS_LOG:
            raise OSError("disk full")  # an error that is not ours either
        return commit(self, table, *args, **kwargs)

    monkeypatch.setattr(Lake, "commit", fails)
    return monkeypatch


@pytest.mark.parametrize("text", ["SELECT '\ud800' AS x", "SELECT 1 -- \udfff", "SELECT 'a\x00b'", "\ud83d"])
def test_text_that_utf_8_cannot_hold_is_noted_with_escapes_and_drops_no_other_entry(text: str, lake: Lake, door: Door) -> None:
    door.answer(OPERATOR, OwnSql(text="SELECT 1 AS before"))
    with contextlib.suppress(QueryError):
        door.answer(OPERATOR, OwnSql(text=text))
    door.answer(OPERATOR, OwnSql(text="SELECT 1 AS after"))
    noted = [row["text"] for row in stored(lake)]
    assert noted == ["SELECT 1 AS before", text.encode("utf-8", "backslashreplace").decode(), "SELECT 1 AS after"]


def test_an_entry_that_no_column_can_hold_is_noted_without_its_window(lake: Lake) -> None:
    entry = access_log.Entry(
        time=dt.datetime.now(dt.UTC), principal="ada", groups=(), purpose="", question="flows", text=None, namespaces=(),
        since="yesterday", until=None, outcome="answered", detail=None, rows=0, seconds=0.0,  # type: ignore[arg-type]
    )  # fmt: skip
    access_log._waiting.add(lake, entry)
    with access_log.noted(lake, OPERATOR, purpose="", question="other", text=None, since=None, until=None):
        pass
    rows = {row["question"]: row for row in stored(lake)}
    assert rows.keys() == {"flows", "other"}
    assert (rows["flows"]["principal"], rows["flows"]["since"]) == ("ada", None)


def test_the_first_answer_of_a_process_is_withheld_when_it_cannot_be_noted(lake: Lake, door: Door, broken: pytest.MonkeyPatch) -> None:
    with pytest.raises(LakeError, match=r"cannot be recorded in the access log, so it is not answered: disk full"):
        door.answer(OPERATOR, OwnSql(text="SELECT 1 AS one"))
    broken.undo()
    (row,) = stored(lake)
    assert (row["text"], row["outcome"], row["rows"]) == ("SELECT 1 AS one", "failed", 0)
    assert "withheld" in row["detail"]


def test_answers_of_before_a_failure_are_stored_when_the_lake_takes_entries_again(
    lake: Lake, door: Door, broken: pytest.MonkeyPatch
) -> None:
    broken.undo()
    door.answer(OPERATOR, OwnSql(text="SELECT 1 AS one"))
    broken.setattr(Lake, "commit", lambda *_, **__: (_ for _ in ()).throw(LakeError("away")))
    assert door.answer(OPERATOR, OwnSql(text="SELECT 2 AS two")).rows.num_rows == 1  # not known yet to fail
    access_log.flush()
    with pytest.raises(LakeError, match="not answered"):
        door.answer(OPERATOR, OwnSql(text="SELECT 3 AS three"))
    broken.undo()
    access_log.flush()
    assert door.answer(OPERATOR, OwnSql(text="SELECT 4 AS four")).rows.num_rows == 1
    outcomes = [(row["text"][7], row["outcome"]) for row in stored(lake)]
    assert outcomes == [("1", "answered"), ("2", "answered"), ("3", "failed"), ("4", "answered")]


def test_a_question_that_fails_keeps_its_own_error_while_nothing_can_be_noted(lake: Lake, door: Door, broken: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueryError, match="nope"):
        door.answer(OPERATOR, OwnSql(text="SELECT nope"))
    broken.undo()
    assert [row["outcome"] for row in stored(lake)] == ["refused"]


def test_what_cannot_be_stored_at_the_end_of_a_process_is_written_to_its_own_log(
    lake: Lake, broken: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken.setattr(access_log, "EXIT_PAUSE_SECONDS", 0.0)
    waiting = access_log._Waiting()
    waiting.add(lake, access_log.Entry(
        time=dt.datetime.now(dt.UTC), principal="ada", groups=(), purpose="", question="flows", text="secret", namespaces=(),
        since=None, until=None, outcome="answered", detail=None, rows=0, seconds=0.0,
    ))  # fmt: skip
    waiting.finish()
    printed = capsys.readouterr()
    assert "access log entry lost" in printed.out + printed.err
    assert "secret" not in printed.out + printed.err


def test_entries_of_answers_are_never_dropped_and_others_are_bounded(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MOST_UNANSWERED", 3)
    waiting = access_log._Waiting()
    entries = [
        access_log.Entry(
            time=dt.datetime.now(dt.UTC), principal=str(number), groups=(), purpose="", question="q", text=None, namespaces=(),
            since=None, until=None, outcome="answered" if number % 2 else "refused", detail=None, rows=0, seconds=0.0,
        )
        for number in range(20)
    ]  # fmt: skip
    waiting._put_back(lake, entries)
    kept = waiting._entries.pop(lake)
    assert [int(one.principal) for one in kept] == [1, 3, 5, 7, 9, 11, 13, *range(14, 20)]
    waiting._timer and waiting._timer.cancel()


def test_the_access_log_includes_questions_answered_just_before(lake: Lake, door: Door) -> None:
    door.answer(OPERATOR, OwnSql(text="SELECT 1 AS one"))
    assert [row["text"] for row in door.answer(OPERATOR, AccessLog(window=Window())).rows.to_pylist()] == ["SELECT 1 AS one"]
