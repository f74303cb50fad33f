"""Pods, nodes, namespaces and addresses, and the security labels that each end of a connection has. Pure.

A node is `host` for what runs on it and `remote-node` for everything else. A pod on the host's network has the identity
of its node. An address outside of the cluster is `world`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from pipelines.policy.labels import CLUSTER, NAMESPACE_LABELS, POD_NAMESPACE, SERVICE_ACCOUNT, LabelSet
from pipelines.policy.model import Address, Side
from pipelines.policy.settings import AgentSettings

# The agent's default filter of labels: the longest match of the key's beginning decides.
_KEPT = (r"app\.kubernetes\.io",)
_DROPPED = (
    r"io\.kubernetes",
    r"kubernetes\.io",
    r"statefulset\.kubernetes\.io/pod-name",
    r"apps\.kubernetes\.io/pod-index",
    r"batch\.kubernetes\.io/job-completion-index",
    r"batch\.kubernetes\.io/controller-uid",
    r".*beta\.kubernetes\.io",
    r"k8s\.io",
    r"pod-template-generation",
    r"pod-template-hash",
    r"controller-revision-hash",
    r"controller-uid",
    r"annotation.*",
    r"etcd_node",
    r"topology\.kubernetes\.io",
)


def is_identity_relevant(key: str) -> bool:
    """Whether the agent's default label filter makes a pod's label part of its identity."""

    def longest(patterns: Iterable[str]) -> int:
        return max((match.end() for pattern in patterns if (match := re.match(pattern, key))), default=0)

    return longest(_KEPT) >= longest(_DROPPED)


@dataclass(frozen=True)
class Pod:
    """A pod of the topology."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    address: Address | None = None
    node: str = ""
    host_network: bool = False
    service_account: str = "default"
    named_ports: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Number by protocol and name."""
    cluster: str = ""
    """The pod's cluster; empty for the local one."""


@dataclass(frozen=True)
class Node:
    """A node of the topology."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    address: Address | None = None
    control_plane: bool = False


@dataclass(frozen=True)
class Topology:
    """What a test case's connections run between."""

    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of each namespace."""
    pods: Mapping[tuple[str, str], Pod] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)

    def named_ports(self) -> dict[tuple[str, str], frozenset[int]]:
        """All numbers that pods give each named port."""
        found: dict[tuple[str, str], set[int]] = {}
        for pod in self.pods.values():
            for name, number in pod.named_ports.items():
                found.setdefault(name, set()).add(number)
        return {name: frozenset(numbers) for name, numbers in found.items()}

    def pod_side(self, pod: Pod, settings: AgentSettings, other_node: str | None) -> Side:
        """One end of a connection: a pod; on the host's network, it is its node."""
        name = f"{pod.namespace}/{pod.name}"
        if pod.host_network:
            node = self.nodes.get(pod.node) or Node(pod.node)
            side = self.node_side(node, settings, other_node)
            return replace(side, name=f"{name} (host network of {pod.node})")
        labels = self.pod_labels(pod, settings)
        return Side(name, subject=labels, seen_as=labels, address=pod.address, named_ports=pod.named_ports)

    def pod_labels(self, pod: Pod, settings: AgentSettings) -> LabelSet:
        """The security labels of a pod."""
        texts = [f"k8s:{key}={value}" for key, value in pod.labels.items() if not settings.cilium or is_identity_relevant(key)]
        namespace = {"kubernetes.io/metadata.name": pod.namespace, **self.namespaces.get(pod.namespace, {})}
        texts += [f"k8s:{NAMESPACE_LABELS}.{key}={value}" for key, value in namespace.items()]
        texts.append(f"k8s:{POD_NAMESPACE}={pod.namespace}")
        texts.append(f"k8s:{CLUSTER}={pod.cluster or settings.cluster_name}")
        texts.append(f"k8s:{SERVICE_ACCOUNT}={pod.service_account}")
        return LabelSet(texts)

    def node_side(self, node: Node, settings: AgentSettings, other_node: str | None) -> Side:
        """One end of a connection: a node's own address.

        Args:
            node: the node.
            settings: the agent's.
            other_node: the node of the other end, which sees this one as its host or as a remote node.
        """
        server = ["reserved:kube-apiserver"] if node.control_plane else []
        subject = ["reserved:host", *server, *(f"k8s:{key}={value}" for key, value in node.labels.items())]
        seen = ["reserved:host" if other_node == node.name else "reserved:remote-node", *server]
        if settings.enable_node_selector_labels or not settings.cilium:
            seen += [f"node:{key}={value}" for key, value in node.labels.items()]
            seen.append(f"k8s:{CLUSTER}={settings.cluster_name}")
        return Side(node.name, subject=LabelSet(subject), seen_as=LabelSet(seen), address=node.address, named_ports={})


def world_side(address: str, names: Iterable[str], entities: Iterable[str] = (), *, dual_stack: bool) -> Side:
    """One end of a connection: an address outside of the cluster.

    Args:
        address: IPv4 or IPv6.
        names: DNS names learned for it.
        entities: further reserved labels, such as `kube-apiserver`.
        dual_stack: whether the cluster has both families; the two worlds have labels of their own then.

    Raises:
        ValueError: it is not an address.
    """
    parsed = ip_address(address)
    world = f"world-ipv{parsed.version}" if dual_stack else "world"
    labels = [f"reserved:{world}", *(f"reserved:{one}" for one in entities)]
    return Side(address, enforced=False, seen_as=LabelSet(labels), address=parsed, names=tuple(names), named_ports={})


def entity_side(entity: str) -> Side:
    """One end of a connection: something that is known by its reserved label alone, such as `health`."""
    return Side(entity, enforced=False, seen_as=LabelSet([f"reserved:{entity}"]), named_ports={})
