"""Templates that render a CiliumNetworkPolicy or a CiliumClusterwideNetworkPolicy. No I/O."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from pipelines.blueprints.template_parts import Cidr, Direction, Port, Template


class _Cilium(Template):
    kind: ClassVar[str] = "CiliumNetworkPolicy"

    def _rule(self, default_deny: tuple[Direction, ...], **rules: list[Any]) -> dict[str, Any]:
        switches = {name: name in default_deny for name in ("ingress", "egress")}
        return {"endpointSelector": self._selector(), "enableDefaultDeny": switches, **rules}


class AllowToNames(_Cilium):
    """The pods may reach hosts outside by DNS name. Their DNS questions pass Cilium's proxy, so that it learns the addresses."""

    template: Literal["allow-to-names"]
    names: tuple[str, ...] = Field(min_length=1, description="DNS names, which may hold *")
    ports: tuple[Port, ...] = Field(default=(Port(port=443),), min_length=1)

    def spec(self) -> dict[str, Any]:
        names = [{"matchPattern" if "*" in name else "matchName": name} for name in self.names]
        dns_ports = [{"port": "53", "protocol": protocol} for protocol in ("UDP", "TCP")]
        dns = {
            "toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}}],
            "toPorts": [{"ports": dns_ports, "rules": {"dns": names}}],
        }
        return self._rule(("egress",), egress=[dns, {"toFQDNs": names, "toPorts": [{"ports": [port.for_cilium() for port in self.ports]}]}])


class AllowToKubeApiserver(_Cilium):
    """The pods may reach the Kubernetes API. For operators and controllers; other pods have no business there."""

    template: Literal["allow-to-kube-apiserver"]

    def spec(self) -> dict[str, Any]:
        return self._rule(("egress",), egress=[{"toEntities": ["kube-apiserver"]}])


class AllowFromIngress(_Cilium):
    """What enters through Cilium's ingress and gateways may reach the pods."""

    template: Literal["allow-from-ingress"]
    ports: tuple[Port, ...] = Field(default=(), description="ports; all when absent")

    def spec(self) -> dict[str, Any]:
        ports = {"toPorts": [{"ports": [port.for_cilium() for port in self.ports]}]} if self.ports else {}
        return self._rule(("ingress",), ingress=[{"fromEntities": ["ingress"], **ports}])


class _Clusterwide(_Cilium):
    kind: ClassVar[str] = "CiliumClusterwideNetworkPolicy"
    scope: ClassVar[Literal["namespace", "cluster"]] = "cluster"
    exclude_namespaces: tuple[str, ...] = Field(default=("kube-system",), description="namespaces whose pods it is not about")

    def _selector(self) -> dict[str, Any]:
        selector = super()._selector()
        if self.exclude_namespaces:
            out = {"key": "k8s:io.kubernetes.pod.namespace", "operator": "NotIn", "values": list(self.exclude_namespaces)}
            selector["matchExpressions"] = [*selector.get("matchExpressions", []), out]
        return selector


class ClusterDefaultDeny(_Clusterwide):
    """Every pod of the cluster starts closed, also in namespaces made a minute ago that no per-namespace policy has reached yet."""

    template: Literal["cluster-default-deny"]
    directions: tuple[Direction, ...] = Field(default=("ingress",), min_length=1)

    def spec(self) -> dict[str, Any]:
        return self._rule(self.directions, **{name: [{}] for name in self.directions})


class DenyCloudMetadata(_Clusterwide):
    """No pod reaches the cloud's metadata service, whose answers hold the node's credentials.

    Denies nothing else, and no policy can open it again.
    """

    template: Literal["deny-cloud-metadata"]
    addresses: tuple[Cidr, ...] = Field(default=("169.254.169.254/32", "fd00:ec2::254/128"), min_length=1)

    def spec(self) -> dict[str, Any]:
        return self._rule((), egressDeny=[{"toCIDR": list(self.addresses)}])


class DenyFromWorld(_Clusterwide):
    """Nothing outside the cluster reaches pods directly, whatever policies allow. Leave out the namespaces of what faces the world."""

    template: Literal["deny-from-world"]

    def spec(self) -> dict[str, Any]:
        return self._rule((), ingressDeny=[{"fromEntities": ["world"]}])


class DnsVisibility(_Clusterwide):
    """DNS questions of all pods pass Cilium's proxy and are recorded with their names. Opens and closes nothing."""

    template: Literal["dns-visibility"]

    def spec(self) -> dict[str, Any]:
        ports = [{"port": "53", "protocol": protocol} for protocol in ("UDP", "TCP")]
        servers = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}}
        rule = {"toEndpoints": [servers], "toPorts": [{"ports": ports, "rules": {"dns": [{"matchPattern": "*"}]}}]}
        return self._rule((), egress=[rule])
