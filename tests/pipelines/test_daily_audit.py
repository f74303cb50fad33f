"""Standing recommendations: one finding for each namespace with an open workload, until nothing there is open."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from pipelines.audits.finding import Audited, Finding, Kind
from pipelines.evidence import findings
from pipelines.evidence.daily_audit import audit_fleet, recommend_for_open
from pipelines.evidence.findings import Kept
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records.findings import open_findings
from warehouse.schema import FINDINGS, FLOWS

NOW = dt.datetime(2026, 6, 10, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def settings_of(folder: Path) -> config.Config:
    (folder / "hindcast.yaml").write_text(json.dumps({"lake": {"url": "lake"}, "clusters": [{"name": "c1"}]}))
    return config.load_config(folder / "hindcast.yaml")


def is_open(lake: Lake, *namespaces: str, at: dt.datetime) -> None:
    """Record which namespaces have a workload that nothing isolates."""
    found = tuple(
        Finding(
            kind=Kind.UNISOLATED_WORKLOAD, severity="medium", cluster="c1", namespace=name, subject=f"Deployment/{name}", summary="open"
        )
        for name in namespaces
    )
    findings.keep(lake, [Audited(cluster="c1", kind=Kind.UNISOLATED_WORKLOAD, findings=found)], now=at, source="test")


def store_flow(lake: Lake, at: dt.datetime) -> None:
    one = flow_pb2.Flow(uuid="a", node_name="c1/node-1", verdict=flow_pb2.Verdict.FORWARDED)
    one.time.FromDatetime(at)
    for end, name in ((one.source, "web"), (one.destination, "db")):
        end.namespace, end.cluster_name, end.identity, end.pod_name = "shop", "c1", len(name) + 1000, f"{name}-1"
        end.labels.extend([f"k8s:app={name}", "k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=c1"])
        end.workloads.add(name=name, kind="Deployment")
    one.IP.source, one.IP.destination, one.IP.ipVersion = "10.0.0.1", "10.0.0.2", flow_pb2.IPVersion.IPv4
    one.l4.TCP.source_port, one.l4.TCP.destination_port = 40_000, 5432
    one.traffic_direction = flow_pb2.TrafficDirection.INGRESS
    one.is_reply.value = False
    rows = decode([one.SerializeToString()], cluster="c1", recorded=NOW, live=False).rows
    lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})


def test_a_lake_without_configuration_history_has_nothing_to_audit(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    for run in (audit_fleet, recommend_for_open):
        assert run(settings, now=NOW, window=30 * DAY, source="test") == Kept()
    assert Lake.open(settings.lake).read(FINDINGS).num_rows == 0


def test_a_recommendation_stands_until_nothing_is_open_and_is_none_without_traffic(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    lake = Lake.open(settings.lake)
    is_open(lake, "shop", "quiet", at=NOW)
    store_flow(lake, NOW - DAY)

    def recommend(hours: int) -> Kept:
        return recommend_for_open(settings, now=NOW + hours * dt.timedelta(hours=1), window=30 * DAY, source="test")

    assert recommend(1) == Kept(opened=1)
    assert recommend(2) == Kept()
    (row,) = open_findings(lake, kinds=["recommended_policy"]).to_pylist()
    assert (row["namespace"], row["severity"]) == ("shop", "info")
    assert "hindcast policy recommend shop --cluster c1 --since 30d" in row["summary"]
    assert {policy["kind"] for policy in json.loads(row["detail"])["policies"]} == {"CiliumNetworkPolicy"}
    is_open(lake, "quiet", at=NOW + dt.timedelta(hours=3))
    assert recommend(4) == Kept(closed=1)
