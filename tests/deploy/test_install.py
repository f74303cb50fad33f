"""The chart installed in a real API server: upgraded, rolled back, uninstalled; its pods' commands run, and its accounts' rights asked."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from warehouse import config, schema
from warehouse.lake.tables import Lake

pytestmark = pytest.mark.peers

SPACE = "hindcast"
ACCOUNT = f"system:serviceaccount:{SPACE}:hindcast"


@pytest.fixture(scope="module")
def hubble(peers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A node of Cilium's, with flows."""
    try:
        peers.program("hubble-node")
    except peers.PeerMissing as missing:
        pytest.skip(str(missing))
    with peers.hubble_node(tmp_path_factory.mktemp("hubble"), name="test/node-1", address=peers.free_address(), rate=200) as node:
        yield node


@pytest.fixture(scope="module")
def values(hubble: Any) -> dict[str, Any]:
    """Values for a cluster with that node, and this API server."""
    cluster = {"name": "test", "hubble": {"nodes": [hubble.address], "plaintext": True}, "kubernetes": {"in_cluster": True}}
    settings = {"collect": {"flush_every": "300ms"}, "ownership": {"grants": [{"subject": "ada", "role": "platform-admin"}]}}
    return {"clusters": [cluster], "config": settings, "rbac": {"publisher": True}}


@pytest.fixture(scope="module")
def installed(cluster_helm: Any, chart: Path, values: dict[str, Any]) -> Iterator[Any]:
    """The release, in its namespace."""
    cluster_helm("install", "hindcast", str(chart), "-n", SPACE, values=values)
    yield cluster_helm
    if "hindcast" in cluster_helm("list", "-n", SPACE, "-q"):
        cluster_helm("uninstall", "hindcast", "-n", SPACE)


@pytest.fixture(scope="module")
def node(pods: ModuleType, peers: ModuleType, server: Any, installed: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A machine that runs containers of the release's pods."""
    ports = {port: int(peers.free_address().rpartition(":")[2]) for port in (9965, 8501)}
    return pods.Node(server, tmp_path_factory.mktemp("node"), ports)


@pytest.fixture(scope="module")
def container(pods: ModuleType, node: Any, server: Any) -> Callable[[str, str], Any]:
    """Makes a container of a workload in the cluster, by the path of the workload below its API group's."""

    def make(path: str, name: str) -> Any:
        spec = server.request("GET", f"/apis/{path.format(SPACE)}")["spec"]
        template = spec.get("jobTemplate", {}).get("spec", spec)["template"]
        return pods.Container(node, template, namespace=SPACE, name=name, claims=path.rpartition("/")[2])

    return make


def recorded_policies(node: Any) -> set[str]:
    return set(lake_of(node).read(schema.POLICY_VERSIONS, ["name"])["name"].to_pylist())


COLLECTOR = "apps/v1/namespaces/{}/statefulsets/hindcast-collector"
HISTORY = "apps/v1/namespaces/{}/deployments/hindcast-history"
DASHBOARD = "apps/v1/namespaces/{}/deployments/hindcast-dashboard"
JOBS = "batch/v1/namespaces/{}/cronjobs/hindcast-maintenance-"


def lake_of(node: Any) -> Lake:
    return Lake.open(config.Lake(url=str(node.volume("hindcast-lake"))))


@pytest.fixture(scope="module")
def collected(container: Callable[[str, str], Any], node: Any, hubble: Any) -> set[str]:
    """The collector's container has run and has ended when it was told to; gives the uuids that it stored."""
    collector = container(COLLECTOR, "collector")
    collector.start()
    probe = collector.container["livenessProbe"]["httpGet"]
    try:
        hubble.wait_for(lambda: "collecting" in collector.printed(), what="collecting")
        with urllib.request.urlopen(f"http://127.0.0.1:{node.ports[9965]}{probe['path']}", timeout=60) as answer:
            assert answer.status == 200
        hubble.wait_for(lambda: lake_of(node).rows(schema.FLOWS) > 200, what="flows in the lake")
    finally:
        code = collector.stop()
    assert code == 0, collector.printed()
    return set(lake_of(node).read(schema.FLOWS, ["uuid"])["uuid"].to_pylist())


def test_the_collector_stores_flows_of_a_real_node_without_a_right_or_a_file_of_its_own(collected: set[str], hubble: Any) -> None:
    assert len(collected) > 200
    assert collected <= set(hubble.flows_logged())


def test_check_says_from_within_each_pod_what_it_reaches(container: Callable[[str, str], Any], collected: set[str], hubble: Any) -> None:
    done = container(COLLECTOR, "collector").run("hindcast", "check", "--only", "lake", "--only", "hubble")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"✓ cluster test {hubble.address}: Hubble" in done.stdout
    assert "✓ lake /var/lib/hindcast/lake" in done.stdout
    # The collector has no token, and is told which pod has one.
    done = container(COLLECTOR, "collector").run("hindcast", "check", "--only", "kubernetes")
    assert done.returncode == 1
    assert "of the chart's pods only history has one" in done.stdout
    done = container(HISTORY, "history").run("hindcast", "check", "--only", "kubernetes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ cluster test in cluster: Kubernetes v1." in done.stdout


def test_maintenance_runs_its_containers_one_after_the_other(container: Callable[[str, str], Any], collected: set[str], node: Any) -> None:
    for schedule, names in (("hourly", ("compact", "rollup")), ("daily", ("retain", "vacuum", "checkpoint"))):
        for name in names:
            done = container(JOBS + schedule, name).run()
            assert done.returncode == 0, done.stdout + done.stderr
    assert set(lake_of(node).read(schema.FLOWS, ["uuid"])["uuid"].to_pylist()) == collected


def test_history_is_recorded_with_the_token_of_its_account(
    container: Callable[[str, str], Any], collected: set[str], node: Any, hubble: Any
) -> None:
    history = container(HISTORY, "history")
    history.start()
    try:
        hubble.wait_for(lambda: "hindcast-collector" in recorded_policies(node), what="history")
    finally:
        code = history.stop()
    assert code == 0, history.printed()
    assert "forbidden" not in history.printed()


def test_the_dashboard_answers_its_probe_from_within_the_pod_alone(
    container: Callable[[str, str], Any], collected: set[str], hubble: Any
) -> None:
    dashboard = container(DASHBOARD, "dashboard")
    process = dashboard.start()
    try:
        command = dashboard.container["readinessProbe"]["exec"]["command"]
        hubble.wait_for(lambda: process.poll() is not None or dashboard.run(*command).returncode == 0, what="answer")
        assert process.poll() is None, dashboard.printed()
    finally:
        dashboard.stop()


@pytest.mark.parametrize(
    ("account", "may", "may_not"),
    [
        ("collector", [], ["list pods -A", "get secrets", "create pods", "list networkpolicies -A", "get configmaps"]),
        ("maintenance", [], ["list pods -A", "get secrets", "list namespaces"]),
        (
            "history",
            ["list networkpolicies.networking.k8s.io -A", "watch pods -A", "list ciliumnetworkpolicies.cilium.io -A", "list namespaces"],
            ["list secrets -A", "get configmaps -n kube-system", "create networkpolicies -A", "create pods/exec -A", "delete pods"],
        ),
        (
            "publisher",
            ["create networkpolicies.networking.k8s.io -A", "patch ciliumnetworkpolicies.cilium.io -A", "list namespaces"],
            ["create validatingadmissionpolicies", "get secrets -A", "create pods -A", "create clusterroles"],
        ),
    ],
)
def test_an_account_may_do_what_it_must_and_nothing_else(
    installed: Any, server: Any, account: str, may: list[str], may_not: list[str]
) -> None:
    check_rights(server, account, may, may_not)


def test_the_dashboard_may_act_as_the_users_that_are_named_and_as_nobody_else(installed: Any, server: Any, values: dict[str, Any]) -> None:
    oidc = {"metadataUrl": "https://id.example/.well-known/openid-configuration", "clientId": "hindcast", "secretName": "s"}
    given = values | {"rbac": {"proposer": {"users": ["paula@example.com"]}}, "dashboard": {"auth": {"mode": "oidc", "oidc": oidc}}}
    rights = [each for each in installed.objects(values=given) if each["metadata"]["name"].endswith("-proposer")]
    server.apply(*rights)
    try:
        may_not = ["impersonate users/admin", "impersonate groups/system:masters", "list pods -A", "get secrets -A"]
        check_rights(server, "dashboard", ["impersonate users/paula@example.com"], may_not)
    finally:
        server.kubectl("delete", "-f", "-", input=rights)


def test_several_collectors_may_give_signs_of_life_in_their_namespace_and_nothing_else(
    installed: Any, server: Any, values: dict[str, Any]
) -> None:
    objects = installed.objects(values=values | {"collector": {"replicas": 2}})
    rights = [each for each in objects if each["kind"] in ("Role", "RoleBinding") and each["metadata"]["name"] == "hindcast-collector"]
    assert len(rights) == 2
    server.apply(*rights)
    try:
        may = [f"{verb} leases.coordination.k8s.io" for verb in ("list", "create", "patch", "delete")]
        may_not = ["list leases.coordination.k8s.io -A", "get secrets", "list pods", "create pods", "list namespaces"]
        check_rights(server, "collector", may, may_not)
    finally:
        server.kubectl("delete", "-f", "-", input=rights)


def test_maintenance_may_write_its_own_reports_and_no_other(installed: Any, server: Any, values: dict[str, Any]) -> None:
    given = values | {"rbac": {"openReports": True}, "maintenance": {"mode": "embedded"}}
    rights = [each for each in installed.objects(values=given) if each["metadata"]["name"].endswith("-reports")]
    server.apply(*rights)
    try:
        # The server has no such kind, so it is asked for the list of rights: `can-i` asks for single ones of kinds that there are.
        listed = server.kubectl("auth", "can-i", "--list", "--as", f"{ACCOUNT}-maintenance", "-n", SPACE).splitlines()
        found = {" ".join(line.split()) for line in listed if ".openreports.io" in line}
        kinds = ("reports.openreports.io", "clusterreports.openreports.io")
        assert found == {f"{kind} [] {more}" for kind in kinds for more in ("[] [list create]", "[hindcast] [patch delete]")}
        check_rights(server, "maintenance", [], ["list pods -A", "get secrets -A", "list namespaces"])
    finally:
        server.kubectl("delete", "-f", "-", input=rights)


def check_rights(server: Any, account: str, may: list[str], may_not: list[str]) -> None:
    for answer, questions in (("yes", may), ("no", may_not)):
        for question in questions:
            said = server.kubectl("auth", "can-i", *question.split(), "--as", f"{ACCOUNT}-{account}", "-n", SPACE, check=False)
            assert said.split("\n")[0].split(" ")[0] == answer, f"{account}: {question}: {said}"


def test_an_upgrade_changes_the_configuration_a_rollback_restores_it_and_the_lake_outlives_the_release(
    installed: Any, server: Any, chart: Path, values: dict[str, Any], tmp_path: Path, node: Any, collected: set[str]
) -> None:
    newer = tmp_path / "hindcast"
    shutil.copytree(chart, newer)
    described = yaml.safe_load((newer / "Chart.yaml").read_text())
    (newer / "Chart.yaml").write_text(yaml.safe_dump(described | {"version": "0.2.0", "appVersion": "0.2.0"}))

    def now() -> tuple[str, Any, str]:
        settings = server.request("GET", f"/api/v1/namespaces/{SPACE}/configmaps/hindcast")["data"]["hindcast.yaml"]
        template = server.request("GET", f"/apis/{COLLECTOR.format(SPACE)}")["spec"]["template"]
        return settings, template["spec"]["containers"][0]["image"], template["metadata"]["annotations"]["checksum/config"]

    before = now()
    refused = installed("upgrade", "hindcast", str(newer), "-n", SPACE, "--reuse-values", "--set", "colector.replicas=2", fails=True)
    assert "'colector'" in refused
    assert now() == before
    installed("upgrade", "hindcast", str(newer), "-n", SPACE, "--reuse-values", "--set", "config.retention.flows=7d")
    after = now()
    assert yaml.safe_load(after[0])["retention"] == {"flows": "7d"}
    assert after[1] == "hindcast:0.2.0"
    assert after[2] != before[2]
    installed("rollback", "hindcast", "1", "-n", SPACE)
    assert now() == before
    installed("uninstall", "hindcast", "-n", SPACE)
    left = server.kubectl(
        "get",
        "all,configmap,networkpolicy,pdb,serviceaccount,role,rolebinding,ingress",
        "-n",
        SPACE,
        "-o",
        "name",
        "-l",
        "app.kubernetes.io/name=hindcast",
    )
    assert not left
    assert "hindcast" not in server.kubectl("get", "clusterrole,clusterrolebinding", "-o", "name")
    assert server.kubectl("get", "pvc", "-n", SPACE, "-o", "name").split() == ["persistentvolumeclaim/hindcast-lake"]
    # The claim that stayed is taken up again.
    installed("install", "hindcast", str(chart), "-n", SPACE, values=values)
    assert set(lake_of(node).read(schema.FLOWS, ["uuid"])["uuid"].to_pylist()) == collected
