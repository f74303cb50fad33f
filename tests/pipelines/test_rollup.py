"""Rolling up: what it must never do first, then what it does. What rollups hold is tested in test_rollup_contents.py."""

import datetime as dt
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from typing import Any

import pyarrow.compute as pc
import pytest

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from pipelines.maintenance.compaction import GRACE, compact_closed_hours
from pipelines.maintenance.rollup import clusters_to_roll_up, plan, roll_up, roll_up_closed_hours, seal
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.engine import Window
from warehouse.errors import QueryError
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions, edge_questions, flow_questions, rollup_notes
from warehouse.questions.door import Door
from warehouse.questions.edge_questions import EdgeScope
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import EDGES_1H, FLOWS, ROLLUPS, TIMELINE_1M

HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
LATER = NOON + 6 * HOUR
SETTINGS = config.Rollups()
DAY = FlowFilter(since=NOON, until=LATER)


@pytest.fixture
def lake(place: Any) -> Lake:
    opened: Lake = place.open()
    return opened


def flows(begin: dt.datetime, count: int, *, seed: int = 1, rate: float = 1.0) -> list[flow_pb2.Flow]:
    return list(itertools.islice(Traffic(build_fleet(1, clusters=("c1",)), seed, begin, rate).flows(), count))


def append(lake: Lake, some: list[flow_pb2.Flow], cluster: str = "c1") -> None:
    rows = decode([flow.SerializeToString() for flow in some], cluster=cluster, recorded=NOON, live=False).rows
    lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})


def total(lake: Lake, table: Any = EDGES_1H) -> int:
    return pc.sum(lake.read(table)["flows"]).as_py() or 0


def door(lake: Lake, **ownership: Any) -> Door:
    return Door(lake, config.Ownership.model_validate(ownership))


# What it must never do ----------------------------------------------------------------------------------------


def test_an_empty_lake_has_nothing_to_roll_up(lake: Lake) -> None:
    assert plan(lake, now=LATER) == []
    assert clusters_to_roll_up(lake, now=LATER) == []
    assert roll_up_closed_hours(lake, SETTINGS, now=LATER) == []


def test_an_hour_that_has_not_closed_is_left_alone(lake: Lake) -> None:
    append(lake, flows(NOON, 50))
    assert plan(lake, now=NOON + HOUR + GRACE - dt.timedelta(seconds=1)) == []
    assert clusters_to_roll_up(lake, now=NOON + HOUR + GRACE) == ["c1"]


def test_a_second_run_changes_nothing(lake: Lake) -> None:
    append(lake, flows(NOON, 300))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    files = [lake.files(table) for table in ROLLUPS]
    assert plan(lake, now=LATER) == []
    assert roll_up_closed_hours(lake, SETTINGS, now=LATER) == []
    assert [lake.files(table) for table in ROLLUPS] == files
    assert total(lake) == total(lake, TIMELINE_1M) == 300


def test_two_that_planned_the_same_double_nothing(lake: Lake, place: Any) -> None:
    append(lake, flows(NOON, 300))
    other = place.open()
    (mine,), (theirs,) = plan(lake, now=LATER), plan(other, now=LATER)
    done: list[Any] = []
    threads = [
        threading.Thread(target=lambda lake=one, task=task: done.append(roll_up(lake, task, SETTINGS)))  # type: ignore[misc]
        for one, task in ((lake, mine), (other, theirs))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    for table in (EDGES_1H, TIMELINE_1M):
        assert total(lake, table) == 300
        assert len(lake.files(table)) == 1


def test_flows_that_come_while_an_hour_is_rolled_up_reopen_it(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    append(lake, flows(NOON, 300))
    (task,) = plan(lake, now=LATER)
    append(lake, flows(NOON + MINUTE, 10, seed=9))  # planned without them
    assert roll_up(lake, task, SETTINGS) is not None
    answer = door(lake).answer(OPERATOR, count_questions.timeline(DAY))
    assert (answer.source, sum(answer.rows["flows"].to_pylist())) == ("flows", 310)
    assert len(plan(lake, now=LATER)) == 1


ROLLER = """
    import datetime as dt, sys, time
    from pipelines.maintenance.rollup import roll_up_closed_hours
    from warehouse import config
    from warehouse.lake.tables import Lake

    lake = Lake.open(config.Lake(url=sys.argv[1]))
    while True:
        roll_up_closed_hours(lake, config.Rollups(), now=dt.datetime(2026, 3, 3, tzinfo=dt.UTC))
        time.sleep(0.02)
"""


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # the programs are given a folder
def test_rollups_that_are_killed_leave_every_answer_right(lake: Lake, place: Any) -> None:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", textwrap.dedent(ROLLER), str(place.folder)], stderr=subprocess.DEVNULL)

    reader = door(place.open())
    running, stored, wrong = [start(), start()], 0, []
    try:
        for round_ in range(6):
            append(lake, flows(NOON + round_ * 20 * MINUTE, 100, seed=round_))
            stored += 100
            for _ in range(2):
                answers = (
                    reader.answer(OPERATOR, count_questions.timeline(DAY)),
                    reader.answer(OPERATOR, edge_questions.edges(DAY, scope=EdgeScope.CLUSTER)),
                )
                wrong += [(round_, one.source, one.rows) for one in answers if sum(one.rows["flows"].to_pylist()) != stored]
            os.kill(running[round_ % 2].pid, signal.SIGKILL)
            running[round_ % 2].wait()
            running[round_ % 2] = start()
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert wrong == []
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert total(lake) == total(lake, TIMELINE_1M) == stored
    assert all(len(lake.files(table)) == 1 for table in (EDGES_1H, TIMELINE_1M))


# What it does -------------------------------------------------------------------------------------------------


def test_an_answer_says_what_it_comes_from(lake: Lake) -> None:
    append(lake, flows(NOON, 300, rate=0.02))
    some = door(lake)
    assert some.answer(OPERATOR, edge_questions.edges(DAY)).source == "flows"
    roll_up_closed_hours(lake, SETTINGS, now=NOON + 2 * HOUR + GRACE)
    assert some.answer(OPERATOR, edge_questions.edges(DAY)).source == "edges_1h and flows"
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert some.answer(OPERATOR, edge_questions.edges(DAY)).source == "edges_1h"
    assert some.answer(OPERATOR, count_questions.timeline(DAY)).source == "timeline_1m"
    assert (
        some.answer(OPERATOR, count_questions.timeline(DAY, buckets=6)).source
        == some.answer(OPERATOR, count_questions.drop_reasons(DAY)).source
        == "edges_1h"
    )
    cut = replace(DAY, since=NOON + dt.timedelta(minutes=7), until=NOON + 2 * HOUR + dt.timedelta(minutes=3))
    assert some.answer(OPERATOR, count_questions.drop_reasons(cut)).source == "edges_1h and timeline_1m"


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # it is about sums, not about storage
@pytest.mark.parametrize("minutes", [(0, 240), (7, 183), (59, 61), (10, 50), (60, 120)])
def test_hours_and_minutes_give_what_the_flows_give(lake: Lake, minutes: tuple[int, int]) -> None:
    append(lake, flows(NOON, 400, rate=0.03))
    before, some = door(lake), door(lake)
    window = FlowFilter(since=NOON + minutes[0] * dt.timedelta(minutes=1), until=NOON + minutes[1] * dt.timedelta(minutes=1))

    def answers(asked: Door) -> list[list[dict[str, object]]]:
        narrower = replace(window, source_namespaces=("payments", "checkout"))
        return [
            asked.answer(OPERATOR, count_questions.drop_reasons(window)).rows.to_pylist(),
            asked.answer(OPERATOR, count_questions.values("destination_namespace", window)).rows.to_pylist(),
            asked.answer(OPERATOR, count_questions.timeline(window, buckets=2)).rows.to_pylist(),
            asked.answer(OPERATOR, count_questions.pulse(narrower, buckets=2)).rows.to_pylist(),
            asked.answer(OPERATOR, count_questions.namespaces(window, buckets=1)).rows.to_pylist(),
        ]

    expected = answers(before)
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert answers(some) == expected
    assert any(expected)
    assert some.answer(OPERATOR, count_questions.values("source_namespace", DAY)).source == "timeline_1m"
    assert some.answer(OPERATOR, edge_questions.names(DAY)).source == "dns_names"
    assert some.answer(OPERATOR, count_questions.values("source_pod_name", DAY)).source == "flows"
    by_pod = FlowFilter(since=NOON, until=LATER, pods=("web",))
    assert (
        some.answer(OPERATOR, count_questions.timeline(by_pod)).source
        == some.answer(OPERATOR, count_questions.drop_reasons(by_pod)).source
        == "flows"
    )
    with pytest.raises(QueryError, match="pods"):
        some.answer(OPERATOR, edge_questions.edges(by_pod))
    assert some.answer(OPERATOR, flow_questions.newest(DAY)).source == "flows"


def test_late_flows_reopen_their_hour_and_no_other(lake: Lake) -> None:
    append(lake, flows(NOON, 100))
    append(lake, flows(NOON + 2 * HOUR, 100))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    append(lake, flows(NOON + 5 * MINUTE, 10, seed=99))
    (task,) = plan(lake, now=LATER)
    assert [hour for hour, _ in task.hours] == [NOON]
    (done,) = roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert (done.hours, done.flows) == (1, 110)
    assert total(lake) == 210


def test_compaction_changes_no_sum_and_the_hour_is_done_again(lake: Lake) -> None:
    some = flows(NOON, 100)
    append(lake, some)
    append(lake, some[:10])  # stored twice: compaction drops them
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert total(lake) == 110
    compact_closed_hours(lake, now=LATER)
    assert sum(door(lake).answer(OPERATOR, count_questions.timeline(DAY)).rows["flows"].to_pylist()) == 100
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert total(lake) == 100


def test_hours_add_up_the_same_however_many_are_done_at_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    append(lake, flows(NOON, 600, rate=0.05))
    append(lake, flows(NOON + 4 * HOUR, 100))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    at_once = [sorted(lake.read(table).to_pylist(), key=repr) for table in ROLLUPS]
    for table in ROLLUPS:
        lake.replace(table, lake.contents(table), [], guard="test", data_change=True)
    monkeypatch.setattr("pipelines.maintenance.rollup.BATCH_ROWS", 1)
    (done,) = roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert done.hours > 2
    assert [sorted(lake.read(table).to_pylist(), key=repr) for table in ROLLUPS] == at_once


def test_what_is_rolled_up_outlives_its_flows(lake: Lake) -> None:
    append(lake, flows(NOON, 200))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    cut = FlowFilter(since=NOON + 90 * dt.timedelta(seconds=1), until=NOON + HOUR)
    exact = door(lake).answer(OPERATOR, edge_questions.edges(cut))
    lake.replace(FLOWS, lake.contents(FLOWS), [], guard="test", data_change=True)
    assert plan(lake, now=LATER) == []
    answer = door(lake).answer(OPERATOR, edge_questions.edges(cut))
    assert sum(answer.rows["flows"].to_pylist()) == 200 > sum(exact.rows["flows"].to_pylist())
    assert answer.window == Window(since=NOON, until=NOON + HOUR)  # the hour cannot be cut any more, and the answer says so


def test_a_sealed_day_stands_when_part_of_its_flows_goes(lake: Lake) -> None:
    append(lake, flows(NOON, 100))
    append(lake, flows(NOON + 10 * MINUTE, 50, seed=2))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    seal(lake, "c1", NOON.replace(hour=0))
    lake.replace(FLOWS, lake.contents(FLOWS)[:1], [], guard="test", data_change=True)
    assert plan(lake, now=LATER) == []
    answer = door(lake).answer(OPERATOR, count_questions.timeline(DAY))
    assert (answer.source, sum(answer.rows["flows"].to_pylist())) == ("timeline_1m", 150)


def test_names_of_files_carry_the_notes_of_their_hours(lake: Lake) -> None:
    append(lake, flows(NOON, 20))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    (file,), (flows_file,) = lake.contents(EDGES_1H), lake.contents(FLOWS)
    assert rollup_notes.notes(file) == {NOON: rollup_notes.note([flows_file])}
    assert len(file.name) < 255
