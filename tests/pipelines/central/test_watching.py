"""What a published change of a blueprint drops: found by the engine, recorded once, and rolled back by the rule of proposals."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pipelines.central import acting, store, watching_all
from pipelines.central.model import Change, Entry, Event, Status
from pipelines.central.watching_all import Looked
from pipelines.replay import whatif
from tests.modules import load
from warehouse.access.principals import OPERATOR
from warehouse.errors import ClusterError, ConfigError, HindcastError, LakeError, ProposalError
from warehouse.schema import POLICY_CHANGES

proposals: Any = load(Path(__file__).parents[1] / "proposals" / "conftest.py")


def published(office: Any, run: str = "r1", *, minutes_ago: float = 10, newly_denied: int = 5, groups: list[str] | None = None) -> Change:
    """A change of a blueprint that closed `web` for all but `api` some minutes ago, as far as the log says; there is no cluster here."""
    effect = {"newly_denied": newly_denied, "newly_allowed": 0, "uncertain": 0}
    begun = {"clusters": ["c1"], "canary": ["c1"], "reason": "", "plans": {"c1": {"effect": effect}}}
    claimed = {"clusters": ["c1"], **({} if groups is None else {"groups": groups})}
    change = Change(id=run, blueprint="base", version="1.0.0", entries=())
    moment = office.now - timedelta(minutes=minutes_ago)
    steps: tuple[tuple[Event, dict[str, Any]], ...] = (
        (Event.BEGUN, begun),
        (Event.PUBLISHING, claimed),
        (Event.PUBLISHED, {"clusters": ["c1"]}),
    )
    for number, (event, about) in enumerate(steps, 1):
        change = store.append(office.lake, change, Entry(number=number, event=event, time=moment, actor="ada", about=about))
    row = {"cluster": "c1", "date": moment.date(), "time": moment, "run": run, "cause": "publish", "actor": "ada", "action": "create"}
    row |= {"kind": "CiliumNetworkPolicy", "namespace": "shop", "name": "web", "result": "done"}
    row["after"] = json.dumps(yaml.safe_load(proposals.CLOSED))
    files = office.lake.write_files(POLICY_CHANGES, pa.Table.from_pylist([row], schema=POLICY_CHANGES.schema))
    office.lake.commit(POLICY_CHANGES, files, transactions={}, metadata={})
    return change


@pytest.fixture
def office(tmp_path: Path) -> Any:
    """An hour of traffic to web of shop, which batch called as well."""
    made = proposals.Office(tmp_path)
    made.flows("shop/api", "shop/web")
    made.flows("shop/batch", "shop/web", times=5)
    return made


@pytest.fixture
def rolled_back(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Roll-backs, which need a cluster, are noted: as whom, which change, and why."""
    calls: list[Any] = []

    def noted(desk: Any, one: Change, *, reason: str) -> Change:
        calls.append((desk.who.user, sorted(desk.who.groups), one.id, reason))
        return one

    monkeypatch.setattr(acting, "roll_back", noted)
    return calls


def look(office: Any) -> list[Looked]:
    return list(watching_all.look_at_all(replace(office.desk(""), who=OPERATOR)))


def events(office: Any, change: Change) -> list[str]:
    (found,) = [one for one in store.changes_of(office.lake.read(POLICY_CHANGES)) if one.id == change.id]
    return [entry.event.value for entry in found.entries]


def test_what_is_over_rolled_back_or_in_progress_is_not_looked_at(office: Any) -> None:
    published(office, "old", minutes_ago=90)
    for run, event in (("back", Event.ROLLED_BACK), ("busy", Event.PUBLISHING)):
        change = published(office, run)
        store.append(office.lake, change, Entry(number=4, event=event, time=office.now, actor="ada", about={"clusters": ["c1"]}))
    assert look(office) == []


@pytest.mark.slow
def test_new_drops_are_recorded_once_and_do_not_change_what_can_be_done_next(office: Any) -> None:
    change = published(office)
    assert [(one.flows, one.is_judged) for one in look(office)] == [(0, True)]
    office.flows("shop/batch", "shop/web", ago=5, times=4, verdict="DROPPED")
    assert [one.flows for one in look(office)] == [4]
    (looked,) = look(office)
    assert events(office, change) == ["begun", "publishing", "published", "watched"]
    assert looked.change.status is Status.PUBLISHED
    assert looked.change.entries[-1].detail == "c1: 4 flows on 1 edge, as announced, dropped because of it"


@pytest.mark.slow
def test_the_rule_rolls_back_as_whoever_published_and_does_not_count_what_the_plan_had_announced(
    office: Any, rolled_back: list[Any]
) -> None:
    office.configure(proposals={"roll_back_at": 2})
    published(office, groups=["platform"])
    office.flows("shop/batch", "shop/web", ago=5, times=4, verdict="DROPPED")
    assert [one.is_rolled_back for one in look(office)] == [False]
    office.flows("shop/cron", "shop/web", ago=4, times=2, verdict="DROPPED")
    assert [one.is_rolled_back for one in look(office)] == [True]
    ((user, groups, change, reason),) = rolled_back
    assert (user, groups, change) == ("ada", ["platform"], "r1")
    assert reason.startswith("rolled back by the rule roll_back_at: 2: c1: 6 flows on 2 edges, 2 flows of them on 1 edge not announced,")


def test_where_the_plan_announced_nothing_every_drop_counts_and_the_operator_rolls_back_what_it_published(
    office: Any, rolled_back: list[Any]
) -> None:
    office.configure(proposals={"roll_back_at": 4})
    published(office, newly_denied=0)
    office.flows("shop/batch", "shop/web", ago=5, times=4, verdict="DROPPED")
    assert [one.is_rolled_back for one in look(office)] == [True]
    assert rolled_back[0][0] == OPERATOR.user


@pytest.mark.parametrize("error", [ConfigError("no history"), LakeError("no lake"), ProposalError("at the same time")])
def test_a_change_that_cannot_be_judged_is_said_and_those_after_it_are_rolled_back(
    office: Any, rolled_back: list[Any], monkeypatch: pytest.MonkeyPatch, error: HindcastError
) -> None:
    office.configure(proposals={"roll_back_at": 1})
    for run in ("r1", "r2"):
        published(office, run, newly_denied=0)
    office.flows("shop/batch", "shop/web", ago=5, times=4, verdict="DROPPED")
    simulate, asked = whatif.simulate, []

    def failing(*given: Any, **more: Any) -> Any:
        asked.append(given)
        if len(asked) == 1:
            raise error
        return simulate(*given, **more)

    monkeypatch.setattr(whatif, "simulate", failing)
    with pytest.raises(ProposalError, match=rf"of 2 changes of blueprints looked at: change r\d is not judged in c1: {error}"):
        watching_all.watch_fleet(office.settings)
    assert len(rolled_back) == 1


def test_a_roll_back_that_fails_is_said(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    office.configure(proposals={"roll_back_at": 1})
    published(office, newly_denied=0)
    office.flows("shop/batch", "shop/web", ago=5, times=4, verdict="DROPPED")

    def refused(*_: Any, **__: Any) -> None:
        raise ClusterError("c1: the API server is away")

    monkeypatch.setattr(acting, "roll_back", refused)
    with pytest.raises(ProposalError, match="change r1 cannot be rolled back: c1: the API server is away"):
        watching_all.watch_fleet(office.settings)
