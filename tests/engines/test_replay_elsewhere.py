"""Distinct edges, over which policies are replayed, on an engine elsewhere: the same scope, the same rows."""

import datetime as dt
from typing import Any

import pytest

from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engines import dialect
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.questions import large_questions, replay_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
NAMESPACE = "orders"
WANTED = FlowFilter(since=NOON, until=NOON + 4 * HOUR)
BEGINS = (("c1", NOON), ("c1", NOON + 2 * HOUR))


def doors(twins: Any, server: Any, **ownership: Any) -> tuple[Door, Door]:
    settings = server.settings.model_copy(update={"questions_over_bytes": 0})
    owned = config.Ownership.model_validate(ownership)
    return Door(twins.here, owned), Door(twins.here, owned, engine_settings=settings)


def plain(answer: Any) -> list[str]:
    return sorted(str(sorted(row.items())) for row in answer.plain().to_pylist())


def test_whoever_may_see_nothing_sees_nothing_there_either(twins: Any, server: Any) -> None:
    _, there = doors(twins, server)
    with pytest.raises(AccessDeniedError):
        there.answer(Principal(user="mallory"), replay_questions.DistinctEdges(wanted=WANTED))


def test_what_cannot_be_translated_is_refused() -> None:
    for sql in ("SELECT read_text('/etc/passwd')", "SELECT * FROM unknown", "SELECT nothing_known(a) FROM t", "SELECT b FROM t"):
        with pytest.raises(QueryError, match="cannot"):
            dialect.translated(sql, {"t": ["a"]})


def test_an_owner_and_the_operator_get_the_embedded_engines_edges(
    twins: Any, server: Any, monkeypatch: pytest.MonkeyPatch, told: list[Any]
) -> None:
    twins.append(800, rate=0.08)
    roll_up_closed_hours(twins.here, config.Rollups(), now=NOON + 8 * HOUR)
    used: list[Any] = []
    chosen = large_questions.engine_for
    monkeypatch.setattr(large_questions, "engine_for", lambda *given: used.append(chosen(*given)) or used[-1])
    grant = {"subject": "ann", "role": "namespace-owner", "namespaces": [NAMESPACE]}
    here, there = doors(twins, server, grants=[grant])
    for who in (OPERATOR, Principal(user="ann")):
        for begins in ((), BEGINS):
            question = replay_questions.DistinctEdges(wanted=WANTED, begins=begins)
            mine, theirs = here.answer(who, question), there.answer(who, question)
            assert mine.rows.num_rows
            assert plain(theirs) == plain(mine)
            assert theirs.label_sets.sort_by("id").to_pylist() == mine.label_sets.sort_by("id").to_pylist()
    assert [one is not None for one in used] == [False, True] * 4
    assert not told
