"""What controls look at: one cluster's state, with what several of them derive from it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.blueprints.drift import Drift
from pipelines.blueprints.effect import Effect, judge_effect
from pipelines.blueprints.model import SYSTEM_NAMESPACES
from pipelines.blueprints.render import Wanted
from pipelines.blueprints.selectors import matches_any
from pipelines.blueprints.state import ClusterState, PodGroup, StoredObject
from pipelines.blueprints.subjects import Subject, subjects
from pipelines.objects.canonical import CILIUM_POLICIES

BOTH = frozenset({"ingress", "egress"})


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a control found: how many objects it checked, and which of them fail."""

    checked: int
    failing: Sequence[str]
    detail: str | None = None
    status: str | None = None
    """Where nothing fails: unknown or not_evaluated, if that is not the same as passing; `detail` has the reason."""


class ClusterView:
    """A cluster's state, with derived values that several controls share."""

    def __init__(self, state: ClusterState, wanted: Wanted, drifts: Sequence[Drift], effect: Effect | None = None) -> None:
        self._effect = effect
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

    @cached_property
    def effect(self) -> Effect:
        """What became of the blueprints' policies."""
        return self._effect or judge_effect(self.wanted, self.state)

    def labels_of(self, namespace: str) -> Mapping[str, str]:
        """The labels of a namespace; none where it is not known."""
        return self.state.namespaces.get(namespace, {})

    @cached_property
    def namespaces(self) -> list[str]:
        """Namespaces in scope: all but the cluster's own."""
        return sorted(name for name in self.state.namespaces if not matches_any(name, SYSTEM_NAMESPACES))

    @cached_property
    def scope(self) -> frozenset[str]:
        """The same as a set."""
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
        return frozenset(name for name in BOTH for subject in own if denies_by_default(subject, name))

    def closed_anyhow(self, namespace: str) -> frozenset[str]:
        """The same, with the directions that cluster-wide policies close for every pod of the namespace."""
        pods = PodGroup(namespace=namespace, labels={})
        wide = [
            subject
            for policy, subject in self.rules_in(None)
            if not policy.is_rejected and only_namespaces(subject.selector) and subject.selects(pods, self.labels_of(namespace))
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


def only_namespaces(selector: Any) -> bool:
    """Return whether a selector requires nothing of a pod but its namespace."""
    if not isinstance(selector, Mapping):
        return False
    keys = [*(selector.get("matchLabels") or {}), *(one.get("key", "") for one in selector.get("matchExpressions") or [])]
    return all("io.kubernetes.pod.namespace" in key or "io.cilium.k8s.namespace.labels." in key for key in keys)


def named(pods: PodGroup) -> str:
    """Return a set of pods as results name it: its namespace and labels."""
    labels = ",".join(f"{key}={value}" for key, value in sorted(pods.labels.items()))
    return f"{pods.namespace}/{labels or pods.name or 'pods without labels'}"
