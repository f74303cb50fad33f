"""Traps that recommenders of policies fall into: labels, directions, what is set apart, evidence, order and ownership."""

from __future__ import annotations

import dataclasses
import random
from datetime import timedelta

import pytest
from traffic import BEGIN, edge, entity, only, outside, pod, recommended

from pipelines.policy.model import Direction, Side
from pipelines.policy.settings import AgentSettings, release_of
from pipelines.recommend.manifests import PolicyKind
from pipelines.recommend.observed import End, Seen
from pipelines.recommend.triage import Reason

WEB, CART, DB = pod("shop", "web"), pod("shop", "cart"), pod("data", "db")
DNS = pod("kube-system", "coredns", labels={"k8s-app": "kube-dns", "app.kubernetes.io/name": "coredns"})
DAY_ONE = frozenset({BEGIN.date()})


# Labels


def test_each_rule_has_one_kind_of_peer() -> None:
    ends = [DB, CART, entity("host"), outside("203.0.113.7"), outside("2001:db8::7"), outside("203.0.113.9", "api.example.com")]
    found = recommended([edge(WEB, end, 443) for end in ends] + [edge(end, WEB, 443) for end in ends], workload="web")
    for section in ("ingress", "egress"):
        for rule in only(found)[section]:
            assert len([key for key in rule if key.startswith(("from", "to")) and key != "toPorts"]) == 1


def test_labels_outside_of_the_identity_filter_are_left_out() -> None:
    labels = {"app": "web", "statefulset.kubernetes.io/pod-name": "web-0", "topology.kubernetes.io/zone": "a", "k8s.io/x": "y"}
    found = recommended([edge(DB, pod("shop", "web", labels=labels)), edge(DB, pod("shop", "cart"))])
    assert [policy.manifest["spec"]["endpointSelector"]["matchLabels"] for policy in found.policies] == [{"app": "cart"}, {"app": "web"}]


@pytest.mark.parametrize(
    "key",
    ["app.kubernetes.io/version", "helm.sh/chart", "chart", "app.kubernetes.io/instance", "pod-template-hash", "rollouts-pod-template-hash",
     "controller-revision-hash", "batch.kubernetes.io/job-name", "app.kubernetes.io/managed-by", "release", "argocd.argoproj.io/instance"],
)  # fmt: skip
def test_labels_of_version_chart_instance_and_hash_are_left_out(key: str) -> None:
    client = pod("data", "db", labels={"tier": "db", key: "a"})
    server = pod("shop", "web", labels={"tier": "web", key: "x"})
    found = recommended([edge(client, server)])
    assert key not in str(only(found))
    assert only(found)["endpointSelector"] == {"matchLabels": {"tier": "web"}}


def test_values_that_look_like_a_version_or_hash_are_left_out() -> None:
    labels = {"tier": "web", "image": "v1.2.3", "source": "5d41402abc4b2a76"}
    found = recommended([edge(DB, pod("shop", "web", labels=labels))])
    assert only(found)["endpointSelector"] == {"matchLabels": {"tier": "web"}}


def test_two_hashes_of_one_workload_are_one_policy() -> None:
    pods = [pod("shop", "web", labels={"app": "web", "shard": str(n)}) for n in range(3)]
    found = recommended([edge(DB, one) for one in pods])
    assert len(found.policies) == 1
    assert only(found)["endpointSelector"] == {"matchLabels": {"app": "web"}}


def test_two_workloads_with_the_same_name_label_are_kept_apart() -> None:
    stable = pod("shop", "web", labels={"app": "web", "track": "stable"})
    canary = pod("shop", "web-canary", labels={"app": "web", "track": "canary"})
    found = recommended([edge(DB, stable), edge(DB, canary, 9090)], workload="web")
    assert only(found)["endpointSelector"] == {"matchLabels": {"app": "web", "track": "stable"}}
    assert "9090" not in str(only(found))


def test_a_workload_that_no_label_distinguishes_gets_rules_for_the_other_ones_traffic_too() -> None:
    both = [pod("shop", name, labels={"app": "web"}) for name in ("web", "web-old")]
    found = recommended([edge(DB, both[0], 8080), edge(DB, both[1], 9090)], workload="web")
    assert {port["port"] for port in only(found)["ingress"][0]["toPorts"][0]["ports"]} == {"8080", "9090"}
    assert any("web-old" in note for note in found.notes["web-recommended"])


def test_a_pod_without_a_stable_label_is_selected_by_its_service_account() -> None:
    found = recommended([edge(DB, pod("shop", "web", labels={"pod-template-hash": "abc"}))])
    assert only(found)["endpointSelector"] == {"matchLabels": {"k8s:io.cilium.k8s.policy.serviceaccount": "web"}}
    kubernetes = recommended([edge(DB, pod("shop", "web", labels={"pod-template-hash": "abc"}))], kind=PolicyKind.KUBERNETES)
    assert not kubernetes.policies
    assert any("shop/web: no policy" in note for note in kubernetes.not_seen)


def test_peers_of_other_clusters_carry_the_cluster_label() -> None:
    found = recommended([edge(pod("data", "db", cluster="east"), WEB), edge(pod("data", "db"), WEB)])
    labels = [rule["fromEndpoints"][0]["matchLabels"] for rule in only(found)["ingress"]]
    assert [one.get("k8s:io.cilium.k8s.policy.cluster") for one in labels] == [None, "east"]
    assert not found.check.newly_denied


# Directions


def test_a_direction_that_was_not_observed_is_not_closed() -> None:
    found = recommended([edge(DB, WEB)])
    assert "egress" not in only(found)
    kubernetes = recommended([edge(DB, WEB)], kind=PolicyKind.KUBERNETES)
    assert only(kubernetes)["policyTypes"] == ["Ingress"]
    assert any(note.startswith("egress is not closed") for note in kubernetes.notes["web-recommended"])


def test_a_direction_that_only_the_peer_reported_gets_rules_but_is_not_closed() -> None:
    found = recommended([edge(DB, WEB), edge(WEB, CART, seen_at=frozenset({Direction.INGRESS}))], workload="web")
    assert only(found)["enableDefaultDeny"] == {"egress": False}
    assert len(only(found)["egress"]) == 1
    kubernetes = recommended(
        [edge(DB, WEB), edge(WEB, CART, seen_at=frozenset({Direction.INGRESS}))], workload="web", kind=PolicyKind.KUBERNETES
    )
    assert only(kubernetes)["policyTypes"] == ["Ingress"]


def test_a_direction_in_which_everything_was_denied_is_closed() -> None:
    found = recommended([edge(WEB, CART), edge(DB, WEB, verdict="DROPPED")], workload="web")
    assert only(found)["ingress"] == [{}]
    kubernetes = recommended([edge(WEB, CART), edge(DB, WEB, verdict="DROPPED")], workload="web", kind=PolicyKind.KUBERNETES)
    assert only(kubernetes)["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in only(kubernetes)


@pytest.mark.parametrize("peer", [entity("remote-node"), pod("data", "db", cluster="east")])
def test_a_network_policy_leaves_open_what_it_has_no_words_for(peer: End) -> None:
    found = recommended([edge(peer, WEB), edge(WEB, DB, 5432)], workload="web", kind=PolicyKind.KUBERNETES)
    assert only(found)["policyTypes"] == ["Egress"]
    assert any("a NetworkPolicy cannot name" in note for note in found.notes["web-recommended"])
    assert not found.check.newly_denied


def test_a_network_policy_that_could_close_nothing_is_not_written() -> None:
    found = recommended([edge(entity("remote-node"), WEB)], kind=PolicyKind.KUBERNETES)
    assert not found.policies
    assert any("no policy" in note for note in found.not_seen)


# What is set apart


def test_denied_traffic_gets_no_rule_and_is_counted() -> None:
    found = recommended([edge(DB, WEB), edge(pod("test", "probe"), WEB, 22, verdict="DROPPED", flows=9)])
    assert "probe" not in str(only(found))
    assert "no rule for 1 edge with 9 flows, denied: it did not reach the other end" in found.not_seen


def test_one_off_traffic_is_set_apart() -> None:
    once = edge(pod("test", "debug"), WEB, 9229, flows=2, days=DAY_ONE)
    found = recommended([edge(DB, WEB), once])
    assert "debug" not in str(only(found))
    assert [one.reason for one in found.apart] == [Reason.ONE_OFF]
    assert "debug" in str(only(recommended([edge(DB, WEB), once], include_one_offs=True)))


def test_a_one_off_within_the_namespace_is_set_apart_once() -> None:
    found = recommended([edge(DB, WEB), edge(CART, WEB, 9229, flows=2, days=DAY_ONE)])
    assert [one.reason for one in found.apart] == [Reason.ONE_OFF]


def test_in_a_window_of_one_day_nothing_is_a_one_off() -> None:
    short = Seen(BEGIN, BEGIN + timedelta(days=1), covered=1.0)
    found = recommended([edge(pod("test", "debug"), WEB, 9229, flows=2, days=DAY_ONE)], seen=short)
    assert not found.apart


def test_a_scanner_opens_no_port_but_what_it_uses_stays() -> None:
    scanner = pod("test", "scanner")
    scan = [edge(scanner, WEB, port, flows=1) for port in range(1, 60)]
    found = recommended([edge(DB, WEB), *scan, edge(scanner, WEB, 9100, flows=5000)])
    ports = {port["port"] for rule in only(found)["ingress"] for entry in rule["toPorts"] for port in entry["ports"]}
    assert ports == {"8080", "9100"}
    assert {one.reason for one in found.apart} == {Reason.SCAN}


# Evidence, names and order


def test_every_rule_lists_its_flows() -> None:
    found = recommended([edge(DB, WEB, 8080, flows=12, examples=("u1",)), edge(DB, WEB, 9090, flows=30)])
    (rule,) = found.policies[0].rules
    assert rule.draft.evidence.flows == 42
    assert [(port.number, evidence.flows) for port, evidence in rule.ports] == [(8080, 12), (9090, 30)]
    assert rule.draft.evidence.edges[0].examples == ("u1",)


def test_names_and_order_do_not_depend_on_the_order_of_the_traffic() -> None:
    edges = [edge(one, WEB, port) for one in (DB, CART, entity("host"), outside("203.0.113.7")) for port in (80, 443)]
    edges += [edge(WEB, one, 5432) for one in (DB, CART)]
    first = [policy.manifest for policy in recommended(edges).policies]
    for seed in range(5):
        shuffled = random.Random(seed).sample(edges, len(edges))
        assert [policy.manifest for policy in recommended(shuffled).policies] == first
    assert [one["metadata"]["name"] for one in first] == ["cart-recommended", "web-recommended"]


def test_workloads_whose_names_differ_in_forbidden_characters_get_different_policies() -> None:
    pods = [pod("shop", name, labels={"app": name}) for name in ("Web_1", "web-1", "Web.1")]
    names = [policy.name for policy in recommended([edge(DB, one) for one in pods]).policies]
    assert len(set(names)) == 3


# Ownership


def test_a_peer_that_is_not_shown_is_named_by_nothing_but_the_cluster() -> None:
    hidden = End(Side("hidden"))
    found = recommended([edge(hidden, WEB, 8080)])
    assert only(found)["ingress"][0]["fromEntities"] == ["cluster"]
    assert any("not visible to you" in note for note in found.policies[0].rules[0].notes)
    assert not found.check.newly_denied


def test_a_peer_whose_labels_are_not_shown_is_named_by_its_namespace_alone() -> None:
    found = recommended([edge(pod("data", "db", hidden=True), WEB)])
    assert only(found)["ingress"][0]["fromEndpoints"] == [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "data"}}]
    assert any("data/db" in note for note in found.notes["web-recommended"])
    kubernetes = recommended([edge(pod("data", "db", hidden=True), WEB)], kind=PolicyKind.KUBERNETES)
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": "data"}}
    assert only(kubernetes)["ingress"][0]["from"] == [{"namespaceSelector": namespace}]


def test_labels_that_another_edge_shows_complete_an_edge_without_them() -> None:
    found = recommended([edge(pod("shop", "cart"), WEB), edge(DB, pod("shop", "cart", hidden=True))])
    assert [policy.name for policy in found.policies] == ["cart-recommended", "web-recommended"]


def test_a_workload_with_unknown_labels_gets_no_policy_and_is_listed() -> None:
    found = recommended([edge(DB, pod("shop", "web", hidden=True))])
    assert not found.policies
    assert any("shop/web: no policy, its labels are not known" in note for note in found.not_seen)


def test_no_traffic_gives_no_policy() -> None:
    found = recommended([])
    assert found.policies == ()
    assert found.check.allowed == 0


@pytest.mark.parametrize("version", ["1.18", "1.19", "1.20"])
@pytest.mark.parametrize("mode", ["default", "always"])
def test_every_release_and_mode_allows_the_traffic(version: str, mode: str) -> None:
    ends = [
        DB,
        CART,
        entity("remote-node"),
        outside("203.0.113.7"),
        outside("203.0.113.9", "api.example.com"),
        pod("data", "db", cluster="east"),
    ]
    edges = [edge(WEB, end, 443) for end in ends] + [edge(end, WEB, 443) for end in ends]
    settings = dataclasses.replace(AgentSettings(release=release_of(version)), enable_policy=mode)
    found = recommended(edges, settings=settings)
    assert found.check.allowed == 14  # between web and cart, both ends are judged
    assert not found.check.newly_denied
    assert not found.check.uncertain
