"""The fleet's inventory: what is the same, what differs and where, and what a policy decides."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from pipelines.replay import inventory

POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]},
}


def version(cluster: str, manifest: dict[str, Any] = POLICY, **metadata: Any) -> dict[str, Any]:
    made = copy.deepcopy(manifest)
    made["metadata"] |= metadata
    about = made["metadata"]
    return {
        "cluster": cluster,
        "kind": made["kind"],
        "namespace": about.get("namespace"),
        "name": about["name"],
        "manifest": json.dumps(made),
    }


def test_an_empty_fleet_has_an_empty_inventory() -> None:
    assert inventory.of([]) == []


def test_defaults_that_are_written_out_and_what_a_server_adds_are_no_differences() -> None:
    explicit = copy.deepcopy(POLICY)
    explicit["spec"]["ingress"][0]["ports"][0]["protocol"] = "TCP"  # type: ignore[index]
    (one,) = inventory.of([version("c1"), version("c2", explicit, uid="u", resourceVersion="7")])
    assert len(one.variants) == 1
    assert one.clusters == ("c1", "c2")
    assert one.differing == ()


def test_the_order_of_lists_without_an_order_is_no_difference() -> None:
    two = copy.deepcopy(POLICY)
    two["spec"]["ingress"][0]["ports"] = [{"port": 80}, {"port": 81}]  # type: ignore[index]
    turned = copy.deepcopy(two)
    turned["spec"]["ingress"][0]["ports"].reverse()  # type: ignore[index]
    (one,) = inventory.of([version("c1", two), version("c2", turned)])
    assert len(one.variants) == 1


def test_what_differs_is_named_and_what_most_clusters_have_comes_first() -> None:
    other = copy.deepcopy(POLICY)
    other["spec"]["ingress"][0]["ports"][0]["port"] = 81  # type: ignore[index]
    objects = inventory.of([version("c1", other), version("c3"), version("c2"), version("c1", name="api")])
    assert [one.name[2] for one in objects] == ["api", "web"]
    web = objects[1]
    assert [variant.clusters for variant in web.variants] == [("c2", "c3"), ("c1",)]
    assert web.differing == ("spec.ingress[0].ports[0].port",)


def test_labels_are_part_of_what_is_compared() -> None:
    (one,) = inventory.of([version("c1", labels={"team": "a"}), version("c2", labels={"team": "b"})])
    assert one.differing == ("metadata.labels.team",)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (POLICY["spec"], "ingress: allows by 1 rule, denies all other"),
        ({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, "ingress: denies all; egress: denies all"),
        (
            {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "1.2.3.4"}}]}]},
            "is not enforced: spec.ingress[0].from[0].ipBlock.cidr",
        ),
    ],
)
def test_what_a_policy_decides_is_said_in_a_sentence(spec: Any, told: str) -> None:
    assert inventory.decides({**POLICY, "spec": spec}).startswith(told)


def test_what_policies_refer_to_decides_nothing_by_itself() -> None:
    assert "nothing by itself" in inventory.decides({"kind": "CiliumCIDRGroup", "metadata": {"name": "x"}, "spec": {}})
