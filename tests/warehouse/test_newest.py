"""The newest row of each key: the same that reading all history in Python finds."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse import config, engine
from warehouse.lake.tables import Lake
from warehouse.records.newest import newest
from warehouse.records.posture import CONTROL_KEY, DRIFT_KEY, controls, open_drift
from warehouse.schema import DRIFT, POSTURE, Table

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)


def lake_of(folder: Path, table: Table, *batches: list[dict[str, Any]]) -> Lake:
    lake = Lake.open(config.Lake(url=str(folder)))
    for rows in batches:
        dated = [row | {"date": row["time"].date()} for row in rows]
        lake.commit(table, lake.write_files(table, pa.Table.from_pylist(dated, schema=table.schema)), transactions={}, metadata={})
    return lake


def test_a_table_without_rows_has_no_newest(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, POSTURE)
    assert controls(lake).num_rows == 0
    assert newest(lake, POSTURE, CONTROL_KEY, clusters=[]).num_rows == 0


def test_a_drift_that_was_closed_is_not_open_but_was_before(tmp_path: Path) -> None:
    row = {"cluster": "c1", "drift": "missing", "kind": "Namespace", "name": "shop", "state": "open", "time": NOON}
    later = NOON + dt.timedelta(hours=1)
    lake = lake_of(tmp_path, DRIFT, [row], [row | {"state": "closed", "time": later}])
    assert open_drift(lake).num_rows == 0
    assert open_drift(lake, at=NOON)["state"].to_pylist() == ["open"]
    assert open_drift(lake, at=NOON - dt.timedelta(microseconds=1)).num_rows == 0
    assert newest(lake, DRIFT, DRIFT_KEY)["state"].to_pylist() == ["closed"]


def test_the_columns_of_rows_that_are_not_the_newest_are_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    batches = [
        [{"cluster": "c1", "control": f"C-{n}", "detail": "x", "time": NOON + dt.timedelta(days=day)} for n in range(3)] for day in range(4)
    ]
    lake, asked = lake_of(tmp_path, POSTURE, *batches), []
    run = engine.run
    monkeypatch.setattr(engine, "run", lambda connection, sql, *more: asked.append(sql) or run(connection, sql, *more))
    assert controls(lake)["time"].unique().to_pylist() == [NOON + dt.timedelta(days=3)]
    history, rows = asked
    assert "detail" not in history
    assert "*" not in history
    assert "time IN (?)" in rows


@settings(max_examples=25)
@given(
    rows=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["C1", "C2", None]), st.integers(0, 5)), max_size=14, unique=True),
    at=st.none() | st.integers(-1, 6),
    clusters=st.none() | st.lists(st.sampled_from("abc"), max_size=2),
)
def test_it_is_what_all_history_says(rows: list[tuple[str, str | None, int]], at: int | None, clusters: list[str] | None) -> None:
    moment = None if at is None else NOON + dt.timedelta(hours=at)
    stored = [{"cluster": cluster, "control": control, "time": NOON + dt.timedelta(hours=hours)} for cluster, control, hours in rows]
    expected: dict[tuple[Any, ...], Any] = {}
    for row in sorted(stored, key=lambda row: row["time"]):  # type: ignore[arg-type, return-value]
        if (moment is None or row["time"] <= moment) and (clusters is None or row["cluster"] in clusters):  # type: ignore[operator]
            expected[row["cluster"], row["control"]] = row["time"]
    with tempfile.TemporaryDirectory() as folder:
        lake = lake_of(Path(folder), POSTURE, *[[row] for row in stored])
        found = newest(lake, POSTURE, CONTROL_KEY, at=moment, clusters=clusters).to_pylist()
    assert {(row["cluster"], row["control"]): row["time"] for row in found} == expected
    assert len(found) == len(expected)
