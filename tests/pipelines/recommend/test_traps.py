"""Traps that recommenders of policies fall into: the window, ports, DNS, nodes and addresses."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from traffic import BEGIN, MONTH, edge, entity, only, outside, pod, recommended

from pipelines.policy.model import Direction
from pipelines.recommend.manifests import PolicyKind
from pipelines.recommend.observed import Seen
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


def test_every_rule_states_on_how_many_days_its_traffic_was_seen() -> None:
    found = recommended([edge(DB, WEB, days=frozenset(list(edge(DB, WEB).days)[:12]))])
    assert len(found.policies[0].rules[0].draft.evidence.days) == 12
    assert "on 12 days" in str(found.policies[0].rules[0].draft.evidence)


def test_a_recommendation_states_which_time_was_not_covered() -> None:
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
    assert "no rule for 1 edge with 1,000 flows, the server's port is not known" in found.not_seen


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


def test_names_without_any_query_come_with_a_note_that_no_dns_query_was_seen() -> None:
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
