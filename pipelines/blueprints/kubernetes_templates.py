"""Templates that render a Kubernetes NetworkPolicy. No I/O."""

from __future__ import annotations

import ipaddress
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.blueprints.selectors import LabelSelector
from pipelines.blueprints.template_parts import NAME, Cidr, Direction, Port, Template, network_policy, plain


class DefaultDenyIngress(Template):
    """Nothing reaches the pods unless another policy allows it.

    Protects from whoever is inside the cluster already: a pod that was broken into cannot reach its neighbours.
    """

    template: Literal["default-deny-ingress"]

    def spec(self) -> dict[str, Any]:
        return network_policy(self._selector(), ingress=[])


class DefaultDenyEgress(Template):
    """The pods reach nothing unless another policy allows it.

    Protects from data carried out, tools fetched, and control servers called by a pod that was broken into. DNS is
    denied too: use allow-dns with it.
    """

    template: Literal["default-deny-egress"]

    def spec(self) -> dict[str, Any]:
        return network_policy(self._selector(), egress=[])


class DefaultDeny(Template):
    """Both directions are closed unless another policy opens them."""

    template: Literal["default-deny"]

    def spec(self) -> dict[str, Any]:
        return network_policy(self._selector(), ingress=[], egress=[])


class AllowDns(Template):
    """The pods may ask the cluster's DNS servers, over UDP and TCP.

    Goes with default-deny-egress; names other than the cluster's DNS servers stay closed, which stops tunnels to
    resolvers elsewhere.
    """

    template: Literal["allow-dns"]
    namespace: str = Field(default="kube-system", description="namespace of the DNS servers")
    servers: LabelSelector = Field(
        default=LabelSelector(matchLabels={"k8s-app": "kube-dns"}), description="labels of the DNS servers' pods"
    )
    port: int = Field(default=53, gt=0, lt=65536)

    def spec(self) -> dict[str, Any]:
        peer = {"namespaceSelector": {"matchLabels": {NAME: self.namespace}}, "podSelector": plain(self.servers)}
        ports = [{"port": self.port, "protocol": protocol} for protocol in ("UDP", "TCP")]
        return network_policy(self._selector(), egress=[{"to": [peer], "ports": ports}])


class AllowSameNamespace(Template):
    """Pods of one namespace may talk to each other. Keeps a team's own traffic going below a default deny."""

    template: Literal["allow-same-namespace"]
    directions: tuple[Direction, ...] = Field(default=("ingress", "egress"), min_length=1)

    def spec(self) -> dict[str, Any]:
        peers = {"ingress": "from", "egress": "to"}
        return network_policy(self._selector(), **{name: [{peers[name]: [{"podSelector": {}}]}] for name in self.directions})


class _Namespaces(Template):
    namespaces: tuple[str, ...] = Field(default=(), description="the other side's namespaces, by name")
    labels: LabelSelector | None = Field(default=None, description="the other side's namespaces, by label")
    peers: LabelSelector = Field(default=LabelSelector(), description="pods of the other side, by label; all when absent")
    ports: tuple[Port, ...] = Field(default=(), description="ports; all when absent")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.namespaces) == (self.labels is not None):
            raise ValueError("give namespaces (names) or labels (a selector of namespaces), one of them")
        return self

    def _rule(self, side: str) -> list[Any]:
        expression = {"key": NAME, "operator": "In", "values": list(self.namespaces)}
        spaces = plain(self.labels) if self.labels is not None else {"matchExpressions": [expression]}
        rule: dict[str, Any] = {side: [{"namespaceSelector": spaces, "podSelector": plain(self.peers)}]}
        return [rule | ({"ports": [port.for_kubernetes() for port in self.ports]} if self.ports else {})]


class AllowFromNamespaces(_Namespaces):
    """Pods of other namespaces may reach the pods: monitoring that scrapes, ingress controllers, a neighbouring team."""

    template: Literal["allow-from-namespaces"]

    def spec(self) -> dict[str, Any]:
        return network_policy(self._selector(), ingress=self._rule("from"))


class AllowToNamespaces(_Namespaces):
    """The pods may reach pods of other namespaces: logging, a mesh's control plane, shared services."""

    template: Literal["allow-to-namespaces"]

    def spec(self) -> dict[str, Any]:
        return network_policy(self._selector(), egress=self._rule("to"))


class AllowToCidrs(Template):
    """The pods may reach address ranges outside the cluster, with exceptions. In Cilium a range never matches pods or nodes."""

    template: Literal["allow-to-cidrs"]
    cidrs: tuple[Cidr, ...] = Field(min_length=1)
    except_cidrs: tuple[Cidr, ...] = Field(default=(), description="ranges inside those that stay closed")
    ports: tuple[Port, ...] = Field(default=(), description="ports; all when absent")

    def spec(self) -> dict[str, Any]:
        blocks = []
        for cidr in self.cidrs:
            inside = [one for one in self.except_cidrs if _within(one, cidr)]
            blocks.append({"ipBlock": {"cidr": cidr} | ({"except": inside} if inside else {})})
        ports = {"ports": [port.for_kubernetes() for port in self.ports]} if self.ports else {}
        return network_policy(self._selector(), egress=[{"to": blocks, **ports}])


def _within(inner: str, outer: str) -> bool:
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]
