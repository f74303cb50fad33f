"""Compaction on an engine elsewhere: a race doubles and loses nothing, and rows and their order are those of the embedded engine."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.maintenance import compaction, engine_compaction, layout
from pipelines.maintenance.compaction import compact, compact_closed_hours, plan
from warehouse.engines import spark
from warehouse.errors import EngineError
from warehouse.schema import COVERAGE, FLOWS

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
LATER = NOON + 6 * HOUR
NEXT_DAY = NOON + 30 * HOUR


def test_a_task_that_another_process_did_meanwhile_doubles_nothing(twins: Any, server: Any) -> None:
    twins.append(500)
    (task,) = plan(twins.there, now=LATER)
    assert compact(twins.there, task) is not None
    assert compact(twins.there, task, on=server) is None
    twins.assert_equal(FLOWS)


def test_flows_that_arrive_while_the_engine_writes_are_kept(twins: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    twins.append(500)
    write = spark.SparkConnection.write

    def late(self: Any, *given: Any, **more: Any) -> Any:
        done = write(self, *given, **more)
        twins.append(50, NOON + dt.timedelta(minutes=50), seed=9)
        return done

    monkeypatch.setattr(spark.SparkConnection, "write", late)
    (task,) = plan(twins.there, now=NOON + dt.timedelta(minutes=71))
    assert compact(twins.there, task, on=server) is not None
    assert twins.there.rows(FLOWS) == 550
    twins.assert_equal(FLOWS)


def test_an_engine_that_loses_rows_is_not_believed(twins: Any, server: Any, told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    twins.append(400)
    write = spark.SparkConnection.write

    def losing(self: Any, sql: str, *given: Any, **more: Any) -> Any:
        return write(self, f"SELECT * FROM ({sql}) LIMIT 100", *given, **more)

    monkeypatch.setattr(spark.SparkConnection, "write", losing)
    assert len(compact_closed_hours(twins.there, now=LATER, on=server)) == 1
    assert "400" in told[0][1]["reason"]
    assert twins.there.rows(FLOWS) == 400
    twins.assert_equal(FLOWS)


def test_an_engine_that_dies_leaves_nothing_and_the_embedded_engine_does_the_work(
    twins: Any, server: Any, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    twins.append(300)

    def dying(*_given: Any, **_more: Any) -> Any:
        raise EngineError("gone")

    monkeypatch.setattr(spark.SparkConnection, "write", dying)
    assert len(compact_closed_hours(twins.there, now=LATER, on=server)) == 1
    assert [event for event, _ in told] == ["the engine failed; the embedded engine does this work"]
    twins.assert_equal(FLOWS)
    assert not list(twins.folder_there.rglob("engine-*"))


def test_hours_and_days_get_the_rows_and_the_order_that_the_embedded_engine_gives_them(twins: Any, server: Any, told: list[Any]) -> None:
    first = twins.append(700, rate=0.2)  # about an hour
    twins.append(300, NOON + HOUR, seed=2)
    again = first.slice(0, 40)
    lag = pc.add(again["recorded_lag_ms"].fill_null(0), 5000)
    again = again.set_column(again.schema.get_field_index("recorded_lag_ms"), "recorded_lag_ms", lag)
    twins.append_rows(pa.concat_tables([again, _without_uuid(first.slice(50, 5)), _without_uuid(first.slice(50, 5))]))
    for now in (LATER, NEXT_DAY):
        mine, theirs = (compact_closed_hours(lake, now=now, on=on) for lake, on in ((twins.here, None), (twins.there, server)))
        assert [one.duplicates for one in theirs] == [one.duplicates for one in mine]
        twins.assert_equal(FLOWS, COVERAGE)
        assert _ordered(twins.there) == _ordered(twins.here)
    assert not told, "no work fell back to the embedded engine"
    assert sum(one.duplicates for one in mine) == 0
    assert compact_closed_hours(twins.there, now=NEXT_DAY, on=server) == [], "a second run finds nothing to do"


def test_more_rows_than_the_engine_sorts_at_once_are_written_in_parts(
    twins: Any, server: Any, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_compaction, "ROWS_AT_ONCE", 150)
    monkeypatch.setattr(layout, "DAY_GROUP_ROWS", 20)  # several bands
    rows = twins.append(700)
    twins.append_rows(rows.slice(0, 40))
    sizes = []
    write = spark.SparkConnection.write

    def measured(self: Any, *given: Any, **more: Any) -> Any:
        files = write(self, *given, **more)
        sizes.append(sum(file.rows for file in files))
        return files

    monkeypatch.setattr(spark.SparkConnection, "write", measured)
    for now in (LATER, NEXT_DAY):
        sizes.clear()
        mine, theirs = (compact_closed_hours(lake, now=now, on=on) for lake, on in ((twins.here, None), (twins.there, server)))
        assert [one.duplicates for one in theirs] == [one.duplicates for one in mine]
        assert len(sizes) > 700 / 150
        assert 0 < max(sizes) <= 300
        twins.assert_equal(FLOWS, COVERAGE)
    assert not told, "no work fell back to the embedded engine"


def test_late_flows_go_into_hours_beside_the_day_and_those_it_has_are_dropped(twins: Any, server: Any, told: list[Any]) -> None:
    rows = twins.append(900)
    for lake, on in ((twins.here, None), (twins.there, server)):
        compact_closed_hours(lake, now=NEXT_DAY, on=on)
    twins.append_rows(rows.slice(0, 30))
    twins.append(20, NOON + dt.timedelta(minutes=5), seed=5)
    mine, theirs = (compact_closed_hours(lake, now=NEXT_DAY, on=on) for lake, on in ((twins.here, None), (twins.there, server)))
    assert [one.duplicates for one in mine] == [one.duplicates for one in theirs]
    assert sum(one.duplicates for one in theirs) == 30
    twins.assert_equal(FLOWS)
    assert not told


def test_files_of_the_engine_are_compacted_again_by_the_embedded_one(twins: Any, server: Any) -> None:
    twins.append(500)
    compact_closed_hours(twins.there, now=LATER, on=server)
    twins.append(100, NOON + dt.timedelta(minutes=5), seed=5)
    assert len(compaction.compact_closed_hours(twins.there, now=NEXT_DAY)) == 2
    twins.assert_equal(FLOWS)


def _without_uuid(rows: pa.Table) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index("uuid"), "uuid", pa.nulls(rows.num_rows, pa.string()))


def _ordered(lake: Any) -> list[Any]:
    """The sort keys of the rows of each kind of file, in the order in which they are stored."""
    found: dict[str, list[Any]] = {}
    for file in sorted(lake.contents(FLOWS), key=lambda file: (file.name[:8], file.first)):
        rows = lake.dataset(FLOWS, [f"{lake.address(FLOWS)}/{file.path}"]).to_table(["source_namespace", "destination_namespace", "time"])
        found.setdefault(file.name[:8] if file.name.startswith("hour") else "day", []).extend(rows.to_pylist())
    return sorted(found.items(), key=str)
