"""Rows of files that are kept in memory."""

from __future__ import annotations

import pyarrow as pa

from warehouse.lake.file_cache import FileCache


class Disk:
    """Files of one row, and how often each was read."""

    def __init__(self) -> None:
        self.read_of: list[str] = []

    def read(self, paths: list[str]) -> dict[str, pa.Table]:
        self.read_of += paths
        return {path: pa.table({"path": [path]}) for path in paths}


def test_no_files_have_no_rows() -> None:
    assert FileCache().rows([], Disk().read) == []


def test_a_file_is_read_once_and_rows_come_in_the_order_of_the_request() -> None:
    disk, kept = Disk(), FileCache()
    kept.rows(["a", "b"], disk.read)
    again = kept.rows(["c", "b", "a"], disk.read)
    assert [table["path"][0].as_py() for table in again] == ["c", "b", "a"]
    assert disk.read_of == ["a", "b", "c"]


def test_the_least_recently_used_rows_are_dropped_first() -> None:
    disk = Disk()
    size = disk.read(["a"])["a"].get_total_buffer_size()
    kept = FileCache(most_bytes=2 * size)
    for path in ("a", "b", "a", "c"):
        kept.rows([path], disk.read)
    disk.read_of.clear()
    kept.rows(["a", "c"], disk.read)
    kept.rows(["b"], disk.read)
    assert disk.read_of == ["b"]


def test_a_file_that_is_larger_than_all_room_is_read_each_time() -> None:
    disk, kept = Disk(), FileCache(most_bytes=1)
    assert [kept.rows(["a"], disk.read)[0].num_rows for _ in range(2)] == [1, 1]
    assert disk.read_of == ["a", "a"]
