"""The network policies and Cilium's settings of the simulated company's clusters, as its story has them in force.

Ingress is least privilege and egress ends at the cluster, but for the hosts on the internet that a service needs. The last
cluster drifts from the blueprint. What the policies do with traffic belongs in collectors.simulator.enforcement; when they
changed, and who changed them, belongs in collectors.simulator.configuration.
"""

from __future__ import annotations

import json
from typing import Any

from collectors.simulator.fleet import Fleet, Pod
from collectors.simulator.story import CUT_OFF, Phase

Manifest = dict[str, Any]

BLUEPRINT = "baseline"
"""The blueprint whose policies the clusters have."""
OPENED, REMOVED = "fraud", "search"
"""Namespaces of the last cluster whose blueprint policy was opened, and removed for a while."""
RESOLVER = "coredns"
GATEWAY = "gateway"
BANNED = ("mailer", "vault")
"""Two services: a deny rule keeps the pods of the first one's namespace out of the second one's."""
_WITH_REQUESTS = ("http", "grpc")
"""Protocols whose requests the proxy sees, because the rules for their ports are rules for HTTP."""
_NAME, _NAMESPACE = "app.kubernetes.io/name", "io.kubernetes.pod.namespace"
_PUBLISHED = {"app.kubernetes.io/managed-by": "hindcast", "hindcast/blueprint": BLUEPRINT}
"""Labels of the blueprint's own objects."""
_TEAMS = {"matchExpressions": [{"key": "k8s:io.cilium.k8s.namespace.labels.team", "operator": "Exists"}]}
"""Selects the pods of all namespaces that a team has."""


def in_force(fleet: Fleet, cluster: str, phase: Phase) -> list[Manifest]:
    """Return the policies of a cluster in a phase of the story."""
    drifted = fleet.drifts(cluster)
    services = {service: pods[0] for (home, service), pods in fleet.pods.items() if home == cluster}
    outside = phase.outside(drifted=drifted)
    found = [_cluster_egress(services[RESOLVER]), _ban(*(services[service].endpoint.namespace for service in BANNED))]
    for namespace in dict.fromkeys(pod.endpoint.namespace for pod in services.values()):
        own = {service: pod for service, pod in services.items() if pod.endpoint.namespace == namespace}
        ingress = _ingress(namespace, own, services, phase)
        if phase.incident and CUT_OFF[1] in own:
            ingress = json.loads(json.dumps(ingress).replace(CUT_OFF[0], CUT_OFF[0][:-1] + "l"))
        found.append(ingress)
        found += [_egress(pod, outside[service][0]) for service, pod in own.items() if service in outside]
        if RESOLVER in own or (drifted and phase.removed and namespace == REMOVED):
            continue
        if GATEWAY in own:
            policy = gateway_policy()
            found.append({**policy, "metadata": {**policy["metadata"], "namespace": namespace, "labels": _PUBLISHED}})
        found.append(_default_deny(namespace, opened=drifted and phase.opened and namespace == OPENED))
    return found


def gateway_policy() -> Manifest:
    """Return the policy that lets the world reach the gateway, as the blueprint wants it in the gateway's namespace."""
    rule = {"fromEntities": ["world"], "toPorts": [{"ports": [{"port": "8443", "protocol": "TCP"}]}]}
    spec = {"endpointSelector": {"matchLabels": {_NAME: GATEWAY}}, "ingress": [rule]}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": f"{BLUEPRINT}-gateway"}, "spec": spec}


def cilium_settings(fleet: Fleet, cluster: str, phase: Phase) -> Manifest:
    """Return the ConfigMap `cilium-config` of a cluster in a phase of the story."""
    data = {
        "cluster-name": cluster,
        "enable-policy": "default" if fleet.drifts(cluster) and phase.new_host else "always",
        "enable-hubble": "true",
        "hubble-event-buffer-capacity": "4095",
        "enable-wireguard": "true",
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"}, "data": data}


def _cilium_policy(name: str, namespace: str | None, selected: dict[str, str], **rules: list[Manifest]) -> Manifest:
    selector = {"matchLabels": selected} if selected else {}
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    kind = "CiliumNetworkPolicy" if namespace else "CiliumClusterwideNetworkPolicy"
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": {"endpointSelector": selector, **rules}}


def _ports(pod: Pod, rules: Manifest | None = None) -> list[Manifest]:
    protocol = "UDP" if pod.protocol == "dns" else "TCP"
    return [{"ports": [{"port": str(pod.port), "protocol": protocol}], **({"rules": rules} if rules else {})}]


def _pods_of(pod: Pod) -> dict[str, str]:
    return {_NAME: pod.service, f"k8s:{_NAMESPACE}": pod.endpoint.namespace}


def _ingress(namespace: str, own: dict[str, Pod], services: dict[str, Pod], phase: Phase) -> Manifest:
    """Return the policy that allows the callers of a namespace's services, on their ports, and nobody else."""
    rules: list[Manifest] = []
    for service, pod in sorted(own.items()):
        callers = sorted(caller for caller, called in phase.calls if called == service)
        requests: Manifest | None = {"http": [{}]} if pod.protocol in _WITH_REQUESTS else None
        if callers:
            peers = [{"matchLabels": _pods_of(services[caller])} for caller in callers]
            rules.append({"fromEndpoints": peers, "toPorts": _ports(pod, requests)})
        if service == RESOLVER:
            rules.append({"fromEndpoints": [_TEAMS], "toPorts": _ports(pod)})
    # A list with an empty rule isolates the pods and allows nobody.
    return _cilium_policy(f"{namespace}-ingress", namespace, {}, ingress=rules or [{}])


def _egress(service: Pod, host: str) -> Manifest:
    """Return the policy that lets a service reach its host on the internet."""
    rule = {"toFQDNs": [{"matchName": host}], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}
    namespace = service.endpoint.namespace
    return _cilium_policy(f"{namespace}-egress", namespace, {_NAME: service.service}, egress=[rule])


def _cluster_egress(resolver: Pod) -> Manifest:
    """Return the policy that lets every pod reach the teams' pods, and the resolver through the proxy."""
    queries = {"toEndpoints": [{"matchLabels": _pods_of(resolver)}], "toPorts": _ports(resolver, {"dns": [{"matchPattern": "*"}]})}
    return _cilium_policy("cluster-egress", None, {}, egress=[{"toEndpoints": [_TEAMS]}, queries])


def _ban(banned: str, namespace: str) -> Manifest:
    """Return the policy that keeps the pods of a namespace out of another one, whatever else is allowed."""
    peer = {"matchLabels": {f"k8s:{_NAMESPACE}": banned}}
    return _cilium_policy(f"no-{banned}", namespace, {}, ingressDeny=[{"fromEndpoints": [peer]}])


def _default_deny(namespace: str, *, opened: bool) -> Manifest:
    """Return the blueprint's policy in a namespace."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{BLUEPRINT}-default-deny-ingress", "namespace": namespace, "labels": _PUBLISHED},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}] if opened else [], "egress": []},
    }
