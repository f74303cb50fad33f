"""The simulated company's configuration history: namespaces, workloads, policies and Cilium's settings, following its story.

It writes what a watch of the clusters would have written, so that the incident of the story has a cause in the history, and
so that clusters drift from the blueprint `baseline`. Detecting either does not belong here.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from collectors.simulator import policies
from collectors.simulator.fleet import NAMESPACES, Fleet, Pod
from collectors.simulator.policies import Manifest
from collectors.simulator.story import DEPLOYED, Phase, Story, redeployed
from warehouse import schema
from warehouse.lake.tables import Lake

APP_ID = "simulate-configuration"
DEPLOYER = "system:serviceaccount:gitops:deployer"
SOMEBODY = "mallory@company.example"
CILIUM = "1.18.4"
_KINDS = [
    *("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "CiliumCIDRGroup", "NetworkPolicy"),
    *("ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"),
    *("ConfigMap", "CiliumAgents", "Namespace", "PodLabels", "Deployment", "StatefulSet"),
]
"""The kinds that are watched; of some of them the company has no object."""


def backfill(lake: Lake, fleet: Fleet, story: Story, *, since: dt.datetime, until: dt.datetime) -> None:
    """Store the versions of [since, until) and their coverage; a lake that already has them is left unchanged."""
    if lake.transaction_version(schema.POLICY_VERSIONS, APP_ID):
        return
    span = since, until
    rows: dict[schema.Table, list[dict[str, Any]]] = {table: [] for table in (*_WHAT, schema.CONFIG_COVERAGE)}
    for cluster in fleet.clusters:
        for table, objects in _WHAT.items():
            rows[table] += _versions(fleet, cluster, story, span, objects)
        rows[schema.CONFIG_COVERAGE].append(_observed(cluster, since, until))
    for table, found in rows.items():
        written = lake.write_files(table, pa.Table.from_pylist(found, schema=table.schema))
        lake.commit(table, written, transactions={APP_ID: 1}, metadata={})


def look_again(lake: Lake, clusters: Sequence[str], *, since: dt.datetime, until: dt.datetime) -> None:
    """Record that the simulated clusters' configuration was watched and did not change. Raises LakeError."""
    rows = [_observed(cluster, since, until) for cluster in clusters]
    table = schema.CONFIG_COVERAGE
    lake.commit(table, lake.write_files(table, pa.Table.from_pylist(rows, schema=table.schema)), transactions={}, metadata={})


def _namespaces(_fleet: Fleet, _cluster: str, _phase: Phase) -> Iterator[Manifest]:
    for namespace, (team, _) in NAMESPACES.items():
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"team": team}}}


def _workloads(fleet: Fleet, cluster: str, phase: Phase) -> Iterator[Manifest]:
    """Yield each service's workload, and what selectors see of its pods."""
    for (home, service), pods in fleet.pods.items():
        if home == cluster:
            pod = redeployed(pods[0]) if phase.deployed and service == DEPLOYED else pods[0]
            yield from _workload(pod)


def _workload(pod: Pod) -> Iterator[Manifest]:
    endpoint, workload = pod.endpoint, pod.endpoint.workloads[0]
    written = (label.removeprefix("k8s:").partition("=") for label in endpoint.labels if label.startswith("k8s:"))
    labels = {name: value for name, _, value in written if not name.startswith("io.")}
    traits = {"serviceAccountName": pod.service}
    digest = hashlib.sha256(json.dumps([labels, traits], sort_keys=True).encode()).hexdigest()[:8]
    yield {
        "apiVersion": "hindcast/v1",
        "kind": "PodLabels",
        "metadata": {"name": f"{workload.kind}.{workload.name}.{digest}".lower(), "namespace": endpoint.namespace, "labels": labels},
        "spec": {"workload": {"kind": workload.kind, "name": workload.name}, **traits},
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": workload.kind,
        "metadata": {"name": workload.name, "namespace": endpoint.namespace},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": pod.service}},
            "template": {"metadata": {"labels": labels}, "spec": traits},
        },
    }


def _settings(fleet: Fleet, cluster: str, phase: Phase) -> Iterator[Manifest]:
    yield policies.cilium_settings(fleet, cluster, phase)
    nodes = sum(node.startswith(f"{cluster}/") for node in fleet.nodes)
    yield {
        "apiVersion": "hindcast/v1",
        "kind": "CiliumAgents",
        "metadata": {"name": "cilium", "namespace": "kube-system"},
        "spec": {"version": CILIUM},
        "status": {"ready": nodes, "nodes": nodes},
    }


_Objects = Callable[[Fleet, str, Phase], Sequence[Manifest] | Iterator[Manifest]]
_WHAT: dict[schema.Table, _Objects] = {
    schema.POLICY_VERSIONS: policies.in_force,
    schema.NAMESPACES: _namespaces,
    schema.WORKLOADS: _workloads,
    schema.CLUSTER_SETTINGS: _settings,
}
"""What each table holds, as the objects of a cluster in a phase of the story."""


def _versions(fleet: Fleet, cluster: str, story: Story, span: tuple[dt.datetime, dt.datetime], objects: _Objects) -> list[dict[str, Any]]:
    """Return the versions of a cluster's objects within a span: each begins and ends where an event of the story changes it."""
    since, until = span
    by_mistake = {story.incident[0], story.new_host, story.opened, story.removed[0]}
    found: list[dict[str, Any]] = []
    current: dict[tuple[Any, ...], dict[str, Any]] = {}
    for moment in [since, *(each for each in story.changes() if since < each < until)]:
        who = SOMEBODY if moment in by_mistake else DEPLOYER
        manifests = {_key(each): each for each in objects(fleet, cluster, story.phase(int(moment.timestamp()) * 1_000_000_000))}
        for key, row in list(current.items()):
            if key in manifests and row["manifest"] == _text(manifests[key]):
                continue
            how = "changed" if key in manifests else "deleted"
            row.update(valid_to=moment, ended_recorded=moment + _LAG, valid_to_source="watch", ended_how=how, ended_by=who)
            del current[key]
        for key, manifest in manifests.items():
            if key not in current:
                current[key] = _version(cluster, manifest, moment, until, by=DEPLOYER if moment == since else who)
                found.append(current[key])
    return found


_LAG = dt.timedelta(seconds=2)
"""How long after a change the lake learned of it."""


def _key(manifest: Manifest) -> tuple[Any, ...]:
    return manifest["kind"], manifest["metadata"].get("namespace"), manifest["metadata"]["name"]


def _text(manifest: Manifest) -> str:
    return json.dumps({name: value for name, value in manifest.items() if name != "status"}, sort_keys=True)


def _version(cluster: str, manifest: Manifest, begin: dt.datetime, until: dt.datetime, *, by: str) -> dict[str, Any]:
    """Return a version that has not ended."""
    kind, namespace, name = _key(manifest)
    text, status = _text(manifest), manifest.get("status")
    return {
        "cluster": cluster,
        "valid_from": begin,
        "valid_to": None,
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "uid": hashlib.sha256(f"{cluster}/{kind}/{name}".encode()).hexdigest()[:32],
        "recorded": min(begin + _LAG, until),
        "ended_recorded": None,
        "hash": hashlib.sha256(text.encode()).hexdigest(),
        "api_version": manifest["apiVersion"],
        "valid_from_source": "watch",
        "valid_to_source": None,
        "ended_how": None,
        "changed_by": by,
        "ended_by": None,
        "source": "watch",
        "manifest": text,
        "status": json.dumps(status) if status else None,
    }


def _observed(cluster: str, since: dt.datetime, until: dt.datetime) -> dict[str, Any]:
    return {
        "cluster": cluster,
        "date": since.date(),
        "from": since,
        "to": until,
        "state": "observed",
        "kinds": _KINDS,
        "source": "watch",
        "detail": "simulated",
        "recorded": until,
    }
