"""What was in force when, from configuration history: what is not covered is named, and nothing is compiled twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.policy.settings import Semantics
from pipelines.replay.in_force import History, InForce
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.errors import ConfigError
from warehouse.schema import CLUSTER_SETTINGS, POLICY_VERSIONS, WORKLOADS

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
PAULA = Principal(user="paula")
Recorded = Any


def spans(found: InForce, cluster: str = "c1") -> list[tuple[float, float, list[str]]]:
    return [
        ((one.since - START) / HOUR, (one.until - START) / HOUR, [document.identity[2] for document in one.documents])
        for one in found.periods[cluster]
    ]


def test_without_any_history_nothing_is_covered(recorded: Recorded) -> None:
    found = recorded.in_force(clusters=("c1",))
    assert not found.covered
    assert spans(found) == [(0, 24, [])]
    assert found.periods["c1"][0].not_covered == ("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
    assert "does not cover this window" in " ".join(found.notes)


def test_a_window_without_an_end_is_refused(recorded: Recorded) -> None:
    with pytest.raises(ConfigError, match="a start and an end"):
        History(recorded.door, OPERATOR).periods(Window(since=START))


def test_time_before_the_first_observation_and_after_the_last_is_not_covered(recorded: Recorded) -> None:
    recorded.policy("web", 2)
    recorded.observed(2, 20)
    found = recorded.in_force()
    assert spans(found) == [(0, 2, []), (2, 20, ["web"]), (20, 24, ["web"])]
    assert [bool(one.not_covered) for one in found.periods["c1"]] == [True, False, True]
    assert "from 2026-03-02 02:00 to 2026-03-02 20:00 UTC only" in " ".join(found.notes)


def test_a_kind_that_could_not_be_read_is_named(recorded: Recorded) -> None:
    recorded.observed(0, 24, kinds=["NetworkPolicy", "CiliumNetworkPolicy"])
    recorded.observed(0, 24, kinds=["CiliumClusterwideNetworkPolicy"], state="forbidden")
    found = recorded.in_force()
    assert found.periods["c1"][0].not_covered == ("CiliumClusterwideNetworkPolicy",)
    assert "not known which objects of kind CiliumClusterwideNetworkPolicy" in " ".join(found.notes)


def test_the_window_is_cut_where_a_policy_or_setting_changes_and_nowhere_else(recorded: Recorded) -> None:
    recorded.observed(0, 24)
    recorded.policy("web", 0, 6)
    recorded.policy("web", 6, port=81)
    recorded.version(CLUSTER_SETTINGS, "CiliumAgents", "cilium", 0, 9, namespace="kube-system", spec={"version": "1.19.6"})
    recorded.version(CLUSTER_SETTINGS, "CiliumAgents", "cilium", 9, namespace="kube-system", spec={"version": "1.20.2"})
    recorded.version(CLUSTER_SETTINGS, "ConfigMap", "cilium-config", 0, namespace="kube-system", data={"enable-policy": "always"})
    recorded.version(CLUSTER_SETTINGS, "ConfigMap", "other", 12, namespace="kube-system", data={"x": "y"})
    found = recorded.in_force()
    assert spans(found) == [(0, 6, ["web"]), (6, 9, ["web"]), (9, 24, ["web"])]
    releases = [one.settings.release.version for one in found.periods["c1"]]
    assert releases == [(1, 19), (1, 19), (1, 20)]
    assert {one.settings.enable_policy for one in found.periods["c1"]} == {"always"}
    assert {one.settings.cluster_name for one in found.periods["c1"]} == {"c1"}
    assert found.at("c1", START + 7 * HOUR) is found.periods["c1"][1]
    assert found.at("c1", START + 30 * HOUR) is None


def test_a_policy_that_does_not_change_is_compiled_once(recorded: Recorded) -> None:
    recorded.observed(0, 24)
    recorded.policy("web", 0)
    recorded.policy("db", 6)
    before, after = recorded.in_force().periods["c1"]
    assert before.policies.rules[0] is next(rule for rule in after.policies.rules if rule.origin.name == "web")


def test_the_semantics_of_kubernetes_can_be_chosen(recorded: Recorded) -> None:
    recorded.observed(0, 24)
    assert not recorded.in_force(semantics=Semantics.KUBERNETES).periods["c1"][0].settings.cilium


def test_settings_that_cannot_be_read_are_reported_and_defaults_assumed(recorded: Recorded) -> None:
    recorded.observed(0, 24)
    recorded.version(CLUSTER_SETTINGS, "ConfigMap", "cilium-config", 0, namespace="kube-system", data={"enable-policy": "perhaps"})
    found = recorded.in_force()
    assert found.periods["c1"][0].settings.enable_policy == "default"
    assert "enable-policy: 'perhaps'" in " ".join(found.notes)


def test_named_ports_are_those_of_the_workloads_pods_and_unknown_where_pods_differ(recorded: Recorded) -> None:
    recorded.observed(0, 24)
    for name, number in (("a", 8080), ("b", 8081)):
        ports = [{"name": "http", "containerPort": number}]
        spec = {"workload": {"kind": "Deployment", "name": "web"}, "ports": ports}
        recorded.version(WORKLOADS, "PodLabels", name, 0 if name == "a" else 6, spec=spec)
    first, second = recorded.in_force().periods["c1"]
    assert first.named_ports("shop", "web") == {("TCP", "http"): 8080}
    assert second.named_ports("shop", "web") is None
    assert first.named_ports("shop", "nobody") is None


def test_an_owner_gets_the_policies_of_her_namespace_alone_and_an_explanation(recorded: Recorded) -> None:
    recorded.observed(0, 24)
    recorded.policy("web", 0)
    recorded.policy("other", 0, namespace="vault")
    recorded.version(POLICY_VERSIONS, "CiliumClusterwideNetworkPolicy", "all", 0, namespace=None, spec={"endpointSelector": {}})
    found = recorded.in_force(who=PAULA)
    assert spans(found) == [(0, 24, ["web"])]
    assert "not yours to see" in " ".join(found.notes)
    assert not [note for note in recorded.in_force().notes if "yours" in note]
