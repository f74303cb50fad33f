"""Every question, every person: the answer is what the oracle says, flow by flow. A question that is not listed fails a test."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from typing import Any

import pytest
from doors_about_flows import DOORS_ABOUT_FLOWS, edges, edges_of_pods, flows, namespaces_of_flows, pulse_of_flows, values
from doors_about_records import DOORS_ABOUT_RECORDS, clusters
from seen_by_people import ALL, DAY, LEVELS, NAMES, START, STRANGERS, WHOLE, Seen, keyed, tokens

import warehouse.questions
from warehouse.access.principals import Principal
from warehouse.errors import AccessDeniedError
from warehouse.questions import count_questions, flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.question import Question
from warehouse.questions.sql_question import OwnSql

DOORS = DOORS_ABOUT_FLOWS | DOORS_ABOUT_RECORDS
"""Every question there is, by the module and the name of what makes it."""
EVERY_DOOR = DOORS | {
    "clusters": clusters,
    "edges_in_time.edges_in_time of pods": edges_of_pods,
    "count_questions.pulse of flows": pulse_of_flows,
    "count_questions.namespaces of flows": namespaces_of_flows,
}
NOT_QUESTIONS = {
    "answer": "is how each of DOORS is asked",
    "clusters": "has a test in EVERY_DOOR",
    "scope": "says what one may see, and shows nothing of it",
    "grants": "for who administers ownership; commands that print it run on the lake's own files",
    "peer_detail": "a setting",
    "recorded": "names of our own tables that hold rows, and nothing of the rows",
    "as_of": "gives a moment, and shows nothing",
    "refusals": "notes what is refused, and shows nothing",
    "reading": "asks the questions of DOORS one after the other, each within a scope worked out anew",
    "lake": "the tables themselves, for versions and spans of time; commands and servers hold it anyway",
}
"""What the door has besides."""


def questions_made() -> set[str]:
    """Whatever in warehouse.questions makes a question that can be asked."""

    def makes(made: Any) -> bool:
        if inspect.isclass(made):
            return issubclass(made, Question) and not inspect.isabstract(made)
        return inspect.isfunction(made) and bool(re.search(r"Question\b", str(inspect.signature(made).return_annotation)))

    found = set()
    for module in pkgutil.iter_modules(warehouse.questions.__path__):
        loaded = importlib.import_module(f"warehouse.questions.{module.name}")
        for name, made in inspect.getmembers(loaded):
            if not name.startswith("_") and getattr(made, "__module__", None) == loaded.__name__ and makes(made):
                found.add(f"{module.name}.{name}")
    return found - {"flow_table.FlowQuestion", "rollup_table.RollupQuestion"}  # which the functions return


def test_every_question_is_listed() -> None:
    assert questions_made() == DOORS.keys(), "a question without a test: add it to DOORS"
    assert {name for name, _ in inspect.getmembers(Door) if not name.startswith("_")} == NOT_QUESTIONS.keys()


def test_nothing_else_answers_a_principal() -> None:
    """Whatever takes a principal and is not the door is known, and asks the door."""
    known = {
        "warehouse.access.principals.scope_of",
        "warehouse.access.access_log.noted",
        "warehouse.access.access_log.visible",
        "hindcast.query_options.known_at",  # names a moment
        "hindcast.flow_export.every",  # asks the door piece by piece
        "hindcast.policy_propose.open_desk",  # opens the lake that the command's questions are asked of
        "warehouse.records.saved_views.change",
        # Of a finding that the door has shown: who may decide about it.
        "warehouse.records.findings.accept",
        "pipelines.evidence.rules.expressions.evaluated",  # asks the door
        "warehouse.records.findings.reopen",
        "warehouse.records.saved_views.listed",
        "warehouse.records.saved_views.owner_of",
        "warehouse.records.saved_views.save",
        "warehouse.records.tokens.create",  # makes one for a user whom sign-in or the operator named
        "api.statuses.namespaces",
        "api.statuses.nodes",
        "api.statuses.server_status",
        "dashboards.access.identity.name",
        # Ask the door beforehand, and give the answer to a page of the same principal.
        "dashboards.ahead.begin",
        "dashboards.ahead.begin_for_page",
        "dashboards.ahead.taken",
        "dashboards.access.made_files.note",
        # Of a proposal that the door has shown: who may decide on it, and what it drops, which is asked of the door.
        "pipelines.proposals.rules.check_approver",
        "pipelines.proposals.rules.is_same",
        "pipelines.proposals.rules.name_of",
        "pipelines.proposals.watching.watch",
        "pipelines.proposals.watching.without_change",
    }
    found = set()
    for package in ("warehouse", "pipelines", "dashboards", "hindcast", "api"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if module.name in ("dashboards.app", "hindcast.__main__", "warehouse.schema.tables_doc"):
                continue  # run as programs
            for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
                if function.__module__ == module.name and not name.startswith("_"):
                    kinds = [str(parameter.annotation) for parameter in inspect.signature(function).parameters.values()]
                    if any(re.search(r"\bPrincipal\b", kind) for kind in kinds):
                        found.add(f"{module.name}.{name}")
    assert found == known


def test_the_test_data_has_many_different_views_and_many_redacted_rows(world: Any, seen: Callable[[str], Seen]) -> None:
    """Everyone's view differs from everyone else's, the matrix has its hundreds of cases, and most of them are denials."""
    sights = {who: frozenset(keyed(seen(who).flows)) for who in NAMES}
    assert len(set(sights.values())) >= 14
    assert len(NAMES) * len(DOORS) + len(STRANGERS) * len(DOORS) >= 200
    redacted = [row for who in ("payments", "otto", "sina") for row in seen(who).flows if row["summary"] is None]
    assert len(redacted) > 200
    at_a_change = [row for row in world.flows if (row["time"] - START) / DAY in (1, 1.5, 2, 2.25, 2.5, 3, 4, 5)]
    assert len(at_a_change) > 200


@pytest.mark.parametrize("who", NAMES)
@pytest.mark.parametrize("question", EVERY_DOOR)
def test_every_question_shows_each_person_what_the_oracle_allows(
    question: str, who: str, door: Door, seen: Callable[[str], Seen], person: Callable[[str], Principal]
) -> None:
    answer = EVERY_DOOR[question](door, person(who), seen(who))
    if answer is not None and question != "record_questions.AccessLog":  # there one reads again what one has asked
        assert not tokens([answer.rows.to_pylist(), answer.coverage]) - seen(who).tokens


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("question", [name for name in EVERY_DOOR if name != "clusters"])
def test_who_owns_nothing_is_denied_at_every_door(
    question: str, who: str, door: Door, seen: Callable[[str], Seen], person: Callable[[str], Principal]
) -> None:
    with pytest.raises(AccessDeniedError, match="owns no namespace"):
        EVERY_DOOR[question](door, person(who), seen(who))
    assert seen(who).flows == []


@pytest.mark.parametrize("who", ["payments", "sina"])
@pytest.mark.parametrize("level", [level for level in LEVELS if level != "workload"])
@pytest.mark.parametrize("question", EVERY_DOOR)
def test_each_level_of_redaction_holds_at_every_door(
    question: str,
    level: str,
    who: str,
    door_of: Callable[[str], Door],
    seen: Callable[..., Seen],
    person: Callable[[str], Principal],
) -> None:
    answer = EVERY_DOOR[question](door_of(level), person(who), seen(who, level))
    if answer is not None and question != "record_questions.AccessLog":
        assert not tokens([answer.rows.to_pylist(), answer.coverage]) - seen(who, level).tokens


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "workload"])
@pytest.mark.parametrize("who", ["otto", "dora"])
def test_each_level_of_redaction_holds_for_patterns_and_denials(
    level: str, who: str, door_of: Callable[[str], Door], seen: Callable[..., Seen], person: Callable[[str], Principal]
) -> None:
    for question in (flows, values, edges):
        question(door_of(level), person(who), seen(who, level))


def test_the_levels_differ(seen: Callable[..., Seen]) -> None:
    told = [sum(value is not None for row in seen("sina", level).flows for value in row.values()) for level in LEVELS]
    assert told == sorted(set(told), reverse=True)


@pytest.mark.parametrize("who", ["payments", "otto", "sina", "nora", "tim", "dora"])
def test_no_condition_finds_what_one_may_not_see(
    who: str, door: Door, world: Any, seen: Callable[[str], Seen], person: Callable[[str], Principal]
) -> None:
    """Asking for the hidden value of a flow that is shown, and for one that is not shown at all, gives the same: nothing."""
    shown = keyed(seen(who).flows)
    to_pods = [row for row in world.flows if row["destination_pod_name"] is not None]
    sought = [row for row in to_pods if row["uuid"] not in shown or shown[row["uuid"]]["destination_pod_name"] is None]
    assert len(sought) > 20
    told = seen(who).tokens
    # A pod is asked for by the beginning of its name, which may be that of one that is shown.
    pods = [name for row in sought if not any(each.startswith(name := row["destination_pod_name"]) for each in told)]
    assert len(pods) > 10
    for condition in ({"pods": tuple(pods[::-1][:12])}, {"ips": tuple(row["destination_ip"] for row in sought)}):
        wanted = FlowFilter(since=world.everything.since, until=world.everything.until, **condition)
        assert door.answer(person(who), flow_questions.newest(wanted)).rows.num_rows == 0
        assert door.answer(person(who), count_questions.timeline(wanted)).rows.num_rows == 0
        assert door.answer(person("operator"), flow_questions.newest(wanted)).rows.num_rows


def test_auditors_read_everything_but_no_labels_in_sql(world: Any) -> None:
    audrey = Principal(user="audrey")
    door = world.door()
    assert door.answer(audrey, flow_questions.newest(world.everything, limits=ALL)).rows.num_rows == len(world.flows)
    (row,) = door.answer(
        audrey, OwnSql(text="SELECT count(*) AS n, count(source_labels) AS labels, count(source_ip) AS ips FROM flows", window=WHOLE)
    ).rows.to_pylist()
    assert row == {"n": len(world.flows), "labels": 0, "ips": len(world.flows)}
