"""What counts as drift: shuffles and the server's own writing never, a changed meaning always."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.objects.compare import Verdict, compare
from tests.modules import load

PAIRS = Path(__file__).parents[2] / "data" / "drift_pairs.json"
policies: Any = load(Path(__file__).parents[1] / "blueprints" / "policy_strategies.py")
NETWORK_POLICY, CILIUM_POLICY, manifest = policies.NETWORK_POLICY, policies.CILIUM_POLICY, policies.manifest


def as_stored(applied: dict[str, Any]) -> dict[str, Any]:
    """What the API server makes of a NetworkPolicy: its defaults, and a round trip through protobuf."""
    live = copy.deepcopy(applied)
    live["metadata"] |= {"uid": "u", "resourceVersion": "7", "generation": 1, "managedFields": [{"manager": "x"}]}
    if live["kind"] != "NetworkPolicy":
        return live
    spec = live["spec"]
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress"] + (["Egress"] if spec.get("egress") else [])
    for rule in spec.get("ingress", []) + spec.get("egress", []):
        for port in rule.get("ports", []):
            port["protocol"] = port.get("protocol", "TCP")

    def without_empty(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {key: without_empty(child) for key, child in value.items()}
            return {key: child for key, child in kept.items() if child != [] and not (key == "matchLabels" and child == {})}
        return [without_empty(child) for child in value] if isinstance(value, list) else value

    stored: dict[str, Any] = without_empty(live)
    return stored


def shuffled(value: Any, dice: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        dice.shuffle(keys)
        return {key: shuffled(value[key], dice) for key in keys}
    if isinstance(value, list):
        return [shuffled(child, dice) for child in dice.sample(value, len(value))]
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every leaf below a value, as a path."""
    if isinstance(value, dict):
        return [place for key, child in value.items() for place in places(child, (*path, key))]
    if isinstance(value, list):
        return [place for index, child in enumerate(value) for place in places(child, (*path, index))]
    return [path]


@pytest.mark.slow
@given(NETWORK_POLICY | CILIUM_POLICY, st.randoms(use_true_random=False))
def test_what_the_server_stores_is_equal_and_shuffling_its_lists_is_never_drift(applied: dict[str, Any], dice: random.Random) -> None:
    live = as_stored(applied)
    assert compare(applied, live).verdict is Verdict.EQUAL
    verdict = compare(applied, {**live, "spec": shuffled(live["spec"], dice)})
    assert verdict.verdict in {Verdict.EQUAL, Verdict.ORDER_ONLY}
    assert (verdict.verdict is Verdict.ORDER_ONLY) == bool(verdict.paths)


@pytest.mark.slow
@settings(max_examples=200)
@given(NETWORK_POLICY | CILIUM_POLICY, st.data())
def test_a_single_changed_value_is_drift_and_its_place_is_named(applied: dict[str, Any], data: st.DataObject) -> None:
    live = as_stored(applied)
    leaves = places(live["spec"], ("spec",))
    if not leaves:
        return
    path = data.draw(st.sampled_from(leaves))
    node = live
    for part in path[:-1]:
        node = node[part]
    old = node[path[-1]]
    node[path[-1]] = (not old) if isinstance(old, bool) else old + 100_000 if isinstance(old, int) else f"{old}-x"
    verdict = compare(applied, live)
    assert verdict.verdict is Verdict.DRIFT
    assert any(place.startswith(f"spec.{path[1]}") for place in verdict.paths)


@pytest.mark.slow
@given(NETWORK_POLICY | CILIUM_POLICY, st.data())
def test_a_field_added_anywhere_that_nobody_applied_is_drift(applied: dict[str, Any], data: st.DataObject) -> None:
    live = as_stored(applied)
    addition = data.draw(
        st.sampled_from(
            [("ingressDeny", [{"fromEntities": ["world"]}]), ("newField", {"x": 1}), ("nodeSelector", {"matchLabels": {"a": "b"}})]
        )
    )
    live["spec"][addition[0]] = addition[1]
    verdict = compare(applied, live)
    assert verdict.verdict is Verdict.DRIFT
    assert f"spec.{addition[0]}" in verdict.paths


@pytest.mark.slow
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_malformed_objects_are_compared_without_failing(value: Any) -> None:
    for kind in ("NetworkPolicy", "CiliumNetworkPolicy", "Namespace", "ValidatingAdmissionPolicy", "Deployment"):
        one = {"kind": kind, "metadata": value, "spec": value, "specs": value}
        assert compare(one, copy.deepcopy(one)).verdict is Verdict.EQUAL


def test_empty_peers_of_cilium_are_nobody_and_not_everyone() -> None:
    rule = {"toPorts": [{"ports": [{"port": "80"}]}]}
    applied = manifest("CiliumNetworkPolicy", {"endpointSelector": {}, "ingress": [{"fromEndpoints": [], **rule}]})
    live = manifest("CiliumNetworkPolicy", {"endpointSelector": {}, "ingress": [rule]})
    assert compare(applied, live).paths == ("spec.ingress[0].fromEndpoints",)


def test_rules_of_admin_policies_keep_their_order() -> None:
    def policy(*rules: str) -> dict[str, Any]:
        spec = {"priority": 5, "subject": {"namespaces": {}}, "ingress": [{"name": name, "action": "Allow"} for name in rules]}
        return {"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "a"}, "spec": spec}

    assert compare(policy("a", "b"), policy("b", "a")).verdict is Verdict.DRIFT


def test_an_unknown_kind_is_compared_as_it_is_written() -> None:
    one = {"apiVersion": "v1", "kind": "Something", "metadata": {"name": "a"}, "spec": {"items": [1, 2]}}
    assert compare(one, one).verdict is Verdict.EQUAL
    assert compare(one, {**one, "spec": {"items": [2, 1]}}).verdict is Verdict.DRIFT


def test_true_is_not_one() -> None:
    one = manifest("CiliumNetworkPolicy", {"endpointSelector": {}, "ingress": [{}], "enableDefaultDeny": {"ingress": True}})
    other = copy.deepcopy(one)
    other["spec"]["enableDefaultDeny"]["ingress"] = 1
    assert compare(one, other).verdict is Verdict.DRIFT


@pytest.mark.parametrize(
    ("labels", "verdict"),
    [({}, Verdict.DRIFT), ({"owner": "y"}, Verdict.DRIFT), ({"owner": "x", "more": "z"}, Verdict.EQUAL)],
    ids=["taken away", "changed", "another added"],
)
def test_applied_labels_must_stand_and_others_may_be_added(labels: dict[str, str], verdict: Verdict) -> None:
    applied = manifest("NetworkPolicy", {"podSelector": {}})
    live = {**applied, "metadata": {**applied["metadata"], "labels": labels, "annotations": {"kubectl.kubernetes.io/x": "{}"}}}
    assert compare(applied, live).verdict is verdict


def test_a_namespace_is_equal_with_what_the_server_adds_to_it() -> None:
    applied = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}}
    live = {
        **applied,
        "metadata": {"name": "shop", "uid": "u", "labels": {"team": "a", "kubernetes.io/metadata.name": "shop", "x": "y"}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }
    assert compare(applied, live).verdict is Verdict.EQUAL
    live["metadata"]["labels"]["team"] = "b"
    assert compare(applied, live).paths == ("metadata.labels.team",)


def test_a_missing_object_is_drift_and_two_missing_ones_are_equal() -> None:
    policy = manifest("NetworkPolicy", {"podSelector": {}})
    assert compare(policy, None).paths == ("$",)
    assert compare(None, policy).verdict is Verdict.DRIFT
    assert compare(None, None).verdict is Verdict.EQUAL


def test_the_pairs_of_a_real_api_server_are_judged_as_they_should() -> None:
    document = json.loads(PAIRS.read_text())
    expected = {True: Verdict.DRIFT, False: Verdict.EQUAL, "order-only": Verdict.ORDER_ONLY}
    wrong = [
        pair["id"]
        for pair in document["fresh"] + document["mutations"]
        if compare(pair["applied"], pair["live"]).verdict is not expected[pair["drift"]]
    ]
    assert not wrong
