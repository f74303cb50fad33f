"""Who may see what: grants of the file, and where else ownership is read from. What it means is warehouse.access.principals' work."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from warehouse.config.values import LabelSelector, Moment, Section


class Grant(Section):
    """Who has a role, and where. Names may hold * and ?."""

    subject: str = Field(min_length=1)
    """A user, or `group:NAME`."""
    role: Literal["platform-admin", "cluster-admin", "namespace-owner", "auditor"] | None = None
    clusters: tuple[str, ...] = ("*",)
    namespaces: tuple[str, ...] = ()
    selector: LabelSelector | None = None
    """Kubernetes label selector: namespaces while they carry such labels, by the recorded configuration."""
    since: Moment | None = None
    """Only flows of this time on."""
    until: Moment | None = None
    """Only flows before this time."""
    deny: bool = False
    """Takes away what other grants give; namespaces, or whole clusters where none are named."""
    reason: str = ""
    """Why, for people."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.deny == (self.role is not None):
            raise ValueError("give a role, or deny: true to take away; one of them")
        if self.role not in (None, "namespace-owner") and (self.namespaces or self.selector is not None):
            raise ValueError(f"a {self.role} sees whole clusters: leave namespaces and selector away, or make it a namespace-owner")
        if self.role == "namespace-owner" and not self.namespaces and self.selector is None:
            raise ValueError(
                'a namespace-owner without namespaces owns nothing: add namespaces, e.g. [shop] or ["*"], or a selector such as team=shop'
            )
        if any(not name.strip() for name in (*self.clusters, *self.namespaces)):
            raise ValueError("an empty name matches nothing: name clusters and namespaces, or leave the empty entry out")
        if not self.clusters:
            raise ValueError("clusters is empty, so the grant covers nothing: name clusters, or leave the key out for all of them")
        if self.since and self.until and self.since >= self.until:
            raise ValueError("since must be before until")
        return self


class OwnershipSource(Section):
    """Where, besides the file's grants, ownership is read from: the recorded configuration of the clusters."""

    kind: Literal["label", "annotation", "role_bindings"]
    clusters: tuple[str, ...] = ("*",)
    key: str | None = None
    """Label or annotation of namespaces that names the owners; an annotation may name several, with commas."""
    subject: str = "group:{value}"
    """The subject that a value stands for."""
    roles: tuple[str, ...] = ("admin", "edit")
    """Roles or ClusterRoles whose RoleBindings make an owner."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.key is None) != (self.kind == "role_bindings"):
            raise ValueError("label and annotation need a key, role_bindings take none")
        if "{value}" not in self.subject:
            raise ValueError("subject must hold {value}")
        return self


class Ownership(Section):
    """Who owns which namespaces."""

    grants: tuple[Grant, ...] = ()
    sources: tuple[OwnershipSource, ...] = ()
    """Read besides the grants, and added to them."""
    peer_detail: Literal["full", "workload", "namespace", "hidden"] = "workload"
    """How much of the other side an owner sees of a flow."""
