"""Policies that an API server or an agent refuses enforce nothing, and the refusal names who, where and why."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.policy.policy_set import compile_policies
from pipelines.policy.reading import Document
from pipelines.policy.refusals import AGENT, API_SERVER
from pipelines.policy.settings import AgentSettings, Semantics, release_of


def network_policy(**spec: Any) -> dict[str, Any]:
    return {"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": {"podSelector": {}, **spec}}


def cilium_policy(kind: str = "CiliumNetworkPolicy", **spec: Any) -> dict[str, Any]:
    metadata = {"name": "p", **({"namespace": "shop"} if kind == "CiliumNetworkPolicy" else {})}
    return {"kind": kind, "metadata": metadata, "spec": {"endpointSelector": {}, **spec}}


def ports(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"toPorts": [{"ports": list(entries), **more}]}


def cluster_policy(**spec: Any) -> dict[str, Any]:
    base = {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}}
    return {"kind": "ClusterNetworkPolicy", "metadata": {"name": "p"}, "spec": {**base, **spec}}


REFUSED = [
    (network_policy(policyTypes=["Both"]), API_SERVER, "spec.policyTypes[0]", "not one of Ingress, Egress"),
    (network_policy(ingress=[{"from": [{}]}]), API_SERVER, "spec.ingress[0].from[0]", "must specify a peer"),
    (
        network_policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]),
        API_SERVER,
        "spec.ingress[0].from[0].ipBlock",
        "may not be specified together",
    ),
    (
        network_policy(egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]),
        API_SERVER,
        "spec.egress[0].to[0].ipBlock.except[0]",
        "must lie within",
    ),
    (network_policy(ingress=[{"ports": [{"port": 80, "endPort": 79}]}]), API_SERVER, "spec.ingress[0].ports[0].endPort", "from 80"),
    (network_policy(ingress=[{"ports": [{"port": "http", "endPort": 90}]}]), API_SERVER, "spec.ingress[0].ports[0].endPort", "is a name"),
    (network_policy(ingress=[{"ports": [{"port": 0}]}]), API_SERVER, "spec.ingress[0].ports[0].port", "between 1 and 65535"),
    (network_policy(ingress=[{"ports": [{"protocol": "ICMP"}]}]), API_SERVER, "spec.ingress[0].ports[0].protocol", "TCP, UDP, SCTP"),
    (
        network_policy(podSelector={"matchExpressions": [{"key": "app", "operator": "In"}]}),
        API_SERVER,
        "spec.podSelector.matchExpressions[0].values",
        "must be specified",
    ),
    (network_policy(podSelector={"matchLabels": {"app": True}}), API_SERVER, "spec.podSelector.matchLabels.app", "write it in quotes"),
    (cilium_policy(), API_SERVER, "spec", "at least one of"),
    (cilium_policy(ingress=[]), AGENT, "spec", "at least one rule is needed"),
    (cilium_policy(nodeSelector={}, ingress=[{}]), API_SERVER, "spec", "may not have both"),
    (cilium_policy(ingress=[{"fromCIDR": ["10.0.0.0/8"], "fromEntities": ["host"]}]), AGENT, "spec.ingress[0]", "combining"),
    (cilium_policy(ingress=[{"fromRequires": [{}]}]), API_SERVER, "spec.ingress[0].fromRequires", "must be empty"),
    (cilium_policy(ingress=[{"fromEntities": ["moon"]}]), API_SERVER, "spec.ingress[0].fromEntities[0]", "'moon' is not an entity"),
    (cilium_policy(ingress=[{"fromNodes": [{}]}]), AGENT, "spec.ingress[0].fromNodes", "enable-node-selector-labels"),
    (
        cilium_policy(ingress=[ports(*[{"port": str(number)} for number in range(1, 42)])]),
        AGENT,
        "spec.ingress[0].toPorts[0].ports",
        "at most 40",
    ),
    (cilium_policy(ingress=[ports({"port": "99999"})]), AGENT, "spec.ingress[0].toPorts[0].ports[0].port", "out of range"),
    (cilium_policy(ingress=[ports({"protocol": "TCP"})]), AGENT, "spec.ingress[0].toPorts[0].ports[0].port", "must be specified"),
    (
        cilium_policy(ingress=[{**ports({"port": "80"}), "icmps": [{"fields": [{"type": 8}]}]}]),
        AGENT,
        "spec.ingress[0].icmps",
        "may not be combined with toPorts",
    ),
    (
        cilium_policy(ingress=[ports({"port": "53"}, rules={"dns": [{"matchPattern": "*"}]})]),
        AGENT,
        "spec.ingress[0].toPorts[0].rules.dns",
        "not allowed on ingress",
    ),
    (
        cilium_policy(egress=[ports({"port": "80", "protocol": "UDP"}, rules={"http": [{}]})]),
        AGENT,
        "spec.egress[0].toPorts[0].ports[0].protocol",
        "need protocol TCP",
    ),
    (
        cilium_policy(egress=[ports({"port": "80", "protocol": "TCP"}, rules={"http": [{"path": "(?=x)"}]})]),
        AGENT,
        "spec.egress[0].toPorts[0].rules.http[0].path",
        "RE2",
    ),
    (
        cilium_policy(egress=[{"toCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}]}]),
        AGENT,
        "spec.egress[0].toCIDRSet[0].except[0]",
        "lie",
    ),
    (cilium_policy(egress=[{"toFQDNs": [{"matchName": "a b"}]}]), API_SERVER, "spec.egress[0].toFQDNs[0].matchName", "not a DNS name"),
    (cluster_policy(tier="Normal"), API_SERVER, "spec.tier", "Admin, Baseline"),
    (cluster_policy(priority=1001), API_SERVER, "spec.priority", "0 to 1000"),
    (cluster_policy(ingress=[{"action": "Accept", "from": []}]), API_SERVER, "spec.ingress[0].from", "at least one"),
    (
        cluster_policy(egress=[{"action": "Deny", "to": [{"domainNames": ["example.com"]}]}]),
        AGENT,
        "spec.egress[0].to[0].domainNames",
        "accept only",
    ),
]


@pytest.mark.parametrize(("manifest", "by", "path", "reason"), REFUSED, ids=[f"{path}: {reason}" for _, _, path, reason in REFUSED])
def test_a_policy_that_would_be_refused_names_who_where_and_why(manifest: dict[str, Any], by: str, path: str, reason: str) -> None:
    policies = compile_policies([Document(manifest)])
    (refusal,) = policies.refusals
    assert (refusal.by, refusal.path) == (by, path)
    assert reason in refusal.reason
    assert policies.rules == ()


def test_one_refused_spec_keeps_the_whole_policy_from_being_enforced() -> None:
    manifest = {
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": "p"},
        "specs": [{"endpointSelector": {}, "ingress": [{}]}, {}],
    }
    policies = compile_policies([Document(manifest)])
    assert (policies.rules, len(policies.refusals)) == ((), 1)
    assert policies.refusals[0].path == "specs[1]"


def test_one_refused_policy_leaves_the_others_enforced() -> None:
    other = {**network_policy(), "metadata": {"name": "other", "namespace": "shop"}}
    policies = compile_policies([Document(network_policy(policyTypes=["Both"])), Document(other)])
    assert (len(policies.rules), len(policies.refusals)) == (1, 1)


@pytest.mark.parametrize(
    ("version", "manifest", "refused"),
    [
        ("1.19.6", cilium_policy(ingress=[{"fromEntities": ["cluster-mesh"]}]), True),
        ("1.20.2", cilium_policy(ingress=[{"fromEntities": ["cluster-mesh"]}]), False),
        ("1.20.2", cilium_policy(egress=[{"toCIDR": ["10.0.0.1"]}]), True),
        ("1.19.6", cilium_policy(ingress=[ports({"port": "9092", "protocol": "TCP"}, rules={"kafka": [{}]})]), False),
        ("1.20.2", cilium_policy(ingress=[ports({"port": "9092", "protocol": "TCP"}, rules={"kafka": [{}]})]), True),
        ("1.19.6", cluster_policy(ingress=[{"action": "Deny", "from": [{"namespaces": {}}]}]), True),
        ("1.20.2", cluster_policy(ingress=[{"action": "Deny", "from": [{"namespaces": {}}]}]), False),
    ],
)
def test_releases_refuse_what_they_do_not_know(version: str, manifest: dict[str, Any], refused: bool) -> None:
    policies = compile_policies([Document(manifest)], AgentSettings(release=release_of(version)))
    assert bool(policies.refusals) is refused, policies.refusals


def test_cilium_does_not_read_admin_network_policies_and_the_text_does() -> None:
    spec = {"priority": 1, "subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]}
    document = Document({"kind": "AdminNetworkPolicy", "metadata": {"name": "p"}, "spec": spec})
    (refusal,) = compile_policies([document]).refusals
    assert "Cilium does not read AdminNetworkPolicy" in refusal.reason
    assert compile_policies([document], AgentSettings(semantics=Semantics.KUBERNETES)).refusals == ()
