"""A stored hour is read as of a moment only if the lake had recorded all of its flows by then, and no workload can be learned any more."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from warehouse import config, engine
from warehouse.engine import Limits
from warehouse.lake.tables import Lake
from warehouse.questions import known_hours, rollup_notes
from warehouse.questions.known_hours import known_by
from warehouse.questions.recorded_workloads import LEARNED_WITHIN
from warehouse.schema import FLOWS

START = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)
HOUR, SECOND, MILLISECOND = dt.timedelta(hours=1), dt.timedelta(seconds=1), dt.timedelta(milliseconds=1)


def store(lake: Lake, *flows: tuple[dt.timedelta, dt.timedelta]) -> None:
    """Store flows in one file: how long after START each was, and how long after that the lake learned of it."""
    rows = [
        {"cluster": "c1", "date": START.date(), "time": START + after, "flow_count": 1, "recorded_lag_ms": lag // MILLISECOND}
        for after, lag in flows
    ]
    files = lake.write_files(FLOWS, pa.Table.from_pylist(rows, schema=FLOWS.schema))
    lake.commit(FLOWS, files, transactions={}, metadata={})


def known(lake: Lake, moment: dt.datetime) -> list[int]:
    """The known hours, counted from START."""
    with engine.connect(Limits()) as connection:
        found = known_by(connection, lake, rollup_notes.by_hour(lake.contents(FLOWS)), moment)
    return sorted((begin - START) // HOUR for _, begin in found)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(config.Lake(url=str(tmp_path / "lake")))


def test_an_hour_that_has_just_ended_is_not_known_yet(lake: Lake) -> None:
    store(lake, (SECOND, SECOND))
    assert known(lake, START + HOUR + LEARNED_WITHIN - SECOND) == []
    assert known(lake, START + HOUR + LEARNED_WITHIN) == [0]


def test_an_hour_with_a_flow_that_came_later_is_not_known_and_its_neighbours_in_the_same_file_are(lake: Lake) -> None:
    store(lake, (SECOND, SECOND), (HOUR, SECOND), (HOUR + SECOND, 5 * HOUR), (2 * HOUR, SECOND))
    assert known(lake, START + 4 * HOUR) == [0, 2]
    assert known(lake, START + 7 * HOUR) == [0, 1, 2]


def test_flows_are_looked_at_once_until_there_are_more_of_the_hour(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    store(lake, (SECOND, SECOND))
    store(lake, (HOUR, SECOND))
    assert known(lake, START + 4 * HOUR) == [0, 1]
    looked: list[object] = []
    last_recorded = known_hours._last_recorded
    monkeypatch.setattr(known_hours, "_last_recorded", lambda *given: looked.append(given[2]) or last_recorded(*given))
    assert known(lake, START + 4 * HOUR) == [0, 1]
    assert looked == []
    store(lake, (2 * SECOND, 9 * HOUR))
    assert known(lake, START + 4 * HOUR) == [1]
    assert [sorted(begin for _, begin in hours) for hours in looked] == [[START]]  # type: ignore[attr-defined]
