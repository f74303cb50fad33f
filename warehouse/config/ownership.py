"""Ownership: grants in the file, and other sources of grants. warehouse.access.principals defines what grants mean."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from warehouse.config.values import LabelSelector, Moment, Section


class Grant(Section):
    """Gives a role to a subject. Names may contain * and ?."""

    subject: str = Field(min_length=1)
    """A user, or `group:NAME`."""
    role: Literal["platform-admin", "cluster-admin", "namespace-owner", "auditor"] | None = None
    clusters: tuple[str, ...] = ("*",)
    namespaces: tuple[str, ...] = ()
    selector: LabelSelector | None = None
    """Kubernetes label selector: covers namespaces while they have matching labels in the recorded configuration."""
    since: Moment | None = None
    """Only flows from this time on."""
    until: Moment | None = None
    """Only flows before this time."""
    deny: bool = False
    """True to revoke what other grants give, for namespaces, or for whole clusters if no namespaces are named."""
    reason: str = ""
    """Why the grant exists, in words for users."""

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.deny == (self.role is not None):
            raise ValueError("give either a role, or deny: true to revoke access")
        if self.role not in (None, "namespace-owner") and (self.namespaces or self.selector is not None):
            raise ValueError(f"a {self.role} sees whole clusters: remove namespaces and selector, or use the role namespace-owner")
        if self.role == "namespace-owner" and not self.namespaces and self.selector is None:
            raise ValueError(
                'a namespace-owner without namespaces owns nothing: add namespaces, e.g. [shop] or ["*"], or a selector such as team=shop'
            )
        if any(not name.strip() for name in (*self.clusters, *self.namespaces)):
            raise ValueError("an empty name matches nothing: name clusters and namespaces, or remove the empty entry")
        if not self.clusters:
            raise ValueError("clusters is empty, so the grant covers nothing: name clusters, or remove the key for all of them")
        if self.since and self.until and self.since >= self.until:
            raise ValueError("since must be before until")
        return self


class OwnershipSource(Section):
    """A source of ownership besides the grants in the file: the recorded configuration of the clusters."""

    kind: Literal["label", "annotation", "role_bindings"]
    clusters: tuple[str, ...] = ("*",)
    key: str | None = None
    """Label or annotation of namespaces that names the owner; an annotation may name several, separated by commas."""
    subject: str = "group:{value}"
    """The subject derived from a value."""
    roles: tuple[str, ...] = ("admin", "edit")
    """Roles or ClusterRoles whose RoleBindings make their subjects owners."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.key is None) != (self.kind == "role_bindings"):
            raise ValueError("kinds label and annotation require a key; role_bindings does not take one")
        if "{value}" not in self.subject:
            raise ValueError("subject must contain {value}")
        return self


class Ownership(Section):
    """Who owns which namespaces."""

    grants: tuple[Grant, ...] = ()
    sources: tuple[OwnershipSource, ...] = ()
    """Sources whose grants are added to those in the file."""
    peer_detail: Literal["full", "workload", "namespace", "hidden"] = "workload"
    """How much an owner sees of the other side of a flow."""
