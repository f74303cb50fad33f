"""Every trap that recommenders of policies fall into."""

from __future__ import annotations

import dataclasses
import random
from datetime import timedelta

import pytest
from traffic import BEGIN, MONTH, edge, entity, only, outside, pod, recommended

from pipelines.policy.model import Direction, Side
from pipelines.policy.settings import AgentSettings, release_of
from pipelines.recommend.manifests import PolicyKind
from pipelines.recommend.observed import End, Seen
from pipelines.recommend.triage import Reason, ServicePort

WEB, CART, DB = pod("shop", "web"), pod("shop", "cart"), pod("data", "db")
DNS = pod("kube-system", "coredns", labels={"k8s-app": "kube-dns", "app.kubernetes.io/name": "coredns"})
DAY_ONE = frozenset({BEGIN.date()})


# The window


def test_a_window_of_three_minutes_is_never_silent_about_its_length() -> None:
    minutes = Seen(BEGIN, BEGIN + timedelta(minutes=3), covered=1.0)
    found = recommended([edge(DB, WEB, days=DAY_ONE, first_seen=BEGIN, last_seen=BEGIN)], seen=minutes)
    assert "3 minutes were observed: daily and weekly and monthly jobs may not have run in that time" in found.not_seen


def test_a_window_of_forty_days_has_room_for_weekly_and_monthly_jobs() -> None:
    assert not [note for note in recommended([edge(DB, WEB)]).not_seen if "jobs" in note]


def test_every_rule_tells_on_how_many_days_its_traffic_was_seen() -> None:
    found = recommended([edge(DB, WEB, days=frozenset(list(edge(DB, WEB).days)[:12]))])
    assert len(found.policies[0].rules[0].draft.evidence.days) == 12
    assert "on 12 days" in str(found.policies[0].rules[0].draft.evidence)


def test_what_was_not_covered_is_said() -> None:
    seen = dataclasses.replace(MONTH, covered=0.9, gaps=("node-1 from 10:00 to 12:00",), flows_lost=7)
    notes = recommended([edge(DB, WEB)], seen=seen).not_seen
    assert "10.0% of the window was not observed" in notes
    assert "not observed: node-1 from 10:00 to 12:00" in notes
    assert "7 flows are known to be lost" in notes


def test_time_that_was_not_observed_does_not_count_as_history() -> None:
    seen = dataclasses.replace(MONTH, covered=0.05)
    assert (
        "48 hours were observed: weekly and monthly jobs may not have run in that time" in recommended([edge(DB, WEB)], seen=seen).not_seen
    )


def test_a_window_whose_coverage_nobody_recorded_says_so() -> None:
    seen = dataclasses.replace(MONTH, covered=None)
    notes = recommended([edge(DB, WEB, last_seen=BEGIN + timedelta(minutes=3))], seen=seen).not_seen
    assert any("nobody recorded" in note for note in notes)
    assert "the traffic spans 3 minutes: daily and weekly and monthly jobs may not have run in that time" in notes


# Ports


def test_the_rule_has_the_backends_port_and_not_the_services() -> None:
    at_client = frozenset({Direction.EGRESS})
    before = edge(WEB, CART, 80, verdict="TRACED", seen_at=at_client)
    behind = edge(WEB, DB, 3306, seen_at=at_client)
    service = ServicePort("data", {"app": "db"}, "TCP", 3306, 33060)
    found = recommended([before, edge(WEB, CART, 8080), behind], workload="web", services=[service])
    ports = [port["port"] for rule in only(found)["egress"] for entry in rule["toPorts"] for port in entry["ports"]]
    assert sorted(ports) == ["33060", "8080"]
    assert [one.reason for one in found.apart] == [Reason.UNTRANSLATED]


def test_a_port_that_pods_were_reached_at_is_not_taken_for_a_services() -> None:
    service = ServicePort("data", {"app": "db"}, "TCP", 3306, 33060)
    found = recommended([edge(WEB, DB, 3306)], workload="web", services=[service])
    assert only(found)["egress"][0]["toPorts"][0]["ports"] == [{"port": "3306", "protocol": "TCP"}]


def test_replies_never_open_ephemeral_ports() -> None:
    reply = edge(DB, WEB, 51234, is_reply=True)
    found = recommended([edge(WEB, DB, 5432), reply])
    assert "ingress" not in only(found)
    assert [one.reason for one in found.apart] == [Reason.REPLY]


def test_traffic_whose_server_port_is_not_known_opens_no_port() -> None:
    found = recommended([edge(DB, WEB, None), edge(DB, WEB, 8080)])
    assert [entry["ports"] for entry in only(found)["ingress"][0]["toPorts"]] == [[{"port": "8080", "protocol": "TCP"}]]
    assert "no rule for 1 edges with 1000 flows, the server's port is not known" in found.not_seen


def test_icmp_is_written_as_icmps_in_a_rule_of_its_own() -> None:
    found = recommended([edge(DB, WEB, None, "ICMPv4", icmp_type=8), edge(DB, WEB, 8080)])
    first, second = only(found)["ingress"]
    assert "toPorts" in first
    assert second["icmps"] == [{"fields": [{"family": "IPv4", "type": 8}]}]
    assert "toPorts" not in second


def test_a_type_of_icmp_that_was_not_recorded_is_marked_inferred() -> None:
    found = recommended([edge(DB, WEB, None, "ICMPv6")])
    assert only(found)["ingress"][0]["icmps"] == [{"fields": [{"family": "IPv6", "type": 128}]}]
    assert any("inferred" in note for note in found.policies[0].rules[0].notes)
    assert len(found.check.uncertain) == 1


def test_more_than_forty_ports_are_split_so_that_the_agent_takes_them() -> None:
    found = recommended([edge(DB, WEB, 1000 + n) for n in range(95)])
    assert [len(entry["ports"]) for entry in only(found)["ingress"][0]["toPorts"]] == [40, 40, 15]


# DNS


def test_dns_is_allowed_to_the_resolver_that_was_used_by_its_own_labels() -> None:
    found = recommended([edge(WEB, DNS, 53, "UDP")])
    selector = only(found)["egress"][0]["toEndpoints"][0]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "coredns", "k8s:io.kubernetes.pod.namespace": "kube-system"}


def test_dns_over_udp_has_its_retry_over_tcp() -> None:
    found = recommended([edge(WEB, DNS, 53, "UDP")])
    assert only(found)["egress"][0]["toPorts"][0]["ports"] == [{"port": "53", "protocol": "TCP"}, {"port": "53", "protocol": "UDP"}]
    assert any("truncated" in note for note in found.policies[0].rules[0].notes)


def test_dns_at_port_5353_stays_at_port_5353() -> None:
    resolver = pod("openshift-dns", "dns-default", labels={"dns.operator.openshift.io/daemonset-dns": "default"})
    found = recommended([edge(WEB, resolver, 5353, "UDP")])
    assert {port["port"] for port in only(found)["egress"][0]["toPorts"][0]["ports"]} == {"5353"}


def test_a_node_local_resolver_is_the_node_and_not_an_address() -> None:
    found = recommended([edge(WEB, entity("host", address="169.254.20.10"), 53, "UDP")])
    rule = only(found)["egress"][0]
    assert rule["toEntities"] == ["host"]
    assert len(rule["toPorts"][0]["ports"]) == 2


def test_names_are_learned_through_the_rule_for_the_resolver() -> None:
    found = recommended([edge(WEB, DNS, 53, "UDP"), edge(WEB, outside("203.0.113.9", "api.example.com"), 443)])
    entries = [entry for rule in only(found)["egress"] for entry in rule["toPorts"]]
    assert [entry.get("rules") for entry in entries] == [{"dns": [{"matchPattern": "*"}]}, None]


def test_names_without_any_query_are_said_to_need_a_rule_for_dns() -> None:
    found = recommended([edge(WEB, outside("203.0.113.9", "api.example.com"), 443)])
    assert any("no DNS query was seen" in note for note in found.notes["web-recommended"])


# Nodes and addresses


@pytest.mark.parametrize("label", ["host", "remote-node", "kube-apiserver", "health", "ingress"])
def test_nodes_and_host_network_pods_are_entities_and_never_a_single_address(label: str) -> None:
    found = recommended([edge(entity(label, address="10.0.0.5"), WEB), edge(WEB, entity(label, address="10.0.0.5"), 6443)])
    assert only(found)["ingress"][0]["fromEntities"] == [label]
    assert only(found)["egress"][0]["toEntities"] == [label]
    assert "10.0.0.5" not in str(only(found))


def test_the_api_server_on_a_node_is_the_api_server() -> None:
    found = recommended([edge(WEB, entity("remote-node", "kube-apiserver"), 6443)])
    assert only(found)["egress"][0]["toEntities"] == ["kube-apiserver"]


def test_an_address_of_ipv6_is_a_range_of_128_bits() -> None:
    found = recommended([edge(WEB, outside("2001:db8::7"), 443), edge(WEB, outside("203.0.113.7"), 443)])
    assert [rule["toCIDR"] for rule in only(found)["egress"]] == [["2001:db8::7/128"], ["203.0.113.7/32"]]


def test_both_worlds_of_a_dual_stack_cluster_are_the_entity_world() -> None:
    many = [edge(outside(f"2001:db8::{n:x}", label="world-ipv6"), WEB) for n in range(1, 12)]
    many += [edge(outside(f"203.0.113.{n}", label="world-ipv4"), WEB) for n in range(1, 12)]
    cilium = recommended(many)
    assert [rule["fromEntities"] for rule in only(cilium)["ingress"]] == [["world"]]
    assert not cilium.check.newly_denied
    kubernetes = recommended(many, kind=PolicyKind.KUBERNETES)
    assert only(kubernetes)["ingress"][0]["from"] == [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]
    assert not kubernetes.check.newly_denied


def test_a_name_from_history_is_written_and_marked_inferred() -> None:
    found = recommended([edge(WEB, outside("203.0.113.9", "API.example.com.", inferred=True), 443)])
    assert only(found)["egress"][0]["toFQDNs"] == [{"matchName": "api.example.com"}]
    assert any("inferred" in note for note in found.policies[0].rules[0].notes)


def test_an_address_without_any_name_is_marked_inferred() -> None:
    found = recommended([edge(WEB, outside("203.0.113.9"), 443)])
    assert only(found)["egress"][0]["toCIDR"] == ["203.0.113.9/32"]
    assert any("inferred" in note for note in found.policies[0].rules[0].notes)


def test_a_range_of_an_hourly_summary_is_marked_inferred() -> None:
    found = recommended([edge(WEB, outside(range="203.0.113.0/24"), 443)])
    assert only(found)["egress"][0]["toCIDR"] == ["203.0.113.0/24"]
    assert any("inferred" in note for note in found.policies[0].rules[0].notes)


def test_clients_outside_are_never_written_by_name() -> None:
    found = recommended([edge(outside("203.0.113.9", "client.example.com"), WEB)])
    assert only(found)["ingress"][0]["fromCIDR"] == ["203.0.113.9/32"]


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


def test_a_workload_is_told_from_another_with_the_same_name_label() -> None:
    stable = pod("shop", "web", labels={"app": "web", "track": "stable"})
    canary = pod("shop", "web-canary", labels={"app": "web", "track": "canary"})
    found = recommended([edge(DB, stable), edge(DB, canary, 9090)], workload="web")
    assert only(found)["endpointSelector"] == {"matchLabels": {"app": "web", "track": "stable"}}
    assert "9090" not in str(only(found))


def test_a_workload_that_no_label_tells_apart_brings_the_others_traffic_along() -> None:
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
    assert "no rule for 1 edges with 9 flows, denied: it did not reach the other end" in found.not_seen


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


def test_a_workload_whose_labels_nobody_knows_gets_no_policy_and_is_said() -> None:
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
