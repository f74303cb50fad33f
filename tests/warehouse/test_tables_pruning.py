"""Reading the lake: the files left out never hold a row that was asked for."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse import config
from warehouse.lake import files
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS, Table

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
FAR = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
TIMES = st.one_of(
    st.sampled_from([datetime(1970, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), NOON, FAR]),
    st.timedeltas(timedelta(0), timedelta(days=2)).map(lambda past: datetime(1970, 1, 1, tzinfo=UTC) + past),
    st.timedeltas(timedelta(days=-1), timedelta(days=1)).map(lambda past: NOON + past),
    st.timedeltas(timedelta(days=-30_000), timedelta(days=2_900_000)).map(lambda past: datetime(1990, 1, 1, tzinfo=UTC) + past),
)
CLUSTERS = st.sampled_from(["east", "west", "a b/c%20"])
Row = tuple[str, datetime]


def rows_of(rows: list[Row], table: Table = FLOWS) -> pa.Table:
    column = "from" if table is COVERAGE else "time"
    return pa.Table.from_pylist([{"cluster": cluster, "date": time.date(), column: time} for cluster, time in rows], schema=table.schema)


def lake_of(folder: Path, *batches: list[Row], table: Table = FLOWS) -> Lake:
    lake = Lake.open(config.Lake(url=str(folder)))
    for version, rows in enumerate(batches):
        lake.commit(table, lake.write_files(table, rows_of(rows, table)), transactions={"test": version}, metadata={})
    return lake


def sorted_rows(rows: pa.Table) -> list[tuple[str, datetime]]:
    return sorted(zip(rows["cluster"].to_pylist(), rows[1].to_pylist(), strict=True))


def test_files_whose_statistics_are_missing_are_never_left_out(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    (written,) = lake.write_files(FLOWS, rows_of([("east", NOON)]))
    handle = DeltaTable(lake.address(FLOWS))
    bare = AddAction(written.path, written.size, written.partition, written.modified, True, "{}")
    handle.create_write_transaction([bare], "append", handle.schema(), partition_by=["cluster", "date"])
    assert len(lake.files(FLOWS, since=NOON + timedelta(hours=1))) == 1
    assert lake.files(FLOWS, since=NOON + timedelta(days=1)) == []
    assert lake.read(FLOWS, since=NOON + timedelta(hours=1)).num_rows == 0


def test_statistics_cut_to_milliseconds_by_other_writers_do_not_lose_rows(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    time = NOON + timedelta(microseconds=700)
    (written,) = lake.write_files(FLOWS, rows_of([("east", time)]))
    handle = DeltaTable(lake.address(FLOWS))
    cut = '{"numRecords":1,"minValues":{"time":"2026-07-01T12:00:00.000Z"},"maxValues":{"time":"2026-07-01T12:00:00.000Z"}}'
    spark = AddAction(written.path, written.size, written.partition, written.modified, True, cut)
    handle.create_write_transaction([spark], "append", handle.schema(), partition_by=["cluster", "date"])
    assert lake.read(FLOWS, since=time).num_rows == 1


def test_times_without_a_zone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        lake_of(tmp_path).read(FLOWS, since=datetime(2026, 7, 1))  # noqa: DTZ001


@pytest.mark.parametrize("table", [FLOWS, COVERAGE], ids=lambda table: table.name)
def test_only_files_of_the_given_cluster_day_and_time_are_listed(tmp_path: Path, table: Table) -> None:
    hour = timedelta(hours=1)
    batches = [[("east", NOON), ("west", NOON)], [("east", NOON + hour)], [("east", NOON + 24 * hour)]]
    lake = lake_of(tmp_path, *batches, table=table)
    assert len(lake.files(table)) == 4
    assert len(lake.files(table, clusters=["west"])) == 1
    assert lake.files(table, clusters=["north"]) == []
    assert lake.files(table, clusters=[]) == []
    assert len(lake.files(table, since=NOON + 12 * hour)) == 1
    assert len(lake.files(table, clusters=["east"], since=NOON, until=NOON + hour)) == 1
    assert len(lake.files(table, clusters=iter(["east"]), since=NOON + hour, until=NOON + 2 * hour)) == 1
    assert lake.read(table, ["cluster"], ["east"], NOON, NOON + hour).to_pylist() == [{"cluster": "east"}]
    assert lake.read(table, clusters=iter(["east"])).num_rows == 3


@settings(max_examples=40)
@given(
    batches=st.lists(st.lists(st.tuples(CLUSTERS, TIMES), max_size=6), max_size=3),
    clusters=st.none() | st.lists(CLUSTERS, max_size=2),
    since=st.none() | TIMES,
    until=st.none() | TIMES,
)
def test_a_pruned_read_equals_a_full_scan(
    batches: list[list[Row]], clusters: list[str] | None, since: datetime | None, until: datetime | None
) -> None:
    expected = sorted(
        (cluster, time)
        for rows in batches
        for cluster, time in rows
        if (clusters is None or cluster in clusters) and (since is None or time >= since) and (until is None or time < until)
    )
    with tempfile.TemporaryDirectory() as folder:
        lake = lake_of(Path(folder), *batches)
        assert sorted_rows(lake.read(FLOWS, ["cluster", "time"], clusters, since, until)) == expected
        everything = sorted((cluster, time) for rows in batches for cluster, time in rows)
        assert sorted_rows(lake.read(FLOWS, ["cluster", "time"])) == everything
        listed = lake.files(FLOWS, clusters=clusters, since=since, until=until)
        assert set(listed) <= set(lake.files(FLOWS))
        assert all(Path(path).is_file() for path in listed)


def test_other_engines_read_the_same_rows_from_table_and_files(tmp_path: Path) -> None:
    folder = tmp_path / "a lake with spaces"
    rows: list[Row] = [("east", NOON), ("west", FAR), ("a b/c%20", datetime(1970, 1, 1, tzinfo=UTC)), ("east", NOON)]
    lake = lake_of(folder, rows[:2], rows[2:])
    assert sorted_rows(lake.read(FLOWS)[:].select(["cluster", "time"])) == sorted(rows)
    assert sorted_rows(DeltaTable(lake.address(FLOWS)).to_pyarrow_table(columns=["cluster", "time"])) == sorted(rows)
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        found = connection.execute(
            "select cluster, epoch_us(time), date from read_parquet(?, hive_partitioning = true)", [lake.files(FLOWS)]
        ).fetchall()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    told = sorted((cluster, epoch + timedelta(microseconds=time), date.fromisoformat(str(day))) for cluster, time, day in found)
    assert told == sorted((cluster, time, time.date()) for cluster, time in rows)


@given(st.lists(st.text(max_size=40), min_size=1))
def test_cut_text_statistics_bound_every_value(texts: list[str]) -> None:
    for text in texts:
        bound = files.upper_bound(text)
        assert bound.encode() >= text.encode()
        assert len(bound) <= 32 or text.startswith("\U0010ffff" * 32)


def test_a_filter_on_any_flat_column_finds_its_row_in_deltalakes_reader(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    row = {"cluster": "east", "date": NOON.date(), "time": NOON, "is_reply": True, "source_port": 53, "verdict": "DROPPED", "rest": b"x"}
    for version, other in enumerate([{}, {"is_reply": False, "uuid": "u"}]):
        rows = pa.Table.from_pylist([{**row, **other}], schema=FLOWS.schema)
        lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={"test": version}, metadata={})
    dataset = DeltaTable(lake.address(FLOWS)).to_pyarrow_dataset()
    for name, value in row.items():
        assert dataset.count_rows(filter=pc.field(name) == value) == (1 if name == "is_reply" else 2), name
    assert dataset.count_rows(filter=pc.field("is_reply") == pa.scalar(False)) == 1
    assert dataset.count_rows(filter=pc.field("uuid") == "u") == 1
    assert dataset.count_rows(filter=pc.field("uuid").is_null()) == 1


def test_long_unicode_text_has_bounds_that_prune_rightly(tmp_path: Path) -> None:
    lake = lake_of(tmp_path)
    last = "\U0010ffff"
    names = {
        "plain": "n" * 40,
        "emoji": "\U0001f600" * 40,
        "rare": "\U00020000" * 40,
        "edge": "a" * 31 + "\ud7ff" + "b",
        "last": "a" * 30 + last * 10,
        "none": last * 40,
    }
    rows = rows_of([("east", NOON)] * len(names))
    for version, name in enumerate(names.values()):
        part = rows[:1].set_column(rows.schema.get_field_index("source_namespace"), "source_namespace", pa.array([name]))
        lake.commit(FLOWS, lake.write_files(FLOWS, part), transactions={"test": version}, metadata={})
    handle = DeltaTable(lake.address(FLOWS))
    stored = pa.table(handle.get_add_actions(flatten=True))
    least, greatest = stored["min.source_namespace"].to_pylist(), stored["max.source_namespace"].to_pylist()
    told = dict(zip(least, greatest, strict=True))
    assert told["n" * 32] == "n" * 31 + "o"
    assert told["\U0001f600" * 32] == "\U0001f600" * 31 + "\U0001f601"
    assert told["\U00020000" * 32] == "\U00020000" * 31 + "\U00020001"
    assert told["a" * 31 + "\ud7ff"] == "a" * 31 + "\ue000"
    assert told["a" * 30 + last * 2] == "a" * 29 + "b"
    assert told[last * 32] == last * 40
    for name in names.values():
        found = handle.to_pyarrow_dataset().to_table(filter=pc.field("source_namespace") == name)
        assert found["source_namespace"].to_pylist() == [name]
