"""Principals, grants and scopes: computes from a principal and the grants what may be seen, and when. Pure.

Grants come from the configuration and the clusters (warehouse.access.ownership). Applying a scope to a table belongs to
warehouse.access.scoping.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal

Role = Literal["platform-admin", "cluster-admin", "namespace-owner", "auditor"]
WHOLE_CLUSTERS: tuple[Role, ...] = ("platform-admin", "cluster-admin", "auditor")
"""Roles that see whole clusters."""
_GROUP = "group:"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A user on whose behalf questions are answered."""

    user: str
    groups: frozenset[str] = frozenset()
    is_operator: bool = False
    """True for the user who runs commands on the lake's own files, and could therefore read them anyway."""

    @property
    def subjects(self) -> frozenset[str]:
        """The names that grants may use for this principal. A user name that imitates a group is ignored."""
        user = {self.user} if self.user and not self.user.startswith(_GROUP) else set()
        return frozenset(user | {f"{_GROUP}{group}" for group in self.groups})


OPERATOR = Principal(user="operator", is_operator=True)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Grants a subject access to namespaces of clusters, or denies it, for a time."""

    subject: str
    """A user, or `group:NAME`."""
    role: Role
    cluster: str
    """A name that may contain * and ?."""
    namespace: str | None
    """A name that may contain * and ?; None for whole clusters."""
    since: datetime | None = None
    until: datetime | None = None
    """In force in [since, until)."""
    is_denial: bool = False
    reason: str
    """Where the grant comes from, in words for the user."""
    not_before: tuple[tuple[str, str, datetime], ...] = ()
    """(cluster, namespace, time): for this name the grant covers only the namespace created then, not an earlier one of that name."""

    def holds(self, at: datetime | None) -> bool:
        """Whether the grant is in force at a time; always true for None."""
        return at is None or ((self.since is None or at >= self.since) and (self.until is None or at < self.until))

    def covers(self, cluster: str, namespace: str | None, at: datetime | None = None) -> bool:
        """Whether the grant covers a namespace of a cluster at a time (at any time for None)."""
        if not (fnmatchcase(cluster, _literal(self.cluster)) and self.holds(at)):
            return False
        if self.namespace is None:
            return True
        if namespace is None or not fnmatchcase(namespace, _literal(self.namespace)):
            return False
        return at is None or not any((cluster, namespace) == (here, name) and at < cut for here, name, cut in self.not_before)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a principal may see: nothing, unless there is a grant; a denial overrides every grant."""

    grants: tuple[Grant, ...] = ()
    denials: tuple[Grant, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing may be seen."""
        return not self.grants

    @property
    def everything(self) -> bool:
        """Whether every cluster may be seen completely, at all times."""
        return not self.denials and any(
            grant.namespace is None and grant.cluster == "*" and grant.since is None and grant.until is None for grant in self.grants
        )

    @property
    def without_audits(self) -> Scope:
        """The scope without grants of the auditor role; labels may be read only within it."""
        return Scope(grants=tuple(grant for grant in self.grants if grant.role != "auditor"), denials=self.denials)

    @property
    def reads_every_label(self) -> bool:
        """Whether labels may be read of everything that may be seen, that is, nothing is seen only as an auditor."""
        return all(grant.role != "auditor" for grant in self.grants) or self.without_audits.everything

    @property
    def administers(self) -> bool:
        """Whether every cluster may be seen completely, and not only as an auditor."""
        return self.without_audits.everything

    def owns(self, cluster: str, namespace: str | None, at: datetime) -> bool:
        """Whether the principal owns a namespace at a time; without a namespace there is no owner."""
        return (
            namespace is not None
            and not any(denial.covers(cluster, namespace, at) for denial in self.denials)
            and any(grant.covers(cluster, namespace, at) for grant in self.grants)
        )

    def sees_whole(self, cluster: str, at: datetime) -> bool:
        """Whether the whole cluster is seen at a time, except for denied namespaces."""
        return not any(denial.namespace is None and denial.covers(cluster, None, at) for denial in self.denials) and any(
            grant.namespace is None and grant.covers(cluster, None, at) for grant in self.grants
        )

    def sees_cluster(self, cluster: str) -> bool:
        """Whether anything in a cluster may be seen, at any time."""
        shut = any(d.namespace is None and d.since is None and d.until is None and d.covers(cluster, None) for d in self.denials)
        return not shut and any(fnmatchcase(cluster, _literal(grant.cluster)) for grant in self.grants)

    def fingerprint(self, since: datetime, until: datetime, *, peer_detail: str) -> str:
        """Return a hash of what a report of [since, until) may show: the same if the same, however it is granted.

        A report compares its window with the one of the same length before it, and its last hour may be cut short, so both belong to it.
        Detail of peers matters only to who does not see everything.
        """
        since, until = since - (until - since), until + timedelta(hours=1)
        decided = set() if self.everything else {f"peer_detail={peer_detail}"}
        for grant in (*self.grants, *self.denials):
            if (grant.until is None or grant.until > since) and (grant.since is None or grant.since < until):
                begin = grant.since if grant.since and grant.since > since else None
                end = grant.until if grant.until and grant.until < until else None
                decided.add(str(replace(grant, subject="", reason="", since=begin, until=end)))
        return hashlib.sha256("\n".join(sorted(decided)).encode()).hexdigest()

    def about(self, cluster: str, namespace: str | None, at: datetime | None = None) -> tuple[Grant, ...]:
        """Return the denials and grants that apply to a namespace, in order of precedence."""
        return tuple(grant for grant in (*self.denials, *self.grants) if grant.covers(cluster, namespace, at))


def scope_of(principal: Principal, grants: Iterable[Grant]) -> Scope:
    """Return the scope of a principal: the union of its grants, minus its denials."""
    if principal.is_operator:
        return Scope(grants=(Grant(subject=principal.user, role="platform-admin", cluster="*", namespace=None, reason="runs on the lake"),))
    mine = [grant for grant in grants if grant.subject in principal.subjects]
    return Scope(
        grants=tuple(grant for grant in mine if not grant.is_denial),
        denials=tuple(grant for grant in mine if grant.is_denial),
    )


def is_plain(pattern: str) -> bool:
    """Whether a pattern is an exact name, without wildcards."""
    return not set("*?") & set(pattern)


def _literal(pattern: str) -> str:
    """Escape brackets, which are special to fnmatch and GLOB but not in grants."""
    return pattern.replace("[", "[[]")


def glob(pattern: str) -> str:
    """Return the pattern for SQL's GLOB."""
    return _literal(pattern)
