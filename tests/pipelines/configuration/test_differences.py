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


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list):
        items = [shuffled(item, chance) for item in value]
        chance.shuffle(items)
        return items
    return {name: shuffled(item, chance) for name, item in value.items()} if isinstance(value, dict) else value


@given(json_values, st.randoms(use_true_random=False))
def test_the_same_in_another_order_is_the_same(value: Any, chance: random.Random) -> None:
    assert list(compare_manifests(value, shuffled(value, chance))) == []


@given(json_values, json_values)
def test_a_difference_is_found_in_both_directions_or_in_none(one: Any, other: Any) -> None:
    assert bool(list(compare_manifests(one, other))) == bool(list(compare_manifests(other, one)))


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        ({"spec": {"a": 1}}, {"spec": {"a": 2}}, [("spec.a", "1", "2")]),
        ({"spec": {}}, {"spec": {"a": None}}, [("spec.a", None, "null")]),
        ({"l": {"app.io/x": "1"}}, {"l": {}}, [('l["app.io/x"]', '"1"', None)]),
        ({"in": [{"port": 1}, {"port": 2}]}, {"in": [{"port": 2}, {"port": 3}]}, [("in[1].port", "1", "3")]),
        ({"in": ["a"]}, {"in": ["a", "a"]}, [("in[1]", None, '"a"')]),
        (
            {"p": [{"name": "http", "port": 80}]},
            {"p": [{"name": "http", "port": 81}, {"name": "x"}]},
            [("p[name=http].port", "80", "81"), ("p[name=x]", None, '{"name": "x"}')],
        ),
        ({"a": True}, {"a": 1}, [("a", "true", "1")]),
    ],
)
def test_each_place_that_differs_is_named_with_what_it_was_and_is(before: Any, after: Any, paths: Any) -> None:
    assert [(each.path, each.before, each.after) for each in compare_manifests(before, after)] == paths


def row(name: str, spec: Any, uid: str = "u", status: Any = None) -> dict[str, Any]:
    return {
        "cluster": "c1",
        "kind": "NetworkPolicy",
        "namespace": "shop",
        "name": name,
        "uid": uid,
        "manifest": json.dumps({"spec": spec}),
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
        ("changed", "bad", False, ["status.conditions[0]"]),
        ("removed", "gone", False, []),
        ("added", "new", False, []),
        ("changed", "other", False, ["spec"]),
    ]
    assert compare_states([], []) == []
