"""The checks of controls, each over one cluster: how many objects it looked at, and which of them fail. No I/O.

Whether pods may reach the DNS servers is checked in pipelines.blueprints.control_dns. Which check answers which published
control stands in pipelines.blueprints.controls.
"""

from __future__ import annotations

from pipelines.blueprints.control_view import BOTH, ClusterView, Finding, denies_by_default, named
from pipelines.blueprints.effect import summary
from pipelines.blueprints.state import PodGroup
from pipelines.policy.policy_set import READERS

SHOWN = 5
"""How many policies a detail names of which the effect is not known."""

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


def own_policy(cluster: ClusterView) -> Finding:
    """Check that each namespace has a policy of its own, or is closed by a cluster-wide one."""

    def covered(namespace: str) -> bool:
        return bool(cluster.rules_in(namespace)) or bool(cluster.closed_anyhow(namespace))

    return Finding(checked=len(cluster.namespaces), failing=[name for name in cluster.namespaces if not covered(name)])


def selected(cluster: ClusterView) -> Finding:
    """Check that each set of pods is selected by a valid policy."""
    return Finding(checked=len(cluster.about), failing=[named(pods) for pods, rules in cluster.about if not rules])


def isolated(cluster: ClusterView) -> Finding:
    """Check that each set of pods is isolated in both directions."""
    open_ways = dict.fromkeys(sorted(BOTH), 0)
    failing = []
    for pods, rules in cluster.about:
        missing = BOTH - frozenset(name for rule in rules for name in rule.closes)
        for name in missing:
            open_ways[name] += 1
        if missing:
            failing.append(f"{named(pods)} ({' and '.join(sorted(missing, reverse=True))} open)")
    detail = f"not isolated: ingress {open_ways['ingress']}, egress {open_ways['egress']} of {len(cluster.about)} sets of pods"
    return Finding(checked=len(cluster.about), failing=failing, detail=detail)


def dangling(cluster: ClusterView) -> Finding:
    """Check that each policy selects pods that exist, or did lately."""
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
    return Finding(checked=checked, failing=failing)


def enforcing(cluster: ClusterView) -> Finding:
    """Check that Cilium is ready on every node and enforces policies."""
    return Finding(checked=1, failing=cluster.enforcement)


def host_network(cluster: ClusterView) -> Finding:
    """Check that a cluster-wide policy is about nodes where pods use the host's network."""
    host = [named(pods) for pods in cluster.state.pods if pods.host_network]
    detail = "a cluster-wide policy is about nodes" if cluster.guards_nodes else "no cluster-wide policy is about nodes"
    return Finding(checked=len(host), failing=[] if cluster.guards_nodes else host, detail=detail)


def separation(cluster: ClusterView) -> Finding:
    """Check that both directions are closed in each namespace, policies are enforced and nodes guarded."""
    failing = []
    for name in cluster.namespaces:
        missing = BOTH - cluster.closed_anyhow(name)
        if missing:
            failing.append(f"{name} ({' and '.join(sorted(missing, reverse=True))} open)")
    failing += [f"enforcement: {reason}" for reason in cluster.enforcement]
    failing += [] if cluster.guards_nodes else ["nodes: no cluster-wide policy is about them"]
    return Finding(checked=len(cluster.namespaces) + 2, failing=failing)


def default_deny(cluster: ClusterView) -> Finding:
    """Check that each namespace has an object that denies by default."""
    failing = []
    for name in cluster.namespaces:
        missing = BOTH - cluster.closed(name)
        if missing:
            failing.append(f"{name} (none for {' and '.join(sorted(missing, reverse=True))})")
    return Finding(checked=len(cluster.namespaces), failing=failing)


def empty_selector(cluster: ClusterView) -> Finding:
    """Check that no NetworkPolicy selects all pods, but for a default deny."""
    checked, failing = 0, []
    for key, rules in cluster.rules.items():
        if key.kind != "NetworkPolicy" or key.namespace not in cluster.scope:
            continue
        checked += 1
        for subject in rules:
            plain_deny = all(denies_by_default(subject, name) for name in subject.closes)
            if subject.selects_all and not plain_deny and key.name != "default-deny":
                failing.append(str(key))
    return Finding(checked=checked, failing=failing)


def deployments(cluster: ClusterView) -> Finding:
    """Check that each Deployment is selected by a NetworkPolicy."""
    scope = [one for one in cluster.state.deployments if one.namespace in cluster.scope and not one.host_network]
    failing = [
        f"{one.namespace}/{one.name}"
        for one in scope
        if not any(
            subject.kind == "NetworkPolicy" and subject.selects(one, cluster.labels_of(one.namespace))
            for _, subject in cluster.rules_in(one.namespace)
        )
    ]
    return Finding(checked=len(scope), failing=failing)


def blueprint_objects(cluster: ClusterView) -> Finding:
    """Check that objects stand as the blueprints want."""
    return Finding(checked=len(cluster.wanted.objects), failing=drifted(cluster, "BP-OBJ"))


def effective(cluster: ClusterView) -> Finding:
    """Check that no other policy defeats a blueprint's."""
    if not any(key.kind in READERS for key in cluster.wanted.objects):
        return Finding(checked=0, failing=(), status="not_evaluated", detail="no blueprint has policies for this cluster")
    effect = cluster.effect
    reasons = [f"{key}: not known: {why}" for key, why in sorted(effect.undecided.items(), key=str)]
    detail = "; ".join(reasons[:SHOWN]) or None
    if effect.defeated or not reasons:
        return Finding(checked=effect.checked, failing=[summary(one) for one in effect.defeated], detail=detail)
    return Finding(checked=effect.checked, failing=(), status="unknown", detail=detail)


def rejected(cluster: ClusterView) -> Finding:
    """Check that the agents reject no policy."""
    policies = cluster.state.policies.values()
    return Finding(checked=len(policies), failing=[str(policy.key) for policy in policies if policy.is_rejected])


def cilium_settings(cluster: ClusterView) -> Finding:
    """Check that Cilium's version and settings are as the blueprints want."""
    checked = len(cluster.wanted.settings) + sum(1 for cilium in cluster.wanted.cilium.values() if cilium.version)
    found = cluster.state.cilium_config
    detail = ", ".join(f"{key}={found[key]}" for key in CILIUM_KEYS if key in found)
    return Finding(checked=checked, failing=drifted(cluster, "BP-CILIUM"), detail=detail or None)


def drifted(cluster: ClusterView, control: str) -> list[str]:
    return [drift.summary for drift in cluster.drifts if drift.control == control]
