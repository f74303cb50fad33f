"""Appending to the lake: exactly once, all or nothing, and errors that say where."""

from __future__ import annotations

import json
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from warehouse import config
from warehouse.errors import CommitConflictError, ConfigError, LakeError
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS, TABLES, Table

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def flows(count: int, *, cluster: str = "east", time: datetime = NOON, **columns: object) -> pa.Table:
    row = {"cluster": cluster, "date": time.date(), "time": time, "verdict": "FORWARDED", **columns}
    return pa.Table.from_pylist([{**row, "source_port": number} for number in range(count)], schema=FLOWS.schema)


def open_lake(folder: Path) -> Lake:
    return Lake.open(config.Lake(url=str(folder)))


def append(lake: Lake, rows: pa.Table, version: int, *, app_id: str = "collector", table: Table = FLOWS, **metadata: str) -> None:
    lake.commit(table, lake.write_files(table, rows), transactions={app_id: version}, metadata=metadata)


def parquet_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts]


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_same_transaction_twice_is_refused_and_stored_once(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    append(lake, flows(3), 7)
    with pytest.raises(CommitConflictError, match="collector has committed version 7"):
        append(lake, flows(3), 7)
    with pytest.raises(CommitConflictError, match="so 6 is refused"):
        append(lake, flows(3), 6)
    assert lake.read(FLOWS).num_rows == 3
    assert len(parquet_files(tmp_path)) == 1, "orphans of refused commits are deleted"


def test_files_committed_before_are_kept_when_their_second_commit_is_refused(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    written = lake.write_files(FLOWS, flows(3))
    lake.commit(FLOWS, written, transactions={"collector": 0}, metadata={})
    with pytest.raises(CommitConflictError):
        lake.commit(FLOWS, written, transactions={"collector": 0}, metadata={})
    assert lake.read(FLOWS).num_rows == 3


@pytest.mark.parametrize("late", [OSError("checkpoint"), CommitFailedError("Concurrent transaction failed.")])
def test_an_error_after_the_commit_keeps_the_files_it_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: Exception) -> None:
    lake, commit = open_lake(tmp_path), DeltaTable.create_write_transaction

    def commit_and_fail(*arguments: Any, **options: Any) -> None:
        commit(*arguments, **options)
        raise late

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit_and_fail)
    append(lake, flows(3), 0)
    assert lake.read(FLOWS).num_rows == 3
    assert lake.transaction_version(FLOWS, "collector") == 0


def test_of_handles_racing_on_one_app_id_exactly_one_wins(tmp_path: Path) -> None:
    lakes = [open_lake(tmp_path) for _ in range(4)]
    for version in range(5):
        barrier = threading.Barrier(len(lakes))

        def race(lake: Lake, barrier: threading.Barrier = barrier, version: int = version) -> bool:
            written = lake.write_files(FLOWS, flows(2))
            barrier.wait()
            try:
                lake.commit(FLOWS, written, transactions={"collector": version}, metadata={})
            except CommitConflictError:
                return False
            return True

        with ThreadPoolExecutor(len(lakes)) as pool:
            assert sum(pool.map(race, lakes)) == 1
    assert lakes[0].read(FLOWS).num_rows == 10
    assert lakes[1].transaction_version(FLOWS, "collector") == 4
    assert len(parquet_files(tmp_path)) == 5


def test_writers_of_different_app_ids_all_win_and_a_reader_sees_whole_batches(tmp_path: Path) -> None:
    done = threading.Event()

    def write(name: str) -> None:
        lake = open_lake(tmp_path)
        for version in range(5):
            append(lake, pa.concat_tables([flows(50), flows(50, cluster="west")]), version, app_id=name)

    def watch() -> set[int]:
        lake, seen = open_lake(tmp_path), set()
        while not done.is_set():
            seen.add(lake.read(FLOWS, ["cluster"]).num_rows)
        return seen

    with ThreadPoolExecutor(4) as pool:
        reader = pool.submit(watch)
        try:
            list(pool.map(write, ["a", "b", "c"]))
        finally:
            done.set()
        assert {count % 100 for count in reader.result()} == {0}
    assert open_lake(tmp_path).read(FLOWS, ["cluster"]).num_rows == 3 * 5 * 100


def test_opening_at_once_in_many_handles_creates_the_tables_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        lakes = list(pool.map(open_lake, [tmp_path / "lake"] * 8))
    append(lakes[0], flows(1), 0)
    assert all(lake.read(FLOWS).num_rows == 1 for lake in lakes)
    for table in TABLES.values():
        made = DeltaTable(lakes[0].address(table))
        assert made.metadata().partition_columns == list(table.partition_by)
        assert made.metadata().configuration == {
            "delta.checkpointInterval": "100",
            "delta.dataSkippingNumIndexedCols": str(table.statistics_columns),
            "hindcast.format": "1",
            "hindcast.schemaVersion": str(table.version),
        }


def test_empty_rows_write_no_file_and_their_commit_still_counts(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    assert lake.files(FLOWS) == []
    assert lake.read(FLOWS).schema == FLOWS.schema
    assert lake.write_files(FLOWS, FLOWS.schema.empty_table()) == []
    assert lake.transaction_version(FLOWS, "collector") is None
    assert lake.last_metadata(FLOWS, "resume") is None
    append(lake, FLOWS.schema.empty_table(), 0, resume="here")
    assert (lake.transaction_version(FLOWS, "collector"), lake.last_metadata(FLOWS, "resume")) == (0, "here")


def test_the_newest_metadata_of_a_key_is_found_behind_many_commits_without_it(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    for version, resume in enumerate(["old", "new"]):
        append(lake, FLOWS.schema.empty_table(), version, resume=resume)
    for version in range(40):
        append(lake, FLOWS.schema.empty_table(), version, app_id="other")
    assert open_lake(tmp_path).last_metadata(FLOWS, "resume") == "new"


def test_a_full_disk_is_reported_with_table_and_path_and_leaves_nothing(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    rows = pa.concat_tables([flows(1), flows(2000, cluster="west", uuid="x" * 3000)])
    with full_disk(16_000), pytest.raises(LakeError, match=f"table flows at {tmp_path}.*cannot be written"):
        lake.write_files(FLOWS, pa.concat_tables([rows] + [flows(1, uuid=f"{n * 7919:x}" * 500, cluster="west") for n in range(500)]))
    assert parquet_files(tmp_path) == []
    written = lake.write_files(FLOWS, flows(9))
    with full_disk(0), pytest.raises(LakeError, match=f"table flows at {tmp_path}.*cannot be committed to"):
        lake.commit(FLOWS, written, transactions={"collector": 0}, metadata={})
    assert parquet_files(tmp_path) == []
    append(lake, flows(9), 0)
    assert lake.read(FLOWS).num_rows == 9


def test_a_lake_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "lake"
    taken.write_text("a file")
    for url in (taken, Path("/proc/hindcast")):
        with pytest.raises(LakeError, match=f"table flows at {url}/flows cannot be opened"):
            open_lake(url)


def test_rows_without_a_cluster_or_of_another_table_are_refused(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    for rows in (flows(1, cluster=""), COVERAGE.schema.empty_table()):
        with pytest.raises(LakeError, match="table flows at"):
            lake.write_files(FLOWS, rows)
    assert parquet_files(tmp_path) == []


def test_a_lake_behind_a_url_takes_options_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config.Lake(url=f"file://{tmp_path}", options={"timeout": "env:HINDCAST_TEST_TIMEOUT"})
    with pytest.raises(ConfigError, match="HINDCAST_TEST_TIMEOUT"):
        Lake.open(settings)
    monkeypatch.setenv("HINDCAST_TEST_TIMEOUT", "30s")
    lake = Lake.open(settings)
    append(lake, flows(3), 0)
    assert lake.read(FLOWS).num_rows == 3
    with pytest.raises(CommitConflictError):
        append(lake, flows(3), 0)
    assert len(parquet_files(tmp_path)) == 1


@pytest.mark.slow
def test_a_file_is_laid_out_as_the_facts_say_and_its_statistics_are_deltas(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    (written,) = lake.write_files(FLOWS, flows(70_000, source_labels=["k8s:app=a"]))
    assert written.path.startswith("cluster=east/date=2026-07-01/")
    path = tmp_path / "flows" / written.path
    assert (written.size, written.rows) == (path.stat().st_size, 70_000)
    footer = pq.ParquetFile(path).metadata
    assert [footer.row_group(number).num_rows for number in range(footer.num_row_groups)] == [65_536, 70_000 - 65_536]
    assert b"ARROW:schema" not in (footer.metadata or {})
    group = footer.row_group(0)
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "DELTA_BINARY_PACKED" in columns["time"].encodings
    assert set(columns["source_port"].encodings) == {"PLAIN", "RLE"}
    read_everywhere = {"PLAIN", "RLE", "RLE_DICTIONARY", "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY"}
    assert {encoding for column in columns.values() for encoding in column.encodings} <= read_everywhere
    assert "RLE_DICTIONARY" in columns["verdict"].encodings
    assert "RLE_DICTIONARY" in columns["source_labels.list.element"].encodings
    told = json.loads(written.statistics)
    assert told["numRecords"] == 70_000
    assert told["minValues"] == told["maxValues"] == {"time": "2026-07-01T12:00:00.000000Z", "verdict": "FORWARDED"}
    assert told["nullCount"] == {"time": 0, "source_namespace": 70_000, "destination_namespace": 70_000, "verdict": 0}
