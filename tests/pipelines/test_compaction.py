"""Compaction: what it must never do first, then what it does."""

import datetime as dt
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from pipelines.maintenance.compaction import GRACE, MEMORY_BYTES, compact, compact_closed_hours, plan, plan_days
from pipelines.maintenance.compaction_plan import DAY_GRACE
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS

HOUR = dt.timedelta(hours=1)
NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
LATER = NOON + 6 * HOUR
NEXT_DAY = dt.datetime(2026, 3, 3, tzinfo=dt.UTC)


@pytest.fixture
def lake(place: Any) -> Lake:
    opened: Lake = place.open()
    return opened


def flows(begin: dt.datetime, count: int, *, seed: int = 1, rate: float = 1.0) -> list[flow_pb2.Flow]:
    return list(itertools.islice(Traffic(build_fleet(1, clusters=("c1",)), seed, begin, rate).flows(), count))


def append(lake: Lake, some: list[flow_pb2.Flow], cluster: str = "c1", recorded: dt.datetime = NOON) -> None:
    rows = decode([flow.SerializeToString() for flow in some], cluster=cluster, recorded=recorded, live=False).rows
    lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})


def append_hour(lake: Lake, begin: dt.datetime, *, files: int = 6, each: int = 50) -> int:
    for number in range(files):
        append(lake, flows(begin + number * dt.timedelta(minutes=8), each, seed=10 * begin.hour + number))
    return files * each


def kinds(lake: Lake) -> dict[str, int]:
    names = [Path(file).name.partition("-")[0] for file in lake.files(FLOWS)]
    return dict(Counter(name if name in ("hour", "day") else "loose" for name in names))


def rows_of(lake: Lake) -> pa.Table:
    return lake.read(FLOWS).sort_by([("time", "ascending"), ("uuid", "ascending")])


# What it must never do ----------------------------------------------------------------------------------------


def test_an_empty_lake_has_nothing_to_compact(lake: Lake) -> None:
    assert plan(lake, now=LATER) == []
    assert compact_closed_hours(lake, now=LATER) == []


def test_an_hour_that_has_not_closed_is_left_alone(lake: Lake) -> None:
    append_hour(lake, NOON)
    assert plan(lake, now=NOON + HOUR + GRACE - dt.timedelta(seconds=1)) == []
    assert len(plan(lake, now=NOON + HOUR + GRACE)) == 1


def test_no_flow_changes_and_none_is_lost(lake: Lake) -> None:
    append_hour(lake, NOON)
    append_hour(lake, NOON + HOUR)
    before = rows_of(lake)
    assert len(compact_closed_hours(lake, now=LATER)) == 2
    assert rows_of(lake).equals(before)


def test_a_second_run_changes_nothing(lake: Lake) -> None:
    append_hour(lake, NOON)
    compact_closed_hours(lake, now=LATER)
    files = lake.files(FLOWS)
    assert compact_closed_hours(lake, now=LATER) == []
    assert lake.files(FLOWS) == files


def test_two_that_planned_the_same_double_nothing(lake: Lake, place: Any) -> None:
    append_hour(lake, NOON)
    before = rows_of(lake)
    other = place.open()
    (mine,), (theirs,) = plan(lake, now=LATER), plan(other, now=LATER)
    assert compact(lake, mine) is not None
    assert compact(other, theirs) is None
    assert rows_of(lake).equals(before)
    assert {path.name for path in (place.folder / "flows").rglob("hour-*.parquet")} == {Path(file).name for file in lake.files(FLOWS)}


APPENDER = """
    import datetime as dt, sys
    from warehouse import config
    from warehouse.schema import FLOWS
    from warehouse.lake.tables import Lake
    from collectors.decoding.decode import decode
    from collectors.hubble_api.flow import flow_pb2

    lake = Lake.open(config.Lake(url=sys.argv[1]))
    k = lake.transaction_version(FLOWS, "appender") or 0
    while True:
        k += 1
        flows = []
        for number in range(20):
            flow = flow_pb2.Flow(uuid=f"{k}-{number}", node_name="n")
            flow.time.FromDatetime(dt.datetime(2026, 3, 2, 12, k % 60, number))
            flows.append(flow.SerializeToString())
        rows = decode(flows, cluster="c1", recorded=dt.datetime.now(dt.UTC), live=False).rows
        lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={"appender": k}, metadata={})
"""
COMPACTOR = """
    import datetime as dt, sys
    from pipelines.maintenance.compaction import compact_closed_hours
    from warehouse import config
    from warehouse.lake.tables import Lake

    lake = Lake.open(config.Lake(url=sys.argv[1]))
    while True:
        compact_closed_hours(lake, now=dt.datetime(2026, 3, 3, tzinfo=dt.UTC))
"""


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # the programs are given a folder
def test_appenders_and_compactors_that_are_killed_lose_and_double_nothing(lake: Lake, place: Any) -> None:
    def start(program: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", textwrap.dedent(program), str(place.folder)]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def commits() -> int:
        return lake.transaction_version(FLOWS, "appender") or 0

    wrong: list[str] = []
    stop = threading.Event()

    def read() -> None:
        reader = place.open()
        most = 0
        while not stop.is_set():
            uuids = reader.read(FLOWS, ["uuid"])["uuid"].to_pylist()
            if len(uuids) != len(set(uuids)) or len(uuids) % 20 or len(uuids) < most:
                wrong.append(f"{len(uuids)} rows, {len(set(uuids))} distinct, {most} before")
            most = len(uuids)

    thread = threading.Thread(target=read)
    thread.start()
    began = time.monotonic()
    running = [start(APPENDER), start(COMPACTOR), start(COMPACTOR)]
    try:
        # On a busy machine it takes long until each has done something.
        while time.monotonic() - began < 14 or (commits() < 3 and time.monotonic() - began < 1200):
            for number, program in enumerate((APPENDER, COMPACTOR, COMPACTOR)):
                known = commits()
                time.sleep(1.3)
                while number == 0 and commits() == known and time.monotonic() - began < 1200:
                    time.sleep(0.1)
                os.kill(running[number].pid, signal.SIGKILL)
                running[number].wait()
                running[number] = start(program)
    finally:
        for process in running:
            process.kill()
            process.wait()
        stop.set()
        thread.join()
    assert wrong == []
    compact_closed_hours(lake, now=LATER)
    stored = lake.read(FLOWS, ["uuid"])["uuid"].to_pylist()
    last = commits()
    assert last > 2
    assert sorted(stored) == sorted(f"{k}-{number}" for k in range(1, last + 1) for number in range(20))


# What it does -------------------------------------------------------------------------------------------------


def test_an_hour_becomes_one_sorted_file(lake: Lake, place: Any) -> None:
    append_hour(lake, NOON)
    (done,) = compact_closed_hours(lake, now=LATER)
    assert (done.files_before, done.files_after) == (6, 1)
    assert done.bytes_after < done.bytes_before
    (file,) = lake.files(FLOWS)
    rows = pq.ParquetFile(place.stored(file)).read()
    names = rows["source_namespace"].fill_null("\U0010ffff").to_pylist()
    assert names == sorted(names)


def test_a_file_that_reaches_into_the_next_hour_is_split(lake: Lake) -> None:
    append(lake, flows(NOON + dt.timedelta(minutes=59), 200, rate=1.0))
    before = rows_of(lake)
    assert len(compact_closed_hours(lake, now=NOON + HOUR + GRACE)) == 1
    names = sorted(Path(file).name[:7] for file in lake.files(FLOWS))
    assert names[-1] == "hour-12"
    assert len(names) == 2
    assert rows_of(lake).equals(before)
    assert len(compact_closed_hours(lake, now=LATER)) == 1
    assert sorted(Path(file).name[:7] for file in lake.files(FLOWS)) == ["hour-12", "hour-13"]
    assert rows_of(lake).equals(before)


def test_late_flows_reopen_their_hour(lake: Lake) -> None:
    append_hour(lake, NOON)
    compact_closed_hours(lake, now=LATER)
    append(lake, flows(NOON + dt.timedelta(minutes=5), 10, seed=99))
    (done,) = compact_closed_hours(lake, now=LATER)
    assert (done.files_before, done.files_after) == (2, 1)
    assert lake.read(FLOWS).num_rows == 310


@pytest.mark.parametrize("minutes", [(300, 120, 240), (120, 240, 300), (240, 300, 120)])
def test_of_a_flow_that_was_stored_twice_the_copy_that_was_recorded_first_stays(lake: Lake, minutes: tuple[int, ...]) -> None:
    some = flows(NOON, 20)
    for after in minutes:
        append(lake, some, recorded=NOON + after * dt.timedelta(minutes=1))
    (done,) = compact_closed_hours(lake, now=LATER)
    assert done.duplicates == 40
    recorded = [row["time"] + row["recorded_lag_ms"] * dt.timedelta(milliseconds=1) for row in rows_of(lake).to_pylist()]
    assert all(abs(moment - NOON - dt.timedelta(hours=2)) < dt.timedelta(seconds=1) for moment in recorded)


def test_a_flow_that_was_stored_twice_stays_once_and_flows_without_uuid_all_stay(lake: Lake) -> None:
    some = flows(NOON, 30)
    nameless = flows(NOON, 5, seed=7)
    for flow in nameless:
        flow.uuid = ""
    append(lake, some + nameless)
    append(lake, some[:10] + nameless)
    (done,) = compact_closed_hours(lake, now=LATER)
    assert done.duplicates == 10
    assert lake.read(FLOWS).num_rows == 40


def test_a_large_hour_becomes_several_files(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    append_hour(lake, NOON)
    monkeypatch.setattr("pipelines.maintenance.compaction.ROW_BYTES", MEMORY_BYTES)
    monkeypatch.setattr("pipelines.maintenance.pieces.Pieces.row_bytes", lambda _self, _file: MEMORY_BYTES / 100)
    before = rows_of(lake)
    (done,) = compact_closed_hours(lake, now=LATER)
    assert done.files_after > 2
    assert rows_of(lake).equals(before)
    assert compact_closed_hours(lake, now=LATER) == []


def test_an_imported_file_of_a_whole_day_is_taken_apart_in_one_commit(lake: Lake) -> None:
    append(lake, flows(NOON, 300, rate=0.03))
    before = rows_of(lake)
    hours = {time.hour for time in before["time"].to_pylist()}
    (done,) = compact_closed_hours(lake, now=NOON + 12 * HOUR)
    assert (done.files_before, done.files_after) == (1, len(hours))
    assert rows_of(lake).equals(before)


# Closed days --------------------------------------------------------------------------------------------------


def test_a_day_keeps_its_hour_files_until_it_has_been_closed_for_some_hours(lake: Lake) -> None:
    append_hour(lake, NOON)
    compact_closed_hours(lake, now=NEXT_DAY + DAY_GRACE - dt.timedelta(seconds=1))
    assert kinds(lake) == {"hour": 1}
    assert plan_days(lake, now=NEXT_DAY + DAY_GRACE - dt.timedelta(seconds=1)) == []
    assert len(plan_days(lake, now=NEXT_DAY + DAY_GRACE)) == 1


def test_a_closed_day_becomes_one_file_and_no_flow_changes(lake: Lake) -> None:
    for hour in range(3):
        append_hour(lake, NOON + hour * HOUR)
    before = rows_of(lake)
    done = compact_closed_hours(lake, now=NEXT_DAY + DAY_GRACE)
    assert [one.files_after for one in done] == [1, 1, 1, 1]
    assert kinds(lake) == {"day": 1}
    assert rows_of(lake).equals(before)
    assert compact_closed_hours(lake, now=NEXT_DAY + DAY_GRACE) == []


def test_a_day_with_loose_flows_is_not_laid_out_before_they_are_in_their_hours(lake: Lake) -> None:
    append_hour(lake, NOON)
    (task,) = plan_days(lake, now=NEXT_DAY + DAY_GRACE)
    assert compact(lake, task) is None
    assert kinds(lake) == {"loose": 6}


def test_two_that_laid_out_the_same_day_double_nothing(lake: Lake, place: Any) -> None:
    append_hour(lake, NOON)
    compact_closed_hours(lake, now=LATER)
    other = place.open()
    (mine,), (theirs,) = plan_days(lake, now=NEXT_DAY + DAY_GRACE), plan_days(other, now=NEXT_DAY + DAY_GRACE)
    assert compact(lake, mine) is not None
    assert compact(other, theirs) is None
    assert lake.read(FLOWS).num_rows == 300


def test_few_late_flows_wait_in_hour_files_beside_the_day_and_many_have_it_laid_out_again(lake: Lake) -> None:
    append_hour(lake, NOON)
    now = NEXT_DAY + DAY_GRACE
    compact_closed_hours(lake, now=now)
    append(lake, flows(NOON + dt.timedelta(minutes=5), 6, seed=98))
    compact_closed_hours(lake, now=now)
    assert kinds(lake) == {"day": 1, "hour": 1}
    assert compact_closed_hours(lake, now=now) == []
    append(lake, flows(NOON + dt.timedelta(minutes=5), 10, seed=99))
    compact_closed_hours(lake, now=now)
    assert kinds(lake) == {"day": 1}
    assert lake.read(FLOWS).num_rows == 316


def test_late_flows_that_the_day_holds_already_are_dropped(lake: Lake) -> None:
    some = flows(NOON, 100)
    append(lake, some)
    compact_closed_hours(lake, now=NEXT_DAY + DAY_GRACE)
    before = rows_of(lake)
    nameless = flows(NOON, 1, seed=7)
    nameless[0].uuid = ""
    append(lake, some[20:25] + nameless)
    (done,) = compact_closed_hours(lake, now=NEXT_DAY + DAY_GRACE)
    assert done.duplicates == 5
    assert lake.read(FLOWS).num_rows == 101
    assert set(before["uuid"].to_pylist()) | {None} == set(lake.read(FLOWS)["uuid"].to_pylist())


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # it is about memory and layout, not about storage
def test_a_day_that_does_not_fit_in_memory_is_laid_out_in_pieces_that_lie_side_by_side(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for hour in range(3):
        append_hour(lake, NOON + hour * HOUR, each=200)
    compact_closed_hours(lake, now=LATER)
    before = rows_of(lake)
    for module in ("layout", "compaction"):
        monkeypatch.setattr(f"pipelines.maintenance.{module}.DAY_GROUP_ROWS", 40)
    monkeypatch.setattr("pipelines.maintenance.compaction.ROW_BYTES", MEMORY_BYTES)
    monkeypatch.setattr("pipelines.maintenance.pieces.Pieces.row_bytes", lambda _self, _file: MEMORY_BYTES / 1000)
    (done,) = compact_closed_hours(lake, now=NEXT_DAY + DAY_GRACE)
    assert done.files_after > 3
    assert rows_of(lake).equals(before)
    spans = []
    for file in lake.files(FLOWS):
        names = pq.ParquetFile(file).read(["source_namespace"])["source_namespace"].fill_null("\U0010ffff").to_pylist()
        spans.append((min(names), max(names)))
    assert all(last <= first for (_, last), (first, _) in itertools.pairwise(sorted(spans)))


def test_flows_between_two_namespaces_alone_that_do_not_fit_in_memory_are_laid_out_by_time(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [
        flow for flow in flows(NOON, 4000, rate=2.0) if (flow.source.namespace, flow.destination.namespace) == ("ingress", "storefront")
    ]
    append(lake, some)
    before = rows_of(lake)
    compact_closed_hours(lake, now=LATER)
    monkeypatch.setattr("pipelines.maintenance.compaction.ROW_BYTES", MEMORY_BYTES)
    monkeypatch.setattr("pipelines.maintenance.pieces.Pieces.row_bytes", lambda _self, _file: MEMORY_BYTES / 100)
    (done,) = compact_closed_hours(lake, now=NEXT_DAY + DAY_GRACE)
    assert done.files_after > 1
    assert rows_of(lake).equals(before)


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # it is about memory and layout, not about storage
@pytest.mark.parametrize("side", ["source_namespace", "destination_namespace"])
def test_a_namespace_of_either_end_is_in_few_row_groups_of_a_day(lake: Lake, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("layout", "compaction"):
        monkeypatch.setattr(f"pipelines.maintenance.{module}.DAY_GROUP_ROWS", 40)
    for hour in range(4):
        append_hour(lake, NOON + hour * HOUR, each=250)
    compact_closed_hours(lake, now=NEXT_DAY + DAY_GRACE)
    (file,) = lake.files(FLOWS)
    parquet = pq.ParquetFile(file)
    column = parquet.schema_arrow.names.index(side)
    bounds = [parquet.metadata.row_group(group).column(column).statistics for group in range(parquet.num_row_groups)]
    read = sum(one.has_min_max and one.min <= "vault" <= one.max for one in bounds)
    assert 0 < read < len(bounds) / 4


def test_the_ledger_is_compacted_too(lake: Lake) -> None:
    for minute in range(5):
        begin = NOON + dt.timedelta(minutes=minute)
        row: dict[str, Any] = {"cluster": "c1", "date": begin.date(), "from": begin, "to": begin, "node_name": "n", "state": "connected"}
        rows = pa.Table.from_pylist([row], schema=COVERAGE.schema)
        lake.commit(COVERAGE, lake.write_files(COVERAGE, rows), transactions={}, metadata={})
    compact_closed_hours(lake, now=LATER)
    assert len(lake.files(COVERAGE)) == 1
    assert lake.read(COVERAGE).num_rows == 5
    (done,) = compact_closed_hours(lake, now=NEXT_DAY + DAY_GRACE)
    assert (done.files_after, done.duplicates) == (1, 0)
    assert lake.read(COVERAGE).num_rows == 5


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # the programs are given a folder
def test_the_command_plans_compacts_and_then_has_nothing_to_do(lake: Lake, place: Any) -> None:
    append_hour(lake, NOON)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hindcast", "maintain", "compact", "--lake", str(place.folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("--hour", "noon").returncode == 2
    assert "0 hours and 0 days" in run("--cluster", "c2", "--dry-run").stdout
    assert "flows c1 2026-03-02T12: 6 files" in run("--dry-run").stdout
    assert run("--day", "today").returncode == 2
    assert run("--day", "2026-03-02", "--hour", "2026-03-02T12").returncode == 2
    assert "flows c1 2026-03-02: 6 files" in run("--day", "2026-03-02", "--dry-run").stdout
    assert "1 hour and 0 days compacted: 6 files became 1" in run("--hour", "2026-03-02T12").stdout
    assert "0 hours and 1 day compacted: 1 file became 1" in run().stdout
    assert "0 hours and 0 days compacted" in run().stdout
    assert pc.sum(lake.read(FLOWS)["flow_count"]).as_py() == 300
