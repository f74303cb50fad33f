"""Blueprints against a real API server: plans, publishing, conflicts, denials, what vanishes meanwhile, putting back."""

import copy
import datetime as dt
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from pipelines.blueprints import model, objects
from pipelines.blueprints.fleet import canary_order
from pipelines.blueprints.planning import Plan, plan_cluster
from pipelines.blueprints.publishing import Publication, new_run, publish_plan, record, revert, reverted_since
from pipelines.blueprints.render import explicit, render
from pipelines.blueprints.templates import all_templates
from pipelines.cluster_access import ClusterAccess
from pipelines.objects.compare import Verdict, compare
from tests.modules import load
from warehouse import config
from warehouse.errors import ClusterError
from warehouse.lake.tables import Lake
from warehouse.schema import POLICY_CHANGES

pytestmark = pytest.mark.peers

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
DENY = {"template": "default-deny-ingress"}
PAIRS = Path(__file__).parents[1] / "data" / "drift_pairs.json"
STRATEGIES = Path(__file__).parents[1] / "pipelines" / "blueprints" / "policy_strategies.py"
policies: Any = load(STRATEGIES)
_numbers = itertools.count()


class Stage:
    """A cluster, namespaces and a blueprint of one test's own."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.name = f"bp{next(_numbers)}"
        self.cluster = config.Cluster(name=f"c-{self.name}", kubernetes=config.Kubernetes(kubeconfig=server.kubeconfig()))

    def access(self, user: str = "admin", *, token: str | None = None) -> ClusterAccess:
        settings = config.Kubernetes(kubeconfig=self.server.kubeconfig(user, token=token))
        return ClusterAccess(settings, cluster=self.cluster.name, patience_seconds=2)

    def namespace(self, suffix: str = "ns") -> str:
        name = f"{self.name}-{suffix}"
        self.server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def files(self, *policies: dict[str, Any], **more: Any) -> list[model.BlueprintFile]:
        rule = {"select": {"names": [f"{self.name}-*"]}, "policies": list(policies)}
        document = {"blueprint": "v1", "name": self.name, "version": "1.0.0", "clusters": {}} | more
        if policies:
            document["namespaces"] = [rule]
        file = self.folder / f"{self.name}.yaml"
        file.write_text(yaml.safe_dump(document))
        return [model.load_file(file)]

    def plan(self, files: list[model.BlueprintFile], access: ClusterAccess | None = None, **more: Any) -> Plan:
        return plan_cluster(access or self.access(), files, self.cluster, now=NOW, **more)

    def publish(self, files: list[model.BlueprintFile], access: ClusterAccess | None = None) -> Publication:
        access = access or self.access()
        plan = self.plan(files, access)
        assert not plan.problems
        assert self.cluster.kubernetes
        return publish_plan(access, plan, self.cluster.kubernetes, run=new_run(), actor="test")

    def policy(self, namespace: str, name: str = "default-deny-ingress", kind: str = "networkpolicy") -> dict[str, Any]:
        stored: dict[str, Any] = json.loads(self.server.kubectl("get", kind, f"{self.name}-{name}", "-n", namespace, "-o", "json"))
        return stored

    def allow_all_ingress(self, namespace: str) -> None:
        """What somebody does by hand: a field the blueprint could leave out is filled in."""
        patch = json.dumps({"spec": {"ingress": [{}]}})
        name = f"{self.name}-default-deny-ingress"
        self.server.kubectl("patch", "networkpolicy", name, "-n", namespace, "--type=merge", "-p", patch, "--field-manager=kubectl-edit")


@pytest.fixture
def stage(clusters: dict[str, Any], tmp_path: Path) -> Stage:
    return Stage(clusters["one"], tmp_path)


def actions(plan: Plan) -> list[str]:
    return [change.action for change in plan.changes]


def test_a_plan_changes_nothing_and_a_second_publication_does_nothing(stage: Stage) -> None:
    namespace, files = stage.namespace(), stage.files(DENY, {"template": "allow-to-names", "names": ["example.org"]})
    assert actions(stage.plan(files)) == ["create", "create"]
    assert stage.server.kubectl("get", "networkpolicy,ciliumnetworkpolicy", "-n", namespace, "-o", "name") == ""
    assert stage.publish(files).count("done") == 2
    assert actions(stage.plan(files)) == ["unchanged", "unchanged"]
    assert not stage.publish(files).steps


def test_what_opens_is_published_before_what_closes(stage: Stage) -> None:
    stage.namespace()
    plan = stage.plan(stage.files(DENY, {"template": "allow-same-namespace"}))
    assert [change.key.name.removeprefix(f"{stage.name}-") for change in plan.changes] == ["allow-same-namespace", "default-deny-ingress"]


def test_every_template_is_taken_by_the_api_server_and_comes_back_equal(stage: Stage) -> None:
    stage.namespace()
    more = {
        "allow-from-namespaces": {"namespaces": ["monitoring"], "ports": [{"port": 9090}]},
        "allow-to-namespaces": {"labels": {"matchLabels": {"x": "y"}}, "ports": [{"port": 1000, "endPort": 2000}]},
        "allow-to-cidrs": {"cidrs": ["10.0.0.0/8"], "except_cidrs": ["10.1.0.0/16"]},
        "allow-to-names": {"names": ["example.org", "*.example.com"]},
    }
    spaces, wide = [], []
    for name, template in all_templates().items():
        if "manifest" not in name:
            (wide if template.scope == "cluster" else spaces).append({"template": name, **more.get(name, {})})
    files = stage.files(*spaces, cluster_policies=wide, drift="block", block={"accounts": ["admin"]})
    done = stage.publish(files)
    assert done.failure is None
    assert done.count("done") == len(spaces) + len(wide) + 2
    assert set(actions(stage.plan(files))) == {"unchanged"}
    plan = stage.plan(stage.files())
    assert set(actions(plan)) == {"delete"}
    stage.publish(stage.files())
    assert not stage.plan(stage.files()).changes


def test_each_pair_of_the_conformance_file_is_stored_equal_by_this_server_too(stage: Stage) -> None:
    namespace = stage.namespace()
    access = stage.access()
    wrong = []
    for number, pair in enumerate(json.loads(PAIRS.read_text())["fresh"]):
        for form in (pair["applied"], explicit(pair["applied"])):
            manifest = copy.deepcopy(form)
            manifest["metadata"]["name"] = f"{stage.name}-{number}"
            if "namespace" in manifest["metadata"]:
                manifest["metadata"]["namespace"] = namespace
            live = objects.apply(access, manifest, dry_run=True)
            for wanted in (manifest, pair["applied"] | {"metadata": manifest["metadata"]}):
                found = compare(wanted, live)
                if found.verdict is not Verdict.EQUAL:
                    wrong.append((pair["id"], found.paths))
    assert not wrong


def test_random_policies_come_back_equal_and_are_taken_back_as_they_were(stage: Stage) -> None:
    namespace, access = stage.namespace(), stage.access()
    seen = []

    @settings(max_examples=60, database=None)
    @given(policies.NETWORK_POLICY | policies.CILIUM_POLICY)
    def check(manifest: dict[str, Any]) -> None:
        manifest = {**manifest, "metadata": {"name": stage.name, "namespace": namespace}}
        try:
            live = objects.apply(access, manifest, dry_run=True)
        except ClusterError:  # not every random policy is a valid one
            return
        assert compare(manifest, live).verdict is Verdict.EQUAL
        assert compare(manifest, objects.apply(access, explicit(manifest), dry_run=True)).verdict is Verdict.EQUAL
        seen.append(manifest["kind"])

    check()
    assert set(seen) == {"NetworkPolicy", "CiliumNetworkPolicy"}


def test_a_field_somebody_filled_in_is_drift_and_is_taken_back(stage: Stage) -> None:
    namespace, files = stage.namespace(), stage.files(DENY)
    stage.publish(files)
    stage.allow_all_ingress(namespace)
    (change,) = stage.plan(files).changes
    assert change.action == "update"
    assert [difference.path for difference in change.differences] == ["spec.ingress"]
    assert "kubectl-edit" in (change.note or "")
    stage.publish(files)
    assert "ingress" not in stage.policy(namespace)["spec"]


def test_fields_that_applying_does_not_take_back_make_it_replace_the_object_and_keep_foreign_labels(stage: Stage) -> None:
    namespace = stage.namespace()
    files = stage.files({"template": "allow-to-kube-apiserver"})
    stage.publish(files)
    name = f"{stage.name}-allow-to-kube-apiserver"
    patch = {"metadata": {"labels": {"mine": "yes"}}, "spec": {"log": {"value": "x"}}, "specs": [{"endpointSelector": {}, "ingress": [{}]}]}
    stage.server.kubectl("patch", "ciliumnetworkpolicy", name, "-n", namespace, "--type=merge", "-p", json.dumps(patch))
    (change,) = stage.plan(files).changes
    assert {difference.path for difference in change.differences} == {"spec.log", "specs"}
    stage.publish(files)
    stored = stage.policy(namespace, "allow-to-kube-apiserver", "ciliumnetworkpolicy")
    assert "log" not in stored["spec"]
    assert stored["metadata"]["labels"]["mine"] == "yes"
    assert set(actions(stage.plan(files))) == {"unchanged"}


def test_what_a_blueprint_no_longer_wants_is_removed_and_others_objects_are_not(stage: Stage) -> None:
    namespace = stage.namespace()
    foreign = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "mine", "namespace": namespace}}
    stage.server.apply(foreign | {"spec": {"podSelector": {}}})
    stage.publish(stage.files(DENY, {"template": "allow-dns"}))
    plan = stage.plan(stage.files(DENY))
    assert [(change.action, change.key.name) for change in plan.changes if change.action != "unchanged"] == [
        ("delete", f"{stage.name}-allow-dns")
    ]
    stage.publish(stage.files(DENY))
    left = stage.server.kubectl("get", "networkpolicy", "-n", namespace, "-o", "name").split()
    assert [name.rpartition("/")[2] for name in left] == [f"{stage.name}-default-deny-ingress", "mine"]


def test_objects_of_a_blueprint_that_was_not_given_are_left_until_it_is_retired(stage: Stage, tmp_path: Path) -> None:
    stage.namespace()
    stage.publish(stage.files(DENY))
    other = Stage(stage.server, tmp_path)
    plan = other.plan(other.files(cluster_policies=[]))
    assert f"{stage.name}-default-deny-ingress" in {key.name for key in plan.left}
    assert not plan.changes
    retiring = other.plan(other.files(), retired=[stage.name])
    assert actions(retiring) == ["delete"]


def test_an_exception_takes_the_object_away(stage: Stage) -> None:
    namespace = stage.namespace()
    stage.publish(stage.files(DENY))
    exception = {"namespace": namespace, "policies": ["*"], "granted_by": "ada", "reason": "r", "expires": "2026-12-31"}
    assert actions(stage.plan(stage.files(DENY, exceptions=[exception]))) == ["delete"]


def test_missing_rights_are_reported_in_the_plan_and_nothing_is_done(stage: Stage) -> None:
    stage.namespace()
    rules = [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list"]}]
    rules.append({"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list"]})
    grant(stage, "reader", rules)
    plan = stage.plan(stage.files(DENY), stage.access("reader"))
    (problem,) = plan.problems
    assert "403" in problem
    assert 'User "reader" cannot patch resource "networkpolicies"' in problem


def grant(stage: Stage, user: str, rules: list[dict[str, Any]]) -> None:
    name = f"{stage.name}-{user}"
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    role = {**kind, "kind": "ClusterRole", "rules": rules}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    stage.server.apply(role, {**kind, "kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]})


def test_the_rights_of_the_manifest_that_ships_are_enough(stage: Stage) -> None:
    namespace = stage.namespace()
    documents = yaml.safe_load_all((Path(__file__).parents[2] / "deploy" / "helm" / "hindcast" / "files" / "publisher.yaml").read_text())
    (role,) = [document for document in documents if document["kind"] == "ClusterRole"]
    grant(stage, "publisher", role["rules"])
    wide, block = [{"template": "dns-visibility"}], {"accounts": ["publisher"]}
    files = stage.files(DENY, {"template": "allow-to-kube-apiserver"}, cluster_policies=wide, drift="block", block=block)
    assert stage.publish(files, stage.access("publisher")).failure is None
    patch = json.dumps({"spec": {"log": {"value": "x"}}})
    name = f"{stage.name}-allow-to-kube-apiserver"
    stage.server.kubectl("patch", "ciliumnetworkpolicy", name, "-n", namespace, "--type=merge", "-p", patch, user="publisher")
    assert stage.publish(files, stage.access("publisher")).count("done") == 1
    assert stage.publish(stage.files(), stage.access("publisher")).count("done") == 5


def test_an_expired_kubeconfig_is_reported_as_such(stage: Stage) -> None:
    plan = stage.plan(stage.files(DENY), stage.access("expired", token="not-valid-any-more"))
    assert plan.problem
    assert "401" in plan.problem
    assert "credentials are invalid" in plan.problem


def test_a_namespace_that_vanishes_meanwhile_is_skipped_and_the_rest_goes_on(stage: Stage) -> None:
    namespaces = [stage.namespace(suffix) for suffix in ("a", "b")]
    files, access = stage.files(DENY), stage.access()
    plan = stage.plan(files, access)
    stage.server.kubectl("delete", "namespace", namespaces[0], "--wait=false")
    assert stage.cluster.kubernetes
    done = publish_plan(access, plan, stage.cluster.kubernetes, run=new_run(), actor="test")
    assert [step.result for step in done.steps] == ["skipped", "done"]
    assert "is gone" in (done.steps[0].detail or "")
    assert done.failure is None


def test_after_a_failure_the_rest_is_skipped_and_everything_is_recorded(stage: Stage, tmp_path: Path) -> None:
    for suffix in ("a", "b", "c"):
        stage.namespace(suffix)
    plan = stage.plan(stage.files(DENY))
    for suffix in ("a", "c"):  # and not in b
        place = {"name": f"{stage.name}-p", "namespace": f"{stage.name}-{suffix}"}
        kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": place}
        rules = [{"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "create", "patch"]}]
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": place["name"]}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}
        binding = {**kind, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}
        stage.server.apply({**kind, "kind": "Role", "rules": rules}, binding)
    assert stage.cluster.kubernetes
    done = publish_plan(stage.access("reader"), plan, stage.cluster.kubernetes, run="r1", actor="ada")
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    record(lake, [done])
    rows = sorted(lake.read(POLICY_CHANGES).to_pylist(), key=lambda row: row["namespace"])
    assert [(row["action"], row["result"], row["run"], row["actor"]) for row in rows] == [
        ("create", "done", "r1", "ada"),
        ("create", "failed", "r1", "ada"),
        ("create", "skipped", "r1", "ada"),
    ]
    assert "403" in rows[1]["detail"]
    assert json.loads(rows[0]["after"])["spec"]["policyTypes"] == ["Ingress"]


def test_block_refuses_changes_by_others_and_lets_hindcast_work(stage: Stage, wait: Callable[..., Any]) -> None:
    namespace = stage.namespace()
    files = stage.files(DENY, drift="block", block={"accounts": ["admin"]})
    stage.publish(files)
    rules = [{"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["*"]}]
    grant(stage, "publisher", rules)
    name = f"{stage.name}-default-deny-ingress"

    def try_to_open(number: int = 0) -> str:
        patch = json.dumps({"metadata": {"annotations": {"try": str(number)}}})
        said: str = stage.server.kubectl(
            "patch", "networkpolicy", name, "-n", namespace, "--type=merge", "-p", patch, user="publisher", check=False
        )
        return said

    tries = itertools.count()
    wait(lambda: "belongs to Hindcast's blueprint" in try_to_open(next(tries)), what="refusal")
    unlabel = ["label", "networkpolicy", name, "-n", namespace, "hindcast/blueprint-"]
    assert "belongs to Hindcast's blueprint" in stage.server.kubectl(*unlabel, user="publisher", check=False)
    assert "belongs to Hindcast's" in stage.server.kubectl("delete", "networkpolicy", name, "-n", namespace, user="publisher", check=False)
    stage.server.kubectl("annotate", "networkpolicy", name, "-n", namespace, "by=admin")
    assert stage.publish(stage.files()).failure is None


def test_block_that_would_lock_hindcast_out_is_refused_with_its_line(stage: Stage) -> None:
    plan = stage.plan(stage.files(DENY, drift="block", block={"accounts": ["somebody-else"]}))
    assert plan.problem
    assert "knows us as 'admin'" in plan.problem
    assert f"{stage.name}.yaml:" in plan.problem


def test_drift_is_put_back_with_a_limit_and_a_record(stage: Stage, tmp_path: Path) -> None:
    namespaces = [stage.namespace(suffix) for suffix in ("a", "b", "c")]
    files = stage.files(DENY, drift="revert", revert={"max_per_hour": 2})
    stage.publish(files)
    for namespace in namespaces:
        stage.allow_all_ingress(namespace)
    access = stage.access()
    done = revert(access, stage.plan(files, access), files, reverted_last_hour=0, run=new_run(), actor="dag")
    assert [step.result for step in done.steps] == ["done", "done", "limited"]
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    record(lake, [done])
    since = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    assert reverted_since(lake, stage.cluster.name, since) == 2
    again = revert(access, stage.plan(files, access), files, reverted_last_hour=2, run=new_run(), actor="dag")
    assert [step.result for step in again.steps] == ["limited"]
    assert "ingress" not in stage.policy(namespaces[0])["spec"]
    assert stage.policy(namespaces[2])["spec"]["ingress"] == [{}]


def test_a_blueprint_that_only_notifies_is_not_put_back(stage: Stage) -> None:
    namespace, files, access = stage.namespace(), stage.files(DENY), stage.access()
    stage.publish(files)
    stage.allow_all_ingress(namespace)
    assert not revert(access, stage.plan(files, access), files, reverted_last_hour=0, run=new_run(), actor="dag").steps


def test_a_cluster_without_ciliums_kinds_takes_network_policies_and_refuses_ciliums(kubernetes: Any, etcd: Any, tmp_path: Path) -> None:
    with kubernetes.cluster(tmp_path / "bare", etcd, name="bare", cilium=False) as server:
        stage = Stage(server, tmp_path)
        stage.namespace()
        assert stage.publish(stage.files(DENY)).count("done") == 1
        (problem,) = stage.plan(stage.files({"template": "allow-to-kube-apiserver"})).problems
        assert "404" in problem


def test_canary_clusters_come_first(stage: Stage) -> None:
    clusters = [config.Cluster(name=name) for name in ("a", "b", "lab", "z-canary")]
    files = stage.files(canary=["z-*", "lab"])
    assert [cluster.name for cluster in canary_order(files, clusters)] == ["z-canary", "lab", "a", "b"]


def test_rendering_covers_the_namespaces_that_the_server_has(stage: Stage) -> None:
    namespace, files = stage.namespace(), stage.files(DENY)
    wanted = render(files, cluster=stage.cluster.name, labels={}, namespaces=objects.read_namespaces(stage.access()), now=NOW)
    assert namespace in {key.namespace for key in wanted.objects}
