"""What templates of policies are made of: ports, address ranges, and the base that all of them share. No I/O."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, ClassVar, Literal, Self

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
        return plain(self.pods)


def plain(selector: LabelSelector) -> dict[str, Any]:
    """Return a selector as Kubernetes writes it."""
    return LabelSelector.model_dump(
        selector, mode="json", by_alias=True, exclude_defaults=True, include={"match_labels", "match_expressions"}
    )


def network_policy(pods: dict[str, Any], **directions: list[Any]) -> dict[str, Any]:
    """Return the spec of a NetworkPolicy with the rules of each direction that it is about."""
    return {"podSelector": pods, "policyTypes": [name.capitalize() for name in directions], **directions}
