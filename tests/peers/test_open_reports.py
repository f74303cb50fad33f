"""Findings and drift as OpenReports in a real API server with the CRDs of openreports.io and the rights that are delivered."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from hindcast.cli import app
from pipelines.audits.finding import Audited, Finding, Kind
from pipelines.evidence import findings
from pipelines.evidence.open_reports import publishing
from warehouse import config
from warehouse.errors import ClusterError, HindcastError
from warehouse.lake.tables import Lake

pytestmark = pytest.mark.peers

ROOT = Path(__file__).parents[2]
RBAC = "rbac.authorization.k8s.io"
CRDS = ("crd/reports.openreports.io", "crd/clusterreports.openreports.io")
_numbers = itertools.count()


class Place:
    """Clusters whose reports the token `publisher` writes, and a lake with findings about two namespaces of the test's own."""

    def __init__(self, clusters: dict[str, Any], folder: Path) -> None:
        self.clusters, self.server, self.folder = clusters, clusters["one"], folder
        self.spaces = tuple(f"reports{next(_numbers)}" for _ in range(2))
        for space in self.spaces:
            self.server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
        self.configure("one")
        self.lake = Lake.open(config.load_config(folder / "hindcast.yaml").lake)
        self.audits = dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)

    def configure(self, *names: str, token: str | None = None) -> None:
        def access(name: str) -> str:
            written = json.loads(self.clusters[name].kubeconfig("publisher", token=token).read_text())
            file = self.folder / f"{name}.json"
            file.write_text(json.dumps(written))
            return str(file)

        document = {
            "lake": {"url": "./lake"},
            "clusters": [{"name": name, "open_reports": {"kubeconfig": access(name)}} for name in names],
            "alerts": {"dashboard_url": "https://hindcast.example"},
        }
        (self.folder / "hindcast.yaml").write_text(yaml.safe_dump(document))

    def find(self, *namespaces: str | None) -> None:
        """An audit finds something in these namespaces, and nothing any more in the others."""
        self.audits += dt.timedelta(minutes=1)
        found = [
            Finding(
                kind=Kind.ALLOW_ALL, severity="high", cluster="one", namespace=space, subject="CiliumNetworkPolicy/legacy", place="1",
                summary="allows everyone",
            )
            for space in namespaces
        ]  # fmt: skip
        findings.keep(self.lake, [Audited(cluster="one", kind=Kind.ALLOW_ALL, findings=tuple(found))], now=self.audits, source="test")

    def run(self, *arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, ["findings", "publish", *arguments])
        if isinstance(done.exception, HindcastError):
            done.stderr_bytes = f"{done.stderr}{done.exception}".encode()
            done.exit_code = done.exception.exit_code
        assert done.exit_code == code, (done.output, done.exc_info)
        return done

    def actions(self, *arguments: str) -> dict[str | None, str]:
        """What was done, by namespace."""
        rows = [json.loads(line) for line in self.run("--output", "json", *arguments).stdout.splitlines()]
        return {row["namespace"]: row["action"] for row in rows}

    def report(self, namespace: str | None) -> dict[str, Any] | None:
        place = f"namespaces/{namespace}/reports" if namespace else "clusterreports"
        try:
            found: dict[str, Any] = self.server.request("GET", f"/apis/openreports.io/v1alpha1/{place}/hindcast")
            return found
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None


@pytest.fixture
def place(clusters: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(clusters, tmp_path)


@pytest.fixture
def rights(clusters: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The rights that are delivered, for the token of the tests; taken away afterwards."""
    _, role, binding = yaml.safe_load_all((ROOT / "deploy" / "helm" / "hindcast" / "files" / "open-reports.yaml").read_text())
    binding["subjects"] = [{"apiGroup": RBAC, "kind": "User", "name": "publisher"}]
    clusters["one"].apply(role, binding)
    yield [role, binding]
    clusters["one"].kubectl("delete", "-f", "-", input=[role, binding])


@pytest.fixture
def crds(kubernetes: Any, clusters: dict[str, Any]) -> Iterator[None]:
    """The CRDs, in the cluster `one` alone; taken away afterwards, with every report."""
    try:
        files = [argument for file in kubernetes.open_reports_crds() for argument in ("-f", str(file))]
    except kubernetes.running.PeerMissing as missing:
        pytest.skip(str(missing))
    clusters["one"].kubectl("apply", "--server-side", *files)
    clusters["one"].kubectl("wait", "--for=condition=Established", "--timeout=300s", *CRDS)
    yield
    clusters["one"].kubectl("delete", "--wait=false", *CRDS)


def test_where_the_crds_are_missing_or_the_cluster_is_away_it_says_what_to_do_and_the_others_go_on(
    place: Place, rights: Any, crds: None
) -> None:
    place.find(place.spaces[0])
    place.configure("two", "one")  # `two` has neither the CRDs nor the rights
    said = place.run("--output", "json", code=1)
    assert "cluster two" in said.stderr
    assert "open-reports.yaml has the rights that are needed" in said.stderr.replace("\n", " ")
    assert place.report(place.spaces[0]) is not None
    place.clusters["two"].apply(*rights)
    try:
        said = place.run(code=1)
        assert "is not installed: install its CRDs" in said.stderr.replace("\n", " ")
    finally:
        place.clusters["two"].kubectl("delete", "-f", "-", input=rights)
    place.configure("one", token="expired")
    assert "401" in place.run(code=1).stderr


def test_a_cluster_that_is_not_to_have_reports_is_refused_by_name(place: Place) -> None:
    assert "named 'three'; there are: one" in place.run("--cluster", "three", code=2).stderr
    place.configure()
    assert "no cluster of the configuration has `open_reports`" in place.run(code=2).stderr


def test_reports_are_written_once_change_with_the_findings_and_go_with_the_last_one(place: Place, rights: Any, crds: None) -> None:
    first, second = place.spaces
    place.find(first, second, None)
    assert set(place.actions("--dry-run").values()) == {"created"}
    assert place.report(first) is None
    assert place.actions() == {None: "created", first: "created", second: "created"}
    report = place.report(first)
    assert report is not None
    (result,) = report["results"]
    assert (result["policy"], result["rule"], result["severity"], result["result"]) == ("policy-audit", "allow_all", "high", "fail")
    assert result["properties"]["link"].startswith("https://hindcast.example/findings?item=one%7Callow_all")
    assert report["summary"]["fail"] == 1
    assert {one["manager"] for one in report["metadata"]["managedFields"]} == {publishing.FIELD_MANAGER}
    whole = place.report(None)
    assert whole is not None
    assert {one["rule"] for one in whole["results"]} == {"allow_all", "drift"}

    assert set(place.actions().values()) == {"unchanged"}
    assert place.report(first) == report

    place.server.apply(report | {"metadata": {"name": "theirs", "namespace": first}})  # of another tool
    place.find(second)
    assert place.actions() == {None: "updated", first: "removed", second: "unchanged"}
    assert place.report(first) is None
    theirs = f"/apis/openreports.io/v1alpha1/namespaces/{first}/reports/theirs"
    assert place.server.request("GET", theirs)["summary"]["fail"] == 1

    place.find("gone-by-now", second)
    assert place.actions() == {None: "unchanged", "gone-by-now": "skipped", second: "unchanged"}


def test_what_somebody_changed_in_a_report_is_put_right(place: Place, rights: Any, crds: None) -> None:
    (space, _) = place.spaces
    place.find(space)
    place.actions()
    patch = json.dumps({"summary": {"fail": 0}, "results": []})
    place.server.kubectl("patch", "reports.openreports.io", "hindcast", "-n", space, "--type=merge", "-p", patch)
    assert place.actions()[space] == "updated"
    report = place.report(space)
    assert report is not None
    assert (report["summary"]["fail"], len(report["results"])) == (1, 1)


def test_the_dag_writes_to_every_cluster_and_fails_with_what_it_could_not(place: Place, rights: Any, crds: None) -> None:
    place.find(place.spaces[0])
    assert publishing.publish_all(config.load_config(), place.lake)["created"] >= 1
    place.configure("one", "two")
    with pytest.raises(ClusterError, match="cluster two"):
        publishing.publish_all(config.load_config(), place.lake)
