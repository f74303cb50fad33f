"""Selectors that select nothing that exists, and workloads that no policy isolates in either direction. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.audits.finding import Audited, Finding, Kind, subject_of
from pipelines.audits.workloads import Workload
from pipelines.policy.labels import CLUSTER, KUBERNETES, POD_NAMESPACE, RESERVED, LabelSet
from pipelines.policy.model import Direction, Rule
from pipelines.policy.peers import LabelPeer
from pipelines.policy.policy_set import PolicySet
from pipelines.policy.reading import Document
from pipelines.policy.selectors import Selector


@dataclass(frozen=True, kw_only=True)
class Existing:
    """What selectors could select in a window."""

    labels: Collection[LabelSet]
    """Distinct label sets of pods: of configuration history and of flows, so that a job that ran once is among them."""
    namespaces: Collection[str] | None = None
    """The namespaces of which all pods are known; None for those of the whole cluster."""

    def selects(self, selector: Selector) -> bool:
        """Whether a selector may select one of the pods."""
        return any(selector.may_match(labels) for labels in self.labels)

    def knows(self, selector: Selector) -> bool:
        """Whether all pods that a selector could select are known."""
        if self.namespaces is None:
            return True
        return any(
            one.key == POD_NAMESPACE and one.operator == "In" and set(one.values) <= set(self.namespaces) for one in selector.requirements
        )


def dangling_selectors(cluster: str, policies: PolicySet, documents: Sequence[Document], existing: Existing) -> Audited:
    """Return the audit of selectors: subjects and peers without a pod, and references to CiliumCIDRGroups that do not exist.

    Peers of other clusters, nodes and entities are not pods of this cluster, and are not looked at.
    """
    found: dict[str, Finding] = {}
    undecided: dict[str, str] = {}
    known: dict[Selector, bool] = {}
    for rule in policies.rules:
        for role, selector in _selectors(rule, policies.settings.cluster_name):
            if selector not in known:
                known[selector] = existing.selects(selector)
            if known[selector]:
                continue
            finding = _dangling(cluster, rule, role, selector)
            if existing.knows(selector):
                found.setdefault(finding.key, finding)
            else:
                undecided[finding.key] = "pods of other namespaces are not yours to see"
    for finding in _missing_groups(cluster, policies, documents):
        found[finding.key] = finding
    return Audited(
        cluster=cluster,
        kind=Kind.DANGLING_SELECTOR,
        findings=tuple(found.values()),
        checked=len(policies.rules),
        undecided={key: reason for key, reason in undecided.items() if key not in found},
    )


def _selectors(rule: Rule, cluster_name: str) -> Iterator[tuple[str, Selector]]:
    """Yield the selectors of a rule that are about pods of its cluster, with what the rule does with them."""
    if not rule.selects_nodes and rule.subject.requirements:
        yield "selects", rule.subject
    for peer in rule.peers or ():
        if isinstance(peer, LabelPeer) and _is_about_local_pods(peer.selector, cluster_name):
            yield "admits" if rule.direction is Direction.INGRESS else "reaches", peer.selector


def _dangling(cluster: str, rule: Rule, role: str, selector: Selector) -> Finding:
    """A finding about a selector, whose key does not depend on the rules that have it."""
    origin, text = rule.origin, _text(selector)
    whole = f"{origin.policy} {role}" if role == "selects" else f"{origin} {role}"
    return Finding(
        kind=Kind.DANGLING_SELECTOR,
        severity="low",
        cluster=cluster,
        namespace=origin.namespace or None,
        subject=subject_of(origin),
        place=f"{role}:{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        summary=f"{whole} no pod that existed in the window: {text}",
        path=origin.path,
        detail={"path": origin.path, "role": role, "selector": text},
    )


def _is_about_local_pods(selector: Selector, cluster_name: str) -> bool:
    for one in selector.requirements:
        if one.source == RESERVED:
            return False
        if one.key == CLUSTER and not (one.operator == "In" and cluster_name in one.values):
            return False
    return not selector.is_wildcard


def _missing_groups(cluster: str, policies: PolicySet, documents: Sequence[Document]) -> Iterator[Finding]:
    groups = policies.surroundings.cidr_groups
    if groups is None:
        return
    refused = {(one.kind, one.namespace, one.name) for one in policies.refusals}
    for document in documents:
        kind, namespace, name = document.identity
        if (kind, namespace, name) in refused:
            continue
        for group, path in _references(document.manifest, ""):
            if group in groups:
                continue
            policy = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
            yield Finding(
                kind=Kind.DANGLING_SELECTOR,
                severity="medium",
                cluster=cluster,
                namespace=namespace or None,
                subject=f"{kind}/{name}",
                place=f"cidrgroup:{group}",
                summary=f"{policy} refers to the CiliumCIDRGroup {group}, which does not exist, so it matches no address there",
                path=path,
                detail={"path": path, "group": group, "role": "refers"},
            )


def _references(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the names of CiliumCIDRGroups in a manifest, with the path of each."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "cidrGroupRef" and isinstance(inner, str):
                yield inner, f"{path}.{key}".lstrip(".")
            yield from _references(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _references(inner, f"{path}[{index}]")


def unisolated_workloads(cluster: str, policies: PolicySet, workloads: Sequence[Workload]) -> Audited:
    """Return the audit of workloads that deny nothing by default, in neither direction."""
    found: dict[str, Finding] = {}
    for workload in workloads:
        if not policies.enforces_at(workload.labels):
            isolated = False
        else:
            isolated = policies.denies_always(workload.labels) or any(
                policies.applicable(direction, workload.labels).isolating for direction in Direction
            )
        if isolated:
            continue
        finding = Finding(
            kind=Kind.UNISOLATED_WORKLOAD,
            severity="medium",
            cluster=cluster,
            namespace=workload.namespace,
            subject=f"{workload.kind}/{workload.name}",
            summary=f"{workload.kind} {workload.title} is isolated in neither direction: no policy denies what is not allowed",
            detail={"labels": [text for text in workload.labels.texts if text.startswith(f"{KUBERNETES}:")]},
        )
        found[finding.key] = finding
    return Audited(cluster=cluster, kind=Kind.UNISOLATED_WORKLOAD, findings=tuple(found.values()), checked=len(workloads))


def _text(selector: Selector) -> str:
    """A selector as people write it."""
    words = []
    for one in selector.requirements:
        key = one.key if one.source in (KUBERNETES, "any") else f"{one.source}:{one.key}"
        if one.operator == "In" and len(one.values) == 1:
            words.append(f"{key}={one.values[0]}")
        else:
            words.append(f"{key} {one.operator} {', '.join(one.values)}".rstrip())
    return "; ".join(words)
