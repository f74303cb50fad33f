"""Effective drift: what opens to everyone what a blueprint closes, or closes what it opens; what is not known is neither."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.blueprints.controls import Result, evaluate
from pipelines.blueprints.drift import Drift, find_drift
from pipelines.blueprints.evaluation import Evaluation, changes
from pipelines.blueprints.model import Blueprint, BlueprintFile
from pipelines.blueprints.render import Wanted, render
from pipelines.blueprints.state import ClusterState, Coverage, PodGroup, StoredObject
from pipelines.objects.names import Key
from warehouse.config.documents import parse_document

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
THEN = NOW - dt.timedelta(hours=5)
KINDS = ("Namespace", "PodLabels", "NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
SEEN = {kind: Coverage(state="observed", at=NOW, observed=NOW) for kind in KINDS}
WEB, DB = PodGroup(namespace="shop", labels={"app": "web"}, name="web"), PodGroup(namespace="shop", labels={"app": "db"}, name="db")
DNS = PodGroup(namespace="kube-system", labels={"k8s-app": "kube-dns"}, name="coredns")
SELECT_WEB = {"matchLabels": {"app": "web"}}
TCP_443 = [{"ports": [{"port": "443", "protocol": "TCP"}]}]


def wanted_of(*templates: str) -> Wanted:
    policies = [{"template": name} for name in templates]
    document = {"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {}, "namespaces": [{"policies": policies}]}
    parsed = parse_document(yaml.safe_dump(document), source=Path("base.yaml"))
    file = BlueprintFile(blueprint=parsed.build(Blueprint), document=parsed)
    return render([file], cluster="c1", labels={}, namespaces={"shop": {}}, now=NOW)


def stored(spec: dict[str, Any], *, kind: str = "CiliumNetworkPolicy", name: str = "own", valid: bool = True) -> StoredObject:
    namespace = None if kind == "CiliumClusterwideNetworkPolicy" else "shop"
    place = {"namespace": namespace} if namespace else {}
    manifest = {"kind": kind, "metadata": {"name": name, **place}, "spec": spec}
    conditions = ({"type": "Valid", "status": str(valid)},)
    return StoredObject(
        key=Key(kind, namespace, name), manifest=manifest, valid_from=THEN, changed_by="kubectl-edit", conditions=conditions
    )


def state_of(*policies: StoredObject, **more: Any) -> ClusterState:
    fields: dict[str, Any] = {"namespaces": {"shop": {}, "kube-system": {}}, "coverage": SEEN, "pods": (WEB, DB, DNS)}
    return ClusterState(cluster="c1", at=NOW, policies={one.key: one for one in policies}, **(fields | more))


def effect_of(*policies: StoredObject, wanted: Wanted | None = None, **more: Any) -> tuple[Result, list[Drift]]:
    wanted, state = wanted or wanted_of("default-deny-ingress"), state_of(*policies, **more)
    (result,) = [one for one in evaluate(state, wanted, []) if one.control == "BP-EFFECT"]
    drifts = find_drift(wanted, state, versions={"base": "1.0.0"})
    return result, [one for one in drifts if one.drift == "defeated"]


OPENS = {
    "np-empty-rule": stored({"podSelector": SELECT_WEB, "ingress": [{}]}, kind="NetworkPolicy"),
    "np-zero": stored({"podSelector": SELECT_WEB, "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}, kind="NetworkPolicy"),
    "entity-all": stored({"endpointSelector": SELECT_WEB, "ingress": [{"fromEntities": ["all"]}]}),
    "entity-world": stored({"endpointSelector": SELECT_WEB, "ingress": [{"fromEntities": ["world"], "toPorts": TCP_443}]}),
    "six-zero": stored({"endpointSelector": SELECT_WEB, "ingress": [{"fromCIDRSet": [{"cidr": "::/0"}]}]}),
    "every-pod": stored({"podSelector": SELECT_WEB, "ingress": [{"from": [{"namespaceSelector": {}}]}]}, kind="NetworkPolicy"),
    "clusterwide": stored({"endpointSelector": {}, "ingress": [{"fromEntities": ["world"]}]}, kind="CiliumClusterwideNetworkPolicy"),
}


@pytest.mark.parametrize("name", list(OPENS))
def test_a_policy_that_lets_everyone_in_defeats_a_default_deny(name: str) -> None:
    result, (drift,) = effect_of(OPENS[name])
    assert (result.status, result.checked) == ("fail", 2)
    assert "which blueprint base closes" in result.failing[0]
    assert (drift.control, drift.blueprint, drift.name, drift.severity) == ("BP-EFFECT", "base", "own", "high")
    assert (drift.since, drift.changed_by) == (THEN, "kubectl-edit")


KEEPS = {
    "named-client": stored({"endpointSelector": SELECT_WEB, "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "db"}}]}]}),
    "same-namespace": stored({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}, kind="NetworkPolicy"),
    "range": stored({"endpointSelector": SELECT_WEB, "ingress": [{"fromCIDR": ["203.0.113.0/24"]}]}),
    "other-direction": stored({"endpointSelector": SELECT_WEB, "egress": [{"toEntities": ["all"]}]}),
    "no-pod": stored({"endpointSelector": {"matchLabels": {"app": "gone"}}, "ingress": [{"fromEntities": ["all"]}]}),
    "rejected": stored({"endpointSelector": SELECT_WEB, "ingress": [{"fromEntities": ["all"]}]}, valid=False),
    "denied-too": stored(
        {"endpointSelector": SELECT_WEB, "ingress": [{"fromEntities": ["all"]}], "ingressDeny": [{"fromEntities": ["all"]}]}
    ),
}


@pytest.mark.parametrize("name", list(KEEPS))
def test_a_policy_that_lets_in_named_clients_or_nobody_defeats_nothing(name: str) -> None:
    result, drifts = effect_of(KEEPS[name])
    assert (result.status, result.checked, drifts) == ("pass", 2, [])


def test_a_deny_rule_that_closes_what_the_blueprint_opens_defeats_it() -> None:
    deny = stored(
        {
            "endpointSelector": SELECT_WEB,
            "egressDeny": [{"toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system"}}]}],
        }
    )
    result, (drift,) = effect_of(deny, wanted=wanted_of("default-deny-egress", "allow-dns"))
    assert result.status == "fail"
    assert "closes egress of shop/web" in drift.summary
    assert "which blueprint base opens" in drift.summary
    other = stored({"endpointSelector": SELECT_WEB, "egressDeny": [{"toEntities": ["world"]}]})
    assert effect_of(other, wanted=wanted_of("default-deny-egress", "allow-dns"))[0].status == "pass"


def test_what_the_agent_denies_without_any_rule_is_told_of_the_blueprint_too() -> None:
    config_map = {"kind": "ConfigMap", "metadata": {"name": "cilium-config"}, "data": {"enable-policy": "always"}}
    always = StoredObject(key=Key("ConfigMap", "kube-system", "cilium-config"), manifest=config_map, valid_from=THEN)
    opens = stored({"endpointSelector": SELECT_WEB, "egress": [{"toEntities": ["all"]}]})
    result, (drift,) = effect_of(opens, settings=always)
    assert result.status == "fail"
    assert drift.blueprint == "base"
    assert "opens egress of shop/web" in drift.summary
    assert drift.summary.endswith("which blueprint base leaves closed, since the agent denies what no rule allows")


def test_without_a_blueprint_nothing_is_evaluated() -> None:
    result, drifts = effect_of(OPENS["entity-all"], wanted=Wanted(cluster="c1"))
    assert (result.status, result.detail, drifts) == ("not_evaluated", "no blueprint has policies for this cluster", [])


def test_where_pods_or_policies_were_not_seen_it_is_unknown_and_no_drift_is_found() -> None:
    for kind in KINDS:
        result, drifts = effect_of(OPENS["entity-all"], coverage={key: one for key, one in SEEN.items() if key != kind})
        assert (result.status, drifts) == ("unknown", [])


def test_a_group_of_addresses_that_nobody_read_is_unknown_and_one_that_holds_everything_is_found() -> None:
    policy = stored({"endpointSelector": SELECT_WEB, "ingress": [{"fromCIDRSet": [{"cidrGroupRef": "partners"}]}]})
    result, drifts = effect_of(policy)
    assert (result.status, drifts) == ("unknown", [])
    assert "CiliumNetworkPolicy shop/own: not known: the CiliumCIDRGroups of the cluster" in (result.detail or "")
    manifest = {"kind": "CiliumCIDRGroup", "metadata": {"name": "partners"}, "spec": {"externalCIDRs": ["0.0.0.0/0"]}}
    group = StoredObject(key=Key("CiliumCIDRGroup", None, "partners"), manifest=manifest, valid_from=THEN)
    seen = SEEN | {"CiliumCIDRGroup": SEEN["Namespace"]}
    assert effect_of(policy, group, coverage=seen)[0].status == "fail"
    assert effect_of(policy, coverage=seen)[0].status == "pass"


def test_it_opens_once_stays_and_closes_and_what_cannot_be_judged_leaves_it_open() -> None:
    def evaluation(drifts: list[Drift], judged: frozenset[str] = frozenset(KINDS), undecided: frozenset[Key] = frozenset()) -> Evaluation:
        return Evaluation(cluster="c1", drifts=tuple(drifts), results=(), judged=judged, observed=NOW, undecided=undecided)

    _, drifts = effect_of(OPENS["entity-all"])
    (opened,) = changes([evaluation(drifts)], [], now=NOW)
    assert opened["state"] == "open"
    assert changes([evaluation(drifts)], [opened], now=NOW) == []
    assert changes([evaluation([], frozenset(KINDS) - {"PodLabels"})], [opened], now=NOW) == []
    assert changes([evaluation([], undecided=frozenset({Key("CiliumNetworkPolicy", "shop", "own")}))], [opened], now=NOW) == []
    (closed,) = changes([evaluation([])], [opened], now=NOW)
    assert closed["state"] == "closed"
