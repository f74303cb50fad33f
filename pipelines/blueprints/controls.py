"""Audit controls under their published ids, each evaluated over one cluster as configuration history knows it. No I/O.

Controls look at objects: which pods policies select and which directions they close. Whether traffic passes in the end is a
different question; controls that ask it are reported as not evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from pipelines.blueprints.drift import STALE_AFTER, Drift
from pipelines.blueprints.model import SYSTEM_NAMESPACES
from pipelines.blueprints.render import Wanted
from pipelines.blueprints.selectors import matches_any, selector_matches
from pipelines.blueprints.state import ClusterState, PodGroup, StoredObject
from pipelines.blueprints.subjects import Subject, cilium_matches, subjects
from pipelines.objects.canonical import CILIUM_POLICIES

EXAMPLES = 20
"""How many failing objects a result names."""
CILIUM_KEYS = (
    "enable-policy",
    "policy-audit-mode",
    "allow-localhost",
    "enable-host-firewall",
    "policy-cidr-match-mode",
    "policy-default-local-cluster",
    "enable-non-default-deny-policies",
    "enable-l7-proxy",
    "enable-hubble",
    "cluster-name",
    "cluster-id",
)
"""Keys of cilium-config that affect how policies are enforced."""
_BOTH = frozenset({"ingress", "egress"})
_POLICIES = ("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
_DNS = PodGroup(namespace="kube-system", labels={"k8s-app": "kube-dns"})


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a control for a cluster; columns of the table `posture`."""

    control: str
    status: str
    checked: int | None = None
    failing: tuple[str, ...] = ()
    detail: str | None = None

    @property
    def failed(self) -> int | None:
        return None if self.checked is None else len(self.failing)


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """What a control found: how many objects it checked, and which of them fail."""

    checked: int
    failing: Sequence[str]
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class Control:
    """A control: its id, and the kinds it needs. Its question is in `warehouse.records.posture.ASKS`."""

    id: str
    also: tuple[str, ...] = ()
    """Other ids it is published under."""
    kinds: tuple[str, ...] = ()
    wanted_kinds: Callable[[Wanted], Collection[str]] = lambda _wanted: ()
    """Further kinds it needs if blueprints require them."""
    evaluate: Callable[[_Cluster], _Finding] | None = None
    unevaluated: str = ""
    """Why the control is not evaluated; empty if it is."""


class _Cluster:
    """A cluster's state, with derived values that several controls share."""

    def __init__(self, state: ClusterState, wanted: Wanted, drifts: Sequence[Drift]) -> None:
        self.state = state
        self.wanted = wanted
        self.drifts = drifts
        self.rules = {key: subjects(policy) for key, policy in state.policies.items()}
        self._by_namespace: dict[str | None, list[tuple[StoredObject, Subject]]] = {}
        for key, policy in state.policies.items():
            for subject in self.rules[key]:
                self._by_namespace.setdefault(subject.namespace, []).append((policy, subject))
        self._valid = {
            namespace: [subject for policy, subject in rules if not policy.is_rejected] for namespace, rules in self._by_namespace.items()
        }

    def labels_of(self, namespace: str) -> Mapping[str, str]:
        return self.state.namespaces.get(namespace, {})

    @cached_property
    def namespaces(self) -> list[str]:
        """Namespaces in scope: all but the cluster's own."""
        return sorted(name for name in self.state.namespaces if not matches_any(name, SYSTEM_NAMESPACES))

    @cached_property
    def scope(self) -> frozenset[str]:
        return frozenset(self.namespaces)

    @cached_property
    def pods(self) -> list[PodGroup]:
        """Pods of the namespaces in scope that are on the pod network."""
        return [pods for pods in self.state.pods if pods.namespace in self.scope and not pods.host_network]

    def rules_in(self, namespace: str | None) -> list[tuple[StoredObject, Subject]]:
        """Rules of a namespace's own policies; None for cluster-wide ones."""
        return self._by_namespace.get(namespace, [])

    def rules_about(self, pods: PodGroup) -> list[Subject]:
        """Rules of valid policies that select these pods."""
        labels = self.labels_of(pods.namespace)
        candidates = (*self._valid.get(pods.namespace, ()), *self._valid.get(None, ()))
        return [subject for subject in candidates if subject.selects(pods, labels)]

    @cached_property
    def about(self) -> list[tuple[PodGroup, list[Subject]]]:
        """The rules that apply to each set of pods."""
        return [(pods, self.rules_about(pods)) for pods in self.pods]

    def closed(self, namespace: str) -> frozenset[str]:
        """Directions denied by default in the whole namespace, by a policy that does nothing else."""
        own = [subject for subject in self._valid.get(namespace, ()) if subject.selects_all]
        return frozenset(name for name in _BOTH for subject in own if denies_by_default(subject, name))

    def closed_anyhow(self, namespace: str) -> frozenset[str]:
        """The same, with the directions that cluster-wide policies close for every pod of the namespace."""
        pods = PodGroup(namespace=namespace, labels={})
        wide = [
            subject
            for policy, subject in self.rules_in(None)
            if not policy.is_rejected and _only_namespaces(subject.selector) and subject.selects(pods, self.labels_of(namespace))
        ]
        return self.closed(namespace) | frozenset(name for subject in wide for name in subject.closes)

    @cached_property
    def guards_nodes(self) -> bool:
        """Whether a cluster-wide policy selects nodes."""
        return any(subject.selector is None and subject.rule.get("nodeSelector") is not None for _, subject in self.rules_in(None))

    @cached_property
    def enforcement(self) -> list[str]:
        """Reasons why policies may not be enforced."""
        agents, settings = self.state.agents, self.state.cilium_config
        reasons = []
        if agents is None:
            reasons.append("no Cilium DaemonSet")
        elif not agents.wanted or agents.ready != agents.wanted:
            reasons.append(f"{agents.ready or 0} of {agents.wanted or 0} agents ready")
        if settings.get("enable-policy") == "never":
            reasons.append("enable-policy is never")
        if settings.get("policy-audit-mode", "false") == "true":
            reasons.append("policy-audit-mode is true")
        return reasons


def denies_by_default(subject: Subject, direction: str) -> bool:
    """Return whether a rule closes a direction and opens nothing in it."""
    rules = subject.rule.get(direction) or []
    return direction in subject.closes and (not rules or (subject.kind in CILIUM_POLICIES and all(rule == {} for rule in rules)))


def _only_namespaces(selector: Any) -> bool:
    """Return whether a selector requires nothing of a pod but its namespace."""
    if not isinstance(selector, Mapping):
        return False
    keys = [*(selector.get("matchLabels") or {}), *(one.get("key", "") for one in selector.get("matchExpressions") or [])]
    return all("io.kubernetes.pod.namespace" in key or "io.cilium.k8s.namespace.labels." in key for key in keys)


def _own_policy(cluster: _Cluster) -> _Finding:
    def covered(namespace: str) -> bool:
        return bool(cluster.rules_in(namespace)) or bool(cluster.closed_anyhow(namespace))

    return _Finding(checked=len(cluster.namespaces), failing=[name for name in cluster.namespaces if not covered(name)])


def _selected(cluster: _Cluster) -> _Finding:
    return _Finding(checked=len(cluster.about), failing=[_named(pods) for pods, rules in cluster.about if not rules])


def _isolated(cluster: _Cluster) -> _Finding:
    open_ways = dict.fromkeys(sorted(_BOTH), 0)
    failing = []
    for pods, rules in cluster.about:
        missing = _BOTH - frozenset(name for rule in rules for name in rule.closes)
        for name in missing:
            open_ways[name] += 1
        if missing:
            failing.append(f"{_named(pods)} ({' and '.join(sorted(missing, reverse=True))} open)")
    detail = f"not isolated: ingress {open_ways['ingress']}, egress {open_ways['egress']} of {len(cluster.about)} sets of pods"
    return _Finding(checked=len(cluster.about), failing=failing, detail=detail)


def _dangling(cluster: _Cluster) -> _Finding:
    recent: dict[str, list[PodGroup]] = {}
    for pods in cluster.state.recent_pods:
        recent.setdefault(pods.namespace, []).append(pods)
    checked, failing = 0, []
    for key, every_rule in cluster.rules.items():
        rules = [subject for subject in every_rule if subject.selector not in (None, {})]
        if not rules:
            continue
        checked += 1
        places = recent if rules[0].namespace is None else [rules[0].namespace]
        found = any(
            subject.selects(pods, cluster.labels_of(place)) for subject in rules for place in places for pods in recent.get(place, [])
        )
        if not found:
            failing.append(str(key))
    return _Finding(checked=checked, failing=failing)


def _enforcing(cluster: _Cluster) -> _Finding:
    return _Finding(checked=1, failing=cluster.enforcement)


def _host_network(cluster: _Cluster) -> _Finding:
    host = [_named(pods) for pods in cluster.state.pods if pods.host_network]
    detail = "a cluster-wide policy is about nodes" if cluster.guards_nodes else "no cluster-wide policy is about nodes"
    return _Finding(checked=len(host), failing=[] if cluster.guards_nodes else host, detail=detail)


def _separation(cluster: _Cluster) -> _Finding:
    failing = []
    for name in cluster.namespaces:
        missing = _BOTH - cluster.closed_anyhow(name)
        if missing:
            failing.append(f"{name} ({' and '.join(sorted(missing, reverse=True))} open)")
    failing += [f"enforcement: {reason}" for reason in cluster.enforcement]
    failing += [] if cluster.guards_nodes else ["nodes: no cluster-wide policy is about them"]
    return _Finding(checked=len(cluster.namespaces) + 2, failing=failing)


def _default_deny(cluster: _Cluster) -> _Finding:
    failing = []
    for name in cluster.namespaces:
        missing = _BOTH - cluster.closed(name)
        if missing:
            failing.append(f"{name} (none for {' and '.join(sorted(missing, reverse=True))})")
    return _Finding(checked=len(cluster.namespaces), failing=failing)


def _dns(cluster: _Cluster) -> _Finding:
    closed = [(pods, rules) for pods, rules in cluster.about if any("egress" in rule.closes for rule in rules)]
    servers = [pods for pods in cluster.state.pods if pods.namespace == "kube-system" and pods.labels.get("k8s-app") == "kube-dns"]
    failing = []
    # Equal policies of many namespaces are one rule in memory, and apply equally except in the DNS servers' own namespace.
    known: dict[tuple[int, str | None, str], bool] = {}

    def reaches(subject: Subject, protocol: str) -> bool:
        key = (id(subject.rule), subject.namespace if subject.namespace in (None, _DNS.namespace) else "another", protocol)
        if key not in known:
            known[key] = any(_reaches_dns(subject, protocol, server, cluster) for server in servers or [_DNS])
        return known[key]

    for pods, rules in closed:
        missing = [protocol for protocol in ("UDP", "TCP") if not any(reaches(rule, protocol) for rule in rules)]
        if missing:
            failing.append(f"{_named(pods)} (53/{' and 53/'.join(missing)})")
    return _Finding(checked=len(closed), failing=failing, detail="deny rules are not weighed against the allows")


def _reaches_dns(subject: Subject, protocol: str, server: PodGroup, cluster: _Cluster) -> bool:
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


def _empty_selector(cluster: _Cluster) -> _Finding:
    checked, failing = 0, []
    for key, rules in cluster.rules.items():
        if key.kind != "NetworkPolicy" or key.namespace not in cluster.scope:
            continue
        checked += 1
        for subject in rules:
            plain_deny = all(denies_by_default(subject, name) for name in subject.closes)
            if subject.selects_all and not plain_deny and key.name != "default-deny":
                failing.append(str(key))
    return _Finding(checked=checked, failing=failing)


def _deployments(cluster: _Cluster) -> _Finding:
    scope = [one for one in cluster.state.deployments if one.namespace in cluster.scope and not one.host_network]
    failing = [
        f"{one.namespace}/{one.name}"
        for one in scope
        if not any(
            subject.kind == "NetworkPolicy" and subject.selects(one, cluster.labels_of(one.namespace))
            for _, subject in cluster.rules_in(one.namespace)
        )
    ]
    return _Finding(checked=len(scope), failing=failing)


def _blueprint_objects(cluster: _Cluster) -> _Finding:
    return _Finding(checked=len(cluster.wanted.objects), failing=_drifted(cluster, "BP-OBJ"))


def _rejected(cluster: _Cluster) -> _Finding:
    policies = cluster.state.policies.values()
    return _Finding(checked=len(policies), failing=[str(policy.key) for policy in policies if policy.is_rejected])


def _cilium_settings(cluster: _Cluster) -> _Finding:
    checked = len(cluster.wanted.settings) + sum(1 for cilium in cluster.wanted.cilium.values() if cilium.version)
    found = cluster.state.cilium_config
    detail = ", ".join(f"{key}={found[key]}" for key in CILIUM_KEYS if key in found)
    return _Finding(checked=checked, failing=_drifted(cluster, "BP-CILIUM"), detail=detail or None)


def _drifted(cluster: _Cluster, control: str) -> list[str]:
    return [drift.summary for drift in cluster.drifts if drift.control == control]


def _named(pods: PodGroup) -> str:
    labels = ",".join(f"{key}={value}" for key, value in sorted(pods.labels.items()))
    return f"{pods.namespace}/{labels or pods.name or 'pods without labels'}"


CONTROLS: tuple[Control, ...] = (
    Control(
        id="C-0206",
        also=("CIS 5.3.2", "C-0054", "C-0049"),
        kinds=("Namespace", *_POLICIES),
        evaluate=_own_policy,
    ),
    Control(id="C-0260", kinds=("Namespace", "PodLabels", *_POLICIES), evaluate=_selected),
    Control(
        id="C-0030",
        also=("NSA",),
        kinds=("Namespace", "PodLabels", *_POLICIES),
        evaluate=_isolated,
    ),
    Control(id="C-0299", kinds=("Namespace", "PodLabels", *_POLICIES), evaluate=_dangling),
    Control(
        id="C-0205",
        also=("CIS 5.3.1",),
        kinds=("ConfigMap", "CiliumAgents"),
        evaluate=_enforcing,
    ),
    Control(
        id="C-0041",
        kinds=("PodLabels", "CiliumClusterwideNetworkPolicy"),
        evaluate=_host_network,
    ),
    Control(
        id="NSA-NP",
        kinds=("Namespace", "ConfigMap", "CiliumAgents", *_POLICIES),
        evaluate=_separation,
    ),
    Control(
        id="KYV-DD",
        kinds=("Namespace", *_POLICIES),
        evaluate=_default_deny,
    ),
    Control(
        id="KYV-DNS",
        kinds=("Namespace", "PodLabels", *_POLICIES),
        evaluate=_dns,
    ),
    Control(
        id="KYV-EMPTY",
        kinds=("Namespace", "NetworkPolicy"),
        evaluate=_empty_selector,
    ),
    Control(id="KYV-REQ", kinds=("Namespace", "Deployment", "NetworkPolicy"), evaluate=_deployments),
    Control(id="GK", unevaluated="gatekeeper's library has no template for network policies"),
    Control(
        id="BP-OBJ",
        kinds=("Namespace",),
        wanted_kinds=lambda wanted: {key.kind for key in wanted.objects},
        evaluate=_blueprint_objects,
    ),
    Control(
        id="BP-EFFECT",
        unevaluated="it takes the verdicts of policies, which are not computed yet",
    ),
    Control(id="BP-INVALID", kinds=("CiliumNetworkPolicy",), evaluate=_rejected),
    Control(id="BP-CILIUM", kinds=("ConfigMap",), evaluate=_cilium_settings),
)
"""Every control, in the order of the published catalogue."""


def evaluate(
    state: ClusterState,
    wanted: Wanted,
    drifts: Sequence[Drift],
    *,
    stale_after: timedelta = STALE_AFTER,
    controls: Iterable[Control] = CONTROLS,
) -> list[Result]:
    """Return the result of each control. A control whose kinds were not observed recently is unknown, never passed."""
    cluster = _Cluster(state, wanted, drifts)
    out = []
    for control in controls:
        if control.evaluate is None:
            out.append(Result(control=control.id, status="not_evaluated", detail=control.unevaluated))
            continue
        kinds = dict.fromkeys([*control.kinds, *sorted(control.wanted_kinds(wanted))])
        unseen = [kind for kind in kinds if not state.knows(kind, within=stale_after)]
        if unseen:
            out.append(Result(control=control.id, status="unknown", detail=f"not seen lately: {', '.join(unseen)}"))
            continue
        found = control.evaluate(cluster)
        failing = tuple(sorted(found.failing))
        out.append(
            Result(control=control.id, status="fail" if failing else "pass", checked=found.checked, failing=failing, detail=found.detail)
        )
    return out
