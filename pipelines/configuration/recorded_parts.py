"""Which part of an object of each kind is recorded: what the user decided, without what the API server manages. No I/O.

Secrets are never recorded, nor the environment, commands and volumes of pods and pod templates, since those may contain secrets.
"""

from __future__ import annotations

import json
from typing import Any

from pipelines.objects.canonical import Manifest

_SERVER_MANAGED_ANNOTATIONS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "control-plane.alpha.kubernetes.io/leader",
)
POD_OWN_LABELS = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "batch.kubernetes.io/job-name",
        "controller-revision-hash",
        "controller-uid",
        "job-name",
        "pod-template-generation",
        "pod-template-hash",
        "statefulset.kubernetes.io/pod-name",
    }
)
"""Labels with a different value for each pod or rollout. Cilium excludes them from identities by default (it keeps job names)."""


PUBLISHED = ("app.kubernetes.io/managed-by", "hindcast")


def whole(item: Manifest) -> Manifest:
    """Return the object without what the API server manages."""
    metadata = item.get("metadata") or {}
    recorded = {name: metadata[name] for name in ("name", "namespace", "labels") if metadata.get(name)}
    annotations = {name: value for name, value in (metadata.get("annotations") or {}).items() if name not in _SERVER_MANAGED_ANNOTATIONS}
    if annotations:
        recorded["annotations"] = annotations
    rest = {name: value for name, value in item.items() if name not in ("apiVersion", "kind", "metadata", "status")}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": recorded, **rest}


def namespace(item: Manifest) -> Manifest:
    recorded = whole(item)
    recorded.pop("spec", None)  # finalizers, which the API server sets
    return recorded


def binding(item: Manifest) -> Manifest | None:
    """Return bindings that name people; Kubernetes' own bindings and those for service accounts only grant nobody a namespace."""
    labels = (item.get("metadata") or {}).get("labels") or {}
    people = [subject for subject in item.get("subjects") or [] if subject.get("kind") in ("User", "Group")]
    return whole(item) if people and labels.get("kubernetes.io/bootstrapping") != "rbac-defaults" else None


def pod_traits(spec: Manifest) -> Manifest:
    """Return what policies can distinguish pods by, besides labels."""
    ports = [
        {name: port[name] for name in ("name", "containerPort", "protocol") if name in port}
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        for port in container.get("ports") or []
        if port.get("name")
    ]
    recorded: Manifest = {"serviceAccountName": spec.get("serviceAccountName") or "default"}
    if spec.get("hostNetwork"):
        recorded["hostNetwork"] = True
    if ports:
        recorded["ports"] = sorted(ports, key=lambda port: json.dumps(port, sort_keys=True))
    return recorded


def workload(item: Manifest) -> Manifest | None:
    """Return the selector and the properties its pods will have. Replicas are omitted: autoscalers change them all day."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    if any(owner.get("controller") for owner in metadata.get("ownerReferences") or []):
        return None  # people know the owning workload instead
    template = ((spec.get("jobTemplate") or {}).get("spec") or spec).get("template") or {}
    labels = {name: value for name, value in ((template.get("metadata") or {}).get("labels") or {}).items() if name not in POD_OWN_LABELS}
    recorded = whole({**item, "metadata": {**metadata, "annotations": None}})
    for name in set(recorded) - {"apiVersion", "kind", "metadata"}:
        del recorded[name]
    selector = spec.get("selector") if "jobTemplate" not in spec and item["kind"] != "Job" else None
    recorded["spec"] = {
        **({"selector": selector} if selector else {}),
        "template": {"metadata": {"labels": labels}, "spec": pod_traits(template.get("spec") or {})},
    }
    return recorded


def node(item: Manifest) -> Manifest:
    """Return the labels only, by which nodes are selected."""
    recorded = whole({**item, "metadata": {**item["metadata"], "annotations": None}})
    recorded.pop("spec", None)
    return recorded


def conditions(item: Manifest) -> Any:
    """Return the conditions of a policy without their timestamps."""
    conditions = (item.get("status") or {}).get("conditions") or []
    recorded = [{name: each[name] for name in ("type", "status", "reason", "message") if each.get(name)} for each in conditions]
    return {"conditions": sorted(recorded, key=lambda each: str(each.get("type")))} if recorded else None


def published(item: Manifest) -> Manifest | None:
    """Record only the admission policies that guard objects published by Hindcast; all others are the cluster's own matter."""
    labels = (item.get("metadata") or {}).get("labels") or {}
    return whole(item) if labels.get(PUBLISHED[0]) == PUBLISHED[1] else None
