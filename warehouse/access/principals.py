"""Who may see what, and when: a principal and the grants -> a scope. Pure.

Grants come from the configuration and the clusters (warehouse.access.ownership); putting a table under a scope is
warehouse.access.scoping's work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal

Role = Literal["platform-admin", "cluster-admin", "namespace-owner", "auditor"]
WHOLE_CLUSTERS: tuple[Role, ...] = ("platform-admin", "cluster-admin", "auditor")
"""Roles that see clusters whole."""
_GROUP = "group:"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Someone who asks."""

    user: str
    groups: frozenset[str] = frozenset()
    is_operator: bool = False
    """True for who runs the command line on the lake's own files, and so can read them anyway."""

    @property
    def subjects(self) -> frozenset[str]:
        """The names under which grants may be given. A user who is called like a group is nobody."""
        user = {self.user} if self.user and not self.user.startswith(_GROUP) else set()
        return frozenset(user | {f"{_GROUP}{group}" for group in self.groups})


OPERATOR = Principal(user="operator", is_operator=True)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Namespaces of clusters given to a subject, or denied it, for a time."""

    subject: str
    """A user, or `group:NAME`."""
    role: Role
    cluster: str
    """A name that may hold * and ?."""
    namespace: str | None
    """A name that may hold * and ?; None for clusters seen whole."""
    since: datetime | None = None
    until: datetime | None = None
    """Holds in [since, until)."""
    is_denial: bool = False
    reason: str
    """Where it comes from, for people."""
    not_before: tuple[tuple[str, str, datetime], ...] = ()
    """(cluster, namespace, time): of this name the grant means what was created then, not what had the name earlier."""

    def holds(self, at: datetime | None) -> bool:
        """Whether it holds at a time; at any for None."""
        return at is None or ((self.since is None or at >= self.since) and (self.until is None or at < self.until))

    def covers(self, cluster: str, namespace: str | None, at: datetime | None = None) -> bool:
        """Whether it says something of a namespace of a cluster at a time (at any for None)."""
        if not (fnmatchcase(cluster, _literal(self.cluster)) and self.holds(at)):
            return False
        if self.namespace is None:
            return True
        if namespace is None or not fnmatchcase(namespace, _literal(self.namespace)):
            return False
        return at is None or not any((cluster, namespace) == (here, name) and at < cut for here, name, cut in self.not_before)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a principal may see. Nothing, unless a grant says otherwise; a denial beats every grant."""

    grants: tuple[Grant, ...] = ()
    denials: tuple[Grant, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing may be seen."""
        return not self.grants

    @property
    def everything(self) -> bool:
        """Whether all of every cluster may be seen, at all times."""
        return not self.denials and any(
            grant.namespace is None and grant.cluster == "*" and grant.since is None and grant.until is None for grant in self.grants
        )

    @property
    def without_audits(self) -> Scope:
        """What may be seen but for what is seen as an auditor: of this alone labels are read."""
        return Scope(grants=tuple(grant for grant in self.grants if grant.role != "auditor"), denials=self.denials)

    @property
    def reads_every_label(self) -> bool:
        """Whether nothing is seen as an auditor alone: labels are read wherever anything is."""
        return all(grant.role != "auditor" for grant in self.grants) or self.without_audits.everything

    @property
    def administers(self) -> bool:
        """Whether all of every cluster may be seen, and not as an auditor."""
        return self.without_audits.everything

    def owns(self, cluster: str, namespace: str | None, at: datetime) -> bool:
        """Whether a namespace is the principal's own at a time; what has no namespace is nobody's."""
        return (
            namespace is not None
            and not any(denial.covers(cluster, namespace, at) for denial in self.denials)
            and any(grant.covers(cluster, namespace, at) for grant in self.grants)
        )

    def sees_whole(self, cluster: str, at: datetime) -> bool:
        """Whether a cluster is seen whole at a time, but for namespaces that are denied."""
        return not any(denial.namespace is None and denial.covers(cluster, None, at) for denial in self.denials) and any(
            grant.namespace is None and grant.covers(cluster, None, at) for grant in self.grants
        )

    def sees_cluster(self, cluster: str) -> bool:
        """Whether anything of a cluster may be seen, at any time."""
        shut = any(d.namespace is None and d.since is None and d.until is None and d.covers(cluster, None) for d in self.denials)
        return not shut and any(fnmatchcase(cluster, _literal(grant.cluster)) for grant in self.grants)

    def about(self, cluster: str, namespace: str | None, at: datetime | None = None) -> tuple[Grant, ...]:
        """The denials and grants that decide on a namespace, those that win first."""
        return tuple(grant for grant in (*self.denials, *self.grants) if grant.covers(cluster, namespace, at))


def scope_of(principal: Principal, grants: Iterable[Grant]) -> Scope:
    """The scope that grants give a principal, each adding to the others."""
    if principal.is_operator:
        return Scope(grants=(Grant(subject=principal.user, role="platform-admin", cluster="*", namespace=None, reason="runs on the lake"),))
    mine = [grant for grant in grants if grant.subject in principal.subjects]
    return Scope(
        grants=tuple(grant for grant in mine if not grant.is_denial),
        denials=tuple(grant for grant in mine if grant.is_denial),
    )


def is_plain(pattern: str) -> bool:
    """Whether a pattern is one name."""
    return not set("*?") & set(pattern)


def _literal(pattern: str) -> str:
    """fnmatch and GLOB give brackets a meaning that grants do not."""
    return pattern.replace("[", "[[]")


def glob(pattern: str) -> str:
    """The pattern for SQL's GLOB."""
    return _literal(pattern)
