"""Merging small files while rows are coming: what it must never do first, then what it does."""

from __future__ import annotations

import datetime as dt
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.decoding.decode import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from pipelines.maintenance import merging
from pipelines.maintenance.compaction import GRACE, compact_closed_hours
from pipelines.maintenance.merging import LEAST_FILES, MERGED, choose, merge, plan
from warehouse.errors import LakeError
from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.schema import ACCESS_LOG, COVERAGE, EDGES_1H, FLOWS, POSTURE, SAVED_VIEWS, TABLES, VERSION_TABLES, Table

NOW = dt.datetime(2026, 3, 2, 12, 30, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
FAR = NOW + dt.timedelta(days=2)


@pytest.fixture
def lake(place: Any) -> Lake:
    opened: Lake = place.open()
    return opened


def append(lake: Lake, table: Table, *rows: dict[str, Any]) -> None:
    lake.commit(table, lake.write_files(table, pa.Table.from_pylist(list(rows), schema=table.schema)), transactions={}, metadata={})


def append_flows(lake: Lake, begin: dt.datetime, files: int, *, cluster: str = "c1", each: int = 20) -> None:
    flows = Traffic(build_fleet(1, clusters=(cluster,)), 1, begin, 5.0).flows()
    for _ in range(files):
        some = [flow.SerializeToString() for flow in itertools.islice(flows, each)]
        rows = decode(some, cluster=cluster, recorded=begin, live=False).rows
        lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})


def rows_of(lake: Lake, table: Table = FLOWS) -> list[dict[str, Any]]:
    return sorted(lake.read(table).to_pylist(), key=repr)


def stored(number: int, rows: int) -> StoredFile:
    return StoredFile(path=f"{number:03}.parquet", partition={"cluster": "c1"}, size=rows, rows=rows, first=None, last=None)


# What it must never do ----------------------------------------------------------------------------------------


def test_an_empty_lake_has_nothing_to_merge(lake: Lake) -> None:
    assert merge(lake, now=NOW) == []


def test_no_row_changes_and_a_second_run_finds_nothing(lake: Lake) -> None:
    append_flows(lake, NOW - dt.timedelta(minutes=5), 7)
    before = rows_of(lake)
    (done,) = merge(lake, now=NOW)
    assert (len(done.replaced), done.files_after) == (7, 1)
    assert rows_of(lake) == before
    assert merge(lake, now=NOW) == []


def test_files_of_a_closed_hour_and_those_that_reach_into_two_hours_are_left_to_compaction(lake: Lake) -> None:
    append_flows(lake, NOW - 3 * HOUR, 4)  # closed
    append_flows(lake, NOW.replace(minute=0) - dt.timedelta(seconds=2), 4)  # the first reaches into two hours
    (merge_,) = plan(lake, FLOWS, now=NOW)
    assert len(merge_.files) == 3
    assert min(file.first for file in merge_.files if file.first) >= NOW.replace(minute=0)


def test_what_was_merged_is_compacted_when_its_hour_has_closed(lake: Lake) -> None:
    append_flows(lake, NOW - dt.timedelta(minutes=5), 6)
    before = rows_of(lake)
    merge(lake, now=NOW)
    append_flows(lake, NOW - dt.timedelta(minutes=5), 1, cluster="c2")
    compact_closed_hours(lake, now=NOW + HOUR + GRACE)
    assert sorted(Path(path).name[:5] for path in lake.files(FLOWS)) == ["hour-", "hour-"]
    assert [row for row in rows_of(lake) if row["cluster"] == "c1"] == before


def test_two_that_merge_the_same_files_at_once_double_no_row(place: Any, lake: Lake) -> None:
    append_flows(lake, NOW - dt.timedelta(minutes=5), 6)
    other = place.open()
    before, planned = rows_of(lake), plan(lake, FLOWS, now=NOW)
    assert plan(other, FLOWS, now=NOW) == planned
    assert merging._all(lake, FLOWS, planned, []).files_after == 1
    assert merging._all(other, FLOWS, planned, []).files_after == 0
    assert rows_of(lake) == before


def test_a_conflict_over_one_partition_leaves_the_others_merged(place: Any, lake: Lake) -> None:
    for cluster in ("c1", "c2", "c3"):
        append_flows(lake, NOW - dt.timedelta(minutes=5), 4, cluster=cluster)
    planned, before = plan(lake, FLOWS, now=NOW), rows_of(lake)
    other = place.open()
    assert merge(other, now=NOW, clusters=["c2"])
    done = merging._all(lake, FLOWS, planned, [])
    assert {file.partition["cluster"] for file in done.replaced} == {"c1", "c3"}
    assert len(lake.files(FLOWS)) == 3
    assert rows_of(lake) == before


def test_a_file_that_cannot_be_read_is_named_and_keeps_nothing_else_from_being_merged(lake: Lake, place: Any) -> None:
    for cluster in ("c1", "c2"):
        append_flows(lake, NOW - dt.timedelta(minutes=5), 4, cluster=cluster)
    broken = place.stored(lake.files(FLOWS, clusters=["c1"])[0])
    broken.write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=broken.name):
        merge(lake, now=NOW)
    assert (len(lake.files(FLOWS, clusters=["c1"])), len(lake.files(FLOWS, clusters=["c2"]))) == (4, 1)


def test_rows_that_come_while_files_are_merged_stay(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    append_flows(lake, NOW - dt.timedelta(minutes=5), 4)
    write_file = lake.write_file

    def write_and_append(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(lake, "write_file", write_file)
        append_flows(lake, NOW - dt.timedelta(minutes=2), 1)
        return write_file(*arguments, **more)

    monkeypatch.setattr(lake, "write_file", write_and_append)
    assert merge(lake, now=NOW)
    assert len(lake.files(FLOWS)) == 2
    assert lake.rows(FLOWS) == 100


# What it does -------------------------------------------------------------------------------------------------


def test_every_table_of_the_schema_is_merged_here_or_has_a_care_of_its_own() -> None:
    others = {"edges_1h", "timeline_1m", "label_sets", "dns_names", "config_coverage", *(table.name for table in VERSION_TABLES)}
    assert {table.name for table in MERGED} == set(TABLES) - others
    assert EDGES_1H.name in others


def test_a_day_of_the_access_log_has_a_few_files_while_it_lasts_and_one_after_it(lake: Lake) -> None:
    for number in range(40):
        append(
            lake, ACCESS_LOG, {"date": NOW.date(), "time": NOW + dt.timedelta(seconds=2 * number), "principal": f"p{number}", "groups": []}
        )
        merge(lake, now=NOW)
    assert len(lake.files(ACCESS_LOG)) <= 6
    before = rows_of(lake, ACCESS_LOG)
    merge(lake, now=FAR)
    assert len(lake.files(ACCESS_LOG)) == 1
    assert rows_of(lake, ACCESS_LOG) == before


@pytest.mark.parametrize("table", [POSTURE, COVERAGE, SAVED_VIEWS], ids=lambda table: table.name)
def test_other_tables_become_few_files_too(lake: Lake, table: Table) -> None:
    for number in range(5):
        moment = NOW - dt.timedelta(seconds=number)
        row = {"cluster": "c1", "date": NOW.date(), "kind": "view", table.time_column: moment, "to": moment, "deleted": False}
        append(lake, table, {name: value for name, value in row.items() if name in table.schema.names})
    before = rows_of(lake, table)
    assert [done.files_after for done in merge(lake, now=NOW)] == [1]
    assert rows_of(lake, table) == before


@given(st.lists(st.integers(1, 5_000), max_size=60))
def test_few_files_are_left_however_many_come_and_none_is_larger_than_allowed(sizes: list[int]) -> None:
    numbers, files, most = itertools.count(), list[StoredFile](), 40_000
    for size in sizes:
        files.append(stored(next(numbers), size))
        chosen = choose(files, is_closed=False, most_rows=most)
        if chosen:
            assert len(chosen) >= LEAST_FILES
            files = [file for file in files if file not in chosen] + [stored(next(numbers), sum(file.rows for file in chosen))]
    assert sum(file.rows for file in files) == sum(sizes)
    assert all(file.rows <= most for file in files)
    # Of each power of three of rows, and of what is as large as it may be, a handful.
    assert len(files) <= 2 * 10 + 3 * sum(sizes) // most


@pytest.mark.parametrize("table", [FLOWS, COVERAGE], ids=lambda table: table.name)
def test_small_and_large_merges_write_the_same_rows_in_the_same_order(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, table: Table, place: Any
) -> None:
    if table is FLOWS:
        append_flows(lake, NOW, 3, each=50)
    else:
        for number in range(3):
            append(lake, COVERAGE, {"cluster": "c1", "date": NOW.date(), "from": NOW + dt.timedelta(seconds=3 - number), "node_name": None})
    (planned,) = plan(lake, table, now=NOW)
    small = merging.write_merged(lake, planned)
    monkeypatch.setattr(merging, "PLAIN_ROWS", 0)
    large = merging.write_merged(lake, planned)
    first, second = (pq.ParquetFile(place.stored(f"{lake.address(table)}/{file.path}")).read() for (file,) in (small, large))
    assert first.equals(second)
    assert first.num_rows == sum(file.rows for file in planned.files)
