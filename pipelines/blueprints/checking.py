"""Are blueprints right for this fleet? What one file alone cannot tell: clusters, owners, and each other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipelines.blueprints.model import BlueprintFile, Waiver
from pipelines.blueprints.render import render
from pipelines.blueprints.selectors import matches_any
from warehouse import config
from warehouse.access import Principal, scope_of
from warehouse.errors import ConfigError
from warehouse.ownership import grants_of

Namespaces = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found: mistakes, which stop, and warnings, which do not. Each names file and line."""

    mistakes: tuple[str, ...]
    warnings: tuple[str, ...]


def check(
    files: Sequence[BlueprintFile],
    clusters: Sequence[config.Cluster],
    ownership: config.Ownership,
    *,
    now: datetime,
    namespaces: Mapping[str, Namespaces] | None = None,
) -> Checked:
    """Judge blueprints against the fleet. `namespaces` are each cluster's, where they are known."""
    known = [cluster.name for cluster in clusters]
    mistakes = [mistake for file in files for mistake in (*_unknown_clusters(file, known), *_not_owners(file, known, ownership, now))]
    warnings = [warning for file in files for warning in _warnings(file, clusters, now)]
    for cluster in clusters:
        try:
            of_cluster = (namespaces or {}).get(cluster.name, {})
            render(files, cluster=cluster.name, labels=cluster.labels, namespaces=of_cluster, now=now)
        except ConfigError as error:
            mistakes.append(str(error))
    return Checked(mistakes=tuple(dict.fromkeys(mistakes)), warnings=tuple(warnings))


def _unknown_clusters(file: BlueprintFile, known: Sequence[str]) -> Iterator[str]:
    blueprint = file.blueprint
    named: list[tuple[list[str | int], str]] = [
        (["clusters", "names", index], pattern) for index, pattern in enumerate(blueprint.clusters.names)
    ]
    named += [(["canary", index], pattern) for index, pattern in enumerate(blueprint.canary)]
    for number, waiver in enumerate(blueprint.exceptions):
        named += [(["exceptions", number, "clusters", index], pattern) for index, pattern in enumerate(waiver.clusters)]
    for place, pattern in named:
        if not any(matches_any(name, [pattern]) for name in known) and pattern != "*":
            there = ", ".join(known) or "none"
            yield f"{file.document.where(place)}: no cluster of the configuration is named {pattern!r}; there are: {there}"


def _not_owners(file: BlueprintFile, known: Sequence[str], ownership: config.Ownership, now: datetime) -> Iterator[str]:
    for index, waiver in enumerate(file.blueprint.exceptions):
        where = file.document.where(["exceptions", index, "granted_by"])
        clusters = [name for name in known if matches_any(name, waiver.clusters)]
        not_owned = [name for name in clusters if not _may_grant(waiver, name, ownership, now)]
        if not_owned:
            yield (
                f"{where}: {waiver.granted_by!r} does not own the namespace {waiver.namespace!r} in {', '.join(not_owned)} "
                "by the configuration's ownership.grants, so cannot grant an exception for it"
            )


def _may_grant(waiver: Waiver, cluster: str, ownership: config.Ownership, now: datetime) -> bool:
    """Whether a grant covers the whole pattern: an owner of `shop` cannot grant for `shop*`."""
    group = waiver.granted_by.removeprefix("group:")
    who = Principal(user="", groups=frozenset({group})) if group != waiver.granted_by else Principal(user=waiver.granted_by)
    scope = scope_of(who, [grant for grant in grants_of(ownership) if grant.role != "auditor"])
    if "*" in waiver.namespace or "?" in waiver.namespace:
        whole = any(grant.namespace == "*" and grant.covers(cluster, waiver.namespace, now) for grant in scope.grants)
        return whole or scope.sees_whole(cluster, now)
    return scope.owns(cluster, waiver.namespace, now)


def _warnings(file: BlueprintFile, clusters: Sequence[config.Cluster], now: datetime) -> Iterator[str]:
    blueprint = file.blueprint
    if not any(blueprint.clusters.selects(cluster.name, cluster.labels) for cluster in clusters):
        yield f"{file.document.where(['clusters'])}: selects none of the configuration's clusters"
    for index, waiver in enumerate(blueprint.exceptions):
        if waiver.expires <= now:
            where = file.document.where(["exceptions", index, "expires"])
            yield f"{where}: the exception for {waiver.namespace} has expired: the policies are wanted there again; take it out"
