"""Rolling up on an engine elsewhere: the rows are those of the embedded engine, whichever server computes them."""

import datetime as dt
import os
import time
from typing import Any

import pytest

from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.schema import FLOWS, ROLLUPS

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
LATER = NOON + dt.timedelta(hours=6)
SETTINGS = config.Rollups(ports_per_edge=3)


def test_rollups_are_the_embedded_engines_row_by_row(twins: Any, server: Any, told: list[Any]) -> None:
    twins.append(3000)
    for lake, on in ((twins.here, None), (twins.there, server)):
        (done,) = roll_up_closed_hours(lake, SETTINGS, now=LATER, on=on)
        assert done.flows > 0
    assert not told, "no work fell back to the embedded engine"
    twins.assert_equal(*ROLLUPS)
    assert not list(twins.folder_there.rglob("engine-*")), "rows that several queries needed are deleted again"
    assert roll_up_closed_hours(twins.there, SETTINGS, now=LATER, on=server) == [], "a second run finds nothing to do"


def test_a_server_that_may_only_read_computes_rollups_all_the_same(
    twins: Any, sail: Any, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    twins.append(300)
    (twins.folder_there / "no-folder").write_bytes(b"")
    monkeypatch.setattr(twins.there, "folder_to_write", lambda *_given: "no-folder/engine")
    for lake, on in ((twins.here, None), (twins.there, sail)):
        roll_up_closed_hours(lake, SETTINGS, now=LATER, on=on)
    assert not told, "no work fell back to the embedded engine"
    twins.assert_equal(*ROLLUPS)


def test_rows_that_a_killed_process_left_on_the_engine_are_vacuumed(twins: Any) -> None:
    twins.append(10)
    left = twins.folder_there / twins.there.folder_to_write(FLOWS, {}) / "part-0.parquet"
    left.parent.mkdir()
    left.write_bytes(b"left")
    os.utime(left, (time.time() - 7200,) * 2)
    assert len(twins.there.vacuum(FLOWS, older_than=dt.timedelta(hours=1), dry_run=False)) == 1
    assert not left.exists()
    twins.assert_equal(FLOWS)
