"""Files that an engine elsewhere wrote become files of a table, in a folder and in object storage."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warehouse.errors import LakeError
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

PARTITION = {"cluster": "c1", "date": "2026-03-02"}


def written(place: Any, lake: Lake, uuids: list[list[str]]) -> tuple[str, Path]:
    """The name and the place of a folder into which an engine wrote a file for each list."""
    folder = lake.folder_to_write(FLOWS, PARTITION)
    there = Path(place.folder, FLOWS.name, folder)
    there.mkdir(parents=True)
    for number, listed in enumerate(uuids):
        rows = pa.Table.from_pylist([{"uuid": uuid} for uuid in listed], schema=FLOWS.file_schema)
        pq.write_table(rows, there / f"part-{number:05}.parquet")
    (there / "_SUCCESS").write_bytes(b"")
    return folder, there


def test_a_file_that_cannot_be_read_leaves_nothing_behind(place: Any) -> None:
    lake = place.open()
    folder, there = written(place, lake, [["a"]])
    (there / "part-00001.parquet").write_bytes(b"no Parquet")
    with pytest.raises(LakeError, match="cannot be read"):
        lake.adopt(FLOWS, PARTITION, folder)
    assert not list(Path(place.folder, FLOWS.name).rglob("*.parquet"))


def test_the_files_with_rows_are_committed_under_their_prefix_and_the_folder_is_gone(place: Any) -> None:
    lake = place.open()
    folder, there = written(place, lake, [["a", "b"], [], ["c"]])
    files = lake.adopt(FLOWS, PARTITION, folder, prefix="hour-10-")
    assert [file.rows for file in files] == [2, 1]
    assert all("/hour-10-" in file.path for file in files)
    assert not list(there.rglob("*"))
    lake.commit(FLOWS, files, transactions={}, metadata={})
    assert sorted(lake.read(FLOWS, ["uuid"])["uuid"].to_pylist()) == ["a", "b", "c"]
