"""An engine elsewhere that reads and writes a lake in a bucket, with credentials of its own; without them the embedded engine works."""

import datetime as dt
from typing import Any

import pytest

from pipelines.maintenance import erasure, retention
from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.schema import COVERAGE, EDGES_1H, FLOWS, ROLLUPS, TIMELINE_1M

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
LATER, NEXT_DAY = NOON + dt.timedelta(hours=8), NOON + dt.timedelta(hours=30)
pytestmark = pytest.mark.peers


def test_an_engine_that_cannot_reach_the_bucket_is_named_and_the_embedded_engine_does_the_work(
    twins_on_s3: Any, sail: Any, told: list[Any]
) -> None:
    twins_on_s3.append(100)
    assert len(compact_closed_hours(twins_on_s3.there, now=LATER, on=sail)) == 1
    assert [event for event, _ in told] == ["the engine failed; the embedded engine does this work"]
    twins_on_s3.assert_equal(FLOWS)
    assert not [file.path for file in twins_on_s3.there.contents(FLOWS) if "engine-" in file.path]


def test_hours_days_rollups_erasure_and_retention_are_done_in_the_bucket_as_on_a_disk(
    twins_on_s3: Any, sail_on_s3: Any, told: list[Any]
) -> None:
    twins = twins_on_s3
    twins.append(600, rate=0.1)
    places = ((twins.here, None), (twins.there, sail_on_s3))
    for now in (LATER, NEXT_DAY):
        mine, theirs = (compact_closed_hours(lake, now=now, on=on) for lake, on in places)
        assert [one.duplicates for one in theirs] == [one.duplicates for one in mine]
        twins.assert_equal(FLOWS, COVERAGE)
    for lake, on in places:
        roll_up_closed_hours(lake, config.Rollups(), now=NEXT_DAY, on=on)
    twins.assert_equal(*ROLLUPS)
    names = [name for name in twins.here.read(FLOWS)["destination_namespace"].to_pylist() if name]
    request = erasure.Request(cluster="c1", namespace=max(set(names), key=names.count), reason="r", asked_by="a")
    gone = [erasure.erase(lake, request, (), now=NEXT_DAY, on=on) for lake, on in places]
    assert [(one.table.name, one.rows) for one in gone[1]] == [(one.table.name, one.rows) for one in gone[0]]
    assert gone[0]
    twins.assert_equal(FLOWS, EDGES_1H, TIMELINE_1M)
    settings = config.Retention(
        flows=dt.timedelta(days=300), overrides=[config.RetentionOverride(namespace=min(set(names)), flows=dt.timedelta(hours=1))]
    )
    for lake, on in places:
        retention.retain(lake, settings, now=NEXT_DAY + dt.timedelta(days=1), on=on)
    twins.assert_equal(FLOWS)
    assert not told, "no work fell back to the embedded engine"
