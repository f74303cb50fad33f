"""Each column of the schema has a rule, and auditors read no labels through any of them, but those of a namespace they also own."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from warehouse import config
from warehouse.access import access_log, labels, redaction, rules, scoping
from warehouse.access.principals import Grant, Principal, Scope
from warehouse.access.rules import Reveals
from warehouse.engine import Limits, Window
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions, flow_questions, record_questions
from warehouse.questions.answers import Answer
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.question import Question
from warehouse.questions.sql_question import OwnSql
from warehouse.records import saved_views
from warehouse.schema import FLOWS, TABLES, Table
from warehouse.schema.model import column

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
WINDOW = Window(since=NOON - dt.timedelta(hours=1), until=NOON + dt.timedelta(hours=1))
CANARY = "tier=canary"
ALL = Limits(rows=10_000)


def test_each_column_of_each_table_has_one_rule_and_no_rule_is_without_a_column() -> None:
    """A new column fails here: say in warehouse/access/rules.py whom it is about and what it reveals."""
    found = rules.rules()
    for table in TABLES.values():
        assert table.name in found, f"{table.name}: say in warehouse/access/rules.py what its columns reveal"
        assert set(table.schema.names) == set(found[table.name]), table.name
    assert set(found) == set(TABLES)
    written = [name for kinds in rules._WRITTEN.values() for listed in kinds.values() for name in listed.split()]
    assert len(set(written)) > 150
    for kinds in rules._WRITTEN.values():
        names = [name for listed in kinds.values() for name in listed.split()]
        assert len(names) == len(set(names))


def test_a_column_without_a_rule_is_hidden_from_owners_and_auditors() -> None:
    table = Table(
        name="flows",
        doc="",
        columns=(*FLOWS.columns, column("invented", pa.string(), "")),
        partition_by=FLOWS.partition_by,
    )
    assert rules.rule_of(table, "invented") == rules.UNKNOWN
    assert "invented" in redaction.hidden_columns(table, "source", "workload")
    assert rules.UNKNOWN.reveals in rules.WITH_LABELS


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_what_is_named_after_labels_counts_as_revealing_them(table: Table) -> None:
    for name in table.schema.names:
        if "label" in name or (name in ("manifest", "before", "after", "paths", "failing", "state") and table.name != "coverage"):
            if (table.name, name) in {("drift", "state"), ("findings", "state"), ("config_coverage", "state"), ("alerts", "state")}:
                continue
            assert rules.rule_of(table, name).reveals in rules.WITH_LABELS, (table.name, name)


# A lake in which every column that may hold labels holds the canary ---------------------------------------------------------------------


def value(table: Table, name: str, namespace: str) -> Any:
    """A value with a label in it, as the column may hold it."""
    kind, reveals = table.schema.field(name).type, rules.rule_of(table, name).reveals
    mark = f"{CANARY}-{namespace}"
    match reveals:
        case Reveals.POLICIES:
            return [{"name": "allow", "namespace": namespace, "labels": [mark], "revision": 1, "kind": "CiliumNetworkPolicy"}]
        case Reveals.OBJECT:
            where = {"matchLabels": {"tier": mark}, "matchExpressions": [{"key": mark}], "labels": [mark]}
            return json.dumps({"spec": {"endpointSelector": where, "port": 8080}, "spec.podSelector.matchLabels.tier": mark})
        case Reveals.PATHS:
            path = f"spec.endpointSelector.matchLabels.{mark}"
            return [path] if pa.types.is_list(kind) else f"web differs: {path}, spec.port"
        case Reveals.ASKED:
            return f"SELECT * FROM flows WHERE list_contains(source_labels, 'k8s:{mark}')"
    return mark.encode() if pa.types.is_binary(kind) else [mark] if pa.types.is_list(kind) else mark


def row(table: Table, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in table.schema.names:
        if rules.rule_of(table, name).reveals in rules.WITH_LABELS:
            found[name] = value(table, name, namespace)
        elif pa.types.is_string(table.schema.field(name).type):
            found[name] = f"{name} of {namespace}"
        elif pa.types.is_timestamp(table.schema.field(name).type):
            found[name] = NOON
    found |= {"cluster": "c1", "namespace": namespace, "source_namespace": namespace, "destination_namespace": namespace}
    found |= {"valid_to": None, "date": NOON.date(), "state": found.get("state") if table.name == "saved_views" else "open", "flows": 1}
    for side in ("source", "destination"):
        found |= {f"{side}_cluster_name": None}
    if table.name == "drift":
        found["flows"] = "hindcast flows"
    found |= {"node_name": "c1/n", "kind": "NetworkPolicy", "uuid": namespace, "principal": namespace, "flow_count": 1}
    return {name: one for name, one in found.items() if name in table.schema.names}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    made = Lake.open(config.Lake(url=str(tmp_path_factory.mktemp("canary") / "lake")))
    for table in TABLES.values():
        rows = pa.Table.from_pylist([row(table, namespace) for namespace in ("shop", "vault")], schema=table.schema)
        made.commit(table, made.write_files(table, rows), transactions={}, metadata={})
    yield made
    access_log.flush()


AUDREY, ANNA = Principal(user="audrey"), Principal(user="anna")


@pytest.fixture(scope="module")
def door(lake: Lake) -> Door:
    grants = [
        {"subject": "audrey", "role": "auditor"},
        {"subject": "anna", "role": "auditor"},
        {"subject": "anna", "role": "namespace-owner", "namespaces": ["shop"]},
    ]
    return Door(lake, config.Ownership.model_validate({"grants": grants}))


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
@pytest.mark.parametrize("who", [AUDREY, ANNA], ids=["auditor", "owner too"])
def test_auditors_read_no_labels_in_sql_through_any_column_of_any_table(who: Principal, table: Table, door: Door) -> None:
    rows = door.answer(who, OwnSql(text=f"SELECT * FROM {table.name}", window=WINDOW, limits=ALL)).rows
    printed = repr(rows.to_pylist())
    assert rows.num_rows >= 2
    assert f"{CANARY}-vault" not in printed
    sided = "namespace" in table.schema.names or scoping.has_two_sides(table)
    holds = any(rules.rule_of(table, name).reveals in rules.WITH_LABELS for name in table.schema.names)
    assert (f"{CANARY}-shop" in printed) == (who is ANNA and sided and holds)


WANTED = FlowFilter(since=NOON - dt.timedelta(hours=1), until=NOON + dt.timedelta(hours=1))
QUESTIONS: dict[str, Question[Answer]] = {
    "flows": flow_questions.newest(WANTED, limits=ALL),
    "labels": count_questions.values("node_labels", WANTED, limits=ALL),
    "drift": record_questions.Drift(),
    "controls": record_questions.Controls(),
    "configuration": record_questions.Configuration(window=WINDOW),
    "access log": record_questions.AccessLog(window=WINDOW, limits=ALL),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("who", [AUDREY, ANNA], ids=["auditor", "owner too"])
def test_auditors_read_no_labels_in_any_answer(who: Principal, question: str, door: Door) -> None:
    printed = repr(door.answer(who, QUESTIONS[question]).rows.to_pylist())
    assert f"{CANARY}-vault" not in printed
    if question in ("flows", "drift", "configuration"):
        assert (f"{CANARY}-shop" in printed) == (who is ANNA)


def test_objects_keep_what_is_no_label_and_say_what_is_left_out(door: Door) -> None:
    (found,) = [row for row in door.answer(AUDREY, QUESTIONS["configuration"]).rows.to_pylist() if row["namespace"] == "vault"][:1]
    spec = json.loads(found["manifest"])["spec"]
    assert spec == {"endpointSelector": labels.HIDDEN, "port": 8080}


def test_an_auditor_who_owns_a_namespace_administers_nothing(door: Door, lake: Lake) -> None:
    shared = Scope(grants=(Grant(subject="ada", role="platform-admin", cluster="*", namespace=None, reason=""),))
    draft = saved_views.Draft(kind="view", name="x", page="flows", state="", shared_with=("*",))
    view = saved_views.save(lake, Principal(user="ada"), shared, draft)
    for who in (AUDREY, ANNA):
        with pytest.raises((AccessDeniedError, QueryError)):
            saved_views.change(lake, who, door.scope(who), view.id, deleted=True)


def test_label_hashes_and_sets_do_not_split_what_auditors_are_shown() -> None:
    """How many sets of labels there are is told by nothing."""
    import duckdb

    table = TABLES["edges_1h"]
    edge = {
        "cluster": "c1",
        "hour": NOON,
        "source_namespace": "shop",
        "destination_namespace": "vault",
        "flows": 2,
        "repeats": 0,
        "replies": 0,
    }
    made = [edge | {"source_labels_id": str(number), "first_seen": NOON, "last_seen": NOON} for number in range(5)]
    auditor = Scope(grants=(Grant(subject="x", role="auditor", cluster="*", namespace=None, reason=""),))
    with duckdb.connect() as connection:
        connection.from_arrow(pa.Table.from_pylist(made, schema=table.schema)).create_view("edges_1h")
        (found,) = connection.sql(scoping.visible(auditor, table, Window(), ["c1"])).to_arrow_table().to_pylist()
    assert (found["flows"], found["source_labels_id"]) == (10, None)
