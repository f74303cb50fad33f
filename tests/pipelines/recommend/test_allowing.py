"""The smallest change that allows a denied connection, tried on the policy engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from random_traffic import traffic
from traffic import edge, entity, outside, pod, recommended

from pipelines.policy.model import Direction
from pipelines.policy.policy_set import compile_policies
from pipelines.policy.reading import Document, Surroundings
from pipelines.policy.settings import AgentSettings
from pipelines.policy.verdict import Verdict, judge
from pipelines.recommend.allowing import Policies, allow
from pipelines.recommend.observed import End, ObservedEdge

WEB, CART = pod("shop", "web"), pod("shop", "cart")


def cilium(name: str, app: str, **rules: Any) -> Document:
    spec = {"endpointSelector": {"matchLabels": {"app": app}}, **rules}
    return Document({"kind": "CiliumNetworkPolicy", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})


def kubernetes(name: str, app: str, **rules: Any) -> Document:
    spec = {"podSelector": {"matchLabels": {"app": app}}, **rules}
    return Document({"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})


def in_force(*documents: Document, **options: Any) -> Policies:
    return Policies(documents, AgentSettings(**options), Surroundings())


def verdict_after(found: ObservedEdge, policies: Policies) -> Verdict:
    changes = allow(found, policies)
    for change in changes:
        policies = policies.with_policy(change.manifest)
    return judge(policies.compile(), found.connection).verdict


CLOSED = cilium("web", "web", ingress=[{}])


def test_what_is_allowed_needs_no_change() -> None:
    assert allow(edge(CART, WEB), in_force()) == ()


def test_a_default_deny_is_mended_by_one_rule_in_the_policy_that_isolates() -> None:
    (change,) = allow(edge(CART, WEB), in_force(CLOSED))
    assert change.text == "add a rule to spec.ingress of CiliumNetworkPolicy shop/web"
    assert change.part["fromEndpoints"] == [{"matchLabels": {"app": "cart", "k8s:io.kubernetes.pod.namespace": "shop"}}]
    assert change.part["toPorts"] == [{"ports": [{"port": "8080", "protocol": "TCP"}]}]
    assert change.manifest["spec"]["ingress"] == [change.part]
    assert CLOSED.manifest["spec"]["ingress"] == [{}]


def test_a_rule_for_the_same_peer_gets_one_more_port() -> None:
    rule = {"fromEndpoints": [{"matchLabels": {"app": "cart"}}], "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}
    (change,) = allow(edge(CART, WEB), in_force(cilium("web", "web", ingress=[rule])))
    assert change.path == "spec.ingress[0].toPorts[0].ports"
    assert change.part == {"port": "8080", "protocol": "TCP"}


def test_a_network_policy_is_mended_in_its_own_words() -> None:
    (change,) = allow(edge(CART, WEB), in_force(kubernetes("web", "web", policyTypes=["Ingress"])))
    assert change.manifest["kind"] == "NetworkPolicy"
    assert change.part["ports"] == [{"port": 8080, "protocol": "TCP"}]


def test_a_deny_rule_has_to_go_before_a_rule_can_allow() -> None:
    denying = cilium("deny", "web", ingressDeny=[{"fromEndpoints": [{}]}])
    first, second = allow(edge(CART, WEB), in_force(denying))
    assert first.text.startswith("remove the deny rule spec.ingressDeny[0] of CiliumNetworkPolicy shop/deny")
    assert second.text == "add a rule to spec.ingress of CiliumNetworkPolicy shop/deny"


def test_both_ends_may_need_a_change() -> None:
    changes = allow(edge(CART, WEB), in_force(CLOSED, cilium("cart", "cart", egress=[{}])))
    assert [change.direction for change in changes] == [Direction.INGRESS, Direction.EGRESS]


def test_a_pod_isolated_by_the_agents_settings_gets_a_policy_of_its_own() -> None:
    changes = allow(edge(CART, WEB), in_force(enable_policy="always"))
    assert [change.manifest["metadata"]["name"] for change in changes] == ["web-allowed", "cart-allowed"]
    assert verdict_after(edge(CART, WEB), in_force(enable_policy="always")) is Verdict.ALLOWED


@pytest.mark.parametrize("peer", [entity("remote-node"), outside("203.0.113.7"), outside("2001:db8::1"), pod("data", "db", cluster="east")])
def test_every_kind_of_peer_can_be_allowed(peer: End) -> None:
    assert verdict_after(edge(peer, WEB), in_force(CLOSED)) is Verdict.ALLOWED
    assert verdict_after(edge(WEB, peer), in_force(cilium("web", "web", egress=[{}]))) is Verdict.ALLOWED


def test_an_end_that_is_not_known_has_no_change() -> None:
    assert allow(edge(CART, pod("shop", "web", hidden=True)), in_force(CLOSED)) == ()


@pytest.mark.slow
@settings(max_examples=50)
@given(traffic, traffic)
def test_a_change_is_only_returned_if_the_connection_is_allowed_after_it(old: list[ObservedEdge], new: list[ObservedEdge]) -> None:
    documents = [Document(policy.manifest) for policy in recommended(old).policies]
    policies = in_force(*documents)
    compiled = compile_policies(documents)
    for one in new:
        changes = allow(one, policies)
        if judge(compiled, one.connection).verdict is not Verdict.DENIED:
            assert changes == ()
        elif changes:
            assert verdict_after(one, policies) is not Verdict.DENIED
