"""The access log of questions that were answered, denied and refused, and who may read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from seen_by_people import ALL, DAY, START, WHOLE

from warehouse.access import access_log
from warehouse.access.principals import Principal
from warehouse.engine import Limits, Window
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake.time_travel import AsOf
from warehouse.questions import conditions, count_questions, edge_questions, flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.record_questions import (
    AccessLog,
    Configuration,
)
from warehouse.questions.sql_question import OwnSql


def test_each_question_is_noted_denied_or_not(world: Any, person: Callable[[str], Principal]) -> None:
    door = Door(world.lake, world.ownership(), purpose="a test of notes")
    with pytest.raises(AccessDeniedError):
        door.answer(person("eve"), flow_questions.newest(FlowFilter(since=START, until=START + DAY, namespaces=("payments",))))
    door.answer(
        person("payments"), flow_questions.newest(FlowFilter(since=START, until=START + DAY, clusters=("c1",)), limits=Limits(rows=3))
    )
    door.answer(person("payments"), OwnSql(text="SELECT 1 AS one", window=WHOLE))
    with pytest.raises(Exception, match="nope"):
        door.answer(person("payments"), OwnSql(text="SELECT nope", window=WHOLE))
    access_log.flush()
    noted = [
        row
        for row in door.answer(person("operator"), AccessLog(window=Window(), limits=ALL)).rows.to_pylist()
        if row["purpose"] == "a test of notes"
    ]
    told = [(row["principal"], row["question"], row["outcome"], row["rows"]) for row in reversed(noted)]
    assert told[:4] == [
        ("eve", "flows", "denied", 0),
        ("paula", "flows", "answered", 3),
        ("paula", "sql", "answered", 1),
        ("paula", "sql", "refused", 0),
    ]
    by_question = {row["outcome"]: row for row in noted if row["question"] == "flows"}
    assert by_question["denied"]["namespaces"] == ["*/payments"]
    assert by_question["answered"]["namespaces"] == ["c1/payments", "c1/payroll"]
    assert json.loads(by_question["denied"]["text"]) == {"namespaces": ["payments"]}


REFUSED: dict[str, Callable[[Door, Principal, FlowFilter], Any]] = {
    "flows": lambda door, who, wanted: door.answer(who, flow_questions.newest(wanted, columns=["uuid", "no_such_column"])),
    "values": lambda door, who, wanted: door.answer(who, count_questions.values("source_namespac", wanted)),
    "edges": lambda door, who, wanted: door.answer(who, edge_questions.edges(replace(wanted, pods=("web",)))),
    "new_edges": lambda door, who, wanted: door.answer(who, edge_questions.new_edges(replace(wanted, ips=("10.0.0.1",)), WHOLE)),
    "talkers": lambda door, who, wanted: door.answer(who, edge_questions.talkers(replace(wanted, nodes=("n1",)))),
    "names": lambda door, who, wanted: door.answer(who, edge_questions.names(replace(wanted, as_of=AsOf(instant=START)))),
    "configuration": lambda door, who, wanted: door.answer(who, Configuration(window=Window(since=wanted.since))),
    "sql": lambda door, who, wanted: door.answer(who, OwnSql(text="INSERT INTO flows SELECT * FROM flows", window=WHOLE)),
    "filter": lambda door, who, wanted: _put_together(door, who),
}
"""A question that is refused of each kind that checks what it is asked for, before anything is read."""


def _put_together(door: Door, who: Principal) -> None:
    with door.refusals(who, "filter", "nonsense=1"):
        conditions.parse("nonsense=1")


@pytest.mark.parametrize("who", ["payments", "operator", "eve"])
def test_a_question_that_is_refused_is_noted_as_refused(world: Any, person: Callable[[str], Principal], who: str) -> None:
    purpose = f"refusals to {who}"
    door, wanted = Door(world.lake, world.ownership(), purpose=purpose), FlowFilter(since=START, until=START + DAY)
    for ask in REFUSED.values():
        with pytest.raises(AccessDeniedError if who == "eve" else QueryError):
            ask(door, person(who), wanted)
    rows = door.answer(person("ada"), AccessLog(window=Window(), limits=ALL)).rows.to_pylist()
    noted = {row["question"]: row for row in rows if row["purpose"] == purpose}
    assert noted.keys() >= REFUSED.keys()
    assert {row["outcome"] for row in noted.values()} == {"denied" if who == "eve" else "refused"}
    assert all(row["detail"] and not row["rows"] for row in noted.values())
    assert len([row for row in rows if row["purpose"] == purpose]) == len(REFUSED)


def test_an_owner_sees_who_looked_at_her_namespaces_and_nothing_else(world: Any, person: Callable[[str], Principal]) -> None:
    door = Door(world.lake, world.ownership(), purpose="who looked")
    window = FlowFilter(since=START + 3.5 * DAY, until=START + 4 * DAY)
    door.answer(person("ada"), flow_questions.newest(window))  # everything, and so shop of c1
    door.answer(person("otto"), flow_questions.newest(window))  # orders and or-test, nothing of hers
    door.answer(person("olga"), flow_questions.newest(FlowFilter(since=START, until=START + DAY)))  # shop of c1, when it was not hers
    door.answer(person("olga"), flow_questions.newest(window))
    door.answer(person("nora"), flow_questions.newest(window))
    rows = [
        row
        for row in door.answer(person("nora"), AccessLog(window=Window(), limits=ALL)).rows.to_pylist()
        if row["purpose"] == "who looked"
    ]
    found = [(row["principal"], row["since"]) for row in rows if row["question"] == "flows"]
    assert sorted(found, key=str) == sorted([("ada", window.since), ("olga", window.since), ("nora", window.since)], key=str)
    assert {tuple(row["namespaces"]) for row in rows} == {("c1/shop",)}
    assert all(row["text"] is None and row["rows"] is None for row in rows if row["principal"] != "nora")
