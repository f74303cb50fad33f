"""Versions as YAML: whole kinds alone, and nothing that another cluster would give anew."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.configuration import manifest_yaml


def row(kind: str, name: str, namespace: str | None = "shop", **rest: Any) -> dict[str, Any]:
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **rest}
    return {"kind": kind, "namespace": namespace, "name": name, "manifest": json.dumps(manifest)}


def test_nothing_is_no_document() -> None:
    assert list(manifest_yaml.documents([])) == []


def test_namespaces_come_before_what_is_in_them_and_kinds_recorded_in_part_are_left_out() -> None:
    rows = [row("Service", "a"), row("PodLabels", "b"), row("Deployment", "c"), row("NetworkPolicy", "d"), row("Namespace", "shop", None)]
    text = "".join(manifest_yaml.documents(rows))
    assert [document["kind"] for document in yaml.safe_load_all(text)] == ["Namespace", "NetworkPolicy", "Service"]
    assert [kind for kind in ("Service", "PodLabels", "Deployment", "Node") if manifest_yaml.is_partial(kind)] == [
        "PodLabels",
        "Deployment",
        "Node",
    ]


def test_a_service_is_recorded_without_the_addresses_it_was_given_but_headless_if_it_was() -> None:
    spec = {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80, "nodePort": 30080}], "selector": {"a": "b"}}
    headless = {"clusterIP": "None", "clusterIPs": ["None"]}
    first, second = yaml.safe_load_all(
        "".join(manifest_yaml.documents([row("Service", "a", spec=spec), row("Service", "b", spec=headless)]))
    )
    assert first["spec"] == {"ports": [{"port": 80}], "selector": {"a": "b"}}
    assert second["spec"] == headless


def test_texts_that_yaml_would_take_for_something_else_stay_texts() -> None:
    data = {"enable": "true", "n": "007", "empty": "", "yes": "no", "colon": "a: b", "lines": "a\nb\n", "é": "日本"}
    (document,) = yaml.safe_load_all("".join(manifest_yaml.documents([row("ConfigMap", "cilium-config", data=data)])))
    assert document["data"] == data


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=20,
)


@given(
    json_values, st.sampled_from(["No", "0x1", "1e3", "~", "a b", "a:", "#", "- a", "2026-01-01", ".5", "=", "<<", "\x85", "\u2028", "😀"])
)
def test_any_manifest_is_read_back_as_it_was(value: Any, odd: str) -> None:
    manifest = {"kind": "ConfigMap", "value": value, "large": [1e16, -1e-7, []], odd: [odd, {odd: odd}, [[odd], []], {}]}
    (text,) = manifest_yaml.documents([{"kind": "ConfigMap", "namespace": "n", "name": "a", "manifest": json.dumps(manifest)}])
    assert yaml.safe_load(text) == manifest
    assert yaml.load(text, Loader=yaml.CSafeLoader) == manifest
