"""Templates whose object is written by the user, as it is applied. No I/O."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from pipelines.blueprints.selectors import LabelSelector
from pipelines.blueprints.template_parts import Template
from pipelines.objects.canonical import Manifest


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
