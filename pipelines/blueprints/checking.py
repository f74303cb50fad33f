"""Checks blueprints against the fleet for mistakes that one file alone cannot reveal: clusters, owners, other blueprints. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipelines.blueprints.model import BlueprintFile, Waiver
from pipelines.blueprints.render import render
from pipelines.blueprints.selectors import matches_any
from warehouse import config
from warehouse.access.principals import Grant, Principal, is_plain, scope_of
from warehouse.errors import ConfigError

Namespaces = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The findings of a check: mistakes, which prevent publishing, and warnings, which do not. Each names file and line."""

    mistakes: tuple[str, ...]
    warnings: tuple[str, ...]


def check(
    files: Sequence[BlueprintFile],
    clusters: Sequence[config.Cluster],
    grants: Sequence[Grant],
    *,
    now: datetime,
    grants_are_whole: bool = True,
    namespaces: Mapping[str, Namespaces] | None = None,
) -> Checked:
    """Check blueprints against the fleet. `namespaces` are those of each cluster, where they are known.

    The grantor of an exception must own its namespace. If `grants` are incomplete, a violation is a warning, not a mistake.
    """
    known = [cluster.name for cluster in clusters]
    mistakes = [mistake for file in files for mistake in _unknown_clusters(file, known)]
    warnings = [warning for file in files for warning in _warnings(file, clusters, now)]
    (mistakes if grants_are_whole else warnings).extend(problem for file in files for problem in _not_owners(file, known, grants, now))
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


def _not_owners(file: BlueprintFile, known: Sequence[str], grants: Sequence[Grant], now: datetime) -> Iterator[str]:
    for index, waiver in enumerate(file.blueprint.exceptions):
        not_owned = [name for name in known if matches_any(name, waiver.clusters) and not _may_grant(waiver, name, grants, now)]
        if not_owned:
            yield (
                f"{file.document.where(['exceptions', index, 'granted_by'])}: {waiver.granted_by!r} does not own the namespace "
                f"{waiver.namespace!r} in {', '.join(not_owned)} by the configuration's ownership, so cannot grant an exception for it"
            )


def _may_grant(waiver: Waiver, cluster: str, grants: Sequence[Grant], now: datetime) -> bool:
    """Return whether ownership covers the whole pattern: an owner of `shop` cannot grant for `shop*`. Auditors own nothing."""
    group = waiver.granted_by.removeprefix("group:")
    who = Principal(user="", groups=frozenset({group})) if group != waiver.granted_by else Principal(user=waiver.granted_by)
    scope = scope_of(who, [grant for grant in grants if grant.role != "auditor"])
    if is_plain(waiver.namespace):
        return scope.owns(cluster, waiver.namespace, now)
    wide = any(grant.namespace == "*" and grant.covers(cluster, waiver.namespace, now) for grant in scope.grants)
    return (wide or scope.sees_whole(cluster, now)) and not scope.denials


def _warnings(file: BlueprintFile, clusters: Sequence[config.Cluster], now: datetime) -> Iterator[str]:
    blueprint = file.blueprint
    if not any(blueprint.clusters.selects(cluster.name, cluster.labels) for cluster in clusters):
        yield f"{file.document.where(['clusters'])}: selects none of the configuration's clusters"
    for index, waiver in enumerate(blueprint.exceptions):
        if waiver.expires <= now:
            where = file.document.where(["exceptions", index, "expires"])
            yield f"{where}: the exception for {waiver.namespace} has expired: the policies are wanted there again; take it out"
