"""The simulated company's configuration history: namespaces, policies, Cilium's settings, and a drift, as its story has them.

It writes what a watch of the clusters would have written, so that the incident of the story has a cause that can be found.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Any

import pyarrow as pa

from collectors.simulator.fleet import CALLS, NAMESPACES, Fleet
from collectors.simulator.story import CALLS_AFTER, Story
from warehouse import schema
from warehouse.tables import Lake

APP_ID = "simulate-configuration"
DEPLOYER = "system:serviceaccount:gitops:deployer"
SOMEBODY = "mallory@company.example"
BLUEPRINT = "baseline"
MINUTE = dt.timedelta(minutes=1)
_HOME = {
    written.split(":")[0]: (namespace, int(written.split(":")[2]))
    for namespace, (_, services) in NAMESPACES.items()
    for written in services
}


def backfill(lake: Lake, fleet: Fleet, story: Story, *, since: dt.datetime, until: dt.datetime) -> None:
    """Store the versions, their ledger and the drift of [since, until); a lake that has them is left as it is."""
    if lake.transaction_version(schema.POLICY_VERSIONS, APP_ID):
        return
    policies, namespaces, settings, ledger, drift = [], [], [], [], []
    for cluster in fleet.clusters:
        for namespace, (team, _) in NAMESPACES.items():
            manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"team": team}}}
            namespaces.append(_version(cluster, manifest, since, None, until, by=DEPLOYER))
            policies += _policies(cluster, namespace, story, since, until)
        settings += _settings(cluster, story, since, until, drifted=cluster == fleet.clusters[-1])
        ledger.append(_observed(cluster, since, until))
    drift += _drift(fleet.clusters[-1], story.new_host, since)
    for table, rows in (
        (schema.POLICY_VERSIONS, policies),
        (schema.NAMESPACES, namespaces),
        (schema.CLUSTER_SETTINGS, settings),
        (schema.CONFIG_COVERAGE, ledger),
        (schema.DRIFT, drift),
    ):
        written = lake.write_files(table, pa.Table.from_pylist(rows, schema=table.schema))
        lake.commit(table, written, transactions={APP_ID: 1}, metadata={})


def _policies(cluster: str, namespace: str, story: Story, since: dt.datetime, until: dt.datetime) -> list[dict[str, Any]]:
    """The namespace's policy in its versions: the deployment changes checkout's neighbours, a mistake cuts cart off its database."""
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
    """A policy that lets in whoever calls the namespace's services, on their ports, and no one else."""
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


def _drift(cluster: str, at: dt.datetime, since: dt.datetime) -> list[dict[str, Any]]:
    if at < since:
        return []
    row: dict[str, Any] = {
        "cluster": cluster,
        "date": at.date(),
        "time": at + MINUTE,
        "drift": "setting",
        "state": "open",
        "blueprint": BLUEPRINT,
        "blueprint_version": "1.0.0",
        "control": "BP-SET",
        "kind": "cilium-config",
        "name": "enable-policy",
        "severity": "critical",
        "since": at,
        "changed_by": SOMEBODY,
        "paths": ["data.enable-policy"],
        "before": json.dumps({"data.enable-policy": "always"}),
        "after": json.dumps({"data.enable-policy": "default"}),
        "summary": "enable-policy is default where the blueprint wants always: pods without a policy are open",
    }
    return [row]


def _version(
    cluster: str,
    manifest: dict[str, Any],
    begin: dt.datetime,
    end: dt.datetime | None,
    until: dt.datetime,
    *,
    by: str,
    ended_by: str | None = None,
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
        "ended_how": "changed" if end else None,
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
        "kinds": ["CiliumNetworkPolicy", "ConfigMap", "Namespace"],
        "source": "watch",
        "detail": "simulated",
        "recorded": until,
    }
