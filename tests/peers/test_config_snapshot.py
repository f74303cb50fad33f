"""Looks at real API servers: what they hold is recorded, and what they do not show is never taken for nothing."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import cluster_access
from pipelines.cluster_access import ClusterAccess
from pipelines.configuration import looking, snapshot
from pipelines.configuration.snapshot import ALL_KINDS, Snapshot
from warehouse import config
from warehouse.errors import ClusterExpiredError, ClusterForbiddenError
from warehouse.lake.tables import Lake
from warehouse.records import versions
from warehouse.records.configuration_coverage import coverage_at

pytestmark = pytest.mark.peers
ROOT = Path(__file__).resolve().parents[2]
ABSENT = {"ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"}


def netpol(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, **spec},
    }


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": "pay"}}}


class Looks:
    """Looks at API servers, and what the lake holds then."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake.open(config.Lake(url=str(folder / "lake")))

    def take(self, kubeconfig: Path, name: str = "c1", **options: Any) -> Snapshot:
        return snapshot.take(self.lake, config.Cluster(name=name, kubernetes=config.Kubernetes(kubeconfig=kubeconfig, **options)))

    def rows(self, at: datetime | None = None, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = versions.in_force(self.lake, at or datetime.now(UTC), versions.Selection(**options)).to_pylist()
        return found

    def states(self, name: str = "c1") -> dict[str, str]:
        return {each.kind: each.state for each in coverage_at(self.lake, datetime.now(UTC), clusters=[name])}


@pytest.fixture
def looks(tmp_path: Path) -> Looks:
    return Looks(tmp_path)


@pytest.fixture
def shop(request: pytest.FixtureRequest, clusters: dict[str, Any]) -> Iterator[str]:
    """A namespace of cluster one for this test alone."""
    name = f"shop-{abs(hash(request.node.name)) % 10**6}"
    clusters["one"].request("POST", "/api/v1/namespaces", namespace(name))
    yield name
    clusters["one"].kubectl("delete", "netpol,cnp,svc,pod,deploy", "--all", "-n", name, "--wait=false")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is away is given up soon."""
    monkeypatch.setattr(ClusterAccess.__init__, "__kwdefaults__", {"patience_seconds": 1.0, "impersonated": None})


def test_a_user_without_rights_learns_that_nothing_was_covered_kind_by_kind(clusters: dict[str, Any], looks: Looks) -> None:
    taken = looks.take(clusters["two"].kubeconfig("reader"))
    assert not taken.is_whole
    states = looks.states()
    assert states.pop("ClusterVersion") == "observed"
    assert set(states.values()) == {"forbidden"}
    assert [row["kind"] for row in looks.rows()] == ["ClusterVersion"]
    assert 'cannot list resource "namespaces"' in str(taken.troubles[0].detail)


def test_the_rights_of_the_manifest_that_ships_are_enough_and_no_secret_can_be_read(
    clusters: dict[str, Any], looks: Looks, shop: str
) -> None:
    one = clusters["one"]
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "helm" / "hindcast" / "files" / "reader.yaml").read_text()))
    for document in documents:
        if "subjects" in document:
            document["subjects"] = [{"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}]
    one.apply(namespace("hindcast"), *documents)
    try:
        settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"}}
        one.apply({**settings, "data": {"enable-policy": "default"}})
        taken = looks.take(one.kubeconfig("reader"))
        assert taken.is_whole, taken.troubles
        assert {kind for look in taken.troubles for kind in look.kinds} == ABSENT
        assert set(taken.objects) == set(ALL_KINDS) - ABSENT
        assert [row["name"] for row in looks.rows(kinds=["ConfigMap"])] == ["cilium-config"]
        for what in ("secrets", "configmaps"):
            assert "no" in one.kubectl("auth", "can-i", "list", what, "--all-namespaces", user="reader", check=False)
    finally:
        one.kubectl("delete", "-f", "-", "--wait=false", input=[each for each in documents if each["kind"] != "ServiceAccount"])
        one.kubectl("delete", "configmap", "-n", "kube-system", "cilium-config")


def test_a_second_look_at_an_unchanged_cluster_writes_no_version(clusters: dict[str, Any], looks: Looks, shop: str) -> None:
    one = clusters["one"]
    one.apply(netpol("web", shop))
    assert looks.take(one.kubeconfig()).written.began > 5
    assert looks.take(one.kubeconfig()).written.versions == 0


def test_a_policy_that_is_changed_deleted_and_made_anew_has_three_versions_and_two_lives(
    clusters: dict[str, Any], looks: Looks, shop: str
) -> None:
    one, begin = clusters["one"], datetime.now(UTC)
    one.apply(netpol("web", shop), manager="argocd")
    looks.take(one.kubeconfig(), audit_log=one.audit_log)
    one.apply(netpol("web", shop, policyTypes=["Egress"]), manager="kubectl-edit")
    looks.take(one.kubeconfig())
    one.kubectl("delete", "netpol", "web", "-n", shop)
    one.apply(netpol("web", shop, policyTypes=["Egress"]))
    looks.take(one.kubeconfig(), audit_log=one.audit_log)
    one.kubectl("delete", "netpol", "web", "-n", shop)
    looks.take(one.kubeconfig(), audit_log=one.audit_log)
    web = versions.Selection(names=["web"], namespaces=[shop])
    found = versions.between(looks.lake, begin - timedelta(minutes=1), datetime.now(UTC), web).to_pylist()
    assert [row["ended_how"] for row in found] == ["changed", "recreated", "deleted"]
    assert [(row["valid_from_source"], row["changed_by"]) for row in found] == [
        ("audit", "admin"),
        ("managed_fields", "kubectl-edit"),
        ("audit", "admin"),
    ]
    assert (found[2]["ended_by"], found[2]["valid_to_source"]) == ("admin", "audit")
    assert found[0]["uid"] == found[1]["uid"] != found[2]["uid"]
    assert all(one["valid_to"] == other["valid_from"] for one, other in itertools.pairwise(found))


def test_what_was_in_force_is_printed_as_yaml_that_kubectl_takes_for_unchanged(clusters: dict[str, Any], looks: Looks, shop: str) -> None:
    from pipelines.configuration import manifest_yaml

    one = clusters["one"]
    cnp = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "api", "namespace": shop, "annotations": {"note": "yes: no"}},
        "spec": {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}]},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": shop},
        "spec": {"type": "NodePort", "ports": [{"port": 80}]},
    }
    one.apply(netpol("web", shop), cnp, service)
    looks.take(one.kubeconfig())
    text = "".join(manifest_yaml.documents(looks.rows(namespaces=[shop])))
    assert [each["kind"] for each in yaml.safe_load_all(text)] == ["Namespace", "NetworkPolicy", "CiliumNetworkPolicy", "Service"]
    assert one.kubectl("diff", "--server-side", "--force-conflicts", "-f", "-", input=text) == ""
    one.kubectl("delete", "netpol,cnp,svc", "--all", "-n", shop)
    one.kubectl("apply", "-f", "-", input=text)
    assert looks.take(one.kubeconfig()).written.versions > 0
    held = [row for row in looks.rows(namespaces=[shop]) if row["kind"] != "Namespace"]
    again = {(row["kind"], row["name"]): json.loads(row["manifest"])["spec"] for row in held}
    assert again["CiliumNetworkPolicy", "api"] == cnp["spec"]
    assert set(again) == {("NetworkPolicy", "web"), ("CiliumNetworkPolicy", "api"), ("Service", "web")}


def test_pods_are_recorded_by_what_policies_see_of_them_and_ciliums_state_with_its_version(
    clusters: dict[str, Any], looks: Looks, shop: str
) -> None:
    one = clusters["one"]

    def pod(name: str, **labels: str) -> dict[str, Any]:
        containers = [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 80}]}]
        metadata = {"name": name, "namespace": shop, "labels": labels}
        spec = {"containers": containers, "automountServiceAccountToken": False}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": shop}}
    template = {
        "metadata": {"labels": {"k8s-app": "cilium"}},
        "spec": {"containers": [{"name": "cilium-agent", "image": "quay.io/cilium/cilium:v1.20.2@sha256:" + "0" * 64}]},
    }
    selector = {"matchLabels": {"k8s-app": "cilium"}}
    daemonset = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "cilium", "namespace": "kube-system"},
        "spec": {"selector": selector, "template": template},
    }
    one.apply(account, pod("a", app="web"), pod("b", app="web"), daemonset)
    try:
        taken = looks.take(one.kubeconfig())
        assert taken.objects["PodLabels"] == 2
        (agents,) = looks.rows(kinds=["CiliumAgents"])
        assert json.loads(agents["manifest"])["spec"]["version"] == "1.20.2"
        assert json.loads(agents["status"]) == {"nodes": 0, "ready": 0, "updated": 0}
        found = [json.loads(row["manifest"]) for row in looks.rows(kinds=["PodLabels"], namespaces=[shop])]
        assert [each["metadata"]["labels"] for each in found] == [{"app": "web"}, {"app": "web"}]  # each is its own workload
        assert found[0]["spec"]["ports"] == [{"containerPort": 80, "name": "http", "protocol": "TCP"}]
    finally:
        one.kubectl("delete", "daemonset", "-n", "kube-system", "cilium", "--wait=false")


def test_credentials_that_are_not_valid_any_more_are_refused_and_end_nothing(
    kubernetes: Any, clusters: dict[str, Any], looks: Looks, tmp_path: Path
) -> None:
    one = clusters["one"]
    looks.take(one.kubeconfig())
    held = len(looks.rows())
    authority = kubernetes.authority(one)
    expired = authority.issue("client", valid_for=timedelta(seconds=-5))
    for kubeconfig in (one.kubeconfig("expired", token="was-valid-once"), one.kubeconfig("late", certificate=expired)):
        taken = looks.take(kubeconfig)
        assert {look.state for look in taken.troubles} == {"refused"}
        assert not taken.objects
        assert set(looks.states().values()) == {"refused"}
    assert len(looks.rows()) == held


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ("apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\n", "cannot be used"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_named_and_in_the_ledger(looks: Looks, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    taken = looks.take(path)
    (trouble,) = taken.troubles
    assert says in str(trouble.detail)
    assert str(path) in str(trouble.detail)
    assert set(looks.states().values()) == {"refused"}


def test_a_cluster_that_is_away_is_not_covered_and_what_was_known_stays(
    kubernetes: Any, clusters: dict[str, Any], looks: Looks, impatient: None
) -> None:
    one = clusters["one"]
    looks.take(one.kubeconfig())
    held = len(looks.rows())
    address = one.address
    try:
        one.address = kubernetes.running.free_address()
        away = one.kubeconfig("away", token="admin-token")
    finally:
        one.address = address
    taken = looks.take(away)
    assert {look.state for look in taken.troubles} == {"unreachable"}
    assert set(looks.states().values()) == {"unreachable"}
    assert len(looks.rows()) == held


def test_an_api_server_that_restarts_in_the_middle_of_a_look_is_waited_for(
    clusters: dict[str, Any], looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = clusters["two"]
    two.apply(namespace("many"), *(netpol(f"p{number}", "many") for number in range(9)))
    monkeypatch.setattr(cluster_access.ClusterAccess.list_pages, "__kwdefaults__", {"page": 4, "query": None})
    restarted = restart_after_first_page(two, monkeypatch)
    taken = looks.take(two.kubeconfig())
    restarted.join(60)
    assert taken.is_whole, taken.troubles
    assert sorted(row["name"] for row in looks.rows(kinds=["NetworkPolicy"], namespaces=["many"])) == [f"p{number}" for number in range(9)]


def restart_after_first_page(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> threading.Thread:
    """Makes the API server restart once, after the first page of network policies."""

    def kill_and_start() -> None:
        cluster.kill()
        cluster_stopped.set()
        cluster.start()

    restart = threading.Thread(target=kill_and_start)
    list_pages: Callable[..., Iterator[Any]] = cluster_access.ClusterAccess.list_pages

    def pages(self: ClusterAccess, path: str, **options: Any) -> Iterator[Any]:
        for index, page in enumerate(list_pages(self, path, **options)):
            yield page
            if index == 0 and path.endswith("/networkpolicies"):
                restart.start()
                cluster_stopped.wait(200)

    cluster_stopped = threading.Event()
    monkeypatch.setattr(cluster_access.ClusterAccess, "list_pages", pages)
    return restart


def test_a_list_whose_revision_is_forgotten_between_two_pages_is_begun_anew(clusters: dict[str, Any], etcd: Any, shop: str) -> None:
    one = clusters["one"]
    one.apply(*(netpol(f"p{number}", shop) for number in range(7)))
    access = ClusterAccess(config.Kubernetes(kubeconfig=one.kubeconfig()), cluster="one")
    place, begins, names = f"/apis/networking.k8s.io/v1/namespaces/{shop}/networkpolicies", [], []
    forgotten = False
    for page in access.list_pages(place, page=3):
        begins.append(page.begins)
        names = [*([] if page.begins else names), *(item["metadata"]["name"] for item in page.items)]
        if not forgotten:
            forgotten = True
            one.apply(netpol("p9", shop))
            forget(one, etcd, place, page)
    assert begins == [True, True, False, False]
    assert names == [*(f"p{number}" for number in range(7)), "p9"]


def forget(cluster: Any, etcd: Any, place: str, page: Any) -> None:
    """Make the API server forget the revision of a page."""
    etcd.compact()
    cluster.kill()  # what it remembers by itself goes, too
    cluster.start()


def test_a_list_that_expires_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch, clusters: dict[str, Any]) -> None:
    access = ClusterAccess(config.Kubernetes(kubeconfig=clusters["one"].kubeconfig()), cluster="one")
    asked: list[str] = []

    def request(method: str, path: str, **_options: Any) -> dict[str, Any]:
        asked.append(path)
        raise ClusterExpiredError("410")

    monkeypatch.setattr(access, "request", request)
    with pytest.raises(ClusterExpiredError):
        list(access.list_pages("/api/v1/pods"))
    assert len(asked) == cluster_access.RESTARTS + 1


def test_a_check_names_what_may_not_be_read(clusters: dict[str, Any]) -> None:
    def described(user: str) -> str:
        return looking.describe(config.Cluster(name="c1", kubernetes=config.Kubernetes(kubeconfig=clusters["two"].kubeconfig(user))))

    assert described("admin").startswith("Kubernetes v1.36.3, without ClusterNetworkPolicy")
    with pytest.raises(ClusterForbiddenError, match="not allowed to read Namespace, NetworkPolicy"):
        described("reader")


def test_a_kind_is_recorded_when_it_is_installed_and_its_objects_end_when_it_is_taken_away(clusters: dict[str, Any], looks: Looks) -> None:
    two = clusters["two"]
    names = {"kind": "ClusterNetworkPolicy", "plural": "clusternetworkpolicies", "singular": "clusternetworkpolicy"}
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "clusternetworkpolicies.policy.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": "policy.networking.k8s.io",
            "names": names,
            "scope": "Cluster",
            "versions": [{"name": "v1alpha2", "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}],
        },
    }
    two.apply(definition)
    try:
        two.kubectl("wait", "--for=condition=Established", "--timeout=300s", "crd/clusternetworkpolicies.policy.networking.k8s.io")
        policy = {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": "all"}}
        two.apply({**policy, "spec": {}})
        looks.take(two.kubeconfig())
        assert [row["name"] for row in looks.rows(kinds=["ClusterNetworkPolicy"])] == ["all"]
    finally:
        two.kubectl("delete", "crd", "clusternetworkpolicies.policy.networking.k8s.io")
    assert looks.take(two.kubeconfig()).is_whole
    assert looks.rows(kinds=["ClusterNetworkPolicy"]) == []
    assert looks.states()["ClusterNetworkPolicy"] == "absent"


def test_a_server_that_has_no_namespaces_is_not_taken_for_an_empty_cluster(
    clusters: dict[str, Any], looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks.take(clusters["two"].kubeconfig())
    held = len(looks.rows())
    request = ClusterAccess.request

    def elsewhere(self: ClusterAccess, method: str, path: str, **options: Any) -> dict[str, Any]:
        return request(self, method, f"/apis/nothing.here{path}", **options)  # as a proxy with a wrong path does

    monkeypatch.setattr(ClusterAccess, "request", elsewhere)
    taken = looks.take(clusters["two"].kubeconfig())
    assert not taken.objects
    assert len(looks.rows()) == held
