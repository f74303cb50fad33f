"""Copies of a remote lake's files: bounded, never needed, never wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from warehouse.lake.files import StoredFile
from warehouse.lake.local_copies import LARGEST_SHARE, LocalCopies


class Remote:
    """A folder that stands for a table elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.filesystem = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())

    def put(self, name: str, size: int) -> StoredFile:
        (self.folder / name).write_bytes(b"x" * size)
        return StoredFile(path=name, partition={}, size=size, rows=1, first=None, last=None)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path / "remote")


def copies_of(folder: Path, most_bytes: int) -> LocalCopies:
    return LocalCopies(folder / "copies", "s3://bucket/lake", most_bytes)


def test_without_room_nothing_is_copied(tmp_path: Path, remote: Remote) -> None:
    assert copies_of(tmp_path, 0).fetch("flows", remote.filesystem, [remote.put("a", 1)]) == {}


def test_a_folder_that_cannot_be_made_only_means_that_there_are_no_copies(tmp_path: Path, remote: Remote) -> None:
    (tmp_path / "copies").write_text("a file")
    assert copies_of(tmp_path, 1_000).fetch("flows", remote.filesystem, [remote.put("a", 1)]) == {}


def test_a_file_that_is_gone_is_an_error(tmp_path: Path, remote: Remote) -> None:
    file = remote.put("a", 1)
    (remote.folder / "a").unlink()
    with pytest.raises(OSError, match="a"):
        copies_of(tmp_path, 1_000).fetch("flows", remote.filesystem, [file])


def test_a_file_that_would_take_most_of_the_room_is_read_where_it_is(tmp_path: Path, remote: Remote) -> None:
    small, large = remote.put("small", 10), remote.put("large", 1_000 // LARGEST_SHARE + 1)
    assert list(copies_of(tmp_path, 1_000).fetch("flows", remote.filesystem, [small, large])) == ["small"]


def test_a_copy_is_fetched_once_also_by_the_next_process(tmp_path: Path, remote: Remote) -> None:
    file = remote.put("a", 10)
    first = copies_of(tmp_path, 1_000).fetch("flows", remote.filesystem, [file])
    (remote.folder / "a").unlink()
    assert copies_of(tmp_path, 1_000).fetch("flows", remote.filesystem, [file]) == first
    assert first["a"].read_bytes() == b"x" * 10


def test_a_copy_that_was_cut_short_is_fetched_again(tmp_path: Path, remote: Remote) -> None:
    file, copies = remote.put("a", 10), copies_of(tmp_path, 1_000)
    copies.fetch("flows", remote.filesystem, [file])["a"].write_bytes(b"x")
    assert copies.fetch("flows", remote.filesystem, [file])["a"].stat().st_size == 10


def test_copies_never_take_more_than_their_room_and_those_used_longest_ago_go_first(tmp_path: Path, remote: Remote) -> None:
    copies, files = copies_of(tmp_path, 80), [remote.put(f"f{number}", 10) for number in range(20)]
    for file in files:
        for name, copy in copies.fetch("flows", remote.filesystem, [file]).items():
            assert name == file.path
            os.utime(copy, (time.time() - 3_600, time.time() - 3_600))
        held = [path for path in (tmp_path / "copies").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in held) <= 80
    assert {path.name for path in held} == {f"f{number}" for number in range(12, 20)}


def test_copies_that_were_used_just_now_stay_and_the_rest_is_read_where_it_is(tmp_path: Path, remote: Remote) -> None:
    copies = copies_of(tmp_path, 80)
    kept = [remote.put(f"f{number}", 10) for number in range(8)]
    assert len(copies.fetch("flows", remote.filesystem, kept)) == 8
    assert copies.fetch("flows", remote.filesystem, [remote.put("more", 10)]) == {}
    assert len(copies.fetch("flows", remote.filesystem, kept)) == 8
