"""Verdicts that the conformance cases do not reach: requests, tiers, what is not known, and releases."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pipelines.policy.labels import LabelSet
from pipelines.policy.layer7 import DnsQuery, HttpRequest
from pipelines.policy.model import Connection, Direction, Side
from pipelines.policy.policy_set import compile_policies
from pipelines.policy.reading import Document, Surroundings
from pipelines.policy.settings import AgentSettings, Semantics, from_cilium_config, release_of
from pipelines.policy.topology import is_identity_relevant, world_side
from pipelines.policy.verdict import Decision, Verdict, decide
from warehouse.errors import ConfigError


def pod(name: str, namespace: str = "shop", **labels: str) -> Side:
    texts = [f"k8s:{key}={value}" for key, value in labels.items()]
    texts += [f"k8s:io.kubernetes.pod.namespace={namespace}", "k8s:io.cilium.k8s.policy.cluster=default"]
    found = LabelSet([*texts, f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={namespace}"])
    return Side(f"{namespace}/{name}", found, True, found, named_ports={("TCP", "http"): 8080})


WEB, DB = pod("web", app="web"), pod("db", app="db")
OUTSIDE = world_side("203.0.113.10", ["api.example.com"], dual_stack=False)


def cilium(**spec: Any) -> dict[str, Any]:
    return {"kind": "CiliumNetworkPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": {"endpointSelector": {}, **spec}}


def ask(
    *manifests: dict[str, Any],
    connection: Connection | None = None,
    direction: Direction = Direction.INGRESS,
    settings: AgentSettings | None = None,
    known: Surroundings | None = None,
) -> Decision:
    policies = compile_policies([Document(one) for one in manifests], settings, known)
    assert not policies.refusals, policies.refusals
    return decide(policies, direction, connection or Connection(WEB, DB, "TCP", 8080))


HTTP = cilium(
    ingress=[{"toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"method": "GET", "path": "/public.*"}]}}]}]
)


@pytest.mark.parametrize(
    ("request_", "verdict"),
    [
        (HttpRequest("GET", "/public/1"), Verdict.ALLOWED),
        (HttpRequest("POST", "/public/1"), Verdict.DENIED),
        (HttpRequest("GET", "/private"), Verdict.DENIED),
    ],
)
def test_a_recorded_request_is_judged_by_the_http_rules(request_: HttpRequest, verdict: Verdict) -> None:
    found = ask(HTTP, connection=Connection(WEB, DB, "TCP", 8080, request=request_))
    assert found.verdict is verdict
    assert not found.layer7_undecided


def test_a_port_with_http_rules_is_allowed_but_undecided_without_a_request() -> None:
    found = ask(HTTP)
    assert (found.verdict, found.layer7_undecided) == (Verdict.ALLOWED, True)
    assert "were not judged" in found.reason


def test_a_rule_without_http_rules_allows_every_request_on_its_port() -> None:
    plain = cilium(ingress=[{"fromEndpoints": [{}]}])
    assert ask(HTTP, plain, connection=Connection(WEB, DB, "TCP", 8080, request=HttpRequest("POST", "/"))).verdict is Verdict.ALLOWED


def test_a_dns_query_is_judged_by_the_dns_rules() -> None:
    policy = cilium(
        egress=[{"toPorts": [{"ports": [{"port": "53", "protocol": "UDP"}], "rules": {"dns": [{"matchPattern": "*.example.com"}]}}]}]
    )
    for name, verdict in (("api.example.com", Verdict.ALLOWED), ("example.org", Verdict.DENIED)):
        connection = Connection(WEB, DB, "UDP", 53, request=DnsQuery(name))
        assert ask(policy, connection=connection, direction=Direction.EGRESS).verdict is verdict


@pytest.mark.parametrize(
    ("policy", "hidden", "missing"),
    [
        (cilium(ingress=[{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}]), {"seen_as": None}, "the labels of shop/web"),
        (cilium(ingress=[{"fromCIDR": ["203.0.113.0/24"]}]), {"address": None}, "the address of 203.0.113.10"),
    ],
)
def test_what_is_missing_is_named(policy: dict[str, Any], hidden: dict[str, Any], missing: str) -> None:
    source = OUTSIDE if "address" in hidden else WEB
    found = ask(policy, connection=Connection(dataclasses.replace(source, **hidden), DB, "TCP", 8080))
    assert found.verdict is Verdict.UNCERTAIN
    assert missing in found.missing
    assert missing in found.reason


def test_unknown_names_of_an_address_are_uncertain_and_known_ones_decide() -> None:
    policy = cilium(egress=[{"toFQDNs": [{"matchPattern": "*.example.com"}]}])
    known = ask(policy, connection=Connection(WEB, OUTSIDE, "TCP", 443), direction=Direction.EGRESS)
    unknown = ask(policy, connection=Connection(WEB, dataclasses.replace(OUTSIDE, names=None), "TCP", 443), direction=Direction.EGRESS)
    assert (known.verdict, unknown.verdict) == (Verdict.ALLOWED, Verdict.UNCERTAIN)
    assert unknown.missing == ("the DNS names learned for 203.0.113.10",)


def test_an_unknown_named_port_is_uncertain() -> None:
    policy = cilium(ingress=[{"toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}])
    found = ask(policy, connection=Connection(WEB, dataclasses.replace(DB, named_ports=None), "TCP", 8080))
    assert found.missing == ("the number of the named port 'http' at shop/db",)


def test_unknown_groups_of_addresses_and_services_are_uncertain() -> None:
    group = cilium(egress=[{"toCIDRSet": [{"cidrGroupRef": "partners"}]}])
    service = cilium(egress=[{"toServices": [{"k8sService": {"serviceName": "db", "namespace": "shop"}}]}])
    for policy in (group, service):
        assert ask(policy, connection=Connection(WEB, OUTSIDE, "TCP", 443), direction=Direction.EGRESS).verdict is Verdict.UNCERTAIN
    assert (
        ask(group, connection=Connection(WEB, OUTSIDE, "TCP", 443), direction=Direction.EGRESS, known=Surroundings({})).verdict
        is Verdict.DENIED
    )


def test_a_service_beside_the_policies_resolves_toservices() -> None:
    policy = cilium(egress=[{"toServices": [{"k8sService": {"serviceName": "db", "namespace": "shop"}}]}])
    service = {"kind": "Service", "metadata": {"name": "db", "namespace": "shop"}, "spec": {"selector": {"app": "db"}}}
    assert ask(policy, service, direction=Direction.EGRESS).verdict is Verdict.ALLOWED
    assert (
        ask(policy, service, connection=Connection(WEB, pod("x", app="x"), "TCP", 1), direction=Direction.EGRESS).verdict is Verdict.DENIED
    )


def test_a_deny_that_is_certain_does_not_wait_for_what_is_missing() -> None:
    policy = cilium(
        ingress=[{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}],
        ingressDeny=[{"toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}]}],
    )
    found = ask(policy, connection=Connection(dataclasses.replace(WEB, seen_as=None), DB, "TCP", 8080))
    assert found.verdict is Verdict.DENIED
    assert [rule.path for rule in found.rules] == ["spec.ingressDeny[0]"]


def test_an_authentication_that_always_fails_denies() -> None:
    policy = cilium(ingress=[{"fromEndpoints": [{}], "authentication": {"mode": "test-always-fail"}}])
    assert ask(policy).verdict is Verdict.DENIED


TIERS = {
    "deny": {"kind": "ClusterNetworkPolicy", "metadata": {"name": "deny"}},
    "isolate": {"kind": "NetworkPolicy", "metadata": {"name": "isolate", "namespace": "shop"}, "spec": {"podSelector": {}}},
}


def tiered(name: str, tier: str, action: str, priority: int = 1) -> dict[str, Any]:
    rule = {"action": action, "from": [{"namespaces": {}}]}
    spec = {"tier": tier, "priority": priority, "subject": {"namespaces": {}}, "ingress": [rule]}
    return {"kind": "ClusterNetworkPolicy", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize("semantics", list(Semantics))
@pytest.mark.parametrize(
    ("policies", "verdict"),
    [
        ([tiered("a", "Admin", "Accept"), TIERS["isolate"]], Verdict.ALLOWED),
        ([tiered("a", "Admin", "Deny"), cilium(ingress=[{"fromEndpoints": [{}]}])], Verdict.DENIED),
        ([tiered("a", "Admin", "Pass"), tiered("b", "Admin", "Deny", 2), cilium(ingress=[{"fromEndpoints": [{}]}])], Verdict.ALLOWED),
        ([tiered("a", "Admin", "Deny", 2), tiered("b", "Admin", "Accept", 1)], Verdict.ALLOWED),
        ([tiered("a", "Baseline", "Deny")], Verdict.DENIED),
        ([tiered("a", "Baseline", "Deny"), cilium(ingress=[{"fromEndpoints": [{}]}])], Verdict.ALLOWED),
    ],
)
def test_tiers_decide_in_order(policies: list[dict[str, Any]], verdict: Verdict, semantics: Semantics) -> None:
    assert ask(*policies, settings=AgentSettings(semantics=semantics)).verdict is verdict


@pytest.mark.parametrize(("semantics", "verdict"), [(Semantics.KUBERNETES, Verdict.DENIED), (Semantics.CILIUM, Verdict.ALLOWED)])
def test_a_namespace_selector_that_only_excludes_selects_pods_by_the_text_and_addresses_too_in_cilium(
    semantics: Semantics, verdict: Verdict
) -> None:
    selector = {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["x"]}]}
    spec = {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": selector, "podSelector": {}}]}]}
    policy = {"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": spec}
    settings = AgentSettings(semantics=semantics, policy_default_local_cluster=False)
    assert ask(policy, connection=Connection(OUTSIDE, DB, "TCP", 1), settings=settings).verdict is verdict


def test_a_network_policy_is_final_by_the_text_but_cilium_goes_on_to_the_baseline_tier() -> None:
    policies = (TIERS["isolate"], tiered("a", "Baseline", "Accept"))
    assert ask(*policies, settings=AgentSettings(semantics=Semantics.KUBERNETES)).verdict is Verdict.DENIED
    assert ask(*policies).verdict is Verdict.ALLOWED


def test_thousands_of_tiered_rules_that_may_pass_are_walked_at_once() -> None:
    policies = []
    for number in range(100):
        rule = {"action": "Pass", "from": [{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": f"x{number}"}}}}]}
        spec = {"tier": "Admin", "priority": number, "subject": {"namespaces": {}}, "ingress": [rule] * 25}
        policies.append({"kind": "ClusterNetworkPolicy", "metadata": {"name": f"p{number}"}, "spec": spec})
    unknown = Connection(dataclasses.replace(WEB, seen_as=None), DB, "TCP", 8080)
    assert ask(*policies, connection=unknown).verdict is Verdict.ALLOWED
    assert ask(*policies, TIERS["isolate"], connection=unknown).verdict is Verdict.UNCERTAIN


@pytest.mark.parametrize(("version", "verdict"), [("1.18.1", Verdict.DENIED), ("1.19.0", Verdict.ALLOWED), ("1.20.2", Verdict.ALLOWED)])
def test_many_labels_match_since_1_19(version: str, verdict: Verdict) -> None:
    policy = cilium(egress=[{"toFQDNs": [{"matchPattern": "**.com"}]}])
    settings = AgentSettings(release=release_of(version))
    assert ask(policy, connection=Connection(WEB, OUTSIDE, "TCP", 443), direction=Direction.EGRESS, settings=settings).verdict is verdict


@pytest.mark.parametrize(("version", "verdict"), [("1.18.1", Verdict.ALLOWED), ("1.19.0", Verdict.DENIED)])
def test_selectors_mean_the_local_cluster_since_1_19(version: str, verdict: Verdict) -> None:
    labels = LabelSet(text.replace("cluster=default", "cluster=other") for text in WEB.seen_as.texts) if WEB.seen_as else None
    other = dataclasses.replace(WEB, seen_as=labels)
    policy = cilium(ingress=[{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}])
    assert ask(policy, connection=Connection(other, DB, "TCP", 1), settings=AgentSettings(release=release_of(version))).verdict is verdict


@pytest.mark.parametrize(("version", "verdict"), [("1.19.6", Verdict.DENIED), ("1.20.2", Verdict.ALLOWED)])
def test_named_ports_that_pods_disagree_on_match_for_each_destination_since_1_20(version: str, verdict: Verdict) -> None:
    policy = cilium(egress=[{"toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}])
    known = Surroundings(named_ports={("TCP", "http"): frozenset({8080, 80})})
    found = ask(policy, direction=Direction.EGRESS, settings=AgentSettings(release=release_of(version)), known=known)
    assert found.verdict is verdict


def test_settings_are_read_from_the_agents_configuration() -> None:
    found = from_cilium_config({"enable-policy": "always", "policy-cidr-match-mode": "nodes", "cluster-name": "prod", "debug": "true"})
    assert (found.enable_policy, found.policy_cidr_match_mode, found.cluster_name) == ("always", frozenset({"nodes"}), "prod")
    with pytest.raises(ConfigError, match="enable-policy: 'sometimes'"):
        from_cilium_config({"enable-policy": "sometimes"})
    with pytest.raises(ConfigError, match="'latest' cannot be read"):
        release_of("latest")


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("app", True),
        ("app.kubernetes.io/name", True),
        ("pod-template-hash", False),
        ("topology.kubernetes.io/zone", False),
        ("k8s-app", True),
    ],
)
def test_labels_outside_of_the_identity_filter_select_nothing(key: str, kept: bool) -> None:
    assert is_identity_relevant(key) is kept
