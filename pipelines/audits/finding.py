"""What an audit finds, and what it could not judge. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from pipelines.policy.model import Origin, Rule
from pipelines.policy.policy_set import READERS
from pipelines.policy.reading import Document

Severity = Literal["info", "low", "medium", "high"]
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class Kind(StrEnum):
    """The audits, by the kind of their findings."""

    UNUSED_POLICY = "unused_policy"
    UNUSED_RULE = "unused_rule"
    SHADOWED_RULE = "shadowed_rule"
    REDUNDANT_RULE = "redundant_rule"
    DANGLING_SELECTOR = "dangling_selector"
    UNISOLATED_WORKLOAD = "unisolated_workload"
    ALLOW_ALL = "allow_all"
    EVERY_ADDRESS = "every_address"
    WORLD_WITHOUT_NAMES = "world_without_names"
    BLUEPRINT_DEFEATED = "blueprint_defeated"
    RECOMMENDED_POLICY = "recommended_policy"
    """A standing recommendation, which `policy_daily` keeps; audits do not find it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding about a policy, a rule of it, or a workload in one cluster."""

    kind: Kind
    severity: Severity
    cluster: str
    namespace: str | None
    """Namespace of the policy or workload; None for a cluster-wide policy."""
    subject: str
    """The object as kind/name."""
    place: str = ""
    """What distinguishes findings about one object: a digest of the rule, which does not change when rules are reordered."""
    summary: str
    path: str = ""
    """Path in the policy's YAML, such as `spec.ingress[0]`; empty for the whole object."""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key that stays the same while the finding stays open; unique within a cluster."""
        return "/".join((self.kind.value, self.namespace or "", self.subject, *([self.place] if self.place else [])))


@dataclass(frozen=True, kw_only=True)
class Audited:
    """The result of one audit of one cluster."""

    cluster: str
    kind: Kind
    findings: tuple[Finding, ...] = ()
    checked: int = 0
    """How many policies, rules or workloads were looked at."""
    not_evaluated: str = ""
    """Why the audit could not be made at all; empty if it was."""
    undecided: Mapping[str, str] = field(default_factory=dict)
    """Keys of what could not be judged, with the reason: neither a finding nor the absence of one."""


class Policies:
    """The manifests of a policy set, by the origin of their rules."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._manifests: dict[tuple[str, str, str], Mapping[str, Any]] = {}
        for document in documents:
            kind, namespace, name = document.identity
            namespaced = kind in READERS and READERS[kind][1]
            self._manifests[kind, (namespace or "default") if namespaced else "", name] = document.manifest

    def text(self, origin: Origin) -> str:
        """The part of the manifest that a rule was read from, as canonical JSON."""
        value: Any = self._manifests.get((origin.kind, origin.namespace, origin.name), {})
        for key, index in _STEP.findall(origin.path):
            if key and isinstance(value, Mapping):
                value = value.get(key)
            elif index and isinstance(value, list) and int(index) < len(value):
                value = value[int(index)]
        return json.dumps(value, sort_keys=True, default=str)

    def digest(self, rule: Rule) -> str:
        """A short digest of direction, action, subject and text of a rule; equal rules of one policy have the same."""
        origin = rule.origin
        text = "" if origin.index < 0 else self.text(origin)
        parts = (origin.direction, rule.action.value, repr(rule.subject), str(rule.selects_nodes), text)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def subject_of(origin: Origin) -> str:
    """The policy of a rule, as the table `findings` names objects."""
    return f"{origin.kind}/{origin.name}"


def about_rule(kind: Kind, severity: Severity, cluster: str, rule: Rule, policies: Policies, summary: str, **detail: Any) -> Finding:
    """Return a finding about one rule."""
    origin = rule.origin
    return Finding(
        kind=kind,
        severity=severity,
        cluster=cluster,
        namespace=origin.namespace or None,
        subject=subject_of(origin),
        place=policies.digest(rule),
        summary=summary,
        path=origin.path,
        detail={"direction": origin.direction, "path": origin.path, **detail},
    )
