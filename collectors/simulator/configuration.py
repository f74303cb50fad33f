"""The simulated company's configuration history: namespaces, pods, policies and Cilium's settings, following its story.

It writes what a watch of the clusters would have written, so that the incident of the story has a cause in the history, and
so that clusters drift from the blueprint `baseline`. Detecting either does not belong here.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from collectors.simulator.fleet import CALLS, NAMESPACES, Fleet, Pod
from collectors.simulator.story import CALLS_AFTER, Story
from warehouse import schema
from warehouse.lake.tables import Lake

APP_ID = "simulate-configuration"
DEPLOYER = "system:serviceaccount:gitops:deployer"
SOMEBODY = "mallory@company.example"
BLUEPRINT = "baseline"
"""The blueprint whose policies the clusters have."""
OPENED, REMOVED = "fraud", "search"
"""Namespaces of the last cluster whose blueprint policy was opened, and removed for a while."""
CILIUM = "1.18.4"
MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)
_KINDS = ["CiliumNetworkPolicy", "NetworkPolicy", "CiliumClusterwideNetworkPolicy", "ConfigMap", "CiliumAgents", "Namespace", "PodLabels"]
_HOME = {
    written.split(":")[0]: (namespace, int(written.split(":")[2]))
    for namespace, (_, services) in NAMESPACES.items()
    for written in services
}


def backfill(lake: Lake, fleet: Fleet, story: Story, *, since: dt.datetime, until: dt.datetime) -> None:
    """Store the versions of [since, until) and their coverage; a lake that already has them is left unchanged."""
    if lake.transaction_version(schema.POLICY_VERSIONS, APP_ID):
        return
    policies, namespaces, workloads, settings, ledger = [], [], [], [], []
    for cluster in fleet.clusters:
        for namespace, (team, _) in NAMESPACES.items():
            manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"team": team}}}
            namespaces.append(_version(cluster, manifest, since, None, until, by=DEPLOYER))
            policies += _policies(cluster, namespace, story, since, until)
            if namespace != "kube-system":
                policies += _default_deny(cluster, namespace, story, since, until, drifted=cluster == fleet.clusters[-1])
        workloads += [_pods(cluster, pods[0], since, until) for (home, _), pods in fleet.pods.items() if home == cluster]
        settings += _settings(cluster, story, since, until, drifted=cluster == fleet.clusters[-1])
        settings.append(_agents(cluster, fleet, since, until))
        ledger.append(_observed(cluster, since, until))
    for table, rows in (
        (schema.POLICY_VERSIONS, policies),
        (schema.NAMESPACES, namespaces),
        (schema.WORKLOADS, workloads),
        (schema.CLUSTER_SETTINGS, settings),
        (schema.CONFIG_COVERAGE, ledger),
    ):
        written = lake.write_files(table, pa.Table.from_pylist(rows, schema=table.schema))
        lake.commit(table, written, transactions={APP_ID: 1}, metadata={})


def look_again(lake: Lake, clusters: Sequence[str], *, since: dt.datetime, until: dt.datetime) -> None:
    """Record that the simulated clusters' configuration was watched and did not change. Raises LakeError."""
    rows = [_observed(cluster, since, until) for cluster in clusters]
    table = schema.CONFIG_COVERAGE
    lake.commit(table, lake.write_files(table, pa.Table.from_pylist(rows, schema=table.schema)), transactions={}, metadata={})


def _policies(cluster: str, namespace: str, story: Story, since: dt.datetime, until: dt.datetime) -> list[dict[str, Any]]:
    """Return the versions of a namespace's policy: the deployment changes checkout's peers, a mistake cuts cart off its database."""
    usual = _policy(namespace, CALLS)
    moments: list[tuple[dt.datetime, dict[str, Any], str]] = [(since, usual, DEPLOYER)]
    if _policy(namespace, CALLS_AFTER) != usual:
        moments.append((story.deployment - MINUTE, _policy(namespace, CALLS_AFTER), DEPLOYER))
    if namespace == "cart":
        mistaken = json.loads(json.dumps(moments[-1][1]).replace("cart-api", "cart-apl"))
        moments += [(story.incident[0], mistaken, SOMEBODY), (story.incident[1], moments[-1][1], DEPLOYER)]
    ends = [*(moment for moment, _, _ in moments[1:]), None]
    return [
        _version(cluster, manifest, begin, end, until, by=by, ended_by=moments[place + 1][2] if end else None)
        for place, ((begin, manifest, by), end) in enumerate(zip(moments, ends, strict=True))
    ]


def _policy(namespace: str, calls: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return a policy that allows the callers of the namespace's services, on their ports, and nobody else."""
    rules = []
    for service in sorted(name for name, (home, _) in _HOME.items() if home == namespace):
        callers = sorted(caller for caller, called in calls if called == service)
        peers = [{"matchLabels": {"app.kubernetes.io/name": name, "k8s:io.kubernetes.pod.namespace": _HOME[name][0]}} for name in callers]
        if peers:
            rules.append({"fromEndpoints": peers, "toPorts": [{"ports": [{"port": str(_HOME[service][1]), "protocol": "TCP"}]}]})
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": f"{namespace}-ingress", "namespace": namespace},
        "spec": {"endpointSelector": {}, "ingress": rules or [{}]},
    }


def _settings(cluster: str, story: Story, since: dt.datetime, until: dt.datetime, *, drifted: bool) -> list[dict[str, Any]]:
    def settings(mode: str) -> dict[str, Any]:
        data = {"enable-policy": mode, "enable-hubble": "true", "hubble-event-buffer-capacity": "4095", "enable-wireguard": "true"}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"}, "data": data}

    end = story.new_host if drifted else None
    found = [_version(cluster, settings("always"), since, end, until, by="helm", ended_by=SOMEBODY if end else None)]
    if end:
        found.append(_version(cluster, settings("default"), end, None, until, by=SOMEBODY))
    return found


def _default_deny(
    cluster: str, namespace: str, story: Story, since: dt.datetime, until: dt.datetime, *, drifted: bool
) -> list[dict[str, Any]]:
    """Return the blueprint's policy in a namespace; one was opened before the new host appeared, another removed for three hours."""
    usual = _closed(namespace, ingress=[])
    if drifted and namespace == OPENED:
        at = story.new_host - 2 * HOUR
        return [
            _version(cluster, usual, since, at, until, by=DEPLOYER, ended_by=SOMEBODY),
            _version(cluster, _closed(namespace, ingress=[{}]), at, None, until, by=SOMEBODY),
        ]
    if drifted and namespace == REMOVED:
        gone, back = story.deployment + 2 * HOUR, story.deployment + 5 * HOUR
        return [
            _version(cluster, usual, since, gone, until, by=DEPLOYER, ended_by=SOMEBODY, ended_how="deleted"),
            _version(cluster, usual, back, None, until, by=DEPLOYER),
        ]
    return [_version(cluster, usual, since, None, until, by=DEPLOYER)]


def _closed(namespace: str, *, ingress: list[Any]) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "hindcast", "hindcast/blueprint": BLUEPRINT}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{BLUEPRINT}-default-deny-ingress", "namespace": namespace, "labels": labels},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress, "egress": []},
    }


def _pods(cluster: str, pod: Pod, since: dt.datetime, until: dt.datetime) -> dict[str, Any]:
    """Return what selectors see of a service's pods."""
    endpoint, workload = pod.endpoint, pod.endpoint.workloads[0]
    written = (label.removeprefix("k8s:").partition("=") for label in endpoint.labels if label.startswith("k8s:"))
    labels = {name: value for name, _, value in written if not name.startswith("io.")}
    manifest = {
        "apiVersion": "hindcast/v1",
        "kind": "PodLabels",
        "metadata": {"name": f"{workload.kind}.{workload.name}".lower(), "namespace": endpoint.namespace, "labels": labels},
        "spec": {"workload": {"kind": workload.kind, "name": workload.name}},
    }
    return _version(cluster, manifest, since, None, until, by=DEPLOYER)


def _agents(cluster: str, fleet: Fleet, since: dt.datetime, until: dt.datetime) -> dict[str, Any]:
    nodes = sum(node.startswith(f"{cluster}/") for node in fleet.nodes)
    metadata = {"name": "cilium", "namespace": "kube-system"}
    manifest = {"apiVersion": "hindcast/v1", "kind": "CiliumAgents", "metadata": metadata, "spec": {"version": CILIUM}}
    return _version(cluster, manifest, since, None, until, by="helm") | {"status": json.dumps({"ready": nodes, "nodes": nodes})}


def _version(
    cluster: str,
    manifest: dict[str, Any],
    begin: dt.datetime,
    end: dt.datetime | None,
    until: dt.datetime,
    *,
    by: str,
    ended_by: str | None = None,
    ended_how: str = "changed",
) -> dict[str, Any]:
    text = json.dumps(manifest, sort_keys=True)
    metadata = manifest["metadata"]
    lag = dt.timedelta(seconds=2)
    return {
        "cluster": cluster,
        "valid_from": begin,
        "valid_to": end,
        "kind": manifest["kind"],
        "namespace": metadata.get("namespace"),
        "name": metadata["name"],
        "uid": hashlib.sha256(f"{cluster}/{manifest['kind']}/{metadata['name']}".encode()).hexdigest()[:32],
        "recorded": min(begin + lag, until),
        "ended_recorded": end + lag if end else None,
        "hash": hashlib.sha256(text.encode()).hexdigest(),
        "api_version": manifest["apiVersion"],
        "valid_from_source": "watch",
        "valid_to_source": "watch" if end else None,
        "ended_how": ended_how if end else None,
        "changed_by": by,
        "ended_by": ended_by,
        "source": "watch",
        "manifest": text,
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
