"""What of an object is kept: what somebody decided; no secret, and nothing the API server manages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipelines.configuration import kinds
from pipelines.configuration.kinds import BY_NAME
from pipelines.configuration.pods import PodSets, pod_labels
from warehouse.errors import ConfigError


def kept(kind: str, **item: Any) -> Any:
    observed = kinds.observe(BY_NAME[kind], item)
    return None if observed is None else json.loads(observed.manifest)


def test_what_the_api_server_manages_is_not_recorded() -> None:
    metadata = {
        "name": "a",
        "namespace": "shop",
        "uid": "u",
        "resourceVersion": "1",
        "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "pay"},
        "labels": {},
    }
    manifest = kept("NetworkPolicy", metadata=metadata, spec={"podSelector": {}}, status={})
    assert manifest == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "a", "namespace": "shop", "annotations": {"team": "pay"}},
        "spec": {"podSelector": {}},
    }


def test_no_environment_command_volume_or_annotation_of_a_workload_is_recorded() -> None:
    container = {
        "name": "web",
        "env": [{"name": "PASSWORD", "value": "hunter2"}],
        "command": ["run", "--token=hunter2"],
        "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}, {"containerPort": 9}],
    }
    template = {
        "metadata": {"labels": {"app": "web", "pod-template-hash": "x"}, "annotations": {"a": "hunter2"}},
        "spec": {"containers": [container], "volumes": [{"name": "hunter2"}], "hostNetwork": True},
    }
    metadata = {"name": "web", "namespace": "shop", "annotations": {"b": "hunter2"}}
    selector = {"matchLabels": {"app": "web"}}
    manifest = kept("Deployment", metadata=metadata, spec={"replicas": 3, "selector": selector, "template": template})
    assert "hunter2" not in json.dumps(manifest)
    assert manifest["spec"] == {
        "selector": selector,
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "serviceAccountName": "default",
                "hostNetwork": True,
                "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}],
            },
        },
    }


def test_a_workload_that_another_one_controls_is_not_kept_and_scaling_is_no_change() -> None:
    owned = {"name": "web-1", "namespace": "shop", "ownerReferences": [{"kind": "Deployment", "name": "web", "controller": True}]}
    assert kept("ReplicaSet", metadata=owned, spec={}) is None
    few, many = (kinds.observe(BY_NAME["Deployment"], {"metadata": {"name": "a"}, "spec": {"replicas": n}}) for n in (1, 9))
    assert few is not None
    assert many is not None
    assert few.hash == many.hash


@pytest.mark.parametrize(
    ("subjects", "labels", "is_kept"),
    [
        ([{"kind": "Group", "name": "payments"}], {}, True),
        ([{"kind": "ServiceAccount", "name": "ci"}, {"kind": "User", "name": "ada"}], {}, True),
        ([{"kind": "ServiceAccount", "name": "ci"}], {}, False),
        (None, {}, False),
        ([{"kind": "Group", "name": "system:masters"}], {"kubernetes.io/bootstrapping": "rbac-defaults"}, False),
    ],
)
def test_bindings_that_name_people_are_recorded(subjects: Any, labels: dict[str, str], is_kept: bool) -> None:
    manifest = kept("RoleBinding", metadata={"name": "a", "namespace": "shop", "labels": labels}, subjects=subjects, roleRef={})
    assert (manifest is not None) == is_kept


def test_only_ciliums_config_map_is_recorded() -> None:
    assert kept("ConfigMap", metadata={"name": "other", "namespace": "kube-system"}, data={"password": "x"}) is None
    assert kept("ConfigMap", metadata={"name": "cilium-config", "namespace": "kube-system"}, data={"enable-policy": "default"})["data"]


def test_the_labels_of_a_node_are_recorded() -> None:
    manifest = kept("Node", metadata={"name": "n1", "labels": {"zone": "a"}, "annotations": {"x": "y"}}, spec={"podCIDR": "10.0.0.0/24"})
    assert manifest == {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"zone": "a"}}}


@pytest.mark.parametrize(
    ("text", "name"), [("cnp", "CiliumNetworkPolicy"), ("NETWORKPOLICIES", "NetworkPolicy"), ("podlabels", "PodLabels")]
)
def test_a_kind_is_found_by_name_plural_and_short_name(text: str, name: str) -> None:
    assert kinds.named(text) == name


def test_an_unknown_kind_is_reported_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean CiliumNetworkPolicy"):
        kinds.named("ciliumnetworkpolcy")
    with pytest.raises(ConfigError, match=r"use one of .*NetworkPolicy"):
        kinds.named("Secret?!")


def pod(name: str, owner: tuple[str, str] | None = ("ReplicaSet", "web-abc"), phase: str = "Running", **labels: str) -> dict[str, Any]:
    references = [] if owner is None else [{"kind": owner[0], "name": owner[1], "controller": True}]
    metadata = {"name": name, "namespace": "shop", "labels": labels, "ownerReferences": references}
    return {"metadata": metadata, "spec": {"containers": []}, "status": {"phase": phase}}


def test_pods_of_a_workload_with_the_same_labels_are_one_set_from_the_first_to_the_last() -> None:
    sets = PodSets()
    began, ended = sets.put(pod("a", app="web", **{"pod-template-hash": "abc"}))
    assert began is not None
    assert ended is None
    assert sets.put(pod("b", app="web", **{"pod-template-hash": "abc"})) == (None, None)
    assert sets.remove(pod("a")) is None
    assert sets.remove(pod("a")) is None
    assert sets.remove(pod("b")) == began.key
    assert sets.sets == {}
    assert json.loads(began.manifest)["spec"]["workload"] == {"kind": "Deployment", "name": "web"}


def test_a_pod_that_gets_another_label_leaves_its_set_and_one_that_ends_has_none() -> None:
    sets = PodSets()
    first, _ = sets.put(pod("a", app="web"))
    second, emptied = sets.put(pod("a", app="web", canary="yes"))
    assert first is not None
    assert second is not None
    assert emptied == first.key
    assert sets.put(pod("a", phase="Succeeded", app="web", canary="yes")) == (None, second.key)


@pytest.mark.parametrize(
    ("owner", "labels", "workload"),
    [
        (None, {}, {"kind": "Pod", "name": "a"}),
        (("ReplicaSet", "web-5d4"), {"pod-template-hash": "5d4"}, {"kind": "Deployment", "name": "web"}),
        (("ReplicaSet", "bare"), {"pod-template-hash": "5d4"}, {"kind": "ReplicaSet", "name": "bare"}),
        (("Job", "backup-29123456"), {}, {"kind": "CronJob", "name": "backup"}),
        (("Job", "once"), {}, {"kind": "Job", "name": "once"}),
        (("StatefulSet", "db"), {}, {"kind": "StatefulSet", "name": "db"}),
    ],
)
def test_a_pod_belongs_to_the_workload_that_people_know(owner: Any, labels: dict[str, str], workload: dict[str, str]) -> None:
    observed = pod_labels(pod("a", owner, **labels))
    assert observed is not None
    assert json.loads(observed.manifest)["spec"]["workload"] == workload
