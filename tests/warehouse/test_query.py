"""The query door: who sees what, through every question, against a plain reading of the rule."""

import datetime as dt
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.decoding.decode import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse import config, engine, table_views
from warehouse.access import redaction
from warehouse.access.ownership import grants_of
from warehouse.access.principals import OPERATOR, Principal, scope_of
from warehouse.engine import Limits, Window
from warehouse.errors import AccessDeniedError, QueryError, QueryLimitError
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions, flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.record_questions import Ledger, SizeOfLake
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import COVERAGE, FLOWS

START = dt.datetime(2026, 3, 2, 10, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
CLUSTERS = ("eu-central", "us-east")
ALL = FlowFilter(since=START, until=START + 10 * HOUR)

GRANTS = config.Ownership.model_validate(
    {
        "grants": [
            {"subject": "ada", "role": "platform-admin"},
            {"subject": "audrey", "role": "auditor"},
            {"subject": "carl", "role": "cluster-admin", "clusters": ["us-*"]},
            {"subject": "group:payments", "role": "namespace-owner", "clusters": ["eu-central"], "namespaces": ["payments", "fraud"]},
            {"subject": "otto", "role": "namespace-owner", "namespaces": ["or*"]},
        ]
    }
)
PAULA = Principal(user="paula", groups=frozenset({"payments"}))
OTTO = Principal(user="otto")
AUDREY = Principal(user="audrey")
PEOPLE = {"operator": OPERATOR, "admin": Principal(user="ada"), "cluster": Principal(user="carl"), "payments": PAULA, "otto": OTTO}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Four hours of traffic of two clusters, a file an hour and cluster, and its coverage."""
    lake = Lake.open(config.Lake(url=str(tmp_path_factory.mktemp("lake"))))
    fleet = build_fleet(1, clusters=CLUSTERS)
    for hour, cluster in itertools.product(range(4), CLUSTERS):
        begin = START + hour * HOUR
        flows = [f for f in itertools.islice(Traffic(fleet, hour, begin, 1.0).flows(), 1500) if f.node_name.startswith(cluster)]
        rows = decode([flow.SerializeToString() for flow in flows], cluster=cluster, recorded=begin, live=False).rows
        lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})
        row = {"cluster": cluster, "date": begin.date(), "from": begin, "to": begin + HOUR, "node_name": f"{cluster}/worker-001"}
        ledger = pa.Table.from_pylist([row | {"state": "connected", "flows_received": rows.num_rows}], schema=COVERAGE.schema)
        lake.commit(COVERAGE, lake.write_files(COVERAGE, ledger), transactions={}, metadata={})
    return lake


@pytest.fixture(scope="module")
def door(lake: Lake) -> Door:
    return Door(lake, GRANTS)


@pytest.fixture(scope="module")
def everything(lake: Lake) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.read(FLOWS).to_pylist()
    assert len(rows) > 1000
    return rows


def sides_owned(who: str, row: dict[str, Any]) -> tuple[bool, bool]:
    """The rule, written plainly: which sides of a flow are the person's own."""

    def mine(namespace: str | None) -> bool:
        match who:
            case "operator" | "admin":
                return True
            case "cluster":
                return bool(row["cluster"] == "us-east")
            case "payments":
                return row["cluster"] == "eu-central" and namespace in ("payments", "fraud")
            case _:
                return namespace is not None and namespace.startswith("or")

    return mine(row["source_namespace"]), mine(row["destination_namespace"])


# Denial and emptiness -----------------------------------------------------------------------------------------


def test_who_has_no_grant_is_refused_and_shown_nothing(door: Door) -> None:
    stranger = Principal(user="eve", groups=frozenset({"payment", "PAYMENTS"}))
    for ask in (
        lambda: door.answer(stranger, flow_questions.newest(ALL)),
        lambda: door.answer(stranger, count_questions.timeline(ALL)),
        lambda: door.answer(stranger, count_questions.values("verdict", ALL)),
        lambda: door.answer(stranger, OwnSql(text="SELECT 1")),
        lambda: door.answer(stranger, Ledger(window=Window(since=START, until=START + HOUR))),
    ):
        with pytest.raises(AccessDeniedError, match="eve"):
            ask()


def test_a_name_like_a_group_gives_nothing() -> None:
    grants = grants_of(GRANTS)
    assert scope_of(Principal(user="payments"), grants).is_empty
    assert scope_of(Principal(user="group:payments"), grants).is_empty  # whatever name someone chose
    assert scope_of(Principal(user=""), grants).is_empty


def test_an_empty_lake_answers_with_no_rows_and_says_that_nothing_was_observed(tmp_path: Path) -> None:
    door = Door(Lake.open(config.Lake(url=str(tmp_path))), GRANTS)
    for who in (OPERATOR, PAULA):
        assert door.answer(who, flow_questions.newest(ALL)).rows.num_rows == 0
        assert door.answer(who, OwnSql(text="SELECT count(*) AS n FROM flows", window=Window(since=START))).rows.to_pylist() == [{"n": 0}]
        assert door.answer(who, flow_questions.newest(ALL)).shares == {}
    assert door.answer(OPERATOR, SizeOfLake()).newest is None


def test_brackets_in_a_grant_are_no_pattern() -> None:
    grant = config.Grant(subject="x", role="namespace-owner", namespaces=("[ab]c", "d?"))
    scope = scope_of(Principal(user="x"), grants_of(config.Ownership(grants=(grant,))))
    assert not scope.owns("c", "ac", START)
    assert scope.owns("c", "[ab]c", START)
    assert scope.owns("c", "de", START)
    assert not scope.owns("c", None, START)


# Scope ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", PEOPLE)
def test_each_sees_the_flows_of_the_rule_through_every_question(who: str, door: Door, everything: list[dict[str, Any]]) -> None:
    expected = {row["uuid"] for row in everything if any(sides_owned(who, row))}
    assert expected
    everyone = Limits(rows=1_000_000)
    person = PEOPLE[who]
    assert set(door.answer(person, flow_questions.newest(ALL, limits=everyone)).rows["uuid"].to_pylist()) == expected
    assert len(door.answer(person, flow_questions.newest(ALL, limits=everyone)).rows) == len(expected)
    assert sum(door.answer(person, count_questions.timeline(ALL)).rows["flows"].to_pylist()) == len(expected)
    assert sum(door.answer(person, count_questions.values("verdict", ALL)).rows["flows"].to_pylist()) == len(expected)
    window = Window(since=ALL.since, until=ALL.until)
    assert door.answer(person, OwnSql(text="SELECT count(*) AS n FROM flows", window=window)).rows.to_pylist() == [{"n": len(expected)}]


@pytest.mark.parametrize("who", [*PEOPLE, "auditor"])
def test_sql_reads_exactly_the_window(who: str, door: Door, everything: list[dict[str, Any]]) -> None:
    person = PEOPLE.get(who, AUDREY)
    times = sorted(row["time"] for row in everything if who == "auditor" or any(sides_owned(who, row)))
    for since, until in ((times[3], times[-4]), (times[len(times) // 2], None), (times[5], times[5]), (None, times[-1])):
        if since is None and who not in ("operator", "admin"):
            continue  # an owner's rows are those of a day, where no beginning is named
        window = Window(since=since, until=until)
        expected = sum((since is None or time >= since) and (until is None or time < until) for time in times)
        rows = door.answer(person, OwnSql(text="SELECT count(*) AS n FROM flows", window=window)).rows.to_pylist()
        assert rows == [{"n": expected}], (since, until)


@pytest.mark.parametrize("who", ["operator", "admin", "payments", "auditor"])
def test_sql_sees_the_intervals_of_coverage_that_touch_the_window(who: str, door: Door) -> None:
    window = Window(since=START + 1.5 * HOUR, until=START + 2 * HOUR)
    text = """SELECT DISTINCT "from" FROM coverage"""
    rows = door.answer(PEOPLE.get(who, AUDREY), OwnSql(text=text, window=window)).rows
    assert rows["from"].to_pylist() == [START + HOUR]


@pytest.mark.parametrize("level", redaction.LEVELS)
@pytest.mark.parametrize("who", ["payments", "otto"])
def test_columns_of_a_foreign_side_are_empty_before_any_filter(who: str, level: str, lake: Lake, everything: list[dict[str, Any]]) -> None:
    door = Door(lake, GRANTS.model_copy(update={"peer_detail": level}))
    rows = {
        row["uuid"]: row for row in door.answer(PEOPLE[who], flow_questions.newest(ALL, limits=Limits(rows=1_000_000))).rows.to_pylist()
    }
    hidden_at_all = 0
    for original in everything:
        if original["uuid"] not in rows:
            continue
        shown = rows[original["uuid"]]
        hidden: set[str] = set()
        for side, mine in zip(("source", "destination"), sides_owned(who, original), strict=True):
            if not mine and original[f"{side}_namespace"] is not None:
                hidden |= redaction.hidden_columns(FLOWS, side, level)
        hidden_at_all += sum(original[name] is not None for name in hidden)
        assert shown == {name: None if name in hidden else value for name, value in original.items()}
    assert bool(hidden_at_all) == (level != "full")


def test_a_filter_on_a_hidden_value_finds_nothing(door: Door, everything: list[dict[str, Any]]) -> None:
    foreign = next(
        row for row in everything if sides_owned("payments", row) == (True, False) and row["destination_pod_name"] and row["destination_ip"]
    )
    window = Window(since=ALL.since, until=ALL.until)
    for wanted in ({"pods": (foreign["destination_pod_name"],)}, {"ips": (foreign["destination_ip"],)}):
        assert door.answer(PAULA, flow_questions.newest(FlowFilter(since=ALL.since, until=ALL.until, **wanted))).rows.num_rows == 0  # type: ignore[arg-type]
    text = f"SELECT count(*) AS n FROM flows WHERE destination_pod_name = '{foreign['destination_pod_name']}'"
    assert door.answer(PAULA, OwnSql(text=text, window=window)).rows.to_pylist() == [{"n": 0}]
    assert door.answer(PAULA, count_questions.values("destination_pod_name", ALL)).rows["value"].to_pylist() != []


def test_an_owner_sees_the_ledger_of_her_clusters_only(door: Door) -> None:
    nodes = {node.cluster for node in door.answer(PAULA, Ledger(window=Window(since=START, until=START + HOUR))).coverage}
    assert nodes == {"eu-central"}
    text = "SELECT DISTINCT cluster FROM coverage"
    assert door.answer(PAULA, OwnSql(text=text, window=Window(since=START))).rows["cluster"].to_pylist() == ["eu-central"]


# Answers ----------------------------------------------------------------------------------------------------


def test_a_cut_answer_says_so_and_holds_the_newest(door: Door, everything: list[dict[str, Any]]) -> None:
    answer = door.answer(OPERATOR, flow_questions.newest(ALL, limits=Limits(rows=10)))
    assert (answer.cut, answer.rows.num_rows) == (True, 10)
    newest = sorted((row["time"] for row in everything), reverse=True)[:10]
    assert answer.rows["time"].to_pylist() == newest
    assert not door.answer(OPERATOR, flow_questions.newest(ALL, limits=Limits(rows=1_000_000))).cut


def test_every_answer_carries_its_coverage(door: Door) -> None:
    asked = FlowFilter(since=START, until=START + 8 * HOUR, clusters=("eu-central",))
    assert door.answer(OPERATOR, flow_questions.newest(asked)).shares == {"eu-central": 0.5}
    assert set(door.answer(OPERATOR, flow_questions.newest(ALL)).shares) == set(CLUSTERS)


def test_a_question_about_an_hour_touches_only_its_files(door: Door) -> None:
    assert (
        door.answer(OPERATOR, flow_questions.newest(FlowFilter(since=START + HOUR, until=START + HOUR + dt.timedelta(minutes=5)))).files
        == 2
    )
    text = "SELECT count(*) FROM flows WHERE time >= '2026-03-02 12:00Z' AND time < '2026-03-02 12:05Z'"
    assert door.answer(OPERATOR, OwnSql(text=text)).files == 2
    assert door.answer(OPERATOR, OwnSql(text="SELECT count(*) FROM flows")).files == 8


_BOUNDS = st.lists(
    st.tuples(st.sampled_from([">", ">=", "<", "<=", "="]), st.integers(-30, 300)).map(
        lambda pair: f"\"time\" {pair[0]} '{(START + dt.timedelta(minutes=pair[1])).isoformat()}'"
    ),
    max_size=3,
)


@settings(max_examples=60)
@given(
    bounds=_BOUNDS,
    joint=st.sampled_from([" AND ", " OR "]),
    more=st.sampled_from(["", "verdict = 'DROPPED'", "verdict = '(time > now())'"]),
)
def test_leaving_out_files_never_changes_an_answer(lake: Lake, bounds: list[str], joint: str, more: str) -> None:
    where = " AND ".join(filter(None, [f"({joint.join(bounds)})" if bounds else "", more])) or "true"
    for text in (
        f"SELECT count(*) AS n FROM flows WHERE {where}",
        f"SELECT count(*) AS n FROM flows AS a LEFT JOIN (SELECT uuid FROM flows WHERE {where}) AS b USING (uuid)",
        f"SELECT count(*) AS n FROM (SELECT * FROM flows WHERE {where} UNION ALL SELECT * FROM flows WHERE verdict = 'AUDIT')",
    ):
        with engine.connect(Limits()) as connection:
            table_views.add_view(connection, lake, FLOWS, Window())
            expected = connection.sql(text).to_arrow_table().to_pylist()
        assert Door(lake, GRANTS).answer(OPERATOR, OwnSql(text=text)).rows.to_pylist() == expected


# SQL of someone else ----------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret.csv"
    file.write_text("password\nhunter2\n")
    return file


HOSTILE = [
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT content FROM read_text('{secret}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM read_parquet('{lake}/flows/*/*/*.parquet')",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY flows TO '{folder}/out.parquet'",
    "WITH w AS (COPY (SELECT 1) TO '{secret}') SELECT 1",
    "ATTACH '{folder}/db.duckdb' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_external_access",
    "CREATE TABLE x AS SELECT 1",
    "DROP TABLE flows",
    "SELECT 1; SELECT 2",
    "EXPORT DATABASE '{folder}/dump'",
    "SELECT * FROM sql_process",
    "SELECT * FROM rows",
    "SELECT * FROM read_json('/proc/self/environ')",
]


@pytest.mark.parametrize("statement", HOSTILE)
def test_a_way_out_of_the_principals_own_rows_is_shut(statement: str, door: Door, lake: Lake, secret: Path) -> None:
    text = statement.format(secret=secret, folder=secret.parent, lake=Path(lake.address(FLOWS)).parent)
    with pytest.raises(QueryError):
        door.answer(PAULA, OwnSql(text=text, window=Window(since=START)))
    assert [path.name for path in secret.parent.iterdir()] == ["secret.csv"]
    assert secret.read_text() == "password\nhunter2\n"


def test_neither_paths_nor_the_environment_are_to_be_had(door: Door, lake: Lake) -> None:
    folder = Path(lake.address(FLOWS)).parent
    for text in (
        "SELECT * FROM duckdb_settings()",
        "SELECT sql FROM duckdb_views()",
        "SELECT * FROM duckdb_databases()",
        "SELECT * FROM duckdb_tables()",
        "SELECT getenv('PATH') AS path",
    ):
        try:
            told = str(door.answer(PAULA, OwnSql(text=text, window=Window(since=START))).rows.to_pylist())
        except QueryError as error:
            told = str(error)
        assert str(folder) not in told
        assert "/usr/bin" not in told


def test_a_query_that_does_not_end_is_stopped(door: Door) -> None:
    endless = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"
    for who in (PAULA, OPERATOR):
        with pytest.raises(QueryLimitError):
            door.answer(who, OwnSql(text=endless, window=Window(since=START), limits=Limits(seconds=1.0)))


def test_a_query_that_wants_all_memory_is_stopped(door: Door) -> None:
    greedy = "SELECT list_sum(range(2000000000))"
    with pytest.raises(QueryError):
        door.answer(PAULA, OwnSql(text=greedy, window=Window(since=START), limits=Limits(seconds=20.0, memory_bytes=256 * 1024**2)))


def test_an_operator_cannot_damage_the_lake_by_mistake(door: Door, lake: Lake) -> None:
    for text in ("COPY (SELECT 1) TO '/tmp/x.csv'", "DROP VIEW flows", "CREATE TABLE t AS SELECT 1", "ATTACH 'x.db'"):
        with pytest.raises(QueryError, match="only queries"):
            door.answer(OPERATOR, OwnSql(text=text))


@pytest.mark.parametrize(
    "text",
    [
        "WITH w AS (COPY (SELECT 1) TO '{file}') SELECT 1",
        "WITH w AS MATERIALIZED (COPY flows TO '{file}' (FORMAT parquet)) SELECT count(*) FROM flows",
        "/* SELECT */ WITH v AS (SELECT 1), w AS (COPY (SELECT * FROM v) TO '{file}') FROM v",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
        "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1) TO '{file}'",
        "-- a remark\nexplain /* SELECT */ analyze copy (select 1) to '{file}'",
        "EXPLAIN ANALYZE WITH w AS (COPY (SELECT 1) TO '{file}') SELECT 1",
        "FROM json_execute_serialized_sql(json_serialize_sql('WITH w AS (CO' || 'PY (SELECT 1) TO ''{file}'') SELECT 1'))",
        "FROM query('FROM json_execute_' || 'serialized_sql(json_serialize_sql($$WITH w AS (COPY (SELECT 1) TO ''{file}'') SELECT 1$$))')",
        "FROM enable_logging('QueryLog', storage := 'file', storage_path := '{file}')",
        "FROM enable_profiling('json', save_location := '{file}', coverage := 'ALL')",
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
        "WITH w AS (INSERT INTO flows SELECT * FROM flows) SELECT 1",
    ],
)
def test_an_operators_query_that_writes_is_refused_and_writes_nothing(door: Door, lake: Lake, tmp_path: Path, text: str) -> None:
    before = lake.rows(FLOWS)
    with pytest.raises(QueryError):
        door.answer(OPERATOR, OwnSql(text=text.format(file=tmp_path / "written.json")))
    assert not (tmp_path / "written.json").exists()
    assert lake.rows(FLOWS) == before


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM flows", "FROM flows LIMIT 1", "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT count(*) FROM flows",
        "EXPLAIN (ANALYZE, FORMAT json) FROM flows", "SHOW TABLES", "DESCRIBE flows", "SUMMARIZE flows", "TABLE coverage", "VALUES (1)",
        "WITH copy AS (SELECT 'COPY' AS \"insert\") SELECT * FROM copy", "SELECT 1 AS copy", "EXPLAIN WITH w AS (SELECT 1) FROM w",
    ],
)  # fmt: skip
def test_an_operators_query_that_reads_is_answered(door: Door, text: str) -> None:
    assert door.answer(OPERATOR, OwnSql(text=text)).rows.num_rows


def test_coverage_that_was_just_worked_out_is_not_told_to_who_sees_another_cluster(lake: Lake) -> None:
    door = Door(lake, GRANTS)
    asked = Ledger(window=Window(since=START, until=START + HOUR))
    assert set(door.answer(PEOPLE["admin"], asked).shares) == set(CLUSTERS)
    assert set(door.answer(PEOPLE["cluster"], asked).shares) == {"us-east"}


def test_coverage_that_was_just_worked_out_is_worked_out_anew_once_the_ledger_says_more(tmp_path: Path) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path)))
    asked = Ledger(window=Window(since=START, until=START + HOUR))

    def record(minute: int, state: str) -> None:
        begin = START + dt.timedelta(minutes=minute)
        row = {
            "cluster": "c1",
            "date": begin.date(),
            "node_name": "n1",
            "from": begin,
            "to": START + HOUR,
            "state": state,
            "source": "stream",
        }
        lake.commit(COVERAGE, lake.write_files(COVERAGE, pa.Table.from_pylist([row], schema=COVERAGE.schema)), transactions={}, metadata={})

    record(0, "connected")
    assert Door(lake, GRANTS).answer(OPERATOR, asked).shares == {"c1": 1.0}
    record(30, "gap")
    assert Door(lake, GRANTS).answer(OPERATOR, asked).shares == {"c1": 0.5}
