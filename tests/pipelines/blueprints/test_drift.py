"""What is reported as drift, since when and by whom; what is not known is never judged; the second run is silent."""

import copy
import datetime as dt
import json
from pathlib import Path
from typing import Any

import yaml

from pipelines.blueprints.drift import Drift, find_drift
from pipelines.blueprints.model import Blueprint, BlueprintFile
from pipelines.blueprints.render import Wanted, render
from pipelines.blueprints.state import Agents, ClusterState, Coverage, Ended, StoredObject
from pipelines.objects.names import Key
from warehouse.config.documents import parse_document

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
THEN = NOW - dt.timedelta(hours=5)
KINDS = ("Namespace", "NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "ConfigMap", "CiliumAgents")
SEEN = {kind: Coverage(state="observed", at=NOW, observed=NOW) for kind in KINDS}
DENY = Key("NetworkPolicy", "shop", "base-default-deny-ingress")


def blueprint(**more: Any) -> BlueprintFile:
    document = {"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {}} | more
    parsed = parse_document(yaml.safe_dump(document), source=Path("base.yaml"))
    return BlueprintFile(blueprint=parsed.build(Blueprint), document=parsed)


def wanted_of(**more: Any) -> Wanted:
    rules = {"namespaces": [{"policies": [{"template": "default-deny-ingress"}]}]} | more
    return render([blueprint(**rules)], cluster="c1", labels={}, namespaces={"shop": {}}, now=NOW)


def state_of(*objects: StoredObject, **more: Any) -> ClusterState:
    fields: dict[str, Any] = {"namespaces": {"shop": {}}, "namespaces_from": {"shop": THEN}, "coverage": SEEN}
    return ClusterState(cluster="c1", at=NOW, policies={one.key: one for one in objects}, **(fields | more))


def stored(manifest: dict[str, Any], key: Key = DENY, **more: Any) -> StoredObject:
    return StoredObject(key=key, manifest=manifest, **({"valid_from": THEN, "changed_by": "kubectl-edit"} | more))


def drifts(wanted: Wanted, state: ClusterState) -> list[Drift]:
    return find_drift(wanted, state, versions={"base": "1.0.0"})


def test_a_cluster_that_stands_as_wanted_has_no_drift() -> None:
    wanted = wanted_of()
    assert drifts(wanted, state_of(stored(copy.deepcopy(wanted.objects[DENY].manifest)))) == []


def test_a_cluster_never_seen_does_not_report_and_is_not_judged() -> None:
    (drift,) = drifts(wanted_of(), state_of(coverage={}))
    assert drift.drift == "not_reporting"
    assert drift.summary == "c1 does not report: never seen"


def test_a_cluster_last_seen_long_ago_is_reported_with_the_time_and_the_reason() -> None:
    old = {kind: Coverage(state="unreachable", at=NOW, observed=NOW - dt.timedelta(days=1)) for kind in KINDS}
    (drift,) = drifts(wanted_of(), state_of(coverage=old))
    assert drift.since == NOW - dt.timedelta(days=1)
    assert drift.summary == "c1 does not report: last seen 2026-05-31 12:00 UTC (unreachable)"


def test_a_kind_that_may_not_be_read_is_reported_and_the_others_are_judged() -> None:
    coverage = SEEN | {"CiliumNetworkPolicy": Coverage(state="forbidden", at=NOW, observed=None)}
    found = drifts(wanted_of(), state_of(coverage=coverage))
    assert [(drift.drift, drift.kind) for drift in found] == [("not_reporting", "CiliumNetworkPolicy"), ("missing", "NetworkPolicy")]


def test_a_kind_the_cluster_does_not_have_is_seen_as_empty() -> None:
    coverage = SEEN | {"CiliumClusterwideNetworkPolicy": Coverage(state="absent", at=NOW, observed=NOW)}
    wanted = wanted_of(namespaces=[], cluster_policies=[{"template": "deny-cloud-metadata"}])
    assert [drift.drift for drift in drifts(wanted, state_of(coverage=coverage))] == ["missing"]


def test_a_deleted_object_is_missing_since_its_end_and_by_who_ended_it() -> None:
    ended = NOW - dt.timedelta(hours=1)
    (drift,) = drifts(wanted_of(), state_of(ended={DENY: Ended(at=ended, by="ada")}))
    assert (drift.drift, drift.since, drift.changed_by, drift.severity, drift.control) == ("missing", ended, "ada", "high", "BP-OBJ")
    assert json.loads(drift.after or "") == {"$": None}
    assert drift.flows == "hindcast flows --cluster c1 --namespace shop --since 2026-06-01T11:00:00Z"


def test_an_object_that_never_was_is_missing_since_its_namespace_is() -> None:
    (drift,) = drifts(wanted_of(), state_of())
    assert (drift.since, drift.changed_by) == (THEN, None)


def test_a_modified_object_is_reported_with_what_it_was_and_is() -> None:
    wanted = wanted_of()
    live = copy.deepcopy(wanted.objects[DENY].manifest)
    live["spec"]["ingress"] = [{}]
    (drift,) = drifts(wanted, state_of(stored(live)))
    assert (drift.drift, drift.paths, drift.changed_by, drift.since) == ("modified", ("spec.ingress",), "kubectl-edit", THEN)
    assert json.loads(drift.after or "") == {"spec.ingress": [{}]}
    assert json.loads(drift.before or "") == {"spec.ingress": None}


def test_an_object_without_the_blueprints_labels_is_not_owned_any_more() -> None:
    wanted = wanted_of()
    live = copy.deepcopy(wanted.objects[DENY].manifest)
    live["metadata"]["labels"] = {}
    (drift,) = drifts(wanted, state_of(stored(live)))
    assert (drift.drift, drift.severity) == ("ownership_lost", "medium")


def test_extra_policies_are_drift_in_locked_namespaces_only() -> None:
    manifest = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "mine", "namespace": "shop"}}
    mine = stored(manifest | {"spec": {"podSelector": {}}}, Key("NetworkPolicy", "shop", "mine"))
    assert drifts(wanted_of(namespaces=[]), state_of(mine)) == []
    (drift,) = drifts(wanted_of(namespaces=[{"locked": True}]), state_of(mine))
    assert (drift.drift, drift.blueprint, drift.name, drift.changed_by) == ("extra", "base", "mine", "kubectl-edit")


def test_an_object_that_a_blueprint_wanted_before_is_left_over() -> None:
    old = wanted_of().objects[DENY].manifest
    (drift,) = drifts(wanted_of(namespaces=[]), state_of(stored(old)))
    assert (drift.drift, drift.severity) == ("extra", "low")


def test_an_object_under_an_exception_is_no_drift_there_or_not() -> None:
    exception = {"namespace": "shop", "policies": ["*"], "granted_by": "ada", "reason": "r", "expires": "2026-12-31"}
    wanted = wanted_of(exceptions=[exception])
    assert drifts(wanted, state_of()) == []
    assert drifts(wanted, state_of(stored(wanted_of().objects[DENY].manifest))) == []


def test_a_policy_the_agent_rejects_enforces_nothing() -> None:
    wanted = wanted_of()
    condition = {"type": "Valid", "status": "False", "message": "bad port"}
    live = stored(copy.deepcopy(wanted.objects[DENY].manifest), conditions=(condition,))
    (drift,) = drifts(wanted, state_of(live))
    assert (drift.drift, drift.control) == ("rejected", "BP-INVALID")
    assert drift.summary.endswith("enforces nothing: bad port")


def test_settings_and_version_of_cilium_are_compared_with_the_blueprint() -> None:
    wanted = wanted_of(namespaces=[], cilium={"version": ">=1.19,<1.21", "settings": {"policy-audit-mode": False, "enable-hubble": True}})
    config_map = {"kind": "ConfigMap", "metadata": {"name": "cilium-config"}, "data": {"policy-audit-mode": "true"}}
    settings = stored(config_map, Key("ConfigMap", "kube-system", "cilium-config"), changed_by="helm")
    agents = Agents(version="v1.18.4", ready=3, wanted=3, valid_from=THEN)
    found = drifts(wanted, state_of(settings=settings, agents=agents))
    assert [(drift.drift, drift.name, drift.severity, drift.changed_by) for drift in found] == [
        ("setting", "enable-hubble", "medium", "helm"),
        ("setting", "policy-audit-mode", "critical", "helm"),
        ("version", "cilium", "medium", None),
    ]
    fine = Agents(version="1.20.2", ready=3, wanted=3, valid_from=THEN)
    assert drifts(wanted_of(namespaces=[], cilium={"version": ">=1.19,<1.21"}), state_of(agents=fine)) == []


def test_settings_that_could_not_be_read_are_not_called_off() -> None:
    coverage = SEEN | {"ConfigMap": Coverage(state="forbidden", at=NOW, observed=None)}
    wanted = wanted_of(namespaces=[], cilium={"settings": {"enable-hubble": True}})
    assert [(drift.drift, drift.kind) for drift in drifts(wanted, state_of(coverage=coverage))] == [("not_reporting", "ConfigMap")]
