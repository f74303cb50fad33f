"""Two states differ in what they mean, path by path; the order of a policy's rules means nothing."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.configuration.differences import compare_manifests, compare_states

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", "name"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.sampled_from(["name", "a", "port"]), children, max_size=3),
    max_leaves=12,
)


def policy(value: Any) -> dict[str, Any]:
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "web"}, "spec": {"x": value}}


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list):
        items = [shuffled(item, chance) for item in value]
        chance.shuffle(items)
        return items
    return {name: shuffled(item, chance) for name, item in value.items()} if isinstance(value, dict) else value


@given(json_values, st.randoms(use_true_random=False))
def test_the_same_in_another_order_is_the_same(value: Any, chance: random.Random) -> None:
    assert compare_manifests(policy(value), policy(shuffled(value, chance))) == []


@given(json_values, json_values)
def test_a_difference_is_found_in_both_directions_or_in_none(one: Any, other: Any) -> None:
    assert bool(compare_manifests(policy(one), policy(other))) == bool(compare_manifests(policy(other), policy(one)))


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        ({"a": 1}, {"a": 2}, [("spec.x.a", "1", "2")]),
        ({}, {"a": None}, []),
        ({"l": {"app.io/x": "1"}}, {"l": {}}, [('spec.x.l["app.io/x"]', '"1"', None)]),
        ([{"port": 1}, {"port": 2}], [{"port": 2}, {"port": 3}], [("spec.x[0].port", "1", "3")]),
        (["a"], ["a", "a"], []),
        (["a"], ["b"], [("spec.x[0]", '"a"', None), ("spec.x[0]", None, '"b"')]),
        (
            [{"name": "http", "port": 80}],
            [{"name": "http", "port": 81}, {"name": "x"}],
            [("spec.x[name=http].port", "80", "81"), ("spec.x[name=x]", None, '{"name": "x"}')],
        ),
        ({"a": True}, {"a": 1}, [("spec.x.a", "true", "1")]),
    ],
)
def test_each_place_that_differs_is_named_with_what_it_was_and_is(before: Any, after: Any, paths: Any) -> None:
    assert [(each.path, each.before, each.after) for each in compare_manifests(policy(before), policy(after))] == paths


def row(name: str, spec: Any, uid: str = "u", status: Any = None) -> dict[str, Any]:
    return {
        "cluster": "c1",
        "kind": "NetworkPolicy",
        "namespace": "shop",
        "name": name,
        "uid": uid,
        "manifest": json.dumps({"kind": "NetworkPolicy", "metadata": {"name": name}, "spec": {"x": spec}}),
        "status": None if status is None else json.dumps(status),
        "valid_from": datetime(2026, 3, 2, tzinfo=UTC),
        "valid_to": None,
        "changed_by": "ada",
        "ended_by": None,
    }


def test_objects_are_added_removed_changed_and_made_anew() -> None:
    before = [row("same", 1), row("gone", 1), row("other", 1), row("anew", 1), row("bad", 1, status={"conditions": []})]
    after = [row("same", 1), row("new", 1), row("other", 2), row("anew", 1, uid="v"), row("bad", 1, status={"conditions": [1]})]
    changes = compare_states(before, after)
    assert [(each.how, each.name, each.recreated, [path.path for path in each.paths]) for each in changes] == [
        ("changed", "anew", True, []),
        ("changed", "bad", False, ["status.conditions"]),
        ("removed", "gone", False, []),
        ("added", "new", False, []),
        ("changed", "other", False, ["spec.x"]),
    ]
    assert compare_states([], []) == []


def test_the_defaults_a_server_adds_are_no_change_and_the_order_of_an_admin_policys_rules_is_one() -> None:
    """As drift judges: a cluster that moves from manifests to its API server has changed nothing."""
    written = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web"}}
    spec = {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}
    stored = {"podSelector": {}, "ingress": [{"ports": [{"port": 80, "protocol": "TCP"}]}], "policyTypes": ["Ingress"]}
    assert compare_manifests({**written, "spec": spec}, {**written, "spec": stored}) == []
    admin = {"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "web"}}
    rules = [{"action": "Deny", "from": []}, {"action": "Allow", "from": []}]
    assert compare_manifests({**admin, "spec": {"ingress": rules}}, {**admin, "spec": {"ingress": rules[::-1]}})


def test_labels_that_somebody_added_are_a_change_of_the_object() -> None:
    before = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop"}}
    after = {**before, "metadata": {"name": "shop", "labels": {"team": "web"}}}
    (change,) = compare_manifests(before, after)
    assert (change.path, change.before, change.after) == ("metadata.labels.team", None, '"web"')
