"""Copies of a remote lake's files: bounded for all processes of the machine, never needed, never wrong, gone with what they copy."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from warehouse.lake import local_copies
from warehouse.lake.copy_index import CopyIndex
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


def held(folder: Path) -> Iterator[Path]:
    return (path for path in (folder / "copies").rglob("*") if path.is_file() and not path.name.startswith("index.sqlite"))


def forget_uses(folder: Path) -> None:
    """Make every copy one that was used an hour ago, in the order of their names."""
    for file in (folder / "copies").rglob("index.sqlite"):
        index = CopyIndex(file)
        index._connection.execute("UPDATE copies SET used = used - 3600")
        index.close()


def test_without_room_nothing_is_copied(tmp_path: Path, remote: Remote) -> None:
    assert copies_of(tmp_path, 0).fetch("flows", remote.filesystem, [remote.put("a", 1)]) == {}


def test_a_folder_that_cannot_be_made_only_means_that_there_are_no_copies(tmp_path: Path, remote: Remote) -> None:
    (tmp_path / "copies").write_text("a file")
    copies = copies_of(tmp_path, 1_000)
    assert copies.fetch("flows", remote.filesystem, [remote.put("a", 1)]) == {}
    copies.sweep(lambda _table: [])
    copies.remove("flows", ["a"])


def test_an_index_that_is_not_one_only_means_that_there_are_no_copies(tmp_path: Path, remote: Remote) -> None:
    copies, file = copies_of(tmp_path, 1_000), remote.put("a", 10)
    copies.fetch("flows", remote.filesystem, [file])
    (index,) = (tmp_path / "copies").rglob("index.sqlite")
    index.write_bytes(b"no database" * 100)
    assert copies.fetch("flows", remote.filesystem, [file]) == {}
    copies.remove("flows", ["a"])


def test_a_file_that_is_gone_is_an_error(tmp_path: Path, remote: Remote) -> None:
    file = remote.put("a", 1)
    (remote.folder / "a").unlink()
    with pytest.raises(OSError, match="a"):
        copies_of(tmp_path, 1_000).fetch("flows", remote.filesystem, [file])


def test_a_download_that_was_cut_short_is_an_error_and_no_copy(tmp_path: Path, remote: Remote) -> None:
    file, copies = remote.put("a", 10), copies_of(tmp_path, 1_000)
    (remote.folder / "a").write_bytes(b"x")
    with pytest.raises(OSError, match="has 1 bytes in the store, and 10 by the table's log"):
        copies.fetch("flows", remote.filesystem, [file])
    assert not list(held(tmp_path))


def test_a_file_that_would_take_most_of_the_room_is_read_where_it_is(tmp_path: Path, remote: Remote) -> None:
    small, large = remote.put("small", 10), remote.put("large", 1_000 // LARGEST_SHARE + 1)
    assert list(copies_of(tmp_path, 1_000).fetch("flows", remote.filesystem, [small, large])) == ["small"]


def test_a_copy_is_fetched_once_also_by_the_next_process(tmp_path: Path, remote: Remote) -> None:
    file = remote.put("a", 10)
    first = copies_of(tmp_path, 1_000).fetch("flows", remote.filesystem, [file])
    (remote.folder / "a").unlink()
    assert copies_of(tmp_path, 1_000).fetch("flows", remote.filesystem, [file]) == first
    assert first["a"].read_bytes() == b"x" * 10


@pytest.mark.parametrize("content", [b"x", b"y" * 10])
def test_a_copy_that_is_not_what_was_downloaded_is_fetched_again(tmp_path: Path, remote: Remote, content: bytes) -> None:
    file, copies = remote.put("a", 10), copies_of(tmp_path, 1_000)
    copies.fetch("flows", remote.filesystem, [file])["a"].write_bytes(content)
    assert copies.fetch("flows", remote.filesystem, [file])["a"].read_bytes() == b"x" * 10


def test_content_that_rots_under_an_unchanged_time_is_found_by_the_daily_check(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, copies = remote.put("a", 10), copies_of(tmp_path, 1_000)
    copy = copies.fetch("flows", remote.filesystem, [file])["a"]
    before = copy.stat()
    copy.write_bytes(b"y" * 10)
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.setattr(local_copies, "CHECK_SECONDS", 0.0)
    assert copies.fetch("flows", remote.filesystem, [file])["a"].read_bytes() == b"x" * 10


def test_copies_never_take_more_than_their_room_and_those_used_longest_ago_go_first(tmp_path: Path, remote: Remote) -> None:
    copies, files = copies_of(tmp_path, 80), [remote.put(f"f{number:02}", 10) for number in range(20)]
    for file in files:
        assert list(copies.fetch("flows", remote.filesystem, [file])) == [file.path]
        forget_uses(tmp_path)
        assert sum(path.stat().st_size for path in held(tmp_path)) <= 80
    assert {path.name for path in held(tmp_path)} == {f"f{number}" for number in range(12, 20)}


def test_copies_that_were_used_just_now_stay_and_the_rest_is_read_where_it_is(tmp_path: Path, remote: Remote) -> None:
    copies = copies_of(tmp_path, 80)
    kept = [remote.put(f"f{number}", 10) for number in range(8)]
    assert len(copies.fetch("flows", remote.filesystem, kept)) == 8
    assert copies.fetch("flows", remote.filesystem, [remote.put("more", 10)]) == {}
    assert len(copies.fetch("flows", remote.filesystem, kept)) == 8


@pytest.mark.slow
def test_processes_that_fetch_at_once_keep_to_the_room_together(tmp_path: Path, remote: Remote) -> None:
    for number in range(40):
        remote.put(f"f{number}", 10)
    program = f"""
import sys
from pathlib import Path
import pyarrow.fs as pafs
from warehouse.lake.files import StoredFile
from warehouse.lake.local_copies import LocalCopies
copies = LocalCopies(Path({str(tmp_path / "copies")!r}), "s3://bucket/lake", 200)
remote = pafs.SubTreeFileSystem({str(remote.folder)!r}, pafs.LocalFileSystem())
for number in range(int(sys.argv[1]), 40, 4):
    copies.fetch("flows", remote, [StoredFile(path=f"f{{number}}", partition={{}}, size=10, rows=1, first=None, last=None)])
"""

    def run(number: int) -> int:
        return subprocess.run([sys.executable, "-c", program, str(number)], check=False).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [0] * 4
    assert sum(path.stat().st_size for path in held(tmp_path)) == 200


def test_copies_of_files_that_were_deleted_go_with_them_even_if_they_are_in_use(tmp_path: Path, remote: Remote) -> None:
    copies = copies_of(tmp_path, 1_000)
    copies.fetch("flows", remote.filesystem, [remote.put("a", 10), remote.put("b", 10)])
    copies.remove("flows", ["a", "never copied"])
    assert [path.name for path in held(tmp_path)] == ["b"]


def test_copies_of_files_that_left_the_table_go_once_they_are_not_used(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_copies, "SWEEP_SECONDS", -1.0)
    copies, files = copies_of(tmp_path, 1_000), [remote.put(name, 10) for name in "abc"]
    copies.fetch("flows", remote.filesystem, files)
    copies.fetch("edges_1h", remote.filesystem, files)
    copies.sweep(lambda _table: ["a"])
    assert len(list(held(tmp_path))) == 6, "a question may just be reading them"
    forget_uses(tmp_path)
    copies.sweep(lambda table: ["a"] if table == "flows" else None)
    assert sorted(f"{path.parent.name}/{path.name}" for path in held(tmp_path)) == ["edges_1h/a", "edges_1h/b", "edges_1h/c", "flows/a"]


def test_copies_of_files_that_left_the_table_an_hour_ago_go_even_if_they_are_used(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_copies, "SWEEP_SECONDS", -1.0)
    monkeypatch.setattr(local_copies, "GONE_SECONDS", -1.0)
    copies = copies_of(tmp_path, 1_000)
    copies.fetch("flows", remote.filesystem, [remote.put("a", 10)])
    copies.sweep(lambda _table: [])
    assert not list(held(tmp_path))


def test_what_a_killed_process_left_behind_goes(tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_copies, "SWEEP_SECONDS", -1.0)
    copies, file = copies_of(tmp_path, 1_000), remote.put("a", 10)
    copy = copies.fetch("flows", remote.filesystem, [file])["a"]
    left = copy.with_name(".0123456789abcdef")
    left.write_bytes(b"half")
    copies.sweep(lambda _table: ["a"])
    assert left.exists(), "another process may just be writing it"
    os.utime(left, (time.time() - 7_200,) * 2)
    copies.sweep(lambda _table: ["a"])
    assert [path.name for path in held(tmp_path)] == ["a"]
