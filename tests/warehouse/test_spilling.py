"""Queries that need more memory than they may use: what they write to disk, and where."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from warehouse import engine
from warehouse.engine import Limits
from warehouse.errors import QueryLimitError

LITTLE = Limits(memory_bytes=96 * 1024**2)
SORTED = "SELECT max(x) AS most FROM (SELECT hash(range) AS x FROM range(8_000_000) ORDER BY x LIMIT 7_999_999 OFFSET 1)"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory and the folder for temporary files are folders of the test."""
    for name in ("here", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def test_nothing_is_written_to_a_folder_that_somebody_else_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary" / "hindcast-4242").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(QueryLimitError, match="96 MiB"):
        engine.run(engine.connect(LITTLE), SORTED, (), LITTLE)


def test_a_confined_query_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(QueryLimitError, match="96 MiB"):
        engine.run(engine.connect(LITTLE, confined=True), SORTED, (), LITTLE)
    assert [*(tmp_path / "temporary").iterdir(), *(tmp_path / "here").iterdir()] == []


@pytest.mark.slow
def test_a_query_beyond_its_memory_goes_on_in_a_folder_that_only_its_user_reads_and_leaves_no_rows_behind(tmp_path: Path) -> None:
    connection = engine.connect(LITTLE)
    (row,) = engine.run(connection, SORTED, (), LITTLE)[0].to_pylist()
    assert row["most"] > 2**63
    connection.close()
    folder = tmp_path / "temporary" / f"hindcast-{os.getuid()}" / "spill"
    assert (folder.stat().st_mode & 0o777, [*(tmp_path / "here").iterdir()]) == (0o700, [])
    assert [file for file in folder.iterdir() if file.stat().st_size] == []
