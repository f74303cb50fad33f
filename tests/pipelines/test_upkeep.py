"""Vacuum, checkpoint, statistics: no row changes, no reader is harmed."""

import datetime as dt
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.maintenance import upkeep
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS, TABLES

HOUR = dt.timedelta(hours=1)
NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)


@pytest.fixture
def lake(place: Any) -> Lake:
    opened: Lake = place.open()
    return opened


def rows(count: int) -> pa.Table:
    row = {"cluster": "c1", "date": NOON.date(), "time": NOON, "verdict": "DROPPED", "flow_count": 1}
    return pa.Table.from_pylist([row | {"uuid": str(number)} for number in range(count)], schema=FLOWS.schema)


def append(lake: Lake, count: int = 3) -> None:
    lake.commit(FLOWS, lake.write_files(FLOWS, rows(count)), transactions={}, metadata={})


def parquet(place: Any) -> set[str]:
    folder = place.folder / "flows"
    return {str(path.relative_to(folder)) for path in folder.rglob("*.parquet") if "_delta_log" not in str(path)}


def age_log(place: Any, hours: float) -> None:
    """As if the last replacement had been made that long ago."""
    newest = max(Path(place.folder, "flows", "_delta_log").glob("*.json"))
    text, before = newest.read_text(), int((time.time() - hours * 3600) * 1000)
    parts = text.split('"deletionTimestamp":')
    newest.write_text(parts[0] + "".join(f'"deletionTimestamp":{before}' + part.lstrip("0123456789") for part in parts[1:]))


def replaced(lake: Lake) -> list[str]:
    """Two files become one; gives the two."""
    append(lake)
    append(lake)
    old = lake.contents(FLOWS)
    lake.replace(FLOWS, old, lake.write_files(FLOWS, lake.read(FLOWS)), guard="g")
    return [file.path for file in old]


def test_less_than_an_hour_is_refused(lake: Lake) -> None:
    with pytest.raises(ValueError, match="an hour at least"):
        lake.vacuum(FLOWS, older_than=dt.timedelta(minutes=59), dry_run=True)


def test_files_that_left_the_table_just_now_stay_however_old_they_are(lake: Lake, place: Any) -> None:
    for path in replaced(lake):
        os.utime(Path(place.folder, "flows", path), (time.time() - 90_000,) * 2)
    assert {one.files for one in upkeep.vacuum(lake, older_than=HOUR)} == {0}
    assert len(parquet(place)) == 3


def test_a_file_that_is_written_but_not_yet_committed_stays(lake: Lake) -> None:
    written = lake.write_files(FLOWS, rows(2))
    upkeep.vacuum(lake, older_than=HOUR)
    lake.commit(FLOWS, written, transactions={}, metadata={})
    assert lake.read(FLOWS).num_rows == 2


def test_what_left_long_ago_and_what_a_crash_left_behind_goes(lake: Lake, place: Any) -> None:
    old = replaced(lake)
    age_log(place, 3)
    lake = place.open()
    (orphan,) = lake.write_files(FLOWS, rows(1))
    os.utime(Path(place.folder, "flows", orphan.path), (time.time() - 4 * 3600,) * 2)
    would = {one.table: one for one in upkeep.vacuum(lake, older_than=2 * HOUR, dry_run=True)}
    assert (would["flows"].files, len(parquet(place))) == (3, 4)
    assert would["flows"].bytes == sum(Path(place.folder, "flows", path).stat().st_size for path in [*old, orphan.path])
    assert sum(one.files for one in upkeep.vacuum(lake, older_than=2 * HOUR)) == 3
    assert parquet(place) == {file.path for file in lake.contents(FLOWS)}
    assert lake.read(FLOWS).num_rows == 6
    log = len(list(Path(place.folder, "flows", "_delta_log").glob("*.json")))
    assert sum(one.files for one in upkeep.vacuum(lake, older_than=2 * HOUR)) == 0
    assert len(list(Path(place.folder, "flows", "_delta_log").glob("*.json"))) == log, "one that finds nothing writes nothing"


def test_a_reader_with_a_list_of_files_from_before_reads_on(lake: Lake) -> None:
    append(lake)
    append(lake)
    before = lake.dataset(FLOWS, lake.files(FLOWS))
    lake.replace(FLOWS, lake.contents(FLOWS), lake.write_files(FLOWS, lake.read(FLOWS)), guard="g")
    upkeep.vacuum(lake, older_than=HOUR)
    assert before.to_table().num_rows == 6


def test_a_checkpoint_keeps_every_row_and_can_be_made_again(lake: Lake, place: Any) -> None:
    append(lake)
    first = upkeep.checkpoint(lake)
    assert upkeep.checkpoint(lake) == first
    assert set(first) == set(TABLES)
    assert place.open().read(FLOWS).num_rows == 3


def test_statistics_of_an_empty_lake_and_of_one_with_rows(lake: Lake) -> None:
    empty = {one.table: one for one in upkeep.statistics(lake)}["flows"]
    assert (empty.rows, empty.files, empty.days, empty.oldest, empty.bytes_per_row) == (0, 0, 0, None, None)
    append(lake)
    append(lake)
    full = {one.table: one for one in upkeep.statistics(lake)}["flows"]
    assert (full.rows, full.files, full.days, full.largest_partition_files, full.oldest, full.newest) == (6, 2, 1, 2, NOON, NOON)
    assert full.bytes_per_row == pytest.approx(full.bytes / 6)
