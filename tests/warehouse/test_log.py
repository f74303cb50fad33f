"""The log of a table: brought forward entry by entry, and kept small without losing what somebody still needs."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Sequence
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse import config
from warehouse.lake import log
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

NOON = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
SOON = dt.timedelta(hours=1)


def open_lake(folder: Path) -> Lake:
    return Lake.open(config.Lake(url=str(folder)))


def append(lake: Lake, cluster: str = "east", *, hours: int = 0, metadata: dict[str, str] | None = None) -> None:
    time = NOON + dt.timedelta(hours=hours)
    rows = pa.Table.from_pylist([{"cluster": cluster, "date": time.date(), "time": time}], schema=FLOWS.schema)
    lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata=metadata or {})


def log_of(lake: Lake) -> pafs.FileSystem:
    return pafs.SubTreeFileSystem(lake.address(FLOWS), pafs.LocalFileSystem())


def later() -> dt.datetime:
    """A time at which all entries written until now are old."""
    return dt.datetime.now(dt.UTC) + log.LEAST_AGE + SOON


# What it must never do ----------------------------------------------------------------------------------------


def test_a_log_without_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    append(lake)
    assert log.delete_old(log_of(lake), now=later(), most_bytes=0) == 0


def test_entries_that_readers_may_still_need_are_left(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    for _ in range(5):
        append(lake)
    lake.checkpoint(FLOWS)
    assert log.delete_old(log_of(lake), now=dt.datetime.now(dt.UTC), most_bytes=0) == 0


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    append(lake)
    lake.checkpoint(FLOWS)
    assert lake.tidy_log(FLOWS, now=later()) == 0


def test_the_newest_note_of_each_writer_outlives_the_entries_around_it(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    append(lake, metadata={"collect:a": "first"})
    append(lake, metadata={"collect:a": "last of a"})
    for number in range(5):
        append(lake, metadata={"collect:b": str(number)})
    lake.checkpoint(FLOWS)
    assert log.delete_old(log_of(lake), now=later(), most_bytes=0) > 0
    again = open_lake(tmp_path)
    assert (again.last_metadata(FLOWS, "collect:a"), again.last_metadata(FLOWS, "collect:b")) == ("last of a", "4")
    assert again.last_metadata(FLOWS, "collect:c") is None


def test_after_old_entries_are_deleted_every_reader_finds_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = open_lake(tmp_path), open_lake(tmp_path)
    append(writer)
    assert len(reader.files(FLOWS)) == 1
    for number in range(6):
        append(writer, hours=number)
    monkeypatch.setattr(log, "MOST_BYTES", 0)
    monkeypatch.setattr(log, "CHECKPOINT_EVERY", 1)
    assert writer.tidy_log(FLOWS, now=later()) > 0
    append(writer)
    for looks in (reader._looked, reader._updated):  # as after a long pause
        looks[FLOWS.name] = looks.get(FLOWS.name, 0.0) - 2 * 3600
    assert sorted(reader.files(FLOWS)) == sorted(writer.files(FLOWS)) == sorted(open_lake(tmp_path).files(FLOWS))
    assert len(writer.files(FLOWS)) == 8


def test_only_as_much_is_deleted_as_makes_the_log_small_enough(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    for _ in range(10):
        append(lake)
    lake.checkpoint(FLOWS)
    most = log.size(log_of(lake)) - 1
    assert log.delete_old(log_of(lake), now=later(), most_bytes=most) == 1
    assert log.size(log_of(lake)) <= most
    assert log.delete_old(log_of(lake), now=later(), most_bytes=most) == 0


# What it does -------------------------------------------------------------------------------------------------


def test_a_commit_makes_no_reader_read_the_whole_log_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = open_lake(tmp_path), open_lake(tmp_path)
    append(writer)
    assert len(reader.files(FLOWS)) == 1
    whole = []
    read_all = deltalake.DeltaTable.get_add_actions
    monkeypatch.setattr(deltalake.DeltaTable, "get_add_actions", lambda self, **more: whole.append(1) or read_all(self, **more))
    append(writer)
    assert len(reader.files(FLOWS)) == 2
    assert whole == []


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.sampled_from(["append", "merge", "empty"]), st.sampled_from(["east", "west", "a b/c%20"]), st.integers(-30, 30)),
        max_size=8,
    )
)
def test_a_version_brought_forward_is_the_one_that_is_read_anew(steps: Sequence[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer, reader = open_lake(Path(folder)), open_lake(Path(folder))
        for step, cluster, hours in steps:
            own = writer.contents(FLOWS, clusters=[cluster])
            if step == "append":
                append(writer, cluster, hours=hours)
            elif own and len({file.partition["date"] for file in own}) == 1:
                rows = writer.read(FLOWS, clusters=[cluster])
                writer.replace(FLOWS, own, writer.write_files(FLOWS, rows) if step == "merge" else [], guard=cluster)
            reader.files(FLOWS)
        anew = open_lake(Path(folder))
        by_path = {file.path: file for file in anew.contents(FLOWS)}
        assert {file.path: file for file in reader.contents(FLOWS)} == by_path
        since, until = NOON, NOON + dt.timedelta(hours=3)
        assert sorted(reader.files(FLOWS, clusters=["east"], since=since, until=until)) == sorted(
            anew.files(FLOWS, clusters=["east"], since=since, until=until)
        )
