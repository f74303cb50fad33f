"""PodLabels: what selectors can distinguish pods by, as one object for each distinct label set of a workload's pods.

Pods come and go all day while what policies see of them rarely changes. So not every pod is recorded, but each distinct set of
labels, service account, host network and named ports, under the workload that owns the pods. Labels that differ for each pod
or rollout are left out (`recorded_parts.POD_OWN_LABELS`). A set begins with its first pod and ends with its last. It does no I/O.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipelines.configuration import kinds, recorded_parts
from pipelines.configuration.kinds import POD_LABELS, Observed
from pipelines.objects.names import Key

_CRON_RUN = re.compile(r"-\d{8,}$")
_DONE = ("Succeeded", "Failed")


def pod_labels(pod: Mapping[str, Any]) -> Observed | None:
    """Return the set a pod belongs to, or None for a pod that has ended and no longer has an address."""
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    if (pod.get("status") or {}).get("phase") in _DONE:
        return None
    workload = owner(metadata)
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name not in recorded_parts.POD_OWN_LABELS}
    traits = {"workload": workload, "labels": labels, **recorded_parts.pod_traits(spec)}
    digest = hashlib.sha256(kinds.canonical(traits).encode()).hexdigest()[:8]
    namespace = metadata.get("namespace") or "default"
    name = f"{workload['kind']}.{workload['name']}.{digest}".lower()
    manifest = {
        "apiVersion": "hindcast/v1",
        "kind": POD_LABELS,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {name: value for name, value in traits.items() if name != "labels"},
    }
    return kinds.observed(manifest, namespace=namespace, created=kinds.moment(metadata.get("creationTimestamp")))


def owner(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return kind and name of the workload a pod belongs to: its Deployment for a ReplicaSet, the CronJob for its Jobs.

    Both are derived from names that Kubernetes generates; a pod without an owner is its own workload.
    """
    controller = next((each for each in metadata.get("ownerReferences") or [] if each.get("controller")), None)
    if controller is None:
        return {"kind": "Pod", "name": metadata["name"]}
    kind, name = controller["kind"], controller["name"]
    template = (metadata.get("labels") or {}).get("pod-template-hash")
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return {"kind": "Deployment", "name": name.removesuffix(f"-{template}")}
    if kind == "Job" and _CRON_RUN.search(name):
        return {"kind": "CronJob", "name": _CRON_RUN.sub("", name)}
    return {"kind": kind, "name": name}


@dataclass(kw_only=True)
class PodSets:
    """Tracks which pods are in which set, updated by events."""

    _set_of: dict[tuple[str, str], Key] = field(default_factory=dict)
    _sizes: dict[Key, int] = field(default_factory=dict)
    sets: dict[Key, Observed] = field(default_factory=dict)
    """Return the sets that have pods. The creation time of a set is that of its oldest observed pod."""

    def put(self, pod: Mapping[str, Any]) -> tuple[Observed | None, Key | None]:
        """Add or update a pod; return the set it created, if any, and the set it was the last pod of, if any."""
        seen, place = pod_labels(pod), _place(pod)
        before = self._set_of.get(place)
        if seen is not None and before == seen.key:
            return None, None
        emptied = self.remove(pod)
        if seen is None:
            return None, emptied
        self._set_of[place] = seen.key
        self._sizes[seen.key] = self._sizes.get(seen.key, 0) + 1
        known = self.sets.get(seen.key)
        if known is None or _older(seen.created, known.created):
            self.sets[seen.key] = seen
        return (seen if known is None else None), emptied

    def remove(self, pod: Mapping[str, Any]) -> Key | None:
        """Remove a pod; return the set it was the last pod of, if any."""
        key = self._set_of.pop(_place(pod), None)
        if key is None:
            return None
        self._sizes[key] -= 1
        if self._sizes[key]:
            return None
        del self._sizes[key], self.sets[key]
        return key


def _place(pod: Mapping[str, Any]) -> tuple[str, str]:
    return (pod["metadata"].get("namespace") or "default", pod["metadata"]["name"])


def _older(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one < other
