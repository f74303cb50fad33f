"""The traffic of a namespace, read through the door from flows and from rollups, as recommendations are made from it."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from pipelines.maintenance.retention import retain
from pipelines.maintenance.rollup import roll_up_closed_hours
from pipelines.policy.model import Direction
from pipelines.recommend.manifests import PolicyKind
from pipelines.recommend.recommendation import Recommendation, Subject
from pipelines.replay.in_force import History
from pipelines.replay.observed_traffic import Recorded, TrafficOf, read
from pipelines.replay.recommending import recommended
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.errors import AccessDeniedError, ConfigError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.schema import FLOWS

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WINDOW = Window(since=NOON, until=NOON + 6 * HOUR)
ADDRESSES: dict[int, str] = {}
"""Address of each end that the functions below made."""
PAULA, EVE = Principal(user="paula"), Principal(user="eve")


def pod(namespace: str, app: str, address: str, cluster: str = "c1") -> flow_pb2.Endpoint:
    labels = [
        f"k8s:app={app}",
        "k8s:pod-template-hash=5d41402a",
        f"k8s:io.kubernetes.pod.namespace={namespace}",
        f"k8s:io.cilium.k8s.policy.cluster={cluster}",
    ]
    end = flow_pb2.Endpoint(identity=abs(hash((namespace, app))) % 10_000 + 1000, cluster_name=cluster, namespace=namespace, labels=labels)
    end.pod_name = f"{app}-5d41402a-xxxxx"
    end.workloads.add(name=app, kind="Deployment")
    ADDRESSES[id(end)] = address
    return end


WEB, CART = pod("shop", "web", "10.0.0.1"), pod("shop", "cart", "10.0.0.2")
DB, DNS = pod("data", "db", "10.0.1.1"), pod("kube-system", "coredns", "10.0.2.1")
FAR = pod("data", "db", "10.9.1.1", cluster="c2")


def outside(address: str, label: str = "reserved:world", identity: int = 2) -> flow_pb2.Endpoint:
    end = flow_pb2.Endpoint(identity=identity, labels=[label])
    ADDRESSES[id(end)] = address
    return end


def flow(
    source: flow_pb2.Endpoint, destination: flow_pb2.Endpoint, port: int = 8080, *, at: timedelta = HOUR, **facts: Any
) -> flow_pb2.Flow:
    one = flow_pb2.Flow(uuid=str(uuid.uuid4()), node_name="c1/node-1", verdict=facts.get("verdict", flow_pb2.Verdict.FORWARDED))
    one.time.FromDatetime(NOON + at)
    one.source.CopyFrom(source)
    one.destination.CopyFrom(destination)
    one.IP.source, one.IP.destination = ADDRESSES[id(source)], ADDRESSES[id(destination)]
    one.IP.ipVersion = flow_pb2.IPVersion.IPv6 if ":" in one.IP.source + one.IP.destination else flow_pb2.IPVersion.IPv4
    one.is_reply.value = facts.get("reply", False)
    one.traffic_direction = facts.get("seen", flow_pb2.TrafficDirection.EGRESS)
    protocol = facts.get("protocol", "TCP")
    if protocol == "ICMPv4":
        one.l4.ICMPv4.type = facts.get("icmp_type", 8)
    else:
        ports = (port, 40_000) if facts.get("reply") else (40_000, port)
        getattr(one.l4, protocol).source_port, getattr(one.l4, protocol).destination_port = ports
    one.destination_names.extend(facts.get("names", ()))
    return one


INGRESS = flow_pb2.TrafficDirection.INGRESS


class Town:
    """A lake with flows, and a door to it: paula owns the namespace shop."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake.open(config.Lake(url=str(folder / "lake")))
        self.grants = [{"subject": "paula", "role": "namespace-owner", "namespaces": ["shop"]}]

    def door(self, peer_detail: str = "workload") -> Door:
        return Door(self.lake, config.Ownership.model_validate({"grants": self.grants, "peer_detail": peer_detail}), purpose="test")

    def store(self, *flows: flow_pb2.Flow, cluster: str = "c1") -> None:
        rows = decode([one.SerializeToString() for one in flows], cluster=cluster, recorded=NOON, live=False).rows
        self.lake.commit(FLOWS, self.lake.write_files(FLOWS, rows), transactions={}, metadata={})

    def read(self, who: Principal = OPERATOR, **options: Any) -> Recorded:
        return read(History(self.door(), who), TrafficOf(namespace="shop", window=WINDOW, **options))

    def recommended(self, who: Principal = OPERATOR, peer_detail: str = "workload") -> Recommendation:
        wanted = TrafficOf(namespace="shop", window=WINDOW)
        return recommended(History(self.door(peer_detail), who), wanted, Subject("shop", kind=PolicyKind.CILIUM)).recommendation


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def texts(recorded: Recorded) -> list[str]:
    return sorted(edge.text for edge in recorded.traffic.edges)


def rules(recommendation: Recommendation, workload: str, direction: str) -> list[dict[str, Any]]:
    (spec,) = [one.manifest["spec"] for one in recommendation.policies if one.workloads[0] == workload]
    found: list[dict[str, Any]] = spec.get(direction, [])
    return found


def test_a_lake_without_the_namespace_says_so(town: Town) -> None:
    with pytest.raises(ConfigError, match="no traffic of a namespace 'shop'"):
        town.read()
    town.store(flow(DB, DNS))
    with pytest.raises(ConfigError, match="no traffic of a namespace 'shop'"):
        town.read()


def test_who_may_see_nothing_gets_an_explanation(town: Town) -> None:
    town.store(flow(WEB, CART))
    with pytest.raises(AccessDeniedError):
        town.read(EVE)


def test_a_namespace_in_two_clusters_needs_the_name_of_one(town: Town) -> None:
    town.store(flow(WEB, CART))
    town.store(flow(WEB, CART), cluster="c2")
    with pytest.raises(ConfigError, match="c1, c2: name one of them with --cluster"):
        town.read()
    assert town.read(clusters=("c1",)).cluster == "c1"


def test_a_connection_that_both_ends_report_is_one_edge_with_its_flows_once(town: Town) -> None:
    town.store(flow(WEB, CART), flow(WEB, CART, seen=INGRESS), flow(CART, WEB, reply=True, seen=INGRESS))
    (edge,) = town.read().traffic.edges
    assert edge.text == "shop/web to shop/cart on TCP 8080"
    assert edge.seen_at == frozenset(Direction)
    assert edge.flows == 2
    assert not edge.is_reply


def test_single_addresses_and_types_of_icmp_come_from_the_flows(town: Town) -> None:
    town.store(
        flow(WEB, outside("203.0.113.7"), 443), flow(WEB, outside("2001:db8::7"), 443), flow(DB, WEB, protocol="ICMPv4", seen=INGRESS)
    )
    assert texts(town.read()) == [
        "data/db to shop/web on ICMPv4 8",
        "shop/web to world 2001:db8::7 on TCP 443",
        "shop/web to world 203.0.113.7 on TCP 443",
    ]
    found = town.recommended()
    assert [rule["toCIDR"] for rule in rules(found, "web", "egress")] == [["2001:db8::7/128"], ["203.0.113.7/32"]]
    assert not found.check.uncertain
    (rule, *_) = found.policies[0].rules
    assert rule.draft.evidence.edges[0].examples


def test_replies_to_a_ping_are_no_traffic_of_their_own(town: Town) -> None:
    town.store(flow(DB, WEB, protocol="ICMPv4", seen=INGRESS), flow(WEB, DB, protocol="ICMPv4", icmp_type=0, reply=True))
    found = town.recommended()
    assert rules(found, "web", "egress") == []
    assert rules(found, "web", "ingress")[0]["icmps"] == [{"fields": [{"family": "IPv4", "type": 8}]}]


def test_names_of_the_agent_are_written_and_names_of_history_are_marked(town: Town) -> None:
    town.store(flow(WEB, outside("203.0.113.7"), 443, names=["api.example.com"]), flow(WEB, DNS, 53, protocol="UDP"))
    found = town.recommended()
    assert [rule.get("toFQDNs") for rule in rules(found, "web", "egress")] == [None, [{"matchName": "api.example.com"}]]


def test_hours_without_flows_keep_their_ranges_and_say_so(town: Town) -> None:
    town.store(flow(WEB, outside("203.0.113.7"), 443))
    roll_up_closed_hours(town.lake, config.Rollups(), now=NOON + 48 * HOUR)
    retain(town.lake, config.Retention.model_validate({"flows": "1d"}), now=NOON + 96 * HOUR)
    assert town.lake.rows(FLOWS) == 0
    found = town.recommended()
    assert [rule["toCIDR"] for rule in rules(found, "web", "egress")] == [["203.0.113.0/24"]]
    assert any("inferred" in note for note in found.policies[0].rules[0].notes)
    assert not found.check.newly_denied


def test_rollups_and_flows_give_the_same_policies(town: Town) -> None:
    town.store(
        flow(DB, WEB, seen=INGRESS), flow(WEB, CART), flow(WEB, CART, seen=INGRESS), flow(FAR, WEB, seen=INGRESS), flow(WEB, DNS, 53)
    )
    before = [policy.manifest for policy in town.recommended().policies]
    roll_up_closed_hours(town.lake, config.Rollups(), now=NOON + 48 * HOUR)
    assert [policy.manifest for policy in town.recommended().policies] == before
    assert any("c2" in str(one) for one in before)


def test_an_owner_is_not_shown_the_labels_of_peers(town: Town) -> None:
    town.store(flow(DB, WEB, seen=INGRESS), flow(CART, WEB, seen=INGRESS))
    found = town.recommended(PAULA)
    peers = [rule["fromEndpoints"][0]["matchLabels"] for rule in rules(found, "web", "ingress")]
    assert {"k8s:io.kubernetes.pod.namespace": "data"} in peers
    assert "app: db" not in str(peers)
    assert not found.check.newly_denied


def test_an_owner_whose_peers_are_hidden_is_shown_nothing_of_them(town: Town) -> None:
    town.store(flow(DB, WEB, seen=INGRESS), flow(CART, WEB, seen=INGRESS))
    found = town.recommended(PAULA, peer_detail="hidden")
    assert all(name not in json.dumps([policy.manifest["spec"] for policy in found.policies]) for name in ("data", "db"))
    assert any(rule.get("fromEntities") == ["cluster"] for rule in rules(found, "web", "ingress"))
