"""`hindcast blueprint` over two real clusters, as people run it: plan, publish, drift, revert; and Cilium by the real helm."""

import datetime as dt
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from hindcast.cli import app
from pipelines.blueprints.render import BLUEPRINT_LABEL, MANAGED_BY
from pipelines.configuration import snapshot
from tests.peers.clusters import CRDS
from warehouse import config
from warehouse.errors import HindcastError
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS, POLICY_CHANGES

pytestmark = pytest.mark.peers

_numbers = itertools.count()


class Desk:
    """A folder with a configuration of two clusters and a blueprint of its own name."""

    def __init__(self, folder: Path, clusters: dict[str, Any], programs: Path) -> None:
        self.folder, self.clusters, self.programs = folder, clusters, programs
        self.name = f"desk{next(_numbers)}"
        document = {
            "lake": {"url": "./lake"},
            "blueprints": ["blueprint.yaml"],
            "clusters": [{"name": name, "kubernetes": {"kubeconfig": str(server.kubeconfig())}} for name, server in clusters.items()],
            "ownership": {"grants": [{"subject": "ada", "role": "namespace-owner", "namespaces": [f"{self.name}-a"]}]},
        }
        (folder / "hindcast.yaml").write_text(yaml.safe_dump(document))
        self.settings = config.load_config(folder / "hindcast.yaml")
        self.lake = Lake.open(self.settings.lake)

    def namespace(self, suffix: str, *clusters: str) -> None:
        for name in clusters or self.clusters:
            self.clusters[name].apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{self.name}-{suffix}"}})

    def blueprint(self, **more: Any) -> None:
        rule = {"select": {"names": [f"{self.name}-*"]}, "policies": [{"template": "default-deny-ingress"}]}
        document = {"blueprint": "v1", "name": self.name, "version": "1.0.0", "clusters": {}, "namespaces": [rule]}
        (self.folder / "blueprint.yaml").write_text(yaml.safe_dump(document | more))

    def look(self) -> None:
        for cluster in self.settings.clusters:
            snapshot.take(self.lake, cluster)

    def run(self, *arguments: str, code: int = 0, given: str = "") -> Result:
        """The command in this process, which spares its start; an error of ours is told as `main` tells it."""
        done = CliRunner().invoke(app, ["blueprint", *arguments], input=given)
        if isinstance(done.exception, HindcastError):
            done.stderr_bytes = f"{done.stderr}{done.exception}".encode()
            done.exit_code = done.exception.exit_code
        assert done.exit_code == code, (done.output, done.exc_info)
        return done

    def rows(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(*arguments, "--output", "json", code=code).stdout.splitlines()]

    def drift(self, *arguments: str) -> list[dict[str, Any]]:
        """Drift from the desk's own blueprint: other tests leave theirs in the clusters."""
        done = CliRunner().invoke(app, ["blueprint", "drift", *arguments, "--output", "json"])
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.exit_code == (1 if rows else 0)
        return [row for row in rows if row["blueprint"] == self.name]

    def policies(self, cluster: str) -> set[str]:
        said = self.clusters[cluster].kubectl("get", "networkpolicy", "-A", "-l", f"hindcast/blueprint={self.name}", "-o", "json")
        return {item["metadata"]["namespace"] for item in json.loads(said)["items"]}


@pytest.fixture(scope="module")
def cleared(clusters: dict[str, Any]) -> dict[str, Any]:
    """The clusters without what other tests published: a desk, which does not know their blueprints, would see it as drift."""
    kinds = ("networkpolicies", *CRDS, "validatingadmissionpolicies", "validatingadmissionpolicybindings")
    for server in clusters.values():
        server.kubectl("delete", ",".join(kinds), "-A", "-l", f"{MANAGED_BY}=hindcast,{BLUEPRINT_LABEL}")
    return clusters


@pytest.fixture
def desk(cleared: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, cleared, programs)


def test_from_a_plan_to_drift_and_back(desk: Desk) -> None:
    desk.namespace("a")
    desk.namespace("b", "two")
    desk.blueprint(canary=["two"], drift="revert")
    flow = flow_pb2.Flow(uuid="u1", verdict=flow_pb2.FORWARDED)
    flow.time.FromDatetime(dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
    flow.source.namespace = flow.destination.namespace = f"{desk.name}-a"
    rows = decode([flow.SerializeToString()], cluster="one", recorded=dt.datetime.now(dt.UTC), live=False).rows
    desk.lake.commit(FLOWS, desk.lake.write_files(FLOWS, rows), transactions={}, metadata={})

    plan = desk.rows("plan")
    assert [(row["cluster"], row["action"], row["namespace"], row["flows_7d"]) for row in plan] == [
        ("two", "create", f"{desk.name}-a", 0),
        ("two", "create", f"{desk.name}-b", 0),
        ("one", "create", f"{desk.name}-a", 1),
    ]
    assert desk.policies("one") == set()
    desk.run("publish", given="n\n", code=1)
    assert desk.policies("one") == set()
    assert desk.run("publish", given="y\n").stdout.splitlines()[-2:] == ["two: 2 done", "one: 1 done"]
    assert desk.policies("two") == {f"{desk.name}-a", f"{desk.name}-b"}

    desk.look()
    assert desk.drift("--cluster", "one") == []
    patch = json.dumps({"spec": {"ingress": [{}]}})
    name = f"{desk.name}-default-deny-ingress"
    where = ["-n", f"{desk.name}-a", "--field-manager=somebody"]
    desk.clusters["one"].kubectl("patch", "networkpolicy", name, *where, "--type=merge", "-p", patch)
    desk.look()
    (drift,) = desk.drift()
    assert (drift["cluster"], drift["drift"], drift["paths"], drift["changed_by"]) == ("one", "modified", ["spec.ingress"], "somebody")
    assert drift["severity"] == "high"
    assert drift["flows"].startswith(f"hindcast flows --cluster one --namespace {desk.name}-a --since 20")
    assert desk.drift("--as", "ada")[0]["name"] == name
    assert "owns no namespace" in desk.run("drift", "--as", "eve", code=1).stderr
    assert desk.rows("matrix", "--as", "ada") == []
    matrix = {(row["cluster"], row["control"]): row["status"] for row in desk.rows("matrix")}
    assert matrix[("one", "BP-OBJ")] == "fail"
    assert matrix[("two", "BP-OBJ")] == "pass"
    assert "FAIL" in desk.run("matrix").stdout

    assert "one: 1 done" in desk.run("revert").stdout
    desk.look()
    assert desk.drift() == []
    assert len(desk.drift("--at", drift["time"])) == 1
    done = [row for row in desk.lake.read(POLICY_CHANGES).to_pylist() if row["cause"] != "change"]
    causes = sorted((row["cause"], row["result"], row["cluster"]) for row in done)
    assert causes == [("publish", "done", "one"), ("publish", "done", "two"), ("publish", "done", "two"), ("revert", "done", "one")]


def test_an_admission_policy_that_somebody_removed_is_missing(desk: Desk) -> None:
    desk.namespace("a", "two")
    desk.blueprint(clusters={"names": ["two"]}, drift="block", block={"accounts": ["admin"]})
    desk.run("publish", "--cluster", "two", "--yes")
    desk.look()
    assert desk.drift("--cluster", "two") == []
    desk.clusters["two"].kubectl("delete", "validatingadmissionpolicybinding", f"hindcast-{desk.name}")
    desk.look()
    (drift,) = desk.drift("--cluster", "two")
    assert (drift["drift"], drift["kind"], drift["severity"]) == ("missing", "ValidatingAdmissionPolicyBinding", "high")


def test_a_cluster_that_is_away_stops_publishing_and_those_not_reached_are_named(desk: Desk) -> None:
    desk.namespace("a")
    settings = yaml.safe_load((desk.folder / "hindcast.yaml").read_text())
    kubeconfig = json.loads(desk.clusters["one"].kubeconfig().read_text())
    kubeconfig["users"][0]["user"] = {"token": "expired"}
    (desk.folder / "expired.json").write_text(json.dumps(kubeconfig))
    settings["clusters"][0]["kubernetes"]["kubeconfig"] = "expired.json"
    (desk.folder / "hindcast.yaml").write_text(yaml.safe_dump(settings))
    desk.blueprint(canary=["one"])
    said = desk.run("publish", "--yes", code=1).stderr
    assert "401" in said
    assert "not reached: two" in said
    assert desk.rows("changes", "list") == []
    assert desk.policies("two") == set()


def test_bad_use_is_reported_with_what_there_is(desk: Desk) -> None:
    desk.blueprint(clusters={"names": ["thre"]})
    assert "no cluster of the configuration is named 'thre'; there are: one, two" in desk.run("plan", code=2).stderr
    desk.blueprint()
    assert "has no cluster 'three'; there are: one, two" in desk.run("plan", "--cluster", "three", code=2).stderr
    (desk.folder / "blueprint.yaml").unlink()
    assert "there is no such file" in desk.run("drift", code=2).stderr


CHART = {
    "Chart.yaml": "apiVersion: v2\nname: cilium\nversion: 1.0.0\nappVersion: 1.0.0\n",
    "values.yaml": "auditMode: 'false'\n",
    "templates/config.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-config, namespace: {{ .Release.Namespace }}}
data: {policy-audit-mode: {{ .Values.auditMode | quote }}}
""",
}


@pytest.fixture
def helm_desk(desk: Desk, kubernetes: Any) -> Desk:
    try:
        program = kubernetes.running.program("helm")
    except kubernetes.running.PeerMissing as missing:
        pytest.skip(str(missing))
    (desk.programs / "helm").symlink_to(program)
    return desk


def test_a_chart_is_planned_installed_upgraded_and_left_alone(helm_desk: Desk) -> None:
    desk = helm_desk
    desk.namespace("a", "one")
    for name, text in CHART.items():
        file = desk.folder / "chart" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    release = {"chart": "chart", "release": desk.name, "namespace": f"{desk.name}-a", "timeout": "30s"}

    def want(mode: str) -> None:
        desk.blueprint(clusters={"names": ["one"]}, namespaces=[], cilium={"helm": release | {"values": {"auditMode": mode}}})

    want("false")
    (planned,) = desk.rows("plan", "--cluster", "one")
    assert (planned["action"], planned["kind"], planned["name"]) == ("install", "HelmRelease", desk.name)
    assert planned["note"] == "cilium 1.0.0, 1 object"
    desk.run("publish", "--cluster", "one", "--yes")
    (unchanged,) = desk.rows("plan", "--cluster", "one")
    assert unchanged["action"] == "unchanged"
    want("true")
    (planned,) = desk.rows("plan", "--cluster", "one")
    assert planned["action"] == "upgrade"
    desk.run("publish", "--cluster", "one", "--yes")
    stored = json.loads(desk.clusters["one"].kubectl("get", "configmap", f"{desk.name}-config", "-n", f"{desk.name}-a", "-o", "json"))
    assert stored["data"] == {"policy-audit-mode": "true"}
    actions = [(row["action"], row["result"]) for row in desk.lake.read(POLICY_CHANGES).to_pylist() if row["cause"] == "helm"]
    assert sorted(actions) == [("install", "done"), ("upgrade", "done")]
    (desk.folder / "chart" / "templates" / "config.yaml").write_text("kind: {{ .Broken")
    assert "helm upgrade failed" in desk.run("plan", "--cluster", "one", code=1).stderr


def test_ciliums_own_chart_goes_into_a_real_api_server(helm_desk: Desk, kubernetes: Any) -> None:
    desk = helm_desk
    chart = kubernetes.cilium_folder() / "install" / "kubernetes" / "cilium"
    values = {"hubble": {"relay": {"enabled": True}, "tls": {"auto": {"method": "helm"}}}, "cluster": {"name": "two", "id": 2}}
    desk.blueprint(clusters={"names": ["two"]}, namespaces=[], cilium={"helm": {"chart": str(chart), "values": values}})
    (planned,) = desk.rows("plan", "--cluster", "two")
    assert planned["action"] == "install"
    desk.run("publish", "--cluster", "two", "--yes", "--no-wait")
    (unchanged,) = desk.rows("plan", "--cluster", "two")
    assert unchanged["action"] == "unchanged"
    desk.look()
    settings = {"cluster-name": "two", "policy-audit-mode": True}
    desk.blueprint(clusters={"names": ["two"]}, namespaces=[], cilium={"version": ">=99", "settings": settings})
    found = desk.rows("drift", "--cluster", "two", code=1)
    off = {row["name"]: row for row in found if row["blueprint"] == desk.name}
    assert {name: (row["drift"], row["severity"]) for name, row in off.items()} == {
        "cilium": ("version", "medium"),
        "policy-audit-mode": ("setting", "critical"),
    }
    assert "1.20.2" in off["cilium"]["summary"]
    assert {row["control"]: row["status"] for row in desk.rows("matrix", "--cluster", "two")}["C-0205"] == "fail"


def test_without_helm_a_blueprint_with_a_chart_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(desk.programs))
    desk.blueprint(clusters={"names": ["one"]}, namespaces=[], cilium={"helm": {"chart": "x/y"}})
    assert "`helm` is not on the PATH" in desk.run("plan", "--cluster", "one", code=1).stderr
