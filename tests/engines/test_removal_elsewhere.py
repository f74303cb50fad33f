"""Erasure and retention on an engine elsewhere: holds are kept, and what remains is what the embedded engine leaves."""

import datetime as dt
from typing import Any

import pytest

from pipelines.maintenance import erasure, retention
from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.engines import spark
from warehouse.schema import EDGES_1H, FLOWS, TIMELINE_1M

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
LATER = NOON + dt.timedelta(days=2)
CHANGED = (FLOWS, EDGES_1H, TIMELINE_1M)


@pytest.fixture
def filled(twins: Any) -> Any:
    """Two lakes with some hours of flows, in files of every kind, and their rollups."""
    twins.append(600, rate=0.1)
    for lake in (twins.here, twins.there):
        compact_closed_hours(lake, now=NOON + dt.timedelta(hours=8))
        roll_up_closed_hours(lake, config.Rollups(), now=NOON + dt.timedelta(hours=8))
    twins.append(100, seed=3)
    return twins


def busiest(twins: Any) -> list[str]:
    counted = twins.here.read(FLOWS).group_by("destination_namespace").aggregate([("time", "count")]).to_pylist()
    return [row["destination_namespace"] for row in sorted(counted, key=lambda row: -row["time_count"]) if row["destination_namespace"]]


def test_erasure_keeps_what_is_held_and_removes_the_rest_as_the_embedded_engine_does(filled: Any, server: Any, told: list[Any]) -> None:
    wanted, other = busiest(filled)[:2]
    holds = (config.Hold(reason="case", cluster="c*", namespace=f"{other[:2]}*", since=NOON, until=NOON + dt.timedelta(minutes=30)),)
    request = erasure.Request(cluster="c1", namespace=wanted, since=NOON, until=NOON + dt.timedelta(hours=2), reason="r", asked_by="a")
    mine, theirs = (erasure.erase(lake, request, holds, now=LATER, on=on) for lake, on in ((filled.here, None), (filled.there, server)))
    assert [(one.table.name, one.rows, one.held) for one in theirs] == [(one.table.name, one.rows, one.held) for one in mine]
    assert sum(one.rows for one in mine)
    assert sum(one.held for one in mine)
    filled.assert_equal(*CHANGED)
    assert not told, "no work fell back to the embedded engine"
    assert sum(one.rows for one in erasure.erase(filled.there, request, holds, now=LATER, on=server)) == 0, "a second run removes nothing"


def test_names_that_are_hostile_to_sql_select_nothing_else(filled: Any, server: Any) -> None:
    for name in ("x' OR '1'='1", "x\\' OR 1=1 --"):
        request = erasure.Request(cluster="c1", namespace=name, reason="r", asked_by="a")
        assert erasure.erase(filled.there, request, (), now=LATER, on=server) == []
    filled.assert_equal(FLOWS)


def test_retention_by_namespace_leaves_what_the_embedded_engine_leaves(filled: Any, server: Any, told: list[Any]) -> None:
    kept = busiest(filled)[0]
    settings = config.Retention(
        flows=dt.timedelta(days=1),
        edges_1h=dt.timedelta(days=1),
        overrides=(config.RetentionOverride(namespace=f"{kept[:-1]}*", flows=dt.timedelta(days=30), edges_1h=dt.timedelta(days=30)),),
    )
    mine, theirs = (
        retention.retain(lake, settings, now=NOON + dt.timedelta(days=4), on=on)
        for lake, on in ((filled.here, None), (filled.there, server))
    )
    assert [(one.table.name, one.rows, one.held) for one in theirs] == [(one.table.name, one.rows, one.held) for one in mine]
    assert 0 < filled.there.rows(FLOWS) < 700
    filled.assert_equal(*CHANGED)
    assert not told


def test_a_writer_that_races_loses_nothing_and_what_is_to_go_goes(filled: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write, wanted, raced = spark.SparkConnection.write, busiest(filled)[0], []

    def racing(self: Any, sql: str, lake: Any, table: Any, *given: Any, **more: Any) -> Any:
        written = write(self, sql, lake, table, *given, **more)
        if not raced:
            raced.append(compact_closed_hours(filled.there, now=LATER))
        return written

    monkeypatch.setattr(spark.SparkConnection, "write", racing)
    request = erasure.Request(cluster="c1", namespace=wanted, reason="r", asked_by="a")
    erasure.erase(filled.there, request, (), now=LATER, on=server)
    assert raced[0], "another process has compacted meanwhile"
    erasure.erase(filled.here, request, (), now=LATER)
    filled.assert_equal(FLOWS)
