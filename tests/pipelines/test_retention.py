"""Retention: what must stay first, then what goes."""

import dataclasses
import datetime as dt
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.maintenance import compaction, removal, retention, rollup, upkeep
from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.errors import LakeError
from warehouse.lake.tables import Lake
from warehouse.schema import ACCESS_LOG, COVERAGE, EDGES_1H, FINDINGS, FLOWS, TABLES, Table

DAY = dt.timedelta(days=1)
NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
MIDNIGHT_AFTER = dt.datetime(2026, 3, 3, tzinfo=dt.UTC)
_numbers = itertools.count()


@pytest.fixture
def lake(place: Any) -> Lake:
    opened: Lake = place.open()
    return opened


def store(lake: Lake, *rows: dict[str, Any], table: Table = FLOWS, prefix: str = "") -> None:
    """Rows in one file a partition; what is not given is usual."""
    full = []
    for row in rows:
        usual: dict[str, Any] = {"cluster": "c1", table.time_column: NOON}
        if table is FLOWS:
            usual |= {"uuid": f"u{next(_numbers)}", "verdict": "FORWARDED", "flow_count": 1}
        row = usual | row
        full.append(row | {"date": row[table.time_column].date()})
    written = lake.write_files(table, pa.Table.from_pylist(full, schema=table.schema), prefix=prefix)
    lake.commit(table, written, transactions={}, metadata={})


def flow(source: str | None, destination: str | None, time: dt.datetime = NOON, cluster: str = "c1") -> dict[str, Any]:
    return {"cluster": cluster, "time": time, "source_namespace": source, "destination_namespace": destination}


def pairs(lake: Lake) -> list[tuple[str | None, str | None]]:
    rows = lake.read(FLOWS, ["source_namespace", "destination_namespace"]).to_pylist()
    return sorted(((row["source_namespace"], row["destination_namespace"]) for row in rows), key=str)


def settings_of(**section: Any) -> config.Retention:
    return config.Retention.model_validate(section)


# What must stay -------------------------------------------------------------------------------------------------


def test_an_empty_lake_has_nothing_to_remove(lake: Lake) -> None:
    assert retention.retain(lake, settings_of(), now=NOON) == []


def test_a_day_stays_until_its_end_is_old_enough_and_goes_then(lake: Lake) -> None:
    store(lake, flow("a", "b"))
    kept = settings_of(flows="2d")
    assert retention.retain(lake, kept, now=MIDNIGHT_AFTER + 2 * DAY - dt.timedelta(microseconds=1)) == []
    assert lake.rows(FLOWS) == 1
    (gone,) = retention.retain(lake, kept, now=MIDNIGHT_AFTER + 2 * DAY)
    assert (gone.rows, len(gone.whole), gone.partly) == (1, 1, ())
    assert lake.rows(FLOWS) == 0
    assert retention.retain(lake, kept, now=MIDNIGHT_AFTER + 2 * DAY) == []


def test_a_dry_run_says_what_would_go_and_takes_nothing(lake: Lake) -> None:
    store(lake, flow("a", "b"), flow("a", None))
    (would,) = retention.retain(lake, settings_of(flows="1d"), now=NOON + 9 * DAY, dry_run=True)
    assert (would.rows, would.held, would.size > 0) == (2, 0, True)
    assert lake.rows(FLOWS) == 2


@pytest.mark.parametrize(
    ("hold", "kept"),
    [
        ({}, 4),
        ({"cluster": "c*"}, 4),
        ({"cluster": "d*"}, 0),
        ({"namespace": "pay*"}, 2),
        ({"namespace": "pay"}, 0),
        ({"since": NOON}, 4),
        ({"since": NOON + DAY}, 0),
        ({"since": "2026-03-02T12:00:00.000001Z"}, 0),
        ({"until": NOON}, 0),
        ({"until": "2026-03-02T12:00:00.000001"}, 4),
        ({"since": "2026-03-02", "until": "2026-03-03", "namespace": "[p]ayments"}, 0),
    ],
)
def test_a_hold_keeps_what_it_names_and_wins_over_everything(lake: Lake, hold: dict[str, Any], kept: int) -> None:
    store(lake, flow("payments", "x"), flow("x", "payments"), flow(None, "x"), flow(None, None))
    section = settings_of(flows="1d", holds=[hold | {"reason": "case 7"}])
    (done,) = retention.retain(lake, section, now=NOON + 900 * DAY)
    assert (done.rows, done.held) == (4 - kept, kept)
    assert lake.rows(FLOWS) == kept
    assert sum(one.rows for one in retention.retain(lake, section, now=NOON + 900 * DAY)) == 0, "a second run finds nothing"


def test_a_hold_on_any_namespace_keeps_the_ledger_that_its_flows_need(lake: Lake) -> None:
    begin = dt.datetime(2026, 3, 1, 23, tzinfo=dt.UTC)
    store(lake, {"from": begin, "to": begin + dt.timedelta(hours=2), "node_name": "n", "state": "connected"}, table=COVERAGE)
    held = settings_of(holds=[{"namespace": "payments", "since": "2026-03-02", "reason": "case 7"}])
    assert [one.rows for one in retention.retain(lake, held, now=NOON + 900 * DAY)] == [0], "it reaches into the window"
    (gone,) = retention.retain(lake, settings_of(), now=NOON + 900 * DAY)
    assert (gone.table, gone.rows) == (COVERAGE, 1)


def test_flows_stay_as_long_as_the_longer_kept_of_their_namespaces(lake: Lake) -> None:
    store(lake, flow("lab", "lab"), flow("lab", "shop"), flow("shop", "lab"), flow("lab", None), flow(None, None), flow("shop", None))
    section = settings_of(flows="30d", overrides=[{"namespace": "lab", "flows": "3d"}])
    (gone,) = retention.retain(lake, section, now=MIDNIGHT_AFTER + 3 * DAY)
    assert (gone.rows, len(gone.whole), len(gone.partly)) == (2, 0, 1)
    assert pairs(lake) == sorted([("lab", "shop"), ("shop", "lab"), (None, None), ("shop", None)], key=str)
    retention.retain(lake, section, now=MIDNIGHT_AFTER + 30 * DAY)
    assert lake.rows(FLOWS) == 0


def test_the_first_override_that_matches_and_names_the_table_holds(lake: Lake) -> None:
    overrides = [
        {"cluster": "c1", "coverage": "500d"},
        {"cluster": "c1", "namespace": "pay-*", "flows": "90d"},
        {"cluster": "c*", "flows": "2d"},
    ]
    section = settings_of(flows="30d", overrides=overrides)
    for cluster, namespace, days in (("c1", "pay-eu", 90), ("c1", "shop", 2), ("c2", "pay-eu", 2), ("c1", None, 2), ("d", "pay-eu", 30)):
        assert retention.keep(section, FLOWS, cluster, namespace) == days * DAY
    store(lake, flow("pay-eu", None), flow("shop", None), flow("pay-eu", None, cluster="c2"), flow("shop", None, cluster="d"))
    assert sum(one.rows for one in retention.retain(lake, section, now=MIDNIGHT_AFTER + 2 * DAY)) == 2
    assert pairs(lake) == [("pay-eu", None), ("shop", None)]


def test_a_table_without_a_key_of_its_own_has_the_time_of_the_others(lake: Lake, monkeypatch: pytest.MonkeyPatch, place: Any) -> None:
    tables = set(config.RetentionOverride.model_fields) - {"cluster", "namespace"}
    assert tables == set(config.Retention.model_fields) - {"overrides", "holds", "vacuum_after", "access_log"}
    assert retention.retentions_of(settings_of(overrides=[{"others": "1d"}]), ACCESS_LOG, "*") == [400 * DAY]
    audit = dataclasses.replace(FINDINGS, name="audit", partition_by=("date",))
    versions = dataclasses.replace(FINDINGS, name="versions", partition_by=("cluster",))
    for table in (audit, versions):
        monkeypatch.setitem(TABLES, table.name, table)
    lake = place.open()
    row = {"time": NOON, "kind": "x", "severity": "low", "subject": "s", "summary": "s", "source": "t"}
    store(lake, row, table=audit)
    store(lake, row, table=versions)
    assert retention.retain(lake, settings_of(), now=NOON + 900 * DAY) == []
    (gone,) = retention.retain(lake, settings_of(others="9d"), now=NOON + 11 * DAY)
    assert (gone.table.name, gone.cluster, gone.rows) == ("audit", "*", 1)
    assert lake.rows(versions) == 1, "what belongs to no day is kept"
    assert {one.table: one.days for one in upkeep.statistics(lake)}["versions"] == 0


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"flows": "500d"}, "keep it at least as long"),
        ({"overrides": [{"namespace": "a", "edges_1h": "3y"}]}, "edges_1h for 1095"),
        ({"vacuum_after": "59m"}, "vacuum_after"),
        ({"holds": [{"cluster": "c1"}]}, "reason"),
        ({"holds": [{"reason": "x", "since": "2026-03-02", "until": "2026-03-02"}]}, "is not before"),
        ({"holds": [{"reason": "x", "since": "soon"}]}, "since"),
        ({"overrides": [{"clusters": "c1"}]}, "clusters"),
    ],
)
def test_what_would_harm_history_or_is_no_time_is_refused_by_name(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings_of(**section)


# What happens beside others --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("compacted", "prefix"), [(dt.timedelta(hours=2), "hour-12-"), (2 * DAY, "day-")], ids=["hour", "day"])
def test_a_rewritten_file_stays_compacted_and_in_order(lake: Lake, compacted: dt.timedelta, prefix: str) -> None:
    store(lake, *(flow("lab" if number % 2 else "shop", None, NOON + dt.timedelta(seconds=number)) for number in range(50)))
    store(lake, flow("shop", None))
    compact_closed_hours(lake, now=NOON + compacted)
    before = lake.read(FLOWS, ["source_namespace", "time", "uuid"])
    section = settings_of(overrides=[{"namespace": "lab", "flows": "3d"}])
    retention.retain(lake, section, now=MIDNIGHT_AFTER + 3 * DAY)
    assert [Path(file).name[: len(prefix)] for file in lake.files(FLOWS)] == [prefix]
    after = lake.read(FLOWS, ["source_namespace", "time", "uuid"])
    assert after.to_pylist() == [row for row in before.to_pylist() if row["source_namespace"] == "shop"]
    assert compact_closed_hours(lake, now=NOON + compacted) == []


def test_a_large_file_is_rewritten_a_row_group_at_a_time(lake: Lake, monkeypatch: pytest.MonkeyPatch, place: Any) -> None:
    monkeypatch.setattr("pipelines.maintenance.removal.GROUP_ROWS", 4)
    store(lake, flow("lab", None), *(flow("shop", None) for _ in range(10)))
    batches = removal._batches
    by_three = lambda *asked: (rows.slice(at, 3) for rows in batches(*asked) for at in range(0, rows.num_rows, 3))  # noqa: E731
    monkeypatch.setattr("pipelines.maintenance.removal._batches", by_three)
    retention.retain(lake, settings_of(overrides=[{"namespace": "lab", "flows": "3d"}]), now=MIDNIGHT_AFTER + 3 * DAY)
    (file,) = lake.files(FLOWS)
    stored = pq.ParquetFile(place.stored(file)).metadata
    assert [stored.row_group(number).num_rows for number in range(stored.num_row_groups)] == [5, 5]
    assert sorted(lake.read(FLOWS, ["source_namespace"])["source_namespace"].to_pylist()) == ["shop"] * 10


def test_files_that_another_replaced_meanwhile_are_looked_at_again(lake: Lake, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store(lake, flow("lab", None), flow("shop", None))
    store(lake, flow("lab", None), flow("shop", None))
    other, replace = place.open(), Lake.replace
    compacted: list[bool] = []

    def compact_first(self: Lake, *arguments: Any, **options: Any) -> None:
        if not compacted:
            compacted.append(True)
            assert len(compact_closed_hours(other, now=NOON + dt.timedelta(hours=2))) == 1
        replace(self, *arguments, **options)

    monkeypatch.setattr(Lake, "replace", compact_first)
    (gone,) = retention.retain(lake, settings_of(overrides=[{"namespace": "lab", "flows": "3d"}]), now=MIDNIGHT_AFTER + 3 * DAY)
    assert gone.rows == 2
    assert pairs(lake) == [("shop", None), ("shop", None)]
    on_disk = {path.name for path in (place.folder / "flows").rglob("hour-*.parquet")}
    assert {Path(file).name for file in lake.files(FLOWS)} < on_disk, "what was compacted stays on the disk until vacuum"


def test_two_at_once_take_each_row_once(lake: Lake, place: Any) -> None:
    store(lake, flow("lab", None), flow("shop", None))
    other = place.open()
    section = settings_of(overrides=[{"namespace": "lab", "flows": "3d"}])
    now = MIDNIGHT_AFTER + 3 * DAY
    (mine,), (theirs,) = retention.due(lake, section, now=now), retention.due(other, section, now=now)
    found = [removal.find(one, FLOWS, part.selection, (), part.files)[0] for one, part in ((lake, mine), (other, theirs))]
    assert removal.remove(lake, found[0], mine.selection, (), why="test", again=list) is not None
    assert removal.remove(other, found[1], theirs.selection, (), why="test", again=list) is None
    assert pairs(lake) == [("shop", None)]


def test_a_file_that_cannot_be_read_is_named_and_nothing_is_taken_from_it(lake: Lake, place: Any) -> None:
    store(lake, flow("lab", None), flow("shop", None))
    (file,) = lake.files(FLOWS)
    place.stored(file).write_bytes(place.stored(file).read_bytes()[:500])
    with pytest.raises(LakeError, match=r"table flows.*\.parquet (cannot be read|has 500 bytes in the store)"):
        retention.retain(lake, settings_of(overrides=[{"namespace": "lab", "flows": "3d"}]), now=MIDNIGHT_AFTER + 3 * DAY)
    assert lake.files(FLOWS) == [file]


def test_flows_that_arrive_meanwhile_stay(lake: Lake) -> None:
    store(lake, flow("lab", None))
    (part,) = retention.due(lake, settings_of(flows="1d"), now=NOON + 9 * DAY)
    (found,) = removal.find(lake, FLOWS, part.selection, (), part.files)
    store(lake, flow("late", None))
    removal.remove(lake, found, part.selection, (), why="test", again=list)
    assert pairs(lake) == [("late", None)]


def test_removals_commit_as_compaction_and_rollup_do(lake: Lake) -> None:
    store(lake, flow("a", "b"))
    now = NOON + DAY
    for table, task in ((FLOWS, compaction.plan(lake, now=now)[0]), (EDGES_1H, rollup.plan(lake, now=now)[0])):
        assert removal.guard(removal.Removal(table=table, cluster="c1", day=NOON.date())) == task.guard


def test_findings_go_by_their_namespace(lake: Lake) -> None:
    row = {"time": NOON, "kind": "x", "severity": "low", "subject": "s", "summary": "s", "source": "t"}
    store(lake, row | {"namespace": "lab"}, row | {"namespace": None}, table=FINDINGS)
    retention.retain(lake, settings_of(overrides=[{"namespace": "lab", "findings": "10d"}]), now=NOON + 20 * DAY)
    assert lake.read(FINDINGS)["namespace"].to_pylist() == [None]


def edges(lake: Lake) -> list[tuple[str | None, str | None, int]]:
    rows = lake.read(EDGES_1H, ["source_namespace", "destination_namespace", "flows"]).to_pylist()
    return sorted((tuple(row.values()) for row in rows), key=str)


@pytest.mark.parametrize("late", [False, True], ids=["what stays", "what comes late"])
def test_rollups_stand_when_their_flows_go(lake: Lake, late: bool) -> None:
    store(lake, flow("lab", "lab"), flow("lab", "lab"), flow("shop", "shop"))
    roll_up_closed_hours(lake, config.Rollups(), now=NOON + DAY)
    before = edges(lake)
    assert before == [("lab", "lab", 2), ("shop", "shop", 1)]
    section = settings_of(flows="30d", overrides=[{"namespace": "lab", "flows": "3d"}])
    assert [one.rows for one in retention.retain(lake, section, now=MIDNIGHT_AFTER + 3 * DAY)] == [2]
    if late:
        store(lake, flow("lab", "lab"))
    roll_up_closed_hours(lake, config.Rollups(), now=MIDNIGHT_AFTER + 3 * DAY)
    assert edges(lake) == before


def test_rollups_go_in_their_own_time_and_keep_what_they_stand_for(lake: Lake) -> None:
    store(lake, flow("lab", "lab"), flow("shop", "shop"))
    roll_up_closed_hours(lake, config.Rollups(), now=NOON + DAY)
    section = settings_of(overrides=[{"namespace": "lab", "edges_1h": "3d"}])
    (gone,) = retention.retain(lake, section, now=MIDNIGHT_AFTER + 3 * DAY)
    assert (gone.table, gone.rows) == (EDGES_1H, 1)
    assert roll_up_closed_hours(lake, config.Rollups(), now=MIDNIGHT_AFTER + 3 * DAY) == [], "the name's notes are kept"
    assert edges(lake) == [("shop", "shop", 1)]


# Against a slow and simple reading of the rules ----------------------------------------------------------------------

_names = st.sampled_from([None, "lab", "shop", "pay"])
_days = st.integers(min_value=1, max_value=6)
_globs = st.sampled_from(["*", "lab", "s*", "?ay"])


@settings(max_examples=25)
@given(
    flows=st.lists(st.tuples(_names, _names, st.integers(min_value=0, max_value=5)), min_size=1, max_size=12),
    usual=_days,
    overrides=st.lists(st.tuples(st.sampled_from(["*", "c1", "x"]), _globs, _days), max_size=3),
    holds=st.lists(st.tuples(_globs, st.integers(min_value=0, max_value=5)), max_size=2),
    age=st.integers(min_value=1, max_value=9),
)
def test_what_stays_is_what_the_rules_say(
    tmp_path_factory: pytest.TempPathFactory,
    flows: list[tuple[str | None, str | None, int]],
    usual: int,
    overrides: list[tuple[str, str, int]],
    holds: list[tuple[str, int]],
    age: int,
) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path_factory.mktemp("rules"))))
    store(lake, *(flow(source, destination, NOON + day * DAY) for source, destination, day in flows))
    section = settings_of(
        flows=usual * DAY,
        overrides=[{"cluster": cluster, "namespace": name, "flows": days * DAY} for cluster, name, days in overrides],
        holds=[{"namespace": name, "since": NOON + day * DAY, "reason": "r"} for name, day in holds],
    )
    now = MIDNIGHT_AFTER + age * DAY

    def fits(pattern: str, name: str | None) -> bool:
        plain = {"*": None, "lab": ["lab"], "s*": ["shop"], "?ay": ["pay"]}[pattern]
        return plain is None or name in plain

    def stays(source: str | None, destination: str | None, day: int) -> bool:
        if any(day >= since and (fits(name, source) or fits(name, destination)) for name, since in holds):
            return True
        sides = [name for name in (source, destination) if name is not None] or [None]
        for side in sides:
            rule = next((days for cluster, name, days in overrides if cluster in ("*", "c1") and fits(name, side)), usual)
            if age - day < rule:
                return True
        return False

    retention.retain(lake, section, now=now)
    expected = sorted(((source, destination) for source, destination, day in flows if stays(source, destination, day)), key=str)
    assert pairs(lake) == expected
