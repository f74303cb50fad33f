"""A side that has no namespace is someone else's all the same where anything in the row says whose it is.

In each row below, whatever names the foreign namespace (`vault`) or its pods holds the word vault, and nothing else does.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from warehouse.access import redaction, scoping
from warehouse.access.principals import Grant, Scope
from warehouse.engine import Window
from warehouse.schema import DNS_NAMES, EDGES_1H, FLOWS, Table

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
ENGINE = duckdb.connect(config={"threads": 1})
ENGINE.execute("SET TimeZone = 'UTC'")
SHOP = Scope(grants=(Grant(subject="x", role="namespace-owner", cluster="*", namespace="shop", reason=""),))
OTHER = {"source": "destination", "destination": "source"}
POLICY = {"name": "allow", "namespace": "vault", "labels": [], "revision": 1, "kind": "CiliumNetworkPolicy"}

NAMES_VAULT: dict[str, dict[str, Any]] = {
    "pod": {"{peer}_pod_name": "vault-0"},
    "workload": {"{peer}_workload_name": "vault", "{peer}_workload_kind": "StatefulSet"},
    "service": {"{peer}_service_name": "vault", "{peer}_service_namespace": "vault", "{peer}_identity": 2},
    "service without its namespace": {"{peer}_service_name": "vault"},
    "namespace label": {"{peer}_labels": ["k8s:app=x", "k8s:io.kubernetes.pod.namespace=vault"]},
    "namespace label of another source": {"{peer}_labels": ["any:io.kubernetes.pod.namespace=vault", "reserved:world"]},
    "label of the namespace": {"{peer}_labels": ["k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=vault"]},
    "service account": {"{peer}_labels": ["k8s:io.cilium.k8s.policy.serviceaccount=vault"]},
    "labels of a workload": {"{peer}_labels": ["k8s:app.kubernetes.io/name=vault"]},
    "label of a name": {"{peer}_labels": ["fqdn:vault.vault.svc.cluster.local", "reserved:world"]},
    "identity of a pod": {"{peer}_identity": 48_213, "{peer}_names": ["vault"]},
    "identity of a pod of another cluster": {"{peer}_identity": (3 << 16) | 300, "{peer}_mac": "vault"},
    "policy": {"{policies}": [POLICY]},
    "policy among others": {"{policies}": [POLICY | {"namespace": "", "name": "c"}, POLICY]},
    "DNS name": {"{peer}_names": ["vault.vault.svc.cluster.local"], "{peer}_identity": 2, "{peer}_labels": ["reserved:world"]},
    "DNS name among others": {"{peer}_names": ["a.example.com", "vault.vault.svc.cluster.local."]},
    "short DNS name": {"{peer}_names": ["vault.vault.svc"]},
    "DNS name of a pod": {"{peer}_names": ["10-0-0-7.vault.pod.cluster.local"]},
    "DNS name of a pod of a set": {"{peer}_names": ["vault-0.vault.vault.svc.corp.example.com"]},
    "DNS query": {"l7_type": "REQUEST", "l7_dns_query": "vault.vault.svc.cluster.local.", "{peer}_identity": 1},
    "DNS query in capitals": {"l7_type": "REQUEST", "l7_dns_query": "VAULT.VAULT.SVC.CLUSTER.LOCAL.", "{peer}_mac": "vault"},
    "short DNS query": {"l7_type": "REQUEST", "l7_dns_query": "vault.vault.", "{peer}_identity": 1},
    "DNS query for an SRV record": {"l7_type": "REQUEST", "l7_dns_query": "_http._tcp.vault.vault.svc.cluster.local."},
    "DNS query with a search domain": {"l7_type": "REQUEST", "l7_dns_query": "api.example.com.vault.svc.cluster.local."},
    "DNS answer": {"l7_type": "RESPONSE", "l7_dns_query": "a.example.com.", "l7_dns_cnames": ["vault.vault.svc.cluster.local."]},
    "URL": {"l7_type": "REQUEST", "l7_http_url": "http://vault.vault.svc:8200/v1/x"},
    "URL of a short host": {"l7_type": "REQUEST", "l7_http_url": "http://vault.vault:8200/v1/x", "{peer}_identity": 2},
    "URL of a short host with a user": {"l7_type": "REQUEST", "l7_http_url": "https://me:pw@vault.vault/v1"},
    "URL of a pod of a set": {"l7_type": "REQUEST", "l7_http_url": "http://vault-0.vault.secrets/v1"},
    "host header": {"l7_type": "REQUEST", "l7_http_headers": [{"key": "Host", "value": "vault.vault:8200"}]},
    "authority header": {"l7_type": "REQUEST", "l7_http_headers": [{"key": ":authority", "value": "vault.vault.svc"}]},
    "any header": {"l7_type": "REQUEST", "l7_http_headers": [{"key": "x-upstream", "value": "to=vault.vault.svc.cluster.local"}]},
    "summary of a DNS query": {"summary": "DNS Query vault.vault.svc.cluster.local. A"},
    "summary of a short DNS query": {"summary": 'DNS Answer "10.0.0.1" TTL: 5 (Proxy vault.vault. A)'},
    "summary of a request": {"summary": "HTTP/1.1 GET http://vault.vault:8200/v1/secret"},
    "log of a policy": {"policy_log": ["denied to vault.vault.svc"]},
    "rest": {"rest": b"\x0a\x05vault"},
}
OUTSIDE: dict[str, dict[str, Any]] = {
    "the world": {"{peer}_ip": "203.0.113.7", "{peer}_identity": 2, "{peer}_labels": ["reserved:world"]},
    "nothing but an address": {"{peer}_ip": "203.0.113.7"},
    "a range": {"{peer}_ip": "203.0.113.7", "{peer}_identity": 1 << 24 | 9, "{peer}_labels": ["cidr:203.0.113.0/24", "reserved:world"]},
    "a name": {
        "{peer}_ip": "203.0.113.7",
        "{peer}_names": ["api.example.com", "one.one.one.one"],
        "{peer}_labels": ["fqdn:api.example.com"],
    },
    "a host": {"{peer}_ip": "10.1.2.3", "{peer}_identity": 1, "{peer}_labels": ["k8s:node=x", "reserved:host"]},
    "a request": {"{peer}_ip": "203.0.113.7", "l7_type": "REQUEST", "l7_http_url": "https://api.example.co.uk/v1", "l7_http_method": "GET"},
    "a request to an address": {"{peer}_ip": "203.0.113.7", "l7_type": "REQUEST", "l7_http_url": "http://203.0.113.7:8080/v1"},
    "a query": {"{peer}_ip": "10.1.2.3", "{peer}_identity": 1, "l7_type": "REQUEST", "l7_dns_query": "www.example.org."},
    "a query of one's own": {"{peer}_ip": "10.1.2.3", "l7_type": "REQUEST", "l7_dns_query": "example.com.shop.svc.cluster.local."},
    "a Service of one's own": {"{peer}_ip": "10.96.0.9", "{peer}_service_name": "cart", "{peer}_service_namespace": "shop"},
    "flags": {"{peer}_ip": "203.0.113.7", "summary": "TCP Flags: SYN, ACK"},
    "a policy of the whole cluster": {"{peer}_ip": "10.1.2.3", "{policies}": [POLICY | {"namespace": None}]},
}


ALL = {what: about | {"{peer}_ip": "10.0.0.7", "{peer}_port": 8200} for what, about in NAMES_VAULT.items()} | OUTSIDE


def row(about: dict[str, Any], peer: str) -> dict[str, Any]:
    """A flow between a pod of shop and a peer without namespace."""
    policies = "egress_allowed_by" if peer == "source" else "ingress_denied_by"
    named = {name.format(peer=peer, policies=policies): value for name, value in about.items()}
    mine = OTHER[peer]
    own = {f"{mine}_namespace": "shop", f"{mine}_pod_name": "cart-1", f"{mine}_ip": "10.0.0.9", f"{mine}_labels": ["k8s:app=cart"]}
    return {"cluster": "c1", "time": NOON, "uuid": "1", "verdict": "FORWARDED"} | own | named


def ask(table: Table, rows: list[dict[str, Any]], level: str, scope: Scope = SHOP) -> list[dict[str, Any]]:
    """The rows as shown, asked of both ends apart and together."""
    ENGINE.from_arrow(pa.Table.from_pylist(rows, schema=table.schema)).create_view(table.name, replace=True)
    both = [
        ENGINE.sql(scoping.visible(scope, table, Window(), ["c1"], peer_detail=level, ends_apart=apart)).to_arrow_table().to_pylist()
        for apart in (True, False)
    ]
    assert sorted(map(repr, both[0])) == sorted(map(repr, both[1]))
    return both[0]


@functools.cache
def shown(level: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Every row of both kinds as shown at a level, by its peer and what it holds: asked together, since a question is costly."""
    cases = [(peer, what) for peer in OTHER for what in ALL]
    made = [row(ALL[what] | {"uuid": str(number)}, peer) for number, (peer, what) in enumerate(cases)]
    return {cases[int(one["uuid"])]: one | {"uuid": "1"} for one in ask(FLOWS, made, level)}


@pytest.mark.parametrize("peer", OTHER)
@pytest.mark.parametrize("what", NAMES_VAULT)
def test_what_names_a_namespace_is_hidden_with_all_else_of_that_side(what: str, peer: str) -> None:
    made = row(ALL[what], peer)
    assert "vault" in repr(made).lower()
    for level in redaction.LEVELS[1:]:
        found = shown(level)[peer, what]
        if what == "workload" and level == "workload":  # which is what this level shows
            assert found[f"{peer}_workload_name"] == "vault"
        elif what.startswith("service") and "account" not in what and level == "workload":
            assert found[f"{peer}_service_name"] == "vault"
        else:
            assert "vault" not in repr(found).lower()
        if what != "rest":  # nobody can tell whose that is, so only it is empty
            assert found[f"{peer}_ip"] is None
        assert found[f"{OTHER[peer]}_pod_name"] == "cart-1"
        assert found[f"{peer}_port"] == 8200
    assert shown("full")[peer, what] == dict.fromkeys(FLOWS.schema.names) | made


@pytest.mark.parametrize("peer", OTHER)
@pytest.mark.parametrize("what", OUTSIDE)
def test_what_is_truly_outside_is_shown_at_every_level(what: str, peer: str) -> None:
    for level in redaction.LEVELS:
        assert shown(level)[peer, what] == dict.fromkeys(FLOWS.schema.names) | row(ALL[what], peer)


def test_who_sees_the_cluster_whole_sees_such_a_side_and_who_is_denied_a_namespace_does_not() -> None:
    made = [row(NAMES_VAULT["DNS name"], "destination"), row(NAMES_VAULT["DNS name"], "destination") | {"source_namespace": None}]
    whole = Grant(subject="x", role="cluster-admin", cluster="c1", namespace=None, since=NOON - dt.timedelta(hours=1), reason="")
    denial = Grant(subject="x", role="namespace-owner", cluster="*", namespace="vault", is_denial=True, reason="")
    assert "vault" in repr(ask(FLOWS, made, "workload", Scope(grants=(whole,))))
    found = ask(FLOWS, made, "workload", Scope(grants=(whole,), denials=(denial,)))
    assert len(found) == 2
    assert "vault" not in repr(found)


EDGE = {"cluster": "c1", "hour": NOON, "verdict": "FORWARDED", "flows": 1, "repeats": 0, "replies": 0, "source_namespace": "shop"}


@pytest.mark.parametrize(
    "peer",
    [
        {"destination_entity": "world", "destination_dns_name": "vault.vault.svc.cluster.local"},
        {"destination_workload_name": "vault"},
        {"destination_cidr": "vault/24"},  # neither entity nor name: it may be a pod
        {"destination_entity": "world", "destination_dns_name": "a.example.com", "destination_labels_id": "vault"},
        {"destination_namespace": "other", "destination_labels_id": "vault"},
    ],
)
def test_an_hours_sum_names_no_namespace_either(peer: dict[str, Any]) -> None:
    (found,) = ask(EDGES_1H, [EDGE | peer], "namespace")
    assert "vault" not in repr(found)


def test_an_hours_sum_shows_what_is_outside() -> None:
    peer = {"destination_entity": "world", "destination_dns_name": "a.example.com", "destination_cidr": "203.0.113.0/24"}
    (found,) = ask(EDGES_1H, [EDGE | peer], "hidden")
    assert {name: found[name] for name in peer} == peer


def test_a_remembered_dns_name_of_the_cluster_is_hidden_and_one_of_the_outside_is_shown() -> None:
    made = {"cluster": "c1", "hour": NOON, "source_namespace": "shop", "flows": 1, "learned_from": "names"}
    inside = made | {"ip": "10.96.0.7", "name": "vault.vault.svc.cluster.local"}
    outside = made | {"ip": "203.0.113.7", "name": "api.example.com"}
    found = ask(DNS_NAMES, [inside, outside], "workload")
    assert sorted((one["ip"] or "", one["name"] or "") for one in found) == [("", ""), ("203.0.113.7", "api.example.com")]


def test_a_name_in_a_grant_cannot_become_part_of_the_question() -> None:
    odd = Grant(subject="x", role="namespace-owner", cluster="*", namespace="shop' OR true OR '", reason="")
    scope = Scope(grants=(*SHOP.grants, odd))
    (found,) = ask(FLOWS, [row(NAMES_VAULT["DNS name"], "destination")], "workload", scope)
    assert "vault" not in json.dumps(found, default=str)
