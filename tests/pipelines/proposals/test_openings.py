"""A rule that opens widely, however it is written, is a risk and refused by guard-rails; taking a denial away is a risk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.blueprints import model
from pipelines.blueprints.objects import PUBLISHED_KINDS
from pipelines.policy.documents import read_documents
from pipelines.policy.policy_set import PolicySet, compile_policies
from pipelines.proposals import guard_rails, risks
from warehouse import config

HALVES = ["0.0.0.0/1", "128.0.0.0/1"]
SAMPLES = ["198.51.100.0/24", "2001:db8::/32"]


def policies(spec: dict[str, Any], kind: str = "CiliumNetworkPolicy") -> PolicySet:
    namespace = {} if kind == "ClusterNetworkPolicy" else {"namespace": "shop"}
    manifest = {"apiVersion": PUBLISHED_KINDS[kind], "kind": kind, "metadata": {"name": "web", **namespace}, "spec": spec}
    compiled = compile_policies(read_documents(yaml.safe_dump(manifest, sort_keys=False), "web.yaml"))
    assert not compiled.refusals
    return compiled


def cilium(direction: str, *rules: dict[str, Any], subject: dict[str, Any] | None = None, **more: Any) -> PolicySet:
    return policies({"endpointSelector": subject or {}, direction: list(rules), **more})


def refused(folder: Path, rail: dict[str, Any], proposed: PolicySet) -> list[str]:
    file = folder / "rails.yaml"
    rails = [{"name": "closed", "reason": "ask", **rail}]
    file.write_text(yaml.safe_dump({"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {}, "guard_rails": rails}))
    found = guard_rails.check([model.load_file(file)], config.Cluster(name="c1"), "shop", {}, proposed)
    return [check.text for check in found]


def opened(proposed: PolicySet) -> list[str]:
    return risks.of_rules(compile_policies([]), proposed, "shop", lambda name: name == "shop")


def taken(before: PolicySet, after: PolicySet) -> list[str]:
    return risks.of_rules(before, after, "shop", lambda name: name == "shop")


OWN = {"fromEndpoints": [{"matchLabels": {"app": "api"}}]}
WORLDS = [{"matchLabels": {f"reserved:{name}": ""}} for name in ("world", "world-ipv4", "world-ipv6")]
BUT_ONE = {"matchExpressions": [{"key": "reserved:health", "operator": "DoesNotExist"}]}
WIDE: list[tuple[str, dict[str, Any], str, set[str]]] = [
    ("ingress", {"fromEntities": ["world"]}, "any-address", {"for every address"}),
    *(("ingress", {"fromEndpoints": [one]}, "any-address", {"for every address"}) for one in WORLDS),
    *(("ingress", {"fromEntities": [name]}, "other-namespaces", {f"for {name}, which pods of any"}) for name in ("host", "remote-node")),
    *(("ingress", {"fromEntities": ["all"]}, kind, {"for everyone"}) for kind in ("allow-all", "any-address", "other-namespaces")),
    ("ingress", {"fromEntities": ["world", "cluster"]}, "allow-all", {"for everyone"}),
    *(("ingress", {"fromEndpoints": [BUT_ONE]}, kind, {"for everyone"}) for kind in ("allow-all", "any-address", "other-namespaces")),
    ("ingress", {"fromCIDR": HALVES}, "any-address", {"for every address"}),
    ("ingress", {"fromCIDR": ["::/1", "8000::/1"]}, "any-address", {"for every address"}),
    ("ingress", {"fromCIDR": ["96.0.0.0/9", "96.128.0.0/9"]}, "any-address", {"for 96.0.0.0/8"}),
    ("ingress", {"fromCIDR": ["2600::/16"]}, "any-address", {"for 2600::/16"}),
    ("ingress", {"fromCIDRSet": [{"cidr": one, "except": [f"{one[:-1]}8"]} for one in HALVES]}, "any-address", {"for every address"}),
    ("egress", {"toEntities": ["world"]}, "world-without-names", {"for every address"}),
    *(("egress", {"toEndpoints": [one]}, "world-without-names", {"for every address"}) for one in WORLDS),
    ("egress", {"toCIDR": HALVES}, "world-without-names", {"for every address"}),
    ("egress", {"toCIDRSet": [{"cidr": "0.0.0.0/0", "except": SAMPLES[:1]}]}, "world-without-names", {"for every address"}),
    ("egress", {"toCIDRSet": [{"cidr": "::/0", "except": SAMPLES[1:]}]}, "world-without-names", {"for every address"}),
    ("egress", {"toCIDR": ["64.0.0.0/2"]}, "world-without-names", {"for 64.0.0.0/2"}),
    *(("egress", {"toFQDNs": [{"matchPattern": one}]}, "world-without-names", {"every DNS name"}) for one in ("*", "**.", "*.*", "**.*")),
]  # fmt: skip


@pytest.mark.parametrize(("direction", "rule", "forbidden", "said"), WIDE)
def test_what_opens_widely_is_a_risk_and_refused(
    tmp_path: Path, direction: str, rule: dict[str, Any], forbidden: str, said: set[str]
) -> None:
    proposed = cilium(direction, rule)
    found = opened(proposed)
    assert all(any(text in one for one in found) for text in said), found
    assert refused(tmp_path, {"forbid": [forbidden]}, proposed)


@pytest.mark.parametrize(
    ("direction", "rule"),
    [
        ("ingress", OWN),
        ("ingress", {"fromCIDR": ["192.0.2.0/24", "192.168.0.0/16"]}),
        ("ingress", {"fromEntities": ["health"]}),
        ("egress", {"toFQDNs": [{"matchName": "api.example.com"}, {"matchPattern": "*.example.com"}, {"matchPattern": "**.example.com"}]}),
        ("egress", {"toEntities": ["kube-apiserver"]}),
    ],
)
def test_what_is_narrow_is_neither(tmp_path: Path, direction: str, rule: dict[str, Any]) -> None:
    proposed = cilium(direction, rule)
    assert not opened(proposed)
    assert not refused(tmp_path, {"forbid": ["allow-all", "any-address", "world-without-names", "other-namespaces"]}, proposed)


def test_the_private_range_needs_approval_and_is_not_any_address(tmp_path: Path) -> None:
    proposed = cilium("ingress", {"fromCIDR": ["10.0.0.0/8"]})
    assert opened(proposed) == ["CiliumNetworkPolicy shop/web spec.ingress[0] (web.yaml:9) opens ingress for 10.0.0.0/8"]
    assert not refused(tmp_path, {"forbid": ["any-address"]}, proposed)


def test_an_entity_is_forbidden_whether_it_is_named_or_a_part_of_what_is(tmp_path: Path) -> None:
    rules: list[dict[str, Any]] = [{"fromEntities": ["all"]}, *({"fromEndpoints": [one]} for one in WORLDS)]
    for rule in rules:
        assert refused(tmp_path, {"forbid_entities": ["world"]}, cilium("ingress", rule)), rule
    assert refused(tmp_path, {"forbid_entities": ["host"]}, cilium("ingress", {"fromEntities": ["cluster"]}))
    assert not refused(tmp_path, {"forbid_entities": ["host"]}, cilium("ingress", {"fromEntities": ["world"]}))


def test_a_default_deny_for_fewer_pods_is_a_risk_and_one_for_more_is_none() -> None:
    whole, some = (
        policies({"podSelector": selector, "policyTypes": ["Ingress"]}, "NetworkPolicy")
        for selector in ({}, {"matchLabels": {"app": "none"}})
    )
    assert taken(whole, some) == [
        "NetworkPolicy shop/web no longer isolates all the pods it did: ingress that no rule allows is no longer denied there"
    ]
    assert not taken(some, whole)
    assert not taken(whole, whole)


def test_a_direction_that_is_not_isolated_any_more_is_a_risk() -> None:
    both, one = (policies({"podSelector": {}, "policyTypes": types}, "NetworkPolicy") for types in (["Ingress", "Egress"], ["Ingress"]))
    assert [text.partition(": ")[2] for text in taken(both, one)] == ["egress that no rule allows is no longer denied there"]
    off = cilium("ingress", OWN, enableDefaultDeny={"ingress": False})
    assert any("no longer isolates" in text for text in taken(cilium("ingress", OWN), off))


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_deny_rule_that_is_taken_away_or_narrowed_is_a_risk(direction: str) -> None:
    word = "from" if direction == "ingress" else "to"
    peers = [{f"{word}CIDR": ["192.0.2.0/24", "198.51.100.0/24"]}, {f"{word}CIDR": ["192.0.2.0/24"]}]
    both, one = ({**rule, "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]} for rule in peers)
    allow: dict[str, Any] = {direction: [{f"{word}Endpoints": [{"matchLabels": {"app": "api"}}]}]}
    before, narrower = (cilium(f"{direction}Deny", rule, **allow) for rule in (both, one))
    without = cilium(direction, *allow[direction])
    for after in (narrower, without):
        (risk,) = taken(before, after)
        assert f"no longer denies {direction} that spec.{direction}Deny[0] denied" in risk
    assert not taken(narrower, before)
    assert not taken(before, before)


def test_a_deny_of_another_tier_that_is_taken_away_is_a_risk() -> None:
    spec = {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}}
    rules = [{"action": action, "from": [{"namespaces": {"matchLabels": {"a": "b"}}}]} for action in ("Deny", "Pass")]
    before, after = (policies({**spec, "ingress": [rule]}, "ClusterNetworkPolicy") for rule in rules)
    assert any("no longer denies ingress" in text for text in taken(before, after))
