"""The little world of the policy comparisons: who can talk to whom, as Hindcast's engine and the oracles name them.

Nothing here decides a verdict.
"""

import dataclasses
import ipaddress
import typing

from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Side

WORLD_SCOPE = 1 << 24
REMOTE_NODE_SCOPE = 2 << 24
OTHER_CLUSTER = 2 << 16
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMPv4": 1, "ICMPv6": 58}
NAMESPACES = {"shop": {"team": "web", "env": "prod"}, "ops": {"team": "platform", "env": "prod"}, "dev": {"env": "dev"}}


@dataclasses.dataclass(frozen=True)
class End:
    """Something that can be one end of a connection."""

    name: str
    number: int
    """The security identity's number, which tells Cilium its scope."""
    labels: tuple[str, ...]
    address: str = ""
    names: tuple[str, ...] = ()
    ports: typing.Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    is_subject: bool = False
    """Whether policies are asked for at this end."""

    def side(self) -> Side:
        """The end as Hindcast's engine takes it."""
        labels = LabelSet(one for one in self.labels if not one.startswith("cidr:"))
        address = ipaddress.ip_address(self.address) if self.address else None
        return Side(self.name, labels, self.is_subject, labels, address, self.names, self.ports)

    def identity(self) -> dict[str, typing.Any]:
        """The end as the oracle takes it."""
        ports = [{"name": name, "protocol": protocol, "port": port} for (protocol, name), port in self.ports.items()]
        outside = self.address if any(one.startswith("reserved:world") for one in self.labels) else ""
        return {"id": self.number, "labels": list(self.labels), "address": outside, "names": list(self.names), "named_ports": ports}


def pod(number: int, namespace: str, name: str, labels: dict[str, str], ports: dict[tuple[str, str], int], cluster: str = "default") -> End:
    """A pod with the labels that Cilium gives it."""
    texts = [f"k8s:{key}={value}" for key, value in labels.items()]
    space = {"kubernetes.io/metadata.name": namespace, **NAMESPACES[namespace]}
    texts += [f"k8s:io.cilium.k8s.namespace.labels.{key}={value}" for key, value in space.items()]
    texts.append(f"k8s:io.kubernetes.pod.namespace={namespace}")
    texts.append(f"k8s:io.cilium.k8s.policy.cluster={cluster}")
    texts.append("k8s:io.cilium.k8s.policy.serviceaccount=default")
    title = f"{namespace}/{name}" if cluster == "default" else f"{cluster}/{namespace}/{name}"
    address = f"10.{0 if cluster == 'default' else 9}.0.{number % 200 + 1}"
    return End(title, number, tuple(texts), address=address, ports=ports, is_subject=cluster == "default")


def outside(index: int, address: str, names: tuple[str, ...], *, dual_stack: bool, labels: tuple[str, ...] = ()) -> End:
    """An address outside of the cluster."""
    parsed = ipaddress.ip_address(address)
    world = f"reserved:world-ipv{parsed.version}" if dual_stack else "reserved:world"
    text = address.replace(":", "-") if parsed.version == 6 else address
    if text.endswith("-"):
        text += "0"
    cidr = f"cidr:{text}/{parsed.max_prefixlen}"
    return End(address, WORLD_SCOPE | (100 + index), (cidr, world, *labels), address=address, names=names)


HTTP = {("TCP", "http"): 8080, ("TCP", "metrics"): 9090}
DNS = {("UDP", "dns"): 53, ("TCP", "dns-tcp"): 53}


def world(*, dual_stack: bool, modes: frozenset[str] = frozenset()) -> list[End]:
    """All ends, in one or both families of addresses.

    Args:
        dual_stack: whether the cluster has IPv6, too.
        modes: policy-cidr-match-mode. With `nodes`, a remote node has an identity of its own; with `pods`, the identity of
            a pod has its address.
    """
    nodes_by_address = "nodes" in modes
    by_address = ("cidr:172.18.0.12/32",) if nodes_by_address else ()
    remote = REMOTE_NODE_SCOPE | 12 if nodes_by_address else 6
    ends = [
        pod(1001, "shop", "web", {"app": "web", "role": "frontend", "tier": ""}, HTTP),
        pod(1002, "shop", "db", {"app": "db", "role": "backend"}, {("TCP", "postgres"): 5432, ("TCP", "http"): 8081}),
        pod(1003, "ops", "web", {"app": "web", "role": "backend"}, {("TCP", "http"): 8080, ("UDP", "metrics"): 8080}),
        pod(1004, "ops", "dns", {"k8s-app": "kube-dns"}, DNS),
        pod(1005, "dev", "job", {"role": "frontend", "canary": "yes"}, {}),
        pod(OTHER_CLUSTER | 2001, "shop", "web", {"app": "web", "role": "frontend"}, HTTP, cluster="other"),
        End("host", 1, ("reserved:host", "k8s:tier=edge"), address="" if nodes_by_address else "172.18.0.11", is_subject=True),
        End("remote node", remote, ("reserved:remote-node", *by_address), address="172.18.0.12"),
        End("control plane", 7, ("reserved:kube-apiserver", "reserved:remote-node"), address="" if nodes_by_address else "172.18.0.10"),
        End("health", 4, ("reserved:health",)),
        End("unmanaged", 3, ("reserved:unmanaged",)),
        End("init", 5, ("reserved:init",), is_subject=True),
        End("ingress", 8, ("reserved:ingress",)),
        outside(1, "203.0.113.10", ("api.example.com", "cdn.example.net"), dual_stack=dual_stack),
        outside(2, "203.0.113.200", ("a.b.example.com",), dual_stack=dual_stack),
        outside(3, "198.51.100.7", ("example.com",), dual_stack=dual_stack),
        outside(4, "10.77.1.1", (), dual_stack=dual_stack),
        outside(5, "34.117.10.20", (), dual_stack=dual_stack, labels=("reserved:kube-apiserver",)),
    ]
    if "pods" in modes:
        pods = {end.name for end in ends if any("pod.namespace" in one for one in end.labels)}
        ends = [dataclasses.replace(end, labels=(*end.labels, f"cidr:{end.address}/32")) if end.name in pods else end for end in ends]
    if dual_stack:
        ends.append(outside(6, "2001:db8::7", ("api.example.com",), dual_stack=True))
        ends.append(outside(7, "2001:db8:dead::1", (), dual_stack=True))
    return ends
