"""Workloads that exist, as policies select them, from what configuration history records of pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Side
from pipelines.policy.settings import AgentSettings
from pipelines.policy.topology import Pod, Topology


@dataclass(frozen=True)
class Workload:
    """Pods of one workload that no policy can distinguish."""

    namespace: str
    kind: str
    name: str
    labels: LabelSet
    named_ports: tuple[tuple[tuple[str, str], int], ...] = ()

    @property
    def title(self) -> str:
        """The workload as people call it."""
        return f"{self.namespace}/{self.name}"

    def side(self) -> Side:
        """The workload as an end of a connection."""
        return Side(self.title, subject=self.labels, seen_as=self.labels, named_ports=dict(self.named_ports))


def read_workloads(
    manifests: Iterable[Mapping[str, Any]], namespaces: Mapping[str, Mapping[str, str]], settings: AgentSettings
) -> list[Workload]:
    """Return the workloads whose pods are on the pod network.

    Args:
        manifests: objects of the kind PodLabels.
        namespaces: labels of each namespace.
        settings: the agent's, which name the cluster.
    """
    topology = Topology(namespaces)
    found: dict[Workload, None] = {}
    for manifest in manifests:
        metadata, spec = manifest["metadata"], manifest.get("spec") or {}
        if spec.get("hostNetwork"):
            continue
        owner = spec.get("workload") or {}
        ports = [port for port in spec.get("ports") or [] if "name" in port and "containerPort" in port]
        pod = Pod(
            namespace=metadata.get("namespace") or "default",
            name=owner.get("name") or metadata["name"],
            labels=metadata.get("labels") or {},
            service_account=spec.get("serviceAccountName") or "default",
            named_ports={(port.get("protocol") or "TCP", port["name"]): port["containerPort"] for port in ports},
        )
        labels = topology.pod_labels(pod, settings)
        found[Workload(pod.namespace, owner.get("kind") or "Pod", pod.name, labels, tuple(sorted(pod.named_ports.items())))] = None
    return list(found)
