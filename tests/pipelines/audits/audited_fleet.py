"""Policies and workloads that audits are tried on."""

from __future__ import annotations

from typing import Any

from pipelines.audits.finding import Policies
from pipelines.audits.workloads import Workload
from pipelines.policy.labels import LabelSet
from pipelines.policy.policy_set import PolicySet, compile_policies
from pipelines.policy.reading import Document, Surroundings
from pipelines.policy.settings import AgentSettings

SETTINGS = AgentSettings(cluster_name="c1")


def cnp(name: str, spec: dict[str, Any], namespace: str = "shop") -> Document:
    return Document({"kind": "CiliumNetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec})


def ccnp(name: str, spec: dict[str, Any]) -> Document:
    return Document({"kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": name}, "spec": spec})


def np_(name: str, spec: dict[str, Any], namespace: str = "shop") -> Document:
    return Document({"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec})


def compiled(*documents: Document, surroundings: Surroundings | None = None) -> tuple[PolicySet, Policies]:
    policies = compile_policies(documents, SETTINGS, surroundings)
    assert not policies.refusals
    return policies, Policies(documents)


def pod_labels(namespace: str, **labels: str) -> LabelSet:
    own = [f"k8s:{key}={value}" for key, value in labels.items()]
    return LabelSet([*own, f"k8s:io.kubernetes.pod.namespace={namespace}", "k8s:io.cilium.k8s.policy.cluster=c1"])


def workload(namespace: str, name: str) -> Workload:
    return Workload(namespace, "Deployment", name, pod_labels(namespace, app=name))


WEB = {"matchLabels": {"app": "web"}}
TCP_80 = [{"ports": [{"port": "80", "protocol": "TCP"}]}]
