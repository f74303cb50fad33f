"""The library of policy templates for blueprints: each has a few parameters and renders one Kubernetes object.

The docstring of a template says what it protects from; `hindcast blueprint templates` prints it. It does no I/O.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from pipelines.blueprints.selectors import LabelSelector, Part
from pipelines.objects.canonical import Manifest

NETWORK_POLICY = "networking.k8s.io/v1"
CILIUM = "cilium.io/v2"
NAME = "kubernetes.io/metadata.name"
"""The label that the API server puts on each namespace."""

ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Direction = Literal["ingress", "egress"]


def _cidr(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a CIDR without host bits, such as 10.0.0.0/8: {error}") from error


Cidr = Annotated[str, AfterValidator(_cidr)]


class Port(Part):
    """A port to allow."""

    port: int | str = Field(description="number, or name of a container's port")
    end_port: int | None = Field(default=None, alias="endPort", description="last port of a range")
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"

    @model_validator(mode="after")
    def _is_port(self) -> Self:
        if isinstance(self.port, int) and not 0 < self.port < 65536:
            raise ValueError(f"port {self.port} is not between 1 and 65535")
        if self.end_port is not None and (not isinstance(self.port, int) or not self.port <= self.end_port < 65536):
            raise ValueError("endPort needs a number as port that is not above it, and is at most 65535")
        return self

    def for_kubernetes(self) -> dict[str, Any]:
        return {"port": self.port, "protocol": self.protocol} | ({"endPort": self.end_port} if self.end_port else {})

    def for_cilium(self) -> dict[str, Any]:
        return self.for_kubernetes() | {"port": str(self.port)}


class Template(Part):
    """Common fields of every entry. `scope` is whether it renders one object per namespace or per cluster."""

    scope: ClassVar[Literal["namespace", "cluster"]] = "namespace"
    kind: ClassVar[str] = "NetworkPolicy"
    template: str
    name: ObjectName | None = Field(default=None, description="name of the object; BLUEPRINT-TEMPLATE when absent")
    pods: LabelSelector = Field(default=LabelSelector(), description="pods it is about, by label; all when absent")

    def object_name(self, blueprint: str) -> str:
        """Return the given name, or one that includes the blueprint's, so that two blueprints never share one by accident."""
        return self.name or f"{blueprint}-{self.template}"

    def spec(self) -> dict[str, Any]:
        """Return the object's spec."""
        raise NotImplementedError

    def manifest(self, blueprint: str, namespace: str | None) -> Manifest:
        """Return the object for a blueprint, in a namespace if it is namespaced."""
        place = {"namespace": namespace} if namespace else {}
        api = NETWORK_POLICY if self.kind == "NetworkPolicy" else CILIUM
        return {"apiVersion": api, "kind": self.kind, "metadata": {"name": self.object_name(blueprint), **place}, "spec": self.spec()}

    def _selector(self) -> dict[str, Any]:
        return _plain(self.pods)


def _plain(selector: LabelSelector) -> dict[str, Any]:
    return LabelSelector.model_dump(
        selector, mode="json", by_alias=True, exclude_defaults=True, include={"match_labels", "match_expressions"}
    )


def _network_policy(pods: dict[str, Any], **directions: list[Any]) -> dict[str, Any]:
    return {"podSelector": pods, "policyTypes": [name.capitalize() for name in directions], **directions}


class DefaultDenyIngress(Template):
    """Nothing reaches the pods unless another policy allows it.

    Protects from whoever is inside the cluster already: a pod that was broken into cannot reach its neighbours.
    """

    template: Literal["default-deny-ingress"]

    def spec(self) -> dict[str, Any]:
        return _network_policy(self._selector(), ingress=[])


class DefaultDenyEgress(Template):
    """The pods reach nothing unless another policy allows it.

    Protects from data carried out, tools fetched, and control servers called by a pod that was broken into. DNS is
    denied too: use allow-dns with it.
    """

    template: Literal["default-deny-egress"]

    def spec(self) -> dict[str, Any]:
        return _network_policy(self._selector(), egress=[])


class DefaultDeny(Template):
    """Both directions are closed unless another policy opens them."""

    template: Literal["default-deny"]

    def spec(self) -> dict[str, Any]:
        return _network_policy(self._selector(), ingress=[], egress=[])


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
        peer = {"namespaceSelector": {"matchLabels": {NAME: self.namespace}}, "podSelector": _plain(self.servers)}
        ports = [{"port": self.port, "protocol": protocol} for protocol in ("UDP", "TCP")]
        return _network_policy(self._selector(), egress=[{"to": [peer], "ports": ports}])


class AllowSameNamespace(Template):
    """Pods of one namespace may talk to each other. Keeps a team's own traffic going below a default deny."""

    template: Literal["allow-same-namespace"]
    directions: tuple[Direction, ...] = Field(default=("ingress", "egress"), min_length=1)

    def spec(self) -> dict[str, Any]:
        peers = {"ingress": "from", "egress": "to"}
        return _network_policy(self._selector(), **{name: [{peers[name]: [{"podSelector": {}}]}] for name in self.directions})


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
        spaces = _plain(self.labels) if self.labels is not None else {"matchExpressions": [expression]}
        rule: dict[str, Any] = {side: [{"namespaceSelector": spaces, "podSelector": _plain(self.peers)}]}
        return [rule | ({"ports": [port.for_kubernetes() for port in self.ports]} if self.ports else {})]


class AllowFromNamespaces(_Namespaces):
    """Pods of other namespaces may reach the pods: monitoring that scrapes, ingress controllers, a neighbouring team."""

    template: Literal["allow-from-namespaces"]

    def spec(self) -> dict[str, Any]:
        return _network_policy(self._selector(), ingress=self._rule("from"))


class AllowToNamespaces(_Namespaces):
    """The pods may reach pods of other namespaces: logging, a mesh's control plane, shared services."""

    template: Literal["allow-to-namespaces"]

    def spec(self) -> dict[str, Any]:
        return _network_policy(self._selector(), egress=self._rule("to"))


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
        return _network_policy(self._selector(), egress=[{"to": blocks, **ports}])


def _within(inner: str, outer: str) -> bool:
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]


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


class ClusterManifest(Template):
    """A cluster-wide policy of your own, as it is applied: CiliumClusterwideNetworkPolicy, CiliumCIDRGroup, or an admin policy."""

    scope: ClassVar[Literal["namespace", "cluster"]] = "cluster"
    template: Literal["cluster-manifest"]
    object: dict[str, Any]
    kinds: ClassVar[tuple[str, ...]] = (
        "CiliumClusterwideNetworkPolicy",
        "CiliumCIDRGroup",
        "AdminNetworkPolicy",
        "BaselineAdminNetworkPolicy",
        "ClusterNetworkPolicy",
    )

    @model_validator(mode="after")
    def _is_object(self) -> Self:
        _check_object(self.object, self.kinds, namespaced=self.scope == "namespace")
        if self.name or self.pods != LabelSelector():
            raise ValueError("name and pods belong to the object itself: write them into it")
        return self

    def object_name(self, blueprint: str) -> str:
        return str(self.object["metadata"]["name"])

    def manifest(self, blueprint: str, namespace: str | None) -> Manifest:
        place = {"namespace": namespace} if namespace else {}
        return {**self.object, "metadata": {**self.object["metadata"], **place}}


class NamespaceManifest(ClusterManifest):
    """A policy of your own for each namespace, as it is applied: NetworkPolicy or CiliumNetworkPolicy, without a namespace."""

    scope: ClassVar[Literal["namespace", "cluster"]] = "namespace"
    template: Literal["manifest"]  # type: ignore[assignment]
    kinds: ClassVar[tuple[str, ...]] = ("NetworkPolicy", "CiliumNetworkPolicy")


def _check_object(given: dict[str, Any], kinds: tuple[str, ...], *, namespaced: bool) -> None:
    if given.get("kind") not in kinds:
        raise ValueError(f"kind {given.get('kind')!r} is not allowed here; use one of {', '.join(kinds)}")
    if not isinstance(given.get("apiVersion"), str):
        raise ValueError("apiVersion is missing")
    metadata = given.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise ValueError("metadata.name is missing")
    if "namespace" in metadata:
        raise ValueError(
            "metadata.namespace is set by Hindcast: remove it" if namespaced else "this kind is cluster-scoped: remove metadata.namespace"
        )
    if "spec" not in given and "specs" not in given:
        raise ValueError("spec is missing")


NamespaceTemplate = Annotated[
    DefaultDenyIngress
    | DefaultDenyEgress
    | DefaultDeny
    | AllowDns
    | AllowSameNamespace
    | AllowFromNamespaces
    | AllowToNamespaces
    | AllowToCidrs
    | AllowToNames
    | AllowToKubeApiserver
    | AllowFromIngress
    | NamespaceManifest,
    Field(discriminator="template"),
]
"""An entry of a blueprint that renders one object in each of its namespaces."""

ClusterTemplate = Annotated[
    ClusterDefaultDeny | DenyCloudMetadata | DenyFromWorld | DnsVisibility | ClusterManifest,
    Field(discriminator="template"),
]
"""An entry of a blueprint that renders one object per cluster."""


def all_templates() -> dict[str, type[Template]]:
    """Return every template by its name, those for namespaces first."""
    classes = [model for union in (NamespaceTemplate, ClusterTemplate) for model in get_args(get_args(union)[0])]
    return {get_args(model.model_fields["template"].annotation)[0]: model for model in classes}
