"""Blueprints become the objects of a cluster: whom they are for, exceptions, disagreement, every field that matters."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.blueprints.model import BlueprintFile
from pipelines.blueprints.render import BLUEPRINT_LABEL, Wanted, explicit, render
from pipelines.blueprints.templates import all_templates
from pipelines.objects.compare import Verdict, compare
from pipelines.objects.names import Key
from warehouse.config.documents import parse_document
from warehouse.errors import ConfigError

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
NAMESPACES = {"shop": {"team": "a"}, "pay": {"compliance": "pci"}, "kube-system": {}}


def blueprint(name: str = "base", **more: Any) -> BlueprintFile:
    from pipelines.blueprints.model import Blueprint

    document = {"blueprint": "v1", "name": name, "version": "1.0.0", "clusters": {}, **more}
    parsed = parse_document(yaml.safe_dump(document), source=Path(f"{name}.yaml"))
    return BlueprintFile(blueprint=parsed.build(Blueprint), document=parsed)


def rendered(*files: BlueprintFile, labels: dict[str, str] | None = None, now: dt.datetime = NOW) -> Wanted:
    return render(files, cluster="prod-1", labels=labels or {}, namespaces=NAMESPACES, now=now)


DENY = {"policies": [{"template": "default-deny-ingress"}]}


def test_a_blueprint_for_other_clusters_wants_nothing() -> None:
    file = blueprint(clusters={"matchLabels": {"env": "lab"}}, namespaces=[DENY])
    assert not rendered(file, labels={"env": "prod"}).objects
    assert rendered(file, labels={"env": "lab"}).objects


def test_no_namespaces_no_objects_and_the_clusters_own_namespaces_are_left_out() -> None:
    assert not render([blueprint(namespaces=[DENY])], cluster="c", labels={}, namespaces={}, now=NOW).objects
    assert {key.namespace for key in rendered(blueprint(namespaces=[DENY])).objects} == {"shop", "pay"}
    everywhere = rendered(blueprint(namespaces=[{**DENY, "exclude": []}]))
    assert {key.namespace for key in everywhere.objects} == {"shop", "pay", "kube-system"}


def test_namespaces_are_chosen_by_name_label_and_exclusion() -> None:
    chosen = [
        ({"matchLabels": {"compliance": "pci"}}, {"pay"}),
        ({"names": ["s*"]}, {"shop"}),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, {"pay"}),
        ({"exclude": ["pay"]}, {"shop"}),
    ]
    for select, expected in chosen:
        wanted = rendered(blueprint(namespaces=[{**DENY, "select": select, "locked": True}]))
        assert {key.namespace for key in wanted.objects} == expected
        assert set(wanted.locked) == expected


def test_an_exception_lets_a_policy_be_absent_until_it_expires() -> None:
    exception = {"namespace": "pay", "policies": ["default-deny-*"], "granted_by": "ada", "reason": "moving", "expires": "2026-07-01"}
    file = blueprint(namespaces=[DENY], exceptions=[exception])
    before, after = rendered(file), rendered(file, now=dt.datetime(2026, 7, 2, tzinfo=dt.UTC))
    key = Key("NetworkPolicy", "pay", "base-default-deny-ingress")
    assert key not in before.objects
    assert before.waived[key].granted_by == "ada"
    assert key in after.objects
    assert not after.waived


def test_an_exception_for_another_cluster_changes_nothing() -> None:
    exception = {"namespace": "*", "clusters": ["lab"], "policies": ["*"], "granted_by": "a", "reason": "r", "expires": "2026-07-01"}
    assert not rendered(blueprint(namespaces=[DENY], exceptions=[exception])).waived


def manifest(*types: str) -> dict[str, Any]:
    return {
        "template": "manifest",
        "object": {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "rule"},
            "spec": {"podSelector": {}, "policyTypes": list(types)},
        },
    }


def test_two_blueprints_that_want_different_things_of_one_object_are_refused() -> None:
    one = blueprint("one", namespaces=[{"policies": [manifest("Ingress")]}])
    same = blueprint("same", namespaces=[{"policies": [manifest("Ingress")]}])
    other = blueprint("two", namespaces=[{"policies": [manifest("Ingress", "Egress")]}])
    assert {wanted.blueprint for wanted in rendered(one, same).objects.values()} == {"one"}
    with pytest.raises(ConfigError, match=r"one \(one.yaml\) and two \(two.yaml\) disagree on NetworkPolicy .*/rule \(spec.policyTypes"):
        rendered(one, other)


def test_one_blueprint_that_wants_an_object_in_two_ways_is_refused() -> None:
    narrow = {"template": "default-deny-ingress", "pods": {"matchLabels": {"a": "b"}}}
    with pytest.raises(ConfigError, match=r"blueprint base \(base.yaml\) wants NetworkPolicy .* in two ways"):
        rendered(blueprint(namespaces=[DENY, {"policies": [narrow]}]))


def test_ready_made_blueprints_go_together() -> None:
    files = [blueprint("one", namespaces=[DENY]), blueprint("two", namespaces=[{"policies": [{"template": "default-deny"}]}])]
    assert len(rendered(*files).objects) == 4


EXAMPLES: dict[str, dict[str, Any]] = {
    "allow-from-namespaces": {"namespaces": ["monitoring"], "ports": [{"port": 9090}, {"port": "web"}]},
    "allow-to-namespaces": {"labels": {"matchLabels": {"x": "y"}}, "ports": [{"port": 1000, "endPort": 2000, "protocol": "UDP"}]},
    "allow-to-cidrs": {"cidrs": ["10.0.0.0/8", "2001:db8::/32"], "except_cidrs": ["10.1.0.0/16"]},
    "allow-to-names": {"names": ["example.org", "*.example.com"]},
    "allow-from-ingress": {"ports": [{"port": 8080}]},
    "manifest": {"object": manifest("Ingress")["object"]},
    "cluster-manifest": {
        "object": {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumClusterwideNetworkPolicy",
            "metadata": {"name": "nodes"},
            "spec": {"nodeSelector": {}, "ingress": [{"fromEntities": ["cluster"]}]},
        }
    },
}


def every_object() -> list[dict[str, Any]]:
    """One object of each template."""
    spaces, wide = [], []
    for name, template in all_templates().items():
        (wide if template.scope == "cluster" else spaces).append({"template": name, **EXAMPLES.get(name, {})})
    file = blueprint(cluster_policies=wide, namespaces=[{"select": {"names": ["shop"]}, "policies": spaces}])
    return [wanted.manifest for wanted in rendered(file).objects.values()]


def test_every_template_makes_one_object_that_carries_its_blueprint() -> None:
    objects = every_object()
    assert len(objects) == len(all_templates())
    for made in objects:
        assert made["metadata"]["labels"][BLUEPRINT_LABEL] == "base"


def test_every_field_that_decides_what_passes_is_written() -> None:
    for made in every_object():
        spec = made["spec"]
        if made["kind"] == "NetworkPolicy":
            assert {"podSelector", "policyTypes", "ingress", "egress"} <= set(spec)
            assert all(port["protocol"] for rule in spec["ingress"] + spec["egress"] for port in rule.get("ports", []))
        else:
            assert {"ingress", "ingressDeny", "egress", "egressDeny", "enableDefaultDeny"} <= set(spec)
            assert made["specs"] == []


def test_writing_fields_out_changes_no_meaning() -> None:
    for made in every_object():
        plain = {**made, "spec": {key: value for key, value in made["spec"].items() if value != []}}
        plain.pop("specs", None)
        assert compare(plain, explicit(plain)).verdict is Verdict.EQUAL


def test_block_adds_an_admission_policy_that_lets_hindcast_and_kubernetes_own_controllers_through() -> None:
    wanted = rendered(blueprint(drift="block", block={"accounts": ["system:serviceaccount:hindcast:publisher"]}, namespaces=[DENY]))
    policy = wanted.objects[Key("ValidatingAdmissionPolicy", None, "hindcast-base")].manifest
    (validation,) = policy["spec"]["validations"]
    assert "system:serviceaccount:hindcast:publisher" in validation["expression"]
    assert "namespace-controller" in validation["expression"]
    assert Key("ValidatingAdmissionPolicyBinding", None, "hindcast-base") in wanted.objects
