"""What a blueprint's plan would have done to recorded traffic: each change alone, and all of them together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.blueprints.foreseeing import Effect, Foreseen, foresee
from pipelines.blueprints.planning import Change, Plan
from pipelines.objects.names import Key
from pipelines.replay.in_force import History
from warehouse.access.principals import OPERATOR
from warehouse.engine import Window

START = datetime(2026, 3, 2, tzinfo=UTC)
DENY: dict[str, Any] = {"endpointSelector": {}, "ingress": [{}]}
ALLOW: dict[str, Any] = {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "api"}}]}]}


def change(name: str, spec: dict[str, Any] | None, action: str = "create", problem: str | None = None) -> Change:
    key = Key("CiliumNetworkPolicy", "shop", name)
    manifest = {"apiVersion": "cilium.io/v2", "kind": key.kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}
    return Change(
        key=key,
        action=action,
        blueprint="base",
        blueprint_version="1.0.0",
        manifest=None if spec is None else manifest,
        before=None,
        problem=problem,
    )


def foreseen(recorded: Any, *changes: Change) -> Foreseen:
    window = Window(since=START, until=START + timedelta(days=1))
    return foresee(History(recorded.door, OPERATOR), Plan(cluster="c1", changes=changes), window)


def test_without_history_of_policies_nothing_is_foreseen_and_it_says_so(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    found = foreseen(recorded, change("deny", DENY))
    assert (dict(found.each), found.together) == ({}, None)
    assert "configuration history does not cover" in found.unknown


def test_without_traffic_nothing_is_foreseen_and_it_says_so(recorded: Any) -> None:
    recorded.observed(0, 24)
    assert "no traffic of these namespaces" in foreseen(recorded, change("deny", DENY)).unknown


def test_what_changes_nothing_or_would_be_refused_is_not_judged(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    assert foreseen(recorded, change("deny", DENY, "unchanged"), change("other", DENY, problem="refused")) == Foreseen()


def test_each_change_is_judged_alone_and_all_of_them_together(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"), times=3)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), times=5)
    deny, allow = change("deny", DENY), change("allow", ALLOW)
    found = foreseen(recorded, deny, allow)
    assert found.each == {deny.key: Effect(newly_denied=8), allow.key: Effect(newly_denied=5)}
    assert found.together == Effect(newly_denied=5)


def test_a_policy_that_is_removed_opens_what_it_denied(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.policy("web", 0, port=80)
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"), 9090, times=2, verdict="DROPPED")
    gone = change("web", None, "delete")
    assert foreseen(recorded, gone).each == {gone.key: Effect(newly_allowed=2)}
