"""Who may see what: a principal and the grants of the configuration -> a scope. Pure; applying it is warehouse.query's work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from warehouse import config

ALL_SEEING = ("platform-admin", "auditor")


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Someone who asks."""

    user: str
    groups: frozenset[str] = frozenset()
    is_operator: bool = False
    """True for who runs the command line on the lake's own files, and so can read them anyway."""

    @property
    def subjects(self) -> frozenset[str]:
        """The names under which grants may be given."""
        return frozenset({self.user} | {f"group:{group}" for group in self.groups})


OPERATOR = Principal(user="operator", is_operator=True)


@dataclass(frozen=True, order=True)
class Pattern:
    """Namespaces of clusters, both as names that may hold * and ?."""

    cluster: str
    namespace: str

    def matches(self, cluster: str, namespace: str | None) -> bool:
        """Whether a namespace of a cluster is meant; what has no namespace never is."""
        return namespace is not None and fnmatchcase(cluster, _literal(self.cluster)) and fnmatchcase(namespace, _literal(self.namespace))


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a principal may see. Nothing, unless a grant says otherwise."""

    everything: bool = False
    clusters: tuple[str, ...] = ()
    """Names, with * and ?, of clusters seen whole."""
    owned: tuple[Pattern, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing may be seen."""
        return not (self.everything or self.clusters or self.owned)

    def owns(self, cluster: str, namespace: str | None) -> bool:
        """Whether a side of a flow is the principal's own."""
        return (
            self.everything
            or any(fnmatchcase(cluster, _literal(pattern)) for pattern in self.clusters)
            or any(pattern.matches(cluster, namespace) for pattern in self.owned)
        )

    def sees_cluster(self, cluster: str) -> bool:
        """Whether anything of a cluster may be seen."""
        patterns = [*self.clusters, *(pattern.cluster for pattern in self.owned)]
        return self.everything or any(fnmatchcase(cluster, _literal(pattern)) for pattern in patterns)


def scope_of(principal: Principal, grants: Sequence[config.Grant]) -> Scope:
    """The scope that grants give a principal, each adding to the others."""
    if principal.is_operator:
        return Scope(everything=True)
    mine = [grant for grant in grants if grant.subject in principal.subjects]
    return Scope(
        everything=any(grant.role in ALL_SEEING and "*" in grant.clusters for grant in mine),
        clusters=tuple(sorted({cluster for grant in mine if grant.role in (*ALL_SEEING, "cluster-admin") for cluster in grant.clusters})),
        owned=tuple(
            sorted(
                {
                    Pattern(cluster, namespace)
                    for grant in mine
                    if grant.role == "namespace-owner"
                    for cluster in grant.clusters
                    for namespace in grant.namespaces
                }
            )
        ),
    )


def _literal(pattern: str) -> str:
    """fnmatch and GLOB give brackets a meaning that grants do not."""
    return pattern.replace("[", "[[]")


def glob(pattern: str) -> str:
    """The pattern for SQL's GLOB."""
    return _literal(pattern)
