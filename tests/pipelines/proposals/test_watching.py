"""What an applied proposal drops: found by the engine, listed, recorded once, and the reason to roll back by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import yaml

from pipelines.proposals import rolling_back, steps, store, watching, watching_all
from pipelines.proposals.model import Event, Proposal
from warehouse.access.principals import OPERATOR
from warehouse.errors import ConfigError, HindcastError, LakeError, ProposalError, QueryError


def applied(office: Any, text: str, *, minutes_ago: float = 10) -> Proposal:
    """A proposal that was applied some minutes ago, as far as the log says; there is no cluster here."""
    made = office.propose("paula", text).proposal
    done = [replace(one, after=one.after and yaml.safe_load(yaml.safe_dump(one.after))) for one in made.objects]
    desk = office.desk("paula")
    entry = steps.add(desk, made, Event.APPLYING).entries[-1]
    moment = office.now - timedelta(minutes=minutes_ago)
    last = replace(
        entry, number=3, event=Event.APPLIED, result="done", time=moment, objects=tuple(done), run="", about={"groups": ["shop"]}
    )
    store.append(office.lake, made.id, "c1", "shop", last)
    return store.one(office.lake, made.id)


@pytest.fixture
def watched(office: Any, closed: str) -> Any:
    office.configure(proposals={"approval": "none"})
    proposal = applied(office, closed)
    office.flows("shop/batch", "shop/web", ago=5, times=4, verdict="DROPPED")
    office.flows("shop/api", "shop/web", ago=5, times=2)
    return office, proposal


def test_drops_that_the_change_causes_are_found_although_no_snapshot_has_seen_it_yet(watched: Any) -> None:
    office, proposal = watched
    found = watching.watch(office.desk("paula"), proposal)
    assert [(edge.source[2], edge.flows) for edge in found.drops] == [("batch", 4)]


def test_drops_that_the_simulation_announced_are_told_from_those_that_it_did_not(watched: Any) -> None:
    """Traffic of batch was recorded before the change, so its author was told; that of a new workload was not."""
    office, proposal = watched
    office.flows("shop/cron", "shop/web", ago=4, times=2, verdict="DROPPED")
    for found in (watching.watch(office.desk("paula"), proposal), watching.watch(office.desk(""), proposal, OPERATOR)):
        assert sorted(edge.source[2] for edge in found.drops) == ["batch", "cron"]
        assert [edge.source[2] for edge in found.unannounced] == ["cron"]
        assert found.in_words == "6 flows on 2 edges, 2 flows of them on 1 edge not announced,"


def test_the_rule_does_not_count_drops_that_were_announced(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    office, _ = watched
    office.configure(proposals={"approval": "none", "roll_back_at": 2})
    monkeypatch.setattr(rolling_back, "roll_back", lambda _, one, **__: one)
    assert [looked.is_rolled_back for looked in watching_all.look_at_all(office.desk(""))] == [False]
    office.flows("shop/cron", "shop/web", ago=4, times=2, verdict="DROPPED")
    assert [looked.is_rolled_back for looked in watching_all.look_at_all(office.desk(""))] == [True]


def test_what_a_roll_back_denies_is_found_before(office: Any, closed: str, policy: Any) -> None:
    """The change lets cron in; without it, cron is denied again."""
    office.in_force(closed)
    office.configure(proposals={"approval": "none"})
    proposal = applied(office, policy({"app": "api"}, {"app": "cron"}))
    office.flows("shop/api", "shop/web", ago=5)
    assert rolling_back.judge(office.desk("paula"), proposal).is_harmless
    office.flows("shop/cron", "shop/web", ago=4, times=7)
    found = rolling_back.judge(office.desk("paula"), proposal)
    assert [(edge.source[2], edge.flows) for edge in found.denied] == [("cron", 7)]
    assert found.in_words == "rolling back would deny 7 flows on 1 edge that go through now"
    office.flows("shop/cron", "shop/web", ago=3)
    assert rolling_back.judge(office.desk("paula"), proposal).judged == found.judged, "more flows of the same edges are not a surprise"
    office.flows("shop/cron", "shop/web", ago=3, destination_port=81)
    assert rolling_back.judge(office.desk("paula"), proposal).judged != found.judged


def test_drops_from_before_and_drops_for_other_reasons_are_not_the_changes(office: Any, closed: str, policy: Any) -> None:
    office.in_force(policy({"app": "api"}, {"app": "batch"}))
    office.configure(proposals={"approval": "none"})
    office.flows("shop/batch", "shop/web", ago=20, times=7, verdict="DROPPED")  # before
    office.flows("cart/cart", "shop/web", ago=5, times=3, verdict="DROPPED")  # which the policy before the change denied as well
    proposal = applied(office, closed)
    assert not watching.watch(office.desk("paula"), proposal).drops


def test_drops_are_shown_to_who_owns_the_namespace(watched: Any) -> None:
    office, proposal = watched
    office.flows("cart/cart", "shop/web", ago=4, times=2, verdict="DROPPED")
    whole = watching.watch(office.desk("ada"), proposal)
    assert {edge.source[1] for edge in whole.drops} == {"shop", "cart"}
    with pytest.raises(QueryError, match="namespace shop is not yours"):
        watching.watch(office.desk("carla"), proposal)


def test_what_was_not_applied_is_not_watched(office: Any, closed: str) -> None:
    with pytest.raises(ProposalError, match="was not applied"):
        watching.watch(office.desk("paula"), office.propose("paula", closed).proposal)


def test_new_drops_are_recorded_once(watched: Any) -> None:
    office, proposal = watched
    for _ in range(2):
        (looked,) = watching_all.look_at_all(office.desk(""))
        assert looked.watched.flows == 4
    events = [(row["event"], row["actor"], row["detail"]) for row in office.rows(proposal)]
    assert events[-1] == ("watched", "hindcast", "4 flows on 1 edge, as announced, dropped because of it")
    assert [event for event, _, _ in events].count("watched") == 1


def test_a_proposal_is_watched_for_its_time_alone(office: Any, closed: str) -> None:
    office.configure(proposals={"approval": "none", "watch": "5m"})
    applied(office, closed, minutes_ago=90)
    assert not list(watching_all.look_at_all(office.desk("")))


def test_the_rule_rolls_back_as_the_user_who_applied_it(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    office, _ = watched
    office.configure(proposals={"approval": "none", "roll_back_at": 5})
    office.flows("shop/cron", "shop/web", ago=5, times=4, verdict="DROPPED")
    calls: list[Any] = []

    def noted(desk: Any, one: Any, **more: Any) -> Any:
        calls.append((desk.who.user, sorted(desk.who.groups), more["detail"]))
        return one

    monkeypatch.setattr(rolling_back, "roll_back", noted)
    assert [looked.is_rolled_back for looked in watching_all.look_at_all(office.desk(""))] == [False]
    office.flows("shop/cron", "shop/web", ago=3, times=1, verdict="DROPPED")
    assert [looked.is_rolled_back for looked in watching_all.look_at_all(office.desk(""))] == [True]
    ((user, groups, detail),) = calls
    assert (user, groups) == ("paula", ["shop"])
    assert detail.startswith(
        "rolled back by the rule roll_back_at: 5: 9 flows on 2 edges, 5 flows of them on 1 edge not announced, dropped"
    )


def test_a_rule_that_cannot_roll_back_says_why_and_looks_on(watched: Any) -> None:
    office, _ = watched
    office.flows("shop/cron", "shop/web", ago=5, times=4, verdict="DROPPED")
    office.configure(proposals={"approval": "none", "roll_back_at": 1})
    (looked,) = watching_all.look_at_all(office.desk(""))
    assert not looked.is_rolled_back
    assert "has no API server" in looked.failure


@pytest.mark.parametrize(
    "error", [ConfigError("no history"), QueryError("too wide"), LakeError("no lake"), ProposalError("at the same time")]
)
def test_a_proposal_that_cannot_be_judged_is_said_and_those_after_it_are_rolled_back(
    watched: Any, policy: Any, monkeypatch: pytest.MonkeyPatch, error: HindcastError
) -> None:
    office, _ = watched
    office.flows("shop/cron", "shop/web", ago=5, times=4, verdict="DROPPED")
    applied(office, policy({"app": "api"}, name="web2"))
    office.configure(proposals={"approval": "none", "roll_back_at": 1})
    first, second = (one.id for one in watching_all.watched(office.desk("")))
    simulate, asked = watching.whatif.simulate, []

    def failing(*given: Any, **more: Any) -> Any:
        asked.append(given)
        if len(asked) == 1:
            raise error
        return simulate(*given, **more)

    monkeypatch.setattr(watching.whatif, "simulate", failing)
    monkeypatch.setattr(rolling_back, "roll_back", lambda _, one, **__: one)
    with pytest.raises(ProposalError, match=f"of 2 proposals looked at: proposal {first} is not judged: {error}"):
        watching_all.watch_fleet(office.settings)
    asked.clear()
    unjudged, looked = watching_all.look_at_all(office.desk(""))
    assert (unjudged.proposal.id, unjudged.watched.is_judged, unjudged.watched.notes) == (first, False, (str(error),))
    assert (looked.proposal.id, looked.watched.is_judged, looked.is_rolled_back) == (second, True, True)
