"""`hindcast policy audit`: what is found, what is not evaluated and for whom; findings open, stay and close, and a second run adds none."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from hindcast.cli import app
from warehouse import config
from warehouse.errors import HindcastError
from warehouse.lake.tables import Lake
from warehouse.records.findings import open_findings
from warehouse.schema import (
    CLUSTER_SETTINGS,
    CONFIG_COVERAGE,
    COVERAGE,
    DRIFT,
    FINDINGS,
    FLOWS,
    NAMESPACES,
    POLICY_VERSIONS,
    POSTURE,
    WORKLOADS,
    Table,
)

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
KINDS = ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "CiliumCIDRGroup", "PodLabels", "Namespace"]
WEB = {"matchLabels": {"app": "web"}}


class Fleet:
    """A lake with ten days of a cluster's configuration, and the command on it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "hindcast.yaml"
        grants = [{"subject": "paula", "role": "namespace-owner", "namespaces": ["shop"]}]
        self.path.write_text(json.dumps({"lake": {"url": "lake"}, "clusters": [{"name": "c1"}], "ownership": {"grants": grants}}))
        self.lake = Lake.open(config.load_config(self.path).lake)

    def put(self, table: Table, row: dict[str, Any]) -> None:
        files = self.lake.write_files(table, pa.Table.from_pylist([row], schema=table.schema))
        self.lake.commit(table, files, transactions={}, metadata={})

    def version(self, table: Table, kind: str, name: str, begin: float = 0, end: float | None = None, **content: Any) -> None:
        namespace = content.pop("namespace", "shop")
        labels = {"labels": content.pop("labels")} if "labels" in content else {}
        manifest = {"kind": kind, "metadata": {"name": name, **({"namespace": namespace} if namespace else {}), **labels}, **content}
        text = json.dumps(manifest, sort_keys=True)
        moments = {"valid_from": START + begin * DAY, "valid_to": None if end is None else START + end * DAY, "recorded": START}
        self.put(table, {"cluster": "c1", "kind": kind, "namespace": namespace, "name": name, "hash": text, "manifest": text, **moments})

    def policy(self, name: str, rule: dict[str, Any], begin: float = 0, end: float | None = None, **more: Any) -> None:
        spec = {"endpointSelector": WEB, "ingress": [rule]}
        self.version(POLICY_VERSIONS, "CiliumNetworkPolicy", name, begin, end, spec=spec, **more)

    def pods(self, namespace: str, name: str) -> None:
        spec = {"workload": {"kind": "Deployment", "name": name}}
        self.version(WORKLOADS, "PodLabels", name, namespace=namespace, labels={"app": name}, spec=spec)

    def observed(self, begin: float = 0, end: float = 10, kinds: list[str] = KINDS) -> None:
        moments = {"from": START + begin * DAY, "to": START + end * DAY, "recorded": START + end * DAY}
        self.put(CONFIG_COVERAGE, {"cluster": "c1", "state": "observed", "kinds": kinds, "source": "watch", **moments})

    def flow(self, day: float, app: str, port: int = 80) -> None:
        """Record a connection from a pod of the namespace shop to web."""
        one = flow_pb2.Flow(uuid=f"{app}-{port}-{day}", node_name="c1/node-1", verdict=flow_pb2.Verdict.FORWARDED)
        one.time.FromDatetime(START + day * DAY)
        for end, name in ((one.source, app), (one.destination, "web")):
            end.namespace, end.cluster_name, end.identity, end.pod_name = "shop", "c1", len(name) + 1000, f"{name}-1"
            end.labels.extend([f"k8s:app={name}", "k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=c1"])
            end.workloads.add(name=name, kind="Deployment")
        one.IP.source, one.IP.destination, one.IP.ipVersion = "10.0.0.1", "10.0.0.2", flow_pb2.IPVersion.IPv4
        one.l4.TCP.source_port, one.l4.TCP.destination_port = 40_000, port
        one.traffic_direction = flow_pb2.TrafficDirection.INGRESS
        one.is_reply.value = False
        rows = decode([one.SerializeToString()], cluster="c1", recorded=START, live=False).rows
        self.lake.commit(FLOWS, self.lake.write_files(FLOWS, rows), transactions={}, metadata={})

    def streamed(self, begin: float, end: float) -> None:
        """Record that the flows of a time were received."""
        moments = {"from": START + begin * DAY, "to": START + end * DAY, "date": (START + begin * DAY).date()}
        self.put(COVERAGE, {"cluster": "c1", "node_name": "c1/node-1", "state": "connected", **moments})

    def run(self, *options: str, day: float = 10) -> Result:
        until = (START + day * DAY).isoformat()
        command = ["policy", "audit", "--config", str(self.path), "--window", "7d", "--until", until, "--output", "json", *options]
        return CliRunner().invoke(app, command)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    found = Fleet(tmp_path)
    for namespace in ("shop", "ops"):
        found.version(NAMESPACES, "Namespace", namespace, namespace=namespace, labels={})
    return found


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def refused(result: Result) -> str:
    """What the command says that refuses; `main` prints errors, and exits with 2."""
    assert result.exit_code != 0
    assert isinstance(result.exception, (HindcastError, SystemExit))
    return f"{result.output} {result.exception}"


def named(result: Result) -> set[tuple[str, str]]:
    return {(row["kind"], row["subject"].partition("/")[2]) for row in rows(result)}


def test_without_configuration_history_an_audit_does_not_claim_that_all_is_well(fleet: Fleet) -> None:
    result = fleet.run("--cluster", "c1")
    assert "nothing could be evaluated" in refused(result)
    assert fleet.lake.read(FINDINGS).num_rows == 0


def test_what_is_found_has_its_policy_place_and_key_and_makes_the_exit_code_one(fleet: Fleet) -> None:
    fleet.observed()
    fleet.policy("open", {"fromEntities": ["all"]})
    fleet.policy("narrow", {"fromEndpoints": [WEB]})
    fleet.policy("gone", {"fromEndpoints": [{"matchLabels": {"app": "gone"}}]})
    fleet.pods("shop", "web")
    fleet.pods("ops", "agent")
    result = fleet.run()
    assert result.exit_code == 1
    assert named(result) == {
        ("allow_all", "open"),
        ("redundant_rule", "narrow"),
        ("redundant_rule", "gone"),
        ("dangling_selector", "gone"),
        ("unisolated_workload", "agent"),
    }
    (row,) = [row for row in rows(result) if row["kind"] == "allow_all"]
    assert (row["cluster"], row["namespace"], row["path"], row["severity"]) == ("c1", "shop", "spec.ingress[0]", "high")
    assert row["key"].startswith("allow_all/shop/CiliumNetworkPolicy/open/")
    assert "not evaluated: blueprint_defeated" in result.output


def test_kinds_and_clusters_can_be_chosen_and_nothing_found_exits_with_zero(fleet: Fleet) -> None:
    fleet.observed()
    fleet.policy("fine", {"fromEndpoints": [WEB]})
    fleet.pods("shop", "web")
    fleet.pods("ops", "agent")
    assert fleet.run("--kind", "allow_all").exit_code == 0
    assert named(fleet.run("--kind", "unisolated_workload")) == {("unisolated_workload", "agent")}


def test_findings_open_stay_and_close_and_a_second_run_adds_nothing(fleet: Fleet) -> None:
    fleet.observed()
    fleet.policy("open", {"fromEntities": ["all"]}, 0, 8)
    fleet.pods("shop", "web")
    assert "1 opened, 0 changed, 0 closed" in fleet.run(day=6).output
    assert "0 opened, 0 changed, 0 closed" in fleet.run(day=7).output
    assert fleet.lake.read(FINDINGS).num_rows == 1
    assert "not recorded: an audit of a later time" not in fleet.run(day=7).output
    assert "0 opened, 0 changed, 1 closed" in fleet.run("--kind", "allow_all", day=9).output
    assert open_findings(fleet.lake).num_rows == 0
    assert "an audit of a later time is recorded already" in fleet.run(day=6).output
    assert open_findings(fleet.lake).num_rows == 0


def test_where_configuration_was_not_read_lately_findings_neither_open_nor_close(fleet: Fleet) -> None:
    fleet.observed(0, 6)
    fleet.policy("open", {"fromEntities": ["all"]})
    fleet.pods("shop", "web")
    fleet.run(day=6)
    result = fleet.run(day=9)
    assert "nothing could be evaluated" in refused(result)
    assert "policies were last read at 2026-03-08 00:00 UTC" in result.output
    assert open_findings(fleet.lake).num_rows == 1
    fleet.observed(6, 10, kinds=["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"])
    result = fleet.run(day=10)
    assert "not evaluated: dangling_selector, unisolated_workload: not seen lately: PodLabels, Namespace" in result.output


def test_an_owner_gets_the_audits_of_her_namespaces_and_records_nothing(fleet: Fleet) -> None:
    fleet.observed()
    fleet.policy("open", {"fromEntities": ["all"]})
    fleet.policy("dangling", {"fromEndpoints": [{"matchLabels": {"app": "agent", "io.kubernetes.pod.namespace": "ops"}}]})
    fleet.policy("secret", {"fromEntities": ["all"]}, namespace="ops")
    fleet.pods("shop", "web")
    fleet.pods("ops", "agent")
    result = fleet.run("--as", "paula")
    assert result.exit_code == 1
    assert named(result) == {("allow_all", "open"), ("redundant_rule", "dangling")}
    assert "secret" not in result.output
    assert "cluster-wide policies are not yours to see" in result.output
    assert "pods of other namespaces are not yours to see" in result.output
    assert fleet.lake.read(FINDINGS).num_rows == 0
    assert "mallory owns no namespace here" in refused(fleet.run("--as", "mallory"))


def test_a_policy_that_defeats_a_blueprint_is_listed_as_drift_recorded_it_and_not_recorded_twice(fleet: Fleet) -> None:
    fleet.observed()
    fleet.policy("fine", {"fromEndpoints": [WEB]})
    fleet.pods("shop", "web")
    time = START + 9 * DAY
    row = {"cluster": "c1", "date": time.date(), "time": time}
    named_row = {"kind": "CiliumNetworkPolicy", "namespace": "shop", "name": "own", "blueprint": "base"}
    fleet.put(DRIFT, {**row, **named_row, "drift": "defeated", "state": "open", "severity": "high", "since": time, "summary": "opens"})
    fleet.put(POSTURE, {**row, "control": "BP-EFFECT", "status": "fail", "blueprints": ["base 1.0.0"], "observed": time})
    assert named(fleet.run("--kind", "blueprint_defeated")) == {("blueprint_defeated", "own")}
    assert fleet.lake.read(FINDINGS).num_rows == 0


def test_without_observed_traffic_no_rule_is_called_unused(fleet: Fleet) -> None:
    fleet.observed()
    fleet.policy("web", {"fromEndpoints": [WEB]})
    fleet.pods("shop", "web")
    result = fleet.run("--kind", "unused_rule", "--kind", "unused_policy")
    assert "nothing could be evaluated" in refused(result)
    assert "no traffic was observed in the window" in result.output


def test_rules_and_policies_that_decided_on_nothing_are_found_and_closed_once_they_decide(fleet: Fleet) -> None:
    fleet.observed()
    spec = {"fromEndpoints": [{"matchLabels": {"app": "db"}}]}
    fleet.policy("web", spec)
    fleet.policy("other", {"fromEndpoints": [{"matchLabels": {"app": "cart"}}]})
    fleet.pods("shop", "web")
    for day in range(10):
        fleet.streamed(day, day + 1)
    fleet.flow(6, "db")
    kinds = ("--kind", "unused_rule", "--kind", "unused_policy")
    result = fleet.run(*kinds, day=9)
    assert named(result) == {("unused_policy", "other")}
    (row,) = rows(result)
    assert (row["severity"], row["detail"]["observed"], row["detail"]["last_decisive"]) == ("low", 1.0, None)
    fleet.flow(9.5, "cart")
    assert "0 opened, 0 changed, 1 closed" in fleet.run(*kinds).output
    assert named(fleet.run("--as", "paula", "--kind", "unused_policy")) == set()


def test_a_job_that_ran_before_the_window_is_not_called_unused_before_it_is_due(fleet: Fleet) -> None:
    fleet.observed()
    fleet.policy("job", {"fromEndpoints": [{"matchLabels": {"app": "job"}}]})
    fleet.pods("shop", "web")
    for day in range(10):
        fleet.streamed(day, day + 1)
    fleet.flow(1, "job")
    fleet.flow(6, "job")
    result = fleet.run("--window", "2d", "--kind", "unused_policy")
    assert result.exit_code == 0
    assert "it recurs, and is not overdue" in result.output


def test_sarif_has_one_result_a_finding_with_a_stable_fingerprint(fleet: Fleet) -> None:
    fleet.observed()
    fleet.policy("open", {"fromEntities": ["all"]})
    fleet.pods("shop", "web")
    runs = [json.loads(fleet.run("--output", "sarif", "--no-record").stdout)["runs"][0] for _ in range(2)]
    assert runs[0] == runs[1]
    (result,) = runs[0]["results"]
    assert (result["ruleId"], result["level"]) == ("policy-allow_all", "error")
    assert result["partialFingerprints"]["finding"].startswith("c1/allow_all/shop/")
    assert fleet.lake.read(FINDINGS).num_rows == 0
    assert "high" in fleet.run("--output", "table", "--no-record").stdout


def test_sarif_names_the_file_and_line_of_a_policy_from_manifests(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fleet.path.parent / "gitops"
    folder.mkdir()
    head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: %s, namespace: shop}\n"
    spec = "spec:\n  endpointSelector: {matchLabels: {app: web}}\n  ingress:\n  - fromEntities: [all]\n"
    (folder / "web.yaml").write_text((head % "narrow") + "spec: {endpointSelector: {}}\n---\n" + (head % "open") + spec)
    settings = json.loads(fleet.path.read_text())
    settings["clusters"][0]["kubernetes"] = {"manifests": "gitops"}
    fleet.path.write_text(json.dumps(settings))
    fleet.observed()
    fleet.policy("open", {"fromEntities": ["all"]})
    fleet.policy("elsewhere", {"fromEntities": ["all"]})
    fleet.pods("shop", "web")
    objects = [["CiliumNetworkPolicy", "shop", "open"]]
    fleet.version(CLUSTER_SETTINGS, "ManifestFile", "web.yaml", namespace=None, spec={"objects": objects})
    monkeypatch.chdir(fleet.path.parent)

    def places() -> list[Any]:
        found = json.loads(fleet.run("--output", "sarif", "--no-record", "--kind", "allow_all").stdout)["runs"][0]["results"]
        return [result["locations"][0].get("physicalLocation") for result in found]

    assert places() == [None, {"artifactLocation": {"uri": "gitops/web.yaml"}, "region": {"startLine": 12}}]
    (folder / "web.yaml").unlink()
    assert places() == [None, {"artifactLocation": {"uri": "gitops/web.yaml"}}]


@pytest.mark.parametrize(
    ("options", "problem"),
    [(["--since", "2026-03-20"], "is not before the end"), (["--kind", "wide"], "wide"), (["--window", "soon"], "soon")],
)
def test_what_cannot_be_read_is_named(fleet: Fleet, options: list[str], problem: str) -> None:
    command = ["policy", "audit", "--config", str(fleet.path), "--until", "2026-03-10", *options]
    result = CliRunner().invoke(app, command)
    assert problem in refused(result)
