"""A cluster as configuration history knows it at a time, the input of drift and controls. Only `read_states` does I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from pipelines.objects.canonical import Body, Manifest, canonical_body
from pipelines.objects.names import Key
from warehouse.lake.tables import Lake
from warehouse.records.configuration_coverage import coverage_at

POLICY_KINDS = (
    "NetworkPolicy",
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "CiliumCIDRGroup",
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "ClusterNetworkPolicy",
)
ADMISSION_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
"""The kinds of configuration history that blueprints publish."""


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One version of an object in configuration history."""

    key: Key
    manifest: Manifest
    valid_from: datetime
    changed_by: str | None = None
    conditions: tuple[Mapping[str, Any], ...] = ()
    """The status that the agents report for a policy."""

    @cached_property
    def body(self) -> Body:
        """The manifest in canonical form."""
        return canonical_body(self.manifest)

    @property
    def labels(self) -> dict[str, str]:
        labels = self.manifest.get("metadata", {}).get("labels") or {}
        return labels if isinstance(labels, dict) else {}

    @property
    def is_rejected(self) -> bool:
        """Whether an agent reports the policy as invalid, in which case it enforces nothing."""
        return any(one.get("type") == "Valid" and str(one.get("status")) == "False" for one in self.conditions)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an object that no longer exists ended."""

    at: datetime
    by: str | None


@dataclass(frozen=True, kw_only=True)
class PodGroup:
    """Pods that no policy can distinguish: one set of labels in a namespace."""

    namespace: str
    labels: Mapping[str, str]
    host_network: bool = False
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Agents:
    """Cilium's DaemonSet."""

    version: str | None
    ready: int | None
    """Number of nodes whose agent is ready; None if unknown."""
    wanted: int | None
    """Number of nodes that should have an agent."""
    valid_from: datetime
    changed_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How well a kind was observed by the last snapshot."""

    state: str
    """As in the table config_coverage: observed, partial, absent, forbidden, unreachable, refused, failed."""
    at: datetime
    observed: datetime | None
    """When the kind was last observed completely, or known to be absent."""


@dataclass(frozen=True, kw_only=True)
class ClusterState:
    """What is known of a cluster at a time."""

    cluster: str
    at: datetime
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Names and labels of the namespaces."""
    namespaces_from: Mapping[str, datetime] = field(default_factory=dict)
    """Since when each namespace has had its present labels."""
    policies: Mapping[Key, StoredObject] = field(default_factory=dict)
    ended: Mapping[Key, Ended] = field(default_factory=dict)
    """For policies that no longer exist, when their last version ended."""
    pods: tuple[PodGroup, ...] = ()
    recent_pods: tuple[PodGroup, ...] = ()
    """Pods of now and of the preceding period after which an unused policy counts as dangling."""
    deployments: tuple[PodGroup, ...] = ()
    """The pods that Deployments would create."""
    settings: StoredObject | None = None
    """The ConfigMap kube-system/cilium-config."""
    agents: Agents | None = None
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    """By kind."""
    flows_until: datetime | None = None
    """The time up to which the cluster's flows were received; None if none were received recently."""

    @property
    def cilium_config(self) -> dict[str, str]:
        data = self.settings.manifest.get("data") if self.settings else None
        return data if isinstance(data, dict) else {}

    def observed(self, *kinds: str) -> datetime | None:
        """Return when all of these kinds were last observed completely or known absent; None if one never was."""
        moments = []
        for kind in kinds:
            seen = self.coverage.get(kind)
            if seen is None or seen.observed is None:
                return None
            moments.append(seen.observed)
        return min(moments, default=None)

    def knows(self, *kinds: str, within: timedelta) -> bool:
        """Return whether these kinds were observed completely and recently enough."""
        seen = self.observed(*kinds)
        return seen is not None and self.at - seen <= within


def read_coverage(lake: Lake, clusters: Sequence[str], at: datetime) -> dict[str, dict[str, Coverage]]:
    """Return how well each kind was known at a time, by cluster and kind. Raises LakeError."""
    out: dict[str, dict[str, Coverage]] = {}
    for each in coverage_at(lake, at, clusters=clusters):
        if each.tried is not None:
            out.setdefault(each.cluster, {})[each.kind] = Coverage(state=each.state, at=each.tried, observed=each.before)
    return out


def build_state(
    cluster: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    at: datetime,
    coverage: Mapping[str, Coverage] | None = None,
    recent_rows: Sequence[Mapping[str, Any]] = (),
    ended: Mapping[Key, Ended] | None = None,
) -> ClusterState:
    """Build the state from version rows in force at `at`; `recent_rows` are PodLabels of the preceding period."""
    namespaces: dict[str, dict[str, str]] = {}
    since: dict[str, datetime] = {}
    policies: dict[Key, StoredObject] = {}
    pods: list[PodGroup] = []
    deployments: list[PodGroup] = []
    settings: StoredObject | None = None
    agents: Agents | None = None
    for row in rows:
        kind = row["kind"]
        manifest = json.loads(row["manifest"])
        if kind == "Namespace":
            namespaces[row["name"]] = manifest["metadata"].get("labels") or {}
            since[row["name"]] = row["valid_from"]
        elif kind in POLICY_KINDS or kind in ADMISSION_KINDS:
            stored = _stored(row, manifest)
            policies[stored.key] = stored
        elif kind == "PodLabels":
            pods.append(_pod_group(row, manifest))
        elif kind == "Deployment":
            deployments.append(_made_by(row, manifest))
        elif kind == "ConfigMap" and row["name"] == "cilium-config":
            settings = _stored(row, manifest)
        elif kind == "CiliumAgents":
            agents = _agents(row, manifest)
    current = {(row["namespace"], row["name"], row["manifest"]) for row in rows if row["kind"] == "PodLabels"}
    past = [row for row in recent_rows if row["kind"] == "PodLabels" and (row["namespace"], row["name"], row["manifest"]) not in current]
    recent = [_pod_group(row, json.loads(row["manifest"])) for row in past]
    return ClusterState(
        cluster=cluster,
        at=at,
        namespaces=namespaces,
        namespaces_from=since,
        policies=policies,
        ended=ended or {},
        pods=tuple(pods),
        recent_pods=(*pods, *recent),
        deployments=tuple(deployments),
        settings=settings,
        agents=agents,
        coverage=coverage or {},
    )


def _stored(row: Mapping[str, Any], manifest: Manifest) -> StoredObject:
    status = json.loads(row["status"]) if row.get("status") else {}
    conditions = status.get("conditions") if isinstance(status, dict) else None
    return StoredObject(
        key=Key(row["kind"], row["namespace"], row["name"]),
        manifest=manifest,
        valid_from=row["valid_from"],
        changed_by=row["changed_by"],
        conditions=tuple(conditions or ()),
    )


def _made_by(row: Mapping[str, Any], manifest: Manifest) -> PodGroup:
    template = manifest.get("spec", {}).get("template", {})
    labels = template.get("metadata", {}).get("labels") or {}
    host = bool(template.get("spec", {}).get("hostNetwork"))
    return PodGroup(namespace=row["namespace"], labels=labels, host_network=host, name=row["name"])


def _pod_group(row: Mapping[str, Any], manifest: Manifest) -> PodGroup:
    labels = manifest.get("metadata", {}).get("labels") or {}
    spec = manifest.get("spec") or {}
    return PodGroup(namespace=row["namespace"], labels=labels, host_network=bool(spec.get("hostNetwork")), name=row["name"])


def _agents(row: Mapping[str, Any], manifest: Manifest) -> Agents:
    status = json.loads(row["status"]) if row.get("status") else {}
    return Agents(
        version=(manifest.get("spec") or {}).get("version"),
        ready=status.get("ready"),
        wanted=status.get("nodes"),
        valid_from=row["valid_from"],
        changed_by=row["changed_by"],
    )
