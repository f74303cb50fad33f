"""The walk through the rules says of each one whether it selects and matches, and why not."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Connection, Direction, Side
from pipelines.policy.policy_set import compile_policies
from pipelines.policy.reading import Document
from pipelines.policy.verdict import Verdict
from pipelines.policy.walk import Outcome, Walk, compare, walk
from tests.peers import policy_comparison


def pod(namespace: str, app: str) -> Side:
    labels = LabelSet([f"k8s:app={app}", f"k8s:io.kubernetes.pod.namespace={namespace}", "k8s:io.cilium.k8s.policy.cluster=default"])
    return Side(f"{namespace}/{app}", subject=labels, seen_as=labels)


def policy(name: str, app: str, **rules: Any) -> Document:
    spec = {"endpointSelector": {"matchLabels": {"app": app}}, **rules}
    return Document(
        {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": name, "namespace": "shop"}, "spec": spec}
    )


def allow(app: str, port: int) -> dict[str, Any]:
    ports = [{"ports": [{"port": str(port), "protocol": "TCP"}]}]
    return {"fromEndpoints": [{"matchLabels": {"app": app}}], "toPorts": ports}


def walked(*documents: Document, source: str = "cart", port: int = 80) -> Walk:
    return walk(compile_policies(documents), Direction.INGRESS, Connection(pod("shop", source), pod("shop", "web"), "TCP", port))


def test_a_rule_for_other_pods_is_not_selected_and_says_for_whom_it_is() -> None:
    (step,) = walked(policy("other", "db", ingress=[allow("cart", 80)])).steps
    assert (step.outcome, step.selects) == (Outcome.NOT_SELECTED, False)
    assert step.why_not == "selects pods with app=db, io.kubernetes.pod.namespace=shop, not shop/web"


def test_a_rule_that_does_not_match_says_which_part_does_not() -> None:
    found = walked(policy("web", "web", ingress=[allow("db", 80), allow("cart", 90)]))
    peer, port = (step.why_not for step in found.steps)
    assert peer.startswith("from pods with app=db")
    assert peer.endswith("not shop/cart")
    assert port == "on 90/TCP, not 80/TCP"
    assert found.decision.verdict is Verdict.DENIED
    assert {step.outcome for step in found.steps} == {Outcome.DECIDES} or all(step.isolates for step in found.steps)


def test_what_stands_after_the_deciding_rule_is_not_reached() -> None:
    denying = policy("deny", "web", ingressDeny=[{"fromEndpoints": [{}]}])
    found = walked(policy("web", "web", ingress=[allow("cart", 80)]), denying)
    assert [(step.rule.name, step.outcome) for step in found.steps] == [("deny", Outcome.DECIDES), ("web", Outcome.NOT_REACHED)]


def test_a_rule_whose_match_is_not_known_says_what_is_missing() -> None:
    policies = compile_policies([policy("web", "web", ingress=[allow("cart", 80)])])
    found = walk(policies, Direction.INGRESS, Connection(Side("shop/x"), pod("shop", "web"), "TCP", 80))
    assert [(step.outcome, step.why_not) for step in found.steps] == [(Outcome.UNSURE, "not known: the labels of shop/x")]


def test_no_policy_at_all_is_a_walk_without_steps() -> None:
    found = walked()
    assert found.steps == ()
    assert found.decision.reason.startswith("no policy selects shop/web")


def test_hubbles_policies_are_compared_with_the_engines() -> None:
    decision = walked(policy("web", "web", ingress=[allow("cart", 80)])).decision
    assert compare(decision, [("CiliumNetworkPolicy", "shop", "web")]).agrees is True
    assert compare(decision, [("CiliumNetworkPolicy", "shop", "old")]).agrees is False
    assert compare(decision, []).agrees is None


KINDS = ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy"]


@settings(max_examples=60)
@given(st.integers(min_value=0, max_value=2**31))
def test_the_walk_shows_every_rule_once_and_the_deciding_ones_as_deciding(seed: int) -> None:
    scenario = policy_comparison.scenario(seed, "1.20", KINDS)
    policies = scenario.compile()
    for probe in scenario.probes[:20]:
        found = walk(policies, probe.direction, probe.connection())
        assert len(found.steps) == sum(rule.direction is probe.direction for rule in policies.rules)
        # A rule that may match is named as deciding where the verdict would be the same without it.
        matched = {step.rule for step in found.steps if step.outcome in (Outcome.DECIDES, Outcome.MATCHES, Outcome.UNSURE)}
        isolating = {step.rule for step in found.steps if step.isolates}
        if found.decision.verdict is not Verdict.UNCERTAIN:
            assert set(found.decision.rules) <= matched | isolating
        for step in found.steps:
            assert step.why_not or step.outcome in (Outcome.DECIDES, Outcome.MATCHES, Outcome.NOT_REACHED)
