"""The check whether pods whose egress is closed may ask the cluster's DNS servers. Deny rules are not weighed. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.blueprints.control_view import ClusterView, Finding, named
from pipelines.blueprints.selectors import selector_matches
from pipelines.blueprints.state import PodGroup
from pipelines.blueprints.subjects import Subject, cilium_matches

_SERVERS = PodGroup(namespace="kube-system", labels={"k8s-app": "kube-dns"})


def dns(cluster: ClusterView) -> Finding:
    """Check that pods whose egress is closed may reach the cluster's DNS over UDP and TCP."""
    closed = [(pods, rules) for pods, rules in cluster.about if any("egress" in rule.closes for rule in rules)]
    servers = [pods for pods in cluster.state.pods if pods.namespace == "kube-system" and pods.labels.get("k8s-app") == "kube-dns"]
    failing = []
    # Equal policies of many namespaces are one rule in memory, and apply equally except in the DNS servers' own namespace.
    known: dict[tuple[int, str | None, str], bool] = {}

    def reaches(subject: Subject, protocol: str) -> bool:
        key = (id(subject.rule), subject.namespace if subject.namespace in (None, _SERVERS.namespace) else "another", protocol)
        if key not in known:
            known[key] = any(_reaches_dns(subject, protocol, server, cluster) for server in servers or [_SERVERS])
        return known[key]

    for pods, rules in closed:
        missing = [protocol for protocol in ("UDP", "TCP") if not any(reaches(rule, protocol) for rule in rules)]
        if missing:
            failing.append(f"{named(pods)} (53/{' and 53/'.join(missing)})")
    return Finding(checked=len(closed), failing=failing, detail="deny rules are not weighed against the allows")


def _reaches_dns(subject: Subject, protocol: str, server: PodGroup, cluster: ClusterView) -> bool:
    labels = {"kubernetes.io/metadata.name": server.namespace, **cluster.labels_of(server.namespace)}
    rules = [rule for rule in subject.rule.get("egress") or [] if isinstance(rule, Mapping)]
    if subject.kind == "NetworkPolicy":
        return any(
            _has_port(rule.get("ports"), protocol)
            and (not rule.get("to") or any(_peer_is(peer, subject.namespace, server, labels) for peer in rule["to"]))
            for rule in rules
        )
    return any(_cilium_reaches(rule, subject, protocol, server, labels) for rule in rules)


def _peer_is(peer: Mapping[str, Any], namespace: str | None, server: PodGroup, labels: Mapping[str, str]) -> bool:
    if server.host_network or "ipBlock" in peer:  # in Cilium an address block never matches pods or nodes
        return False
    named = peer.get("namespaceSelector")
    right_place = namespace == server.namespace if named is None else selector_matches(named, labels)
    return right_place and selector_matches(peer.get("podSelector", {}), server.labels)


def _cilium_reaches(rule: Mapping[str, Any], subject: Subject, protocol: str, server: PodGroup, labels: Mapping[str, str]) -> bool:
    if rule == {}:
        return False  # an empty rule allows nothing
    ports = [port for entry in rule.get("toPorts") or [] for port in entry.get("ports") or [{}]]
    if rule.get("toPorts") and not _has_port(ports, protocol):
        return False
    peers = [name for name in rule if name.startswith("to") and name != "toPorts"]
    if not peers:
        return "icmps" not in rule
    entities = set(rule.get("toEntities") or ())
    if entities & ({"all", "cluster"} | ({"host", "remote-node"} if server.host_network else set())):
        return True
    for selector in rule.get("toEndpoints") or ():
        keys = str(selector)
        if (
            subject.namespace not in {None, server.namespace}
            and "io.kubernetes.pod.namespace" not in keys
            and "k8s.namespace.labels" not in keys
        ):
            continue  # a selector without a namespace, in a namespace's policy, means the policy's own namespace
        if not server.host_network and cilium_matches(selector, server, labels):
            return True
    return False


def _has_port(ports: Any, protocol: str) -> bool:
    """Return whether port 53 is among the ports; no ports means all."""
    if not ports:
        return True
    for port in ports:
        given = str(port.get("port", "0"))
        if port.get("protocol", "ANY") not in {protocol, "ANY"}:
            continue
        first = int(given) if given.isdigit() else None
        if given in {"0", "dns", "dns-tcp"} or first == 53 or (first is not None and first <= 53 <= int(port.get("endPort") or 0)):
            return True
    return False
