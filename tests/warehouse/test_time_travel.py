"""The lake as it was known at an earlier moment, whatever compaction, vacuum and erasure did since."""

import datetime as dt
import io
import json
import sys
import time
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from hindcast import cli
from pipelines.maintenance import erasure
from pipelines.maintenance.compaction import compact_closed_hours
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.errors import LakeError, QueryError
from warehouse.lake.tables import Lake
from warehouse.lake.time_travel import AsOf
from warehouse.questions import count_questions, edge_questions, flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import COVERAGE, FINDINGS, FLOWS, NAMESPACES, TABLES, Table

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
ADA = Principal(user="ada")
COUNT = "SELECT count(*) AS n FROM flows"


@pytest.fixture
def lake(place: Any) -> Lake:
    opened: Lake = place.open()
    return opened


@pytest.fixture
def door(lake: Lake) -> Door:
    grant = config.Grant(subject="ada", role="namespace-owner", namespaces=("pay",))
    return Door(lake, config.Ownership(grants=(grant,)))


def commit(lake: Lake, rows: list[dict[str, Any]], table: Table = FLOWS) -> None:
    lake.commit(table, lake.write_files(table, pa.Table.from_pylist(rows, schema=table.schema)), transactions={}, metadata={})


def store(lake: Lake, uuid: str, *, at: dt.datetime = NOON, recorded: dt.datetime, namespace: str = "pay") -> int:
    """One flow, in a commit; gives the version."""
    lag = (recorded - at) // dt.timedelta(milliseconds=1)
    row = {"cluster": "c1", "date": at.date(), "time": at, "uuid": uuid, "verdict": "DROPPED", "flow_count": 1}
    commit(lake, [row | {"source_namespace": namespace, "recorded_lag_ms": lag}])
    return lake.version(FLOWS)


def uuids(door: Door, as_of: AsOf | None, who: Principal = OPERATOR) -> list[str]:
    wanted = FlowFilter(since=NOON - dt.timedelta(days=1), until=NOON + dt.timedelta(days=1), as_of=as_of)
    by_filter = sorted(door.answer(who, flow_questions.newest(wanted, columns=["uuid", "time"])).rows["uuid"].to_pylist())
    window = Window(since=wanted.since, until=wanted.until, as_of=as_of)
    if who.is_operator:  # anyone else's takes a process each
        by_sql = sorted(door.answer(who, OwnSql(text="SELECT uuid FROM flows", window=window)).rows["uuid"].to_pylist())
        assert by_filter == by_sql
    return by_filter


def vacuum_now(lake: Lake, place: Any) -> None:
    """As vacuum does after its delay."""
    kept = {file.path for file in lake.contents(FLOWS)}
    for path in (place.folder / "flows").rglob("*.parquet"):
        if "_delta_log" not in str(path) and str(path.relative_to(place.folder / "flows")) not in kept:
            path.unlink()


def test_a_version_that_is_not_there_is_refused_by_number(door: Door, lake: Lake) -> None:
    store(lake, "a", recorded=NOON)
    with pytest.raises(QueryError, match="no version 99 of flows: the newest is 1"):
        door.as_of(99)


def test_a_version_whose_log_entry_is_gone_is_refused(door: Door, lake: Lake, place: Any) -> None:
    store(lake, "a", recorded=NOON)
    store(lake, "b", recorded=NOON)
    lake.checkpoint(FLOWS)
    for number in (0, 1):
        (place.folder / "flows" / "_delta_log" / f"{number:020}.json").unlink()
    with pytest.raises(LakeError, match="no version 1 in its log, or no longer"):
        door.as_of(1)


def test_an_instant_before_everything_shows_nothing(door: Door, lake: Lake) -> None:
    store(lake, "a", recorded=NOON)
    assert uuids(door, door.as_of(NOON - MINUTE)) == []


def test_a_flow_that_came_late_is_not_known_before_it_came(door: Door, lake: Lake) -> None:
    store(lake, "late", recorded=NOON + 90 * MINUTE)
    store(lake, "prompt", recorded=NOON)
    assert uuids(door, door.as_of(NOON + 89 * MINUTE)) == ["prompt"]
    assert uuids(door, door.as_of(NOON + 90 * MINUTE)) == ["late", "prompt"]
    assert uuids(door, None) == ["late", "prompt"]


@pytest.mark.parametrize("who", [OPERATOR, ADA], ids=["operator", "owner"])
def test_compaction_and_vacuum_change_no_answer_about_an_instant(door: Door, lake: Lake, place: Any, who: Principal) -> None:
    for number in range(5):
        store(lake, str(number), at=NOON + number * MINUTE, recorded=NOON + (number * 7 % 5) * 10 * MINUTE)
    instants = [NOON + number * 5 * MINUTE for number in range(-1, 11)]
    before = [uuids(door, door.as_of(instant), who) for instant in instants]
    assert len({tuple(answer) for answer in before}) == 6
    assert len(compact_closed_hours(lake, now=NOON + dt.timedelta(days=1))) == 2, "the hour, then its day"
    vacuum_now(lake, place)
    assert [uuids(door, door.as_of(instant), who) for instant in instants] == before
    window = Window(since=NOON, as_of=door.as_of(NOON + 10 * MINUTE))
    assert door.answer(who, OwnSql(text=COUNT, window=window)).rows.to_pylist() == [{"n": len(before[3])}]


def test_a_lake_that_is_read_through_pyarrow_answers_the_same(door: Door, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in object storage, which DuckDB does not read by itself."""
    store(lake, "late", recorded=NOON + 90 * MINUTE)
    version = store(lake, "prompt", recorded=NOON)
    monkeypatch.setattr(Lake, "is_local", False)
    assert uuids(door, door.as_of(NOON + 89 * MINUTE)) == ["prompt"]
    assert uuids(door, door.as_of(version - 1)) == ["late"]
    assert uuids(door, None) == ["late", "prompt"]


def test_a_version_is_exact_until_vacuum_and_says_so_after(door: Door, lake: Lake, place: Any) -> None:
    first = store(lake, "a", recorded=dt.datetime.now(dt.UTC) - MINUTE)
    time.sleep(0.02)
    # Recorded before the first commit, stored after it: on its way.
    second = store(lake, "b", recorded=dt.datetime.now(dt.UTC) - 2 * MINUTE)
    asked = door.as_of(first)
    assert (asked.version, uuids(door, asked), str(asked).endswith(f"version {first} of flows")) == (first, ["a"], True)
    assert uuids(door, door.as_of(second)) == ["a", "b"]
    compact_closed_hours(lake, now=dt.datetime.now(dt.UTC) + dt.timedelta(hours=2))
    assert uuids(door, door.as_of(first)) == ["a"]
    vacuum_now(lake, place)
    gone = door.as_of(first)
    assert gone.version is None
    assert f"by recorded time; version {first} of flows no longer has its files" in str(gone)
    assert uuids(door, gone) == ["a", "b"]


def test_what_was_erased_does_not_come_back(door: Door, lake: Lake) -> None:
    version = store(lake, "a", recorded=NOON)
    store(lake, "b", recorded=NOON, namespace="shop")
    erasure.erase(lake, erasure.Request(cluster="c1", namespace="pay", reason="r"), (), now=dt.datetime.now(dt.UTC))
    asked = door.as_of(version + 1)
    assert (asked.version, uuids(door, asked)) == (None, ["b"])


def test_the_ledger_and_the_coverage_of_an_answer_are_of_that_moment_too(door: Door, lake: Lake) -> None:
    for begin, recorded in ((NOON, NOON + 31 * MINUTE), (NOON + 30 * MINUTE, NOON + 600 * MINUTE)):
        row = {"cluster": "c1", "date": NOON.date(), "from": begin, "to": begin + 30 * MINUTE, "node_name": "n", "state": "connected"}
        commit(lake, [row | {"recorded": recorded}], COVERAGE)
    hour = FlowFilter(since=NOON, until=NOON + 60 * MINUTE)
    assert door.answer(OPERATOR, flow_questions.newest(hour)).shares == {"c1": 1.0}
    then = replace(hour, as_of=door.as_of(NOON + 60 * MINUTE))
    assert door.answer(OPERATOR, flow_questions.newest(then)).shares == {"c1": 0.5}
    window = Window(as_of=door.as_of(NOON + 60 * MINUTE))
    assert door.answer(OPERATOR, OwnSql(text="SELECT count(*) AS n FROM coverage", window=window)).rows.to_pylist() == [{"n": 1}]


def test_findings_are_those_of_that_moment(door: Door, lake: Lake) -> None:
    row = {"cluster": "c1", "date": NOON.date(), "kind": "x", "severity": "low", "source": "t"}
    commit(lake, [row | {"time": NOON}, row | {"time": NOON + MINUTE}], FINDINGS)
    found = door.answer(OPERATOR, OwnSql(text="SELECT count(*) AS n FROM findings", window=Window(as_of=door.as_of(NOON))))
    assert found.rows.to_pylist() == [{"n": 1}]


def test_a_table_that_cannot_tell_says_so_and_disturbs_no_other(
    door: Door, lake: Lake, monkeypatch: pytest.MonkeyPatch, place: Any
) -> None:
    store(lake, "a", recorded=NOON)
    silent = replace(FINDINGS, name="silent", recorded="")
    monkeypatch.setitem(TABLES, "silent", silent)
    place.open()
    other = Door(place.open(), config.Ownership())
    row = {"cluster": "c1", "date": NOON.date(), "time": NOON, "kind": "x", "severity": "low", "source": "t"}
    commit(other._lake, [row], silent)
    window = Window(as_of=other.as_of(NOON))
    assert other.answer(OPERATOR, OwnSql(text=COUNT, window=window)).rows.to_pylist() == [{"n": 1}]
    with pytest.raises(QueryError, match="silent does not record when its rows were learned"):
        other.answer(OPERATOR, OwnSql(text="SELECT count(*) FROM silent", window=window))


def test_every_table_of_now_can_tell_or_is_derived_from_others() -> None:
    derived = {"edges_1h", "timeline_1m", "label_sets", "dns_names", "proposed_edges"}
    assert {name for name, table in TABLES.items() if not table.recorded} <= derived


def test_a_version_of_what_was_configured_has_no_end_before_the_lake_learned_of_it(door: Door, lake: Lake) -> None:
    row = {"cluster": "c1", "kind": "Namespace", "name": "pay", "valid_from": NOON, "recorded": NOON + MINUTE, "hash": "h"}
    commit(lake, [row], NAMESPACES)
    commit(lake, [row | {"valid_to": NOON + 5 * MINUTE, "ended_recorded": NOON + 9 * MINUTE, "ended_how": "deleted"}], NAMESPACES)
    text = "SELECT valid_to, ended_how FROM namespaces"

    def known_at(minutes: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = door.answer(
            OPERATOR, OwnSql(text=text, window=Window(as_of=door.as_of(NOON + minutes * MINUTE)))
        ).rows.to_pylist()
        return rows

    assert known_at(0) == []
    assert known_at(8) == [{"valid_to": None, "ended_how": None}]
    assert known_at(9) == [{"valid_to": NOON + 5 * MINUTE, "ended_how": "deleted"}]


def test_questions_as_of_a_time_read_flows_instead_of_rollups_or_are_refused(door: Door, lake: Lake) -> None:
    store(lake, "late", recorded=NOON + 90 * MINUTE)
    store(lake, "prompt", recorded=NOON)
    day = FlowFilter(since=NOON - 60 * MINUTE, until=NOON + 60 * MINUTE, as_of=door.as_of(NOON))
    assert door.answer(OPERATOR, count_questions.timeline(day)).rows["flows"].to_pylist() == [1]
    assert door.answer(OPERATOR, count_questions.values("verdict", day)).rows["flows"].to_pylist() == [1]
    assert door.answer(OPERATOR, count_questions.drop_reasons(day)).rows["drops"].to_pylist() == [1]
    with pytest.raises(QueryError, match="edges_1h does not record when the lake learned of a flow"):
        door.answer(OPERATOR, edge_questions.edges(day))


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # the programs are given a folder
def test_the_commands_take_versions_and_times(
    lake: Lake, place: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = dt.datetime.now(dt.UTC)
    store(lake, "a", at=now - 10 * MINUTE, recorded=now - 9 * MINUTE)
    store(lake, "b", at=now - 10 * MINUTE, recorded=now - 2 * MINUTE)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hindcast", *arguments, "--lake", str(place.folder)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    assert run("sql", COUNT, "--as-of", "tomorrow")[0] == 2
    assert "is in the future" in run("sql", COUNT, "--as-of", "2100-01-01")[2]
    assert "no version 7" in run("sql", COUNT, "--as-of", "7")[2]
    assert run("flows", "--as-of", "5m", "--follow")[0] == 2
    _, answer, footer = run("sql", COUNT, "--as-of", "5m", "-o", "json")
    assert (json.loads(answer), "by recorded time" in footer) == ({"n": 1}, True)
    _, answer, footer = run("sql", COUNT, "--as-of", "1", "-o", "json")
    assert (json.loads(answer), "version 1 of flows" in footer) == ({"n": 1}, True)
    _, answer, footer = run("flows", "--as-of", "5m", "-o", "json")
    assert [json.loads(line)["uuid"] for line in answer.splitlines()] == ["a"]
    assert "as of " in footer
