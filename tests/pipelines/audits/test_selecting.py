"""Selectors that select nothing, workloads that nothing isolates, and exposure: existence and sight decide, never absence of data."""

from __future__ import annotations

from audited_fleet import SETTINGS, TCP_80, WEB, ccnp, cnp, compiled, np_, pod_labels, workload

from pipelines.audits.exposure import Reached, exposure
from pipelines.audits.selecting import Existing, dangling_selectors, unisolated_workloads
from pipelines.audits.workloads import read_workloads
from pipelines.policy.model import Side
from pipelines.policy.policy_set import PolicySet, compile_policies
from pipelines.policy.reading import CidrGroup, Document, Surroundings
from pipelines.policy.settings import AgentSettings

PODS = Existing(labels=[pod_labels("shop", app="web"), pod_labels("shop", app="db"), pod_labels("ops", app="agent")])
JOB = {"matchLabels": {"app": "job"}}


def dangling(*documents: Document, existing: Existing = PODS, surroundings: Surroundings | None = None) -> list[tuple[str, str]]:
    policies, _ = compiled(*documents, surroundings=surroundings)
    audited = dangling_selectors("c1", policies, documents, existing)
    return [(one.subject.partition("/")[2], one.detail["role"]) for one in audited.findings]


def test_subjects_and_peers_without_a_pod_are_found_and_entities_and_other_clusters_are_not_looked_at() -> None:
    far = {"matchLabels": {"app": "x", "io.cilium.k8s.policy.cluster": "c2"}}
    found = dangling(
        cnp("subject", {"endpointSelector": JOB, "ingress": [{"fromEndpoints": [WEB]}], "egress": [{"toEndpoints": [WEB]}]}),
        cnp(
            "peer", {"endpointSelector": WEB, "ingress": [{"fromEndpoints": [JOB]}, {"fromEndpoints": [far]}, {"fromEntities": ["health"]}]}
        ),
        cnp("fine", {"endpointSelector": WEB, "ingress": [{"fromEndpoints": [{}]}]}),
    )
    assert found == [("subject", "selects"), ("peer", "admits")]


def test_a_namespace_selector_without_a_namespace_is_found() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"team": "gone"}}}
    assert dangling(np_("p", {"podSelector": {}, "ingress": [{"from": [peer]}]})) == [("p", "admits")]


def test_a_group_of_addresses_that_does_not_exist_is_found_and_one_that_nobody_knows_is_not() -> None:
    policy = cnp("p", {"endpointSelector": WEB, "egress": [{"toCIDRSet": [{"cidrGroupRef": "gone"}, {"cidrGroupRef": "there"}]}]})
    known = Surroundings(cidr_groups={"there": CidrGroup({}, ())})
    assert dangling(policy, surroundings=known) == [("p", "refers")]
    assert dangling(policy, surroundings=Surroundings()) == []


def test_pods_that_may_not_be_seen_leave_a_selector_undecided() -> None:
    everywhere = {"matchLabels": {"app": "job", "io.kubernetes.pod.namespace": "hidden"}}
    document = cnp("p", {"endpointSelector": JOB, "ingress": [{"fromEndpoints": [everywhere]}]})
    policies, _ = compiled(document)
    existing = Existing(labels=[pod_labels("shop", app="web")], namespaces=["shop"])
    audited = dangling_selectors("c1", policies, [document], existing)
    assert [one.detail["role"] for one in audited.findings] == ["selects"]
    assert list(audited.undecided.values()) == ["pods of other namespaces are not yours to see"]


def test_a_workload_is_isolated_by_one_direction_and_by_nothing_where_policies_are_switched_off() -> None:
    workloads = [workload("shop", "web"), workload("shop", "db"), workload("ops", "agent")]
    policies, _ = compiled(
        cnp("web", {"endpointSelector": WEB, "egress": [{}]}),
        ccnp("audit-only", {"endpointSelector": {}, "ingress": [{"fromEntities": ["all"]}], "enableDefaultDeny": {"ingress": False}}),
    )
    open_ones = [one.subject for one in unisolated_workloads("c1", policies, workloads).findings]
    assert open_ones == ["Deployment/db", "Deployment/agent"]
    always = PolicySet(AgentSettings(enable_policy="always"), ())
    assert not unisolated_workloads("c1", always, workloads).findings
    never = compile_policies([cnp("web", {"endpointSelector": {}, "egress": [{}]})], AgentSettings(enable_policy="never"))
    assert len(unisolated_workloads("c1", never, workloads).findings) == 3


def test_workloads_are_read_with_the_labels_that_policies_see() -> None:
    manifests = [
        {
            "metadata": {"name": "deployment.web.1", "namespace": "shop", "labels": {"app": "web", "pod-template-hash": "5f"}},
            "spec": {"workload": {"kind": "Deployment", "name": "web"}, "ports": [{"name": "http", "containerPort": 80}]},
        },
        {"metadata": {"name": "ds", "namespace": "shop"}, "spec": {"hostNetwork": True, "workload": {"kind": "DaemonSet", "name": "n"}}},
    ]
    (web,) = read_workloads(manifests, {"shop": {"team": "a"}}, SETTINGS)
    assert (web.kind, web.title) == ("Deployment", "shop/web")
    assert web.labels.get("k8s", "io.cilium.k8s.namespace.labels.team") == "a"
    assert web.labels.get("k8s", "pod-template-hash") is None
    assert web.side().named_ports == {("TCP", "http"): 80}


def test_exposure_distinguishes_allowed_observed_and_both_and_lists_what_is_unknown() -> None:
    policies, _ = compiled(cnp("web", {"endpointSelector": WEB, "ingress": [{"fromEndpoints": [{}], "toPorts": TCP_80}]}))
    web, db, agent = (workload("shop", "web").side(), workload("shop", "db").side(), workload("ops", "agent").side())
    unknown = Side("shop/unknown", subject=pod_labels("shop"), seen_as=None)
    http, other = ("TCP", 80), ("TCP", 81)
    found = exposure(policies, [web], [db, agent, unknown, web], [[http]], {(0, 1, http): 4, (0, 3, http): 2, (0, 0, other): 1})
    assert {(one.peer, one.port, one.reached, one.flows) for one in found} == {
        (0, http, Reached.ALLOWED, 0),
        (0, other, Reached.OBSERVED, 1),
        (1, http, Reached.OBSERVED, 4),
        (2, http, Reached.UNCERTAIN, 0),
        (3, http, Reached.BOTH, 2),
    }
    assert exposure(policies, [web], [], [[http]], {}) == []
