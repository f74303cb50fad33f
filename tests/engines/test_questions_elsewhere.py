"""Questions that are too large for the embedded engine: the same answers under the same scope, or the embedded engine's."""

import datetime as dt
from typing import Any

import pytest

from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engines import dialect, patterns
from warehouse.errors import AccessDeniedError, QueryError, QueryLimitError
from warehouse.questions import count_questions, edges_in_time, flow_questions
from warehouse.questions.conditions import parse
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
ANN, MALLORY = Principal(user="ann"), Principal(user="mallory")
GRANT = {"subject": "ann", "role": "namespace-owner", "namespaces": ["orders"]}


def wanted(*conditions: str) -> FlowFilter:
    return FlowFilter(since=NOON, until=NOON + 4 * HOUR, conditions=tuple(parse(text) for text in conditions))


@pytest.fixture
def doors(twins: Any, server: Any) -> tuple[Door, Door]:
    """The embedded engine's door and the other engine's, to a lake of which one hour is rolled up."""
    twins.append(600, rate=0.08)
    roll_up_closed_hours(twins.here, config.Rollups(), now=NOON + 2 * HOUR)
    ownership = config.Ownership.model_validate({"grants": [GRANT]})
    engine = server.settings.model_copy(update={"questions_over_bytes": 0})
    return Door(twins.here, ownership), Door(twins.here, ownership, engine_settings=engine)


def rows(answer: Any) -> list[str]:
    return sorted(str(row) for row in answer.rows.to_pylist())


def test_whoever_may_see_nothing_is_refused_before_any_engine_is_asked(doors: tuple[Door, Door]) -> None:
    with pytest.raises(AccessDeniedError):
        doors[1].answer(MALLORY, flow_questions.newest(wanted()))


def test_the_answers_are_those_of_the_embedded_engine(doors: tuple[Door, Door], told: list[Any]) -> None:
    here, there = doors
    for question in (
        flow_questions.newest(wanted()),
        flow_questions.newest(wanted("port=443", "ip=10.0.0.0/8", "label=k8s:app=orders-api")),
        flow_questions.oldest_first(wanted("src.ns=orders", "verdict=FORWARDED")),
        count_questions.timeline(wanted()),
        count_questions.pulse(wanted()),
        count_questions.drop_reasons(wanted()),
        count_questions.values("verdict", wanted("port=443")),
        edges_in_time.first_and_last_seen(wanted()),
    ):
        mine, theirs = here.answer(OPERATOR, question), there.answer(OPERATOR, question)
        assert rows(theirs) == rows(mine), question.name
        assert [column.type for column in theirs.rows.columns] == [column.type for column in mine.rows.columns]
        assert theirs.coverage == mine.coverage
    for counted in (count_questions.timeline(wanted()), edges_in_time.first_and_last_seen(wanted())):
        mine, theirs = here.answer(ANN, counted), there.answer(ANN, counted)
        assert rows(theirs) == rows(mine) != []
    assert not told, "the embedded engine answered nothing in place of the other"


def test_what_has_no_faithful_translation_is_answered_by_the_embedded_engine(doors: tuple[Door, Door], told: list[Any]) -> None:
    here, there = doors
    by_pattern = flow_questions.newest(wanted("pod~^orders-"))
    assert rows(there.answer(OPERATOR, by_pattern)) == rows(here.answer(OPERATOR, by_pattern)) != []
    assert "regexp_like" in told[0][1]["reason"]
    redacted = flow_questions.newest(wanted())
    assert rows(there.answer(ANN, redacted)) == rows(here.answer(ANN, redacted)) != []
    assert len(told) == 2, "what hides the other side of an owner's flows needs patterns that engines read in different ways"


def test_a_question_under_the_limit_is_not_sent(twins: Any, sail: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    twins.append(100)
    monkeypatch.setattr("warehouse.engines.opening.usable", lambda _settings: pytest.fail("the engine is asked for"))
    settings = sail.settings.model_copy(update={"questions_over_bytes": 10**12})
    assert rows(Door(twins.here, config.Ownership(), engine_settings=settings).answer(OPERATOR, flow_questions.newest(wanted())))


def test_a_question_that_runs_into_its_limit_is_not_asked_twice(doors: tuple[Door, Door], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def slow(*given: Any, **_more: Any) -> Any:
        asked.append(given)
        raise QueryLimitError("too slow")

    monkeypatch.setattr("warehouse.engine.ask", slow)
    with pytest.raises(QueryLimitError):
        doors[1].answer(OPERATOR, flow_questions.newest(wanted()))
    assert len(asked) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM t ORDER BY a QUALIFY row_number() OVER (PARTITION BY a ORDER BY a) = 1",
        "SELECT regexp_matches(a, ?) FROM t",
        "SELECT regexp_matches(a, '\\bword') FROM t",
        "SELECT regexp_matches(a, 'x', 'i') FROM t",
        "SELECT regexp_replace(a, 'x', '') FROM t",
        "SELECT list(a) FROM t",
        "SELECT list_concat([a], NULL) FROM t",
        "SELECT arg_max(a, a) FROM t",
    ],
)
def test_what_another_engine_may_take_for_something_else_is_refused(sql: str) -> None:
    with pytest.raises(QueryError, match="cannot"):
        dialect.translated(sql, {"t": ["a"]})


def test_patterns_match_the_same_texts_everywhere() -> None:
    assert patterns.portable(r"^(.+)-\d{1,4}$") == r"^([^\n]+)-[0-9]{1,4}\z"
    assert patterns.portable(r"(?i)[a-z.]\.(?:svc|pod)([^a-z]|$)") == r"(?iu)[a-z.]\.(?:svc|pod)([^a-z]|\z)"
