"""Lakes of other versions: an older one opens, is read and written; a newer one is refused and not touched."""

import datetime as dt
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config, engine, table_views
from warehouse.access.principals import OPERATOR
from warehouse.errors import LakeError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import FLOWS, TABLES, Table, model

DATA = Path(__file__).parents[1] / "data"
FIRST, LANDED = DATA / "lake_v1", DATA / "lake_landed" / "lake"
NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
NEWER = replace(
    FLOWS,
    version=FLOWS.version + 1,
    columns=(
        *FLOWS.columns,
        model.column("shiny", pa.string(), "A column of a version to come"),
        model.column("shiny_tags", model.STRINGS, "Another"),
    ),
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    shutil.copytree(FIRST, tmp_path / "lake")
    return str(tmp_path / "lake")


def open_lake(url: str) -> Lake:
    return Lake.open(config.Lake(url=url))


def append(lake: Lake, table: Table, count: int) -> None:
    row = {"cluster": "c1", "date": NOON.date(), "time": NOON, "verdict": "DROPPED", "flow_count": 1}
    if table is NEWER:
        row |= {"shiny": "yes", "shiny_tags": ["a", "b"]}
    rows = pa.Table.from_pylist([{**row, "uuid": f"new-{number}"} for number in range(count)], schema=table.schema)
    lake.commit(table, lake.write_files(table, rows), transactions={}, metadata={})


def log_of(url: str) -> list[str]:
    return sorted(str(path) for path in Path(url).rglob("*.json"))


def test_a_lake_of_a_newer_schema_is_refused_and_not_touched(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setitem(TABLES, "flows", NEWER)
        open_lake(url)
    before = log_of(url)
    with pytest.raises(LakeError, match=r"table flows at .*written by a newer Hindcast: its schema has version 2.*knows 1.*Upgrade"):
        open_lake(url)
    assert log_of(url) == before


def test_a_lake_of_a_newer_format_is_refused_and_not_touched(url: str) -> None:
    open_lake(url)
    DeltaTable(f"{url}/coverage").alter.set_table_properties({"hindcast.format": "2"}, raise_if_not_exists=False)
    before = log_of(url)
    with pytest.raises(LakeError, match=r"table coverage at .*written by a newer Hindcast: its format has version 2.*knows 1.*Upgrade"):
        open_lake(url)
    assert log_of(url) == before


def test_a_process_that_runs_on_neither_reads_nor_writes_once_the_format_is_newer(url: str) -> None:
    running = open_lake(url)
    append(running, FLOWS, 1)
    assert running.read(FLOWS, ["uuid"]).num_rows == 81
    DeltaTable(f"{url}/flows").alter.set_table_properties({"hindcast.format": "2"}, raise_if_not_exists=False)
    before = log_of(url)
    for use in (lambda: append(running, FLOWS, 1), lambda: running.read(FLOWS, ["uuid"])):
        with pytest.raises(LakeError, match="its format has version 2"):
            use()
    assert log_of(url) == before


def test_a_process_that_runs_on_appends_beside_a_newer_schema_but_rewrites_no_file(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    running = open_lake(url)
    with monkeypatch.context() as newer:
        newer.setitem(TABLES, "flows", NEWER)
        upgraded = open_lake(url)
        append(upgraded, NEWER, 3)
        append(running, FLOWS, 2)
        assert upgraded.read(NEWER, ["shiny"])["shiny"].to_pylist().count("yes") == 3
        assert upgraded.read(NEWER, ["uuid"]).num_rows == running.read(FLOWS, ["uuid"]).num_rows == 85
    with pytest.raises(LakeError, match="its schema has version 2, this Hindcast knows 1"):
        compact_closed_hours(running, now=NOON + dt.timedelta(hours=6))
    assert upgraded.read(NEWER, ["shiny"])["shiny"].to_pylist().count("yes") == 3


def test_a_table_says_of_how_many_columns_its_log_has_statistics_also_one_of_an_older_hindcast(url: str) -> None:
    assert "delta.dataSkippingNumIndexedCols" not in DeltaTable(f"{url}/flows").metadata().configuration
    append(open_lake(url), FLOWS, 3)
    stored = DeltaTable(f"{url}/flows")
    assert stored.metadata().configuration["delta.dataSkippingNumIndexedCols"] == str(FLOWS.statistics_columns)
    # Without the property, deltalake leaves out every file that has no statistics of the column that it filters by.
    new = stored.to_pyarrow_dataset().to_table(filter=(ds.field("uuid") == "new-1") & (ds.field("flow_count") == 1))
    assert new.num_rows == 1
    before = log_of(url)
    open_lake(url)
    assert log_of(url) == before


def test_columns_that_are_not_known_are_refused_whatever_the_version_says(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setitem(TABLES, "flows", replace(NEWER, version=FLOWS.version))
        open_lake(url)
    with pytest.raises(LakeError, match="columns that this Hindcast does not know: shiny, shiny_tags"):
        open_lake(url)


def test_a_column_of_another_type_is_refused_by_name(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = tuple(replace(column, type=pa.string()) if column.name == "source_port" else column for column in FLOWS.columns)
    monkeypatch.setitem(TABLES, "flows", replace(FLOWS, columns=columns))
    with pytest.raises(LakeError, match="column source_port has the type int32, not string"):
        open_lake(url)


def test_a_table_with_other_partitions_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "flows", replace(FLOWS, partition_by=("cluster",)))
    with pytest.raises(LakeError, match="partitioned by cluster, date, not by cluster"):
        open_lake(url)


def test_the_first_lake_opens_and_is_read(url: str) -> None:
    lake = open_lake(url)
    assert lake.read(FLOWS).num_rows == 80
    found = Door(lake, config.Ownership()).answer(OPERATOR, OwnSql(text="SELECT count(*) AS n, count(DISTINCT uuid) AS u FROM flows"))
    assert found.rows.to_pylist() == [{"n": 80, "u": 80}]
    assert {name: lake.rows(table) for name, table in TABLES.items() if name in ("flows", "coverage", "findings")} == {
        "flows": 80,
        "coverage": 1,
        "findings": 1,
    }


def test_a_second_opening_changes_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "flows", NEWER)
    open_lake(url)
    before = log_of(url)
    open_lake(url)
    assert log_of(url) == before


def test_new_columns_are_empty_in_old_rows_and_kept_in_new_ones_through_compaction(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "flows", NEWER)
    monkeypatch.setattr("pipelines.maintenance.compaction.FLOWS", NEWER)
    lake = open_lake(url)
    with engine.connect(engine.Limits()) as connection:
        table_views.add_view(connection, lake, NEWER, engine.Window())
        rows = connection.sql("SELECT shiny, shiny_tags FROM flows").to_arrow_table()
    assert rows["shiny"].null_count == rows["shiny_tags"].null_count == 80, "no file has the columns yet"
    append(lake, NEWER, 3)
    text = "SELECT shiny, shiny_tags, count(*) AS n FROM flows GROUP BY ALL ORDER BY n"
    expected = [{"shiny": "yes", "shiny_tags": ["a", "b"], "n": 3}, {"shiny": None, "shiny_tags": None, "n": 80}]
    assert asked(lake, text) == expected
    assert len(compact_closed_hours(lake, now=NOON + dt.timedelta(hours=6))) >= 1
    assert asked(lake, text) == expected
    assert lake.read(FLOWS, ["uuid"]).num_rows == 83


def asked(lake: Lake, text: str) -> list[dict[str, object]]:
    with engine.connect(engine.Limits()) as connection:
        table_views.add_view(connection, lake, NEWER, engine.Window())
        rows: list[dict[str, object]] = connection.sql(text).to_arrow_table().to_pylist()
    return rows


@pytest.mark.slow
def test_processes_that_open_an_older_lake_at_once_add_each_column_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "flows", NEWER)
    with ThreadPoolExecutor(6) as pool:
        lakes = list(pool.map(open_lake, [url] * 6))
    names = [field.name for field in DeltaTable(lakes[0].address(FLOWS)).schema().fields]
    assert len(names) == len(set(names)) == len(NEWER.columns)


def test_a_collector_that_opened_the_lake_before_goes_on_writing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    older = open_lake(url)
    with monkeypatch.context() as newer:
        newer.setitem(TABLES, "flows", NEWER)
        lake = open_lake(url)
    append(older, FLOWS, 2)
    assert asked(lake, "SELECT count(*) AS n, count(shiny) AS s FROM flows") == [{"n": 82, "s": 0}]


def test_whoever_changes_columns_raises_the_version() -> None:
    """The columns of the first schema are those of the stored lake: with others, a table has a higher version."""
    for name, table in TABLES.items():
        if (FIRST / name).exists():
            stored = {field.name for field in DeltaTable(str(FIRST / name)).schema().fields}
            assert stored <= set(table.schema.names), "no column is dropped or renamed"
            assert table.version > 1 or stored == set(table.schema.names), f"{name} has new columns: raise its version"


@pytest.mark.slow
def test_the_lake_of_the_last_release_is_opened_used_and_upgraded_without_changing_an_answer(tmp_path: Path) -> None:
    shutil.copytree(LANDED, tmp_path / "lake")
    url, later = str(tmp_path / "lake"), dt.datetime(2021, 12, 1, tzinfo=dt.UTC)
    before = {path.name: ds.dataset(DeltaTable(str(path)).file_uris(), partitioning="hive").count_rows()
              for path in sorted(tmp_path.glob("lake/*/")) if DeltaTable(str(path)).file_uris()}  # fmt: skip
    lake = open_lake(url)
    assert lake.rows(FLOWS) == 400
    assert {name: lake.rows(TABLES[name]) for name in before} == before
    text = "SELECT source_namespace, destination_namespace, verdict, sum(flow_count) AS n FROM flows GROUP BY ALL ORDER BY ALL"
    door = Door(lake, config.Ownership())
    first = door.answer(OPERATOR, OwnSql(text=text)).rows.to_pylist()
    assert sum(row["n"] for row in first) == 400
    assert compact_closed_hours(lake, now=later)
    roll_up_closed_hours(lake, config.Rollups(), now=later)
    assert door.answer(OPERATOR, OwnSql(text=text)).rows.to_pylist() == first
    found = door.answer(OPERATOR, OwnSql(text="SELECT sum(flows)::BIGINT AS n FROM timeline_1m"))
    assert found.rows.to_pylist() == [{"n": 400}]
    assert door.answer(OPERATOR, OwnSql(text="SELECT count(*) AS n FROM policies")).rows.to_pylist() == [{"n": 1}]
    append(lake, FLOWS, 3)
    assert open_lake(url).rows(FLOWS) == 403
    marks = {name: DeltaTable(f"{url}/{name}").metadata().configuration["hindcast.format"] for name in TABLES}
    assert set(marks.values()) == {"1"}
