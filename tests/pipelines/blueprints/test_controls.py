"""Each published control: what fails it, what passes it, and that what was not seen is never passed."""

import datetime as dt
from typing import Any

import pytest

from pipelines.blueprints.controls import CONTROLS, Result, evaluate
from pipelines.blueprints.render import Wanted, WantedObject
from pipelines.blueprints.state import Agents, ClusterState, Coverage, PodGroup, StoredObject
from pipelines.objects.canonical import canonical_body
from pipelines.objects.names import Key

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
SEEN = {
    kind: Coverage(state="observed", at=NOW, observed=NOW)
    for control in CONTROLS
    for kind in (*control.kinds, "Namespace", "NetworkPolicy")
}
WEB = PodGroup(namespace="shop", labels={"app": "web"})
DNS = PodGroup(namespace="kube-system", labels={"k8s-app": "kube-dns"})


def policy(
    name: str, spec: dict[str, Any], *, kind: str = "NetworkPolicy", namespace: str | None = "shop", valid: bool = True
) -> StoredObject:
    place = {"namespace": namespace} if namespace else {}
    group = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "cilium.io/v2"
    conditions = ({"type": "Valid", "status": "True" if valid else "False"},)
    manifest = {"apiVersion": group, "kind": kind, "metadata": {"name": name, **place}, "spec": spec}
    return StoredObject(key=Key(kind, namespace, name), manifest=manifest, valid_from=NOW, conditions=conditions)


def cnp(name: str, spec: dict[str, Any], **more: Any) -> StoredObject:
    return policy(name, spec, kind="CiliumNetworkPolicy", **more)


def ccnp(name: str, spec: dict[str, Any]) -> StoredObject:
    return policy(name, spec, kind="CiliumClusterwideNetworkPolicy", namespace=None)


def results(
    *policies: StoredObject, pods: tuple[PodGroup, ...] = (WEB, DNS), wanted: Wanted | None = None, **more: Any
) -> dict[str, Result]:
    fields: dict[str, Any] = {
        "namespaces": {"shop": {"team": "a"}, "kube-system": {}},
        "coverage": SEEN,
        "pods": pods,
        "recent_pods": pods,
        "agents": Agents(version="1.20.2", ready=3, wanted=3, valid_from=NOW),
    }
    state = ClusterState(cluster="c1", at=NOW, policies={one.key: one for one in policies}, **(fields | more))
    return {result.control: result for result in evaluate(state, wanted or Wanted(cluster="c1"), [])}


DENY_ALL = policy("dd", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
ALLOW_DNS = policy(
    "dns",
    {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [
            {
                "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            }
        ],
    },
)


def test_every_published_control_has_a_result() -> None:
    published = "C-0206 C-0260 C-0030 C-0299 C-0205 C-0041 NSA-NP KYV-DD KYV-DNS KYV-EMPTY KYV-REQ GK BP-OBJ BP-EFFECT BP-INVALID BP-CILIUM"
    assert list(results()) == published.split()


def test_what_was_not_seen_is_unknown_and_not_passed() -> None:
    for result in results(DENY_ALL, coverage={}).values():
        assert result.status in {"unknown", "not_evaluated"}
    stale = {kind: Coverage(state="unreachable", at=NOW, observed=NOW - dt.timedelta(days=1)) for kind in SEEN}
    assert {result.status for result in results(DENY_ALL, coverage=stale).values()} == {"unknown", "not_evaluated"}


def test_objects_of_a_kind_that_was_not_seen_are_not_passed() -> None:
    one = WantedObject(manifest={}, body=canonical_body({}), blueprint="b", version="1", drift="notify", template="t")
    wanted = Wanted(cluster="c1", objects={Key("CiliumCIDRGroup", None, "g"): one})
    found = results(wanted=wanted)["BP-OBJ"]
    assert (found.status, found.detail) == ("unknown", "not seen lately: CiliumCIDRGroup")


def test_a_control_that_nothing_can_answer_is_not_evaluated() -> None:
    assert results()["GK"].status == "not_evaluated"
    assert results()["GK"].detail


FAILS: dict[str, tuple[tuple[StoredObject, ...], tuple[str, ...]]] = {
    "C-0206": ((), ("shop",)),
    "C-0260": ((policy("p", {"podSelector": {"matchLabels": {"app": "x"}}}),), ("shop/app=web",)),
    "C-0030": ((policy("p", {"podSelector": {}, "policyTypes": ["Ingress"]}),), ("shop/app=web (egress open)",)),
    "C-0299": ((policy("p", {"podSelector": {"matchLabels": {"app": "x"}}}),), ("NetworkPolicy shop/p",)),
    "NSA-NP": ((DENY_ALL,), ("nodes: no cluster-wide policy is about them",)),
    "KYV-DD": ((policy("p", {"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress", "Egress"]}),), ("shop (none for ingress)",)),
    "KYV-DNS": ((DENY_ALL,), ("shop/app=web (53/UDP and 53/TCP)",)),
    "KYV-EMPTY": ((ALLOW_DNS,), ("NetworkPolicy shop/dns",)),
    "BP-INVALID": ((cnp("bad", {"endpointSelector": {}, "ingress": []}, valid=False),), ("CiliumNetworkPolicy shop/bad",)),
}


@pytest.mark.parametrize("control", list(FAILS))
def test_a_control_names_what_fails_it(control: str) -> None:
    policies, failing = FAILS[control]
    result = results(*policies)[control]
    assert (result.status, result.failing) == ("fail", failing)


NODES = ccnp("nodes", {"nodeSelector": {}, "ingress": [{"fromEntities": ["cluster"]}]})
PASSES: dict[str, tuple[StoredObject, ...]] = {
    "C-0206": (DENY_ALL,),
    "C-0260": (DENY_ALL,),
    "C-0030": (DENY_ALL,),
    "C-0299": (policy("p", {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}}),),
    "C-0205": (),
    "C-0041": (),
    "NSA-NP": (DENY_ALL, NODES),
    "KYV-DD": (DENY_ALL,),
    "KYV-DNS": (DENY_ALL, ALLOW_DNS),
    "KYV-EMPTY": (DENY_ALL,),
    "KYV-REQ": (),
    "BP-INVALID": (DENY_ALL,),
}


@pytest.mark.parametrize("control", list(PASSES))
def test_a_control_passes_where_it_should(control: str) -> None:
    assert (results(*PASSES[control])[control].status, control) == ("pass", control)


def test_a_cluster_wide_policy_for_all_pods_covers_namespaces_and_one_that_denies_nothing_does_not() -> None:
    rule = {"endpointSelector": {}, "ingress": [{}], "egress": [{}]}
    assert results(ccnp("all", rule))["C-0206"].status == "pass"
    assert results(ccnp("all", {**rule, "enableDefaultDeny": {"ingress": False, "egress": False}}))["C-0206"].status == "fail"
    few = {"endpointSelector": {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "other"}}, "ingress": [{}]}
    assert results(ccnp("few", few))["C-0206"].status == "fail"


def test_a_rejected_policy_selects_nobody() -> None:
    rejected = cnp("bad", {"endpointSelector": {}, "ingress": [{}], "egress": [{}]}, valid=False)
    assert results(rejected)["C-0260"].status == "fail"


def test_ciliums_selectors_are_read_with_their_prefixes_and_namespace_labels() -> None:
    selector = {"matchLabels": {"k8s:app": "web", "k8s:io.cilium.k8s.namespace.labels.team": "a"}}
    rule = {"endpointSelector": selector, "ingress": [{"fromEntities": ["cluster"]}], "egress": [{"toEntities": ["cluster"]}]}
    found = results(ccnp("web", rule))
    assert found["C-0260"].status == found["C-0030"].status == found["KYV-DNS"].status == "pass"


def test_a_rule_of_ciliums_in_a_namespace_does_not_reach_dns_elsewhere_by_its_labels_alone() -> None:
    def rule(labels: dict[str, str]) -> StoredObject:
        ports = [{"ports": [{"port": "53", "protocol": "ANY"}]}]
        return cnp("dns", {"endpointSelector": {}, "egress": [{"toEndpoints": [{"matchLabels": labels}], "toPorts": ports}]})

    assert results(rule({"k8s-app": "kube-dns"}))["KYV-DNS"].status == "fail"
    there = {"k8s-app": "kube-dns", "k8s:io.kubernetes.pod.namespace": "kube-system"}
    assert results(rule(there))["KYV-DNS"].status == "pass"


def test_pods_on_the_hosts_network_want_a_policy_about_nodes() -> None:
    host = PodGroup(namespace="kube-system", labels={"k8s-app": "proxy"}, host_network=True)
    assert results(pods=(host,))["C-0041"].failing == ("kube-system/k8s-app=proxy",)
    assert results(NODES, pods=(host,))["C-0041"].status == "pass"


def test_audit_mode_missing_agents_and_enforcement_off_are_no_enforcement() -> None:
    key = Key("ConfigMap", "kube-system", "cilium-config")
    data = {"enable-policy": "never", "policy-audit-mode": "true"}
    settings = StoredObject(key=key, manifest={"kind": "ConfigMap", "data": data}, valid_from=NOW)
    agents = Agents(version="1.20.2", ready=1, wanted=3, valid_from=NOW)
    result = results(settings=settings, agents=agents)["C-0205"]
    assert result.failing == ("1 of 3 agents ready", "enable-policy is never", "policy-audit-mode is true")
    assert results(agents=None)["C-0205"].failing == ("no Cilium DaemonSet",)


def test_a_policy_that_selected_pods_lately_does_not_dangle_yet() -> None:
    old = PodGroup(namespace="shop", labels={"app": "gone"})
    one = policy("p", {"podSelector": {"matchLabels": {"app": "gone"}}})
    assert results(one)["C-0299"].status == "fail"
    assert results(one, recent_pods=(WEB, old))["C-0299"].status == "pass"


def test_each_deployment_wants_a_network_policy() -> None:
    web = PodGroup(namespace="shop", labels={"app": "web"}, name="web")
    assert results(deployments=(web,))["KYV-REQ"].failing == ("shop/web",)
    assert results(DENY_ALL, deployments=(web,))["KYV-REQ"].status == "pass"


def test_a_cluster_without_namespaces_or_policies_fails_nothing_by_emptiness() -> None:
    found = results(pods=(), namespaces={})
    assert {name for name, result in found.items() if result.status == "fail"} == {"NSA-NP"}
