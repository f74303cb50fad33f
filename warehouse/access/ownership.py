"""Turns the sources of ownership into grants with reasons: the file, labels and annotations of namespaces, RoleBindings. Pure.

What a grant means for a principal belongs to warehouse.access.principals; reading the recorded configuration belongs to
warehouse.access.grants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from warehouse import config
from warehouse.access.principals import WHOLE_CLUSTERS, Grant
from warehouse.config.selectors import Selector

_ALWAYS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, kw_only=True)
class NamespaceVersion:
    """A namespace as it was in [valid_from, valid_to); None if it still exists unchanged."""

    cluster: str
    name: str
    uid: str
    """Empty if unknown: manifests have no uid."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    valid_from: datetime
    valid_to: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class BindingVersion:
    """A RoleBinding as it was in [valid_from, valid_to): `subjects` as (kind, name, namespace)."""

    cluster: str
    namespace: str
    name: str
    role: str
    subjects: Sequence[tuple[str, str, str | None]]
    valid_from: datetime
    valid_to: datetime | None = None


def grants_of(
    ownership: config.Ownership, namespaces: Iterable[NamespaceVersion] = (), bindings: Iterable[BindingVersion] = ()
) -> tuple[Grant, ...]:
    """Return all grants and denials from all sources."""
    versions = list(namespaces)
    lives = _lives(versions)
    versions = [_within_its_life(version, lives) for version in versions]
    bound = [_within_a_life(binding, lives) for binding in bindings]
    reborn = _reborn(lives)
    grants: list[Grant] = []
    for number, grant in enumerate(ownership.grants):
        grants.extend(_of_file(grant, f"ownership.grants[{number}]", versions, reborn))
    for number, source in enumerate(ownership.sources):
        where = f"ownership.sources[{number}]"
        if source.kind == "role_bindings":
            grants.extend(_of_bindings(source, where, bound))
        else:
            grants.extend(_of_namespaces(source, where, versions))
    return _joined(grants)


def _of_file(
    grant: config.Grant, where: str, versions: Sequence[NamespaceVersion], reborn: Sequence[tuple[str, str, datetime]]
) -> Iterator[Grant]:
    reason = f"{where}: {grant.reason}" if grant.reason else where
    role = grant.role or "namespace-owner"
    for cluster in grant.clusters:
        given = Grant(
            subject=grant.subject,
            role=role,
            cluster=cluster,
            namespace=None,
            since=grant.since,
            until=grant.until,
            is_denial=grant.deny,
            reason=reason,
        )
        if role in WHOLE_CLUSTERS or (grant.deny and not grant.namespaces and grant.selector is None):
            yield given
        # A namespace that was deleted and recreated is a different namespace: a grant without a time means the newest one.
        cut = () if grant.since or grant.deny else tuple(one for one in reborn if fnmatchcase(one[0], cluster.replace("[", "[[]")))
        for namespace in grant.namespaces if role not in WHOLE_CLUSTERS else ():
            mine = tuple(one for one in cut if fnmatchcase(one[1], namespace.replace("[", "[[]")))
            yield replace(given, namespace=namespace, not_before=mine)
        if grant.selector is not None:
            selector = Selector.parse(grant.selector)
            for version in versions:
                if selector.matches(version.labels) and given.covers(version.cluster, version.name):
                    yield from _while(given, version, f"{reason}: labels match {grant.selector}")


def _of_namespaces(source: config.OwnershipSource, where: str, versions: Sequence[NamespaceVersion]) -> Iterator[Grant]:
    for version in versions:
        metadata = version.labels if source.kind == "label" else version.annotations
        value = metadata.get(source.key or "", "")
        for name in [value] if source.kind == "label" else value.split(","):
            if name.strip() and _among(version.cluster, source.clusters):
                subject = source.subject.replace("{value}", name.strip())
                given = Grant(subject=subject, role="namespace-owner", cluster=version.cluster, namespace=version.name, reason=where)
                yield from _while(given, version, f"{where}: {source.kind} {source.key}={name.strip()}")


def _of_bindings(source: config.OwnershipSource, where: str, bindings: Sequence[BindingVersion]) -> Iterator[Grant]:
    for binding in bindings:
        if binding.role not in source.roles or not _among(binding.cluster, source.clusters):
            continue
        for kind, name, namespace in binding.subjects:
            match kind:
                case "Group":
                    subject = f"group:{name}"
                case "ServiceAccount":
                    subject = f"system:serviceaccount:{namespace or binding.namespace}:{name}"
                case _ if name.startswith("group:"):  # a user name that imitates a group
                    continue
                case _:
                    subject = name
            yield Grant(
                subject=subject,
                role="namespace-owner",
                cluster=binding.cluster,
                namespace=binding.namespace,
                since=binding.valid_from,
                until=binding.valid_to,
                reason=f"{where}: RoleBinding {binding.namespace}/{binding.name} gives {binding.role}",
            )


def _while(given: Grant, version: NamespaceVersion, reason: str) -> Iterator[Grant]:
    """Yield a grant of a namespace for the time of one of its versions, within the grant's own time."""
    since = version.valid_from if given.since is None else max(given.since, version.valid_from)
    ends = [end for end in (given.until, version.valid_to) if end is not None]
    until = min(ends, default=None)
    if until is None or since < until:
        yield replace(given, cluster=version.cluster, namespace=version.name, since=since, until=until, reason=reason)


@dataclass(frozen=True, kw_only=True)
class _Life:
    """A namespace from its creation to its deletion, as far as known. A recreated namespace has another uid."""

    uid: str
    begin: datetime
    end: datetime


def _lives(versions: Iterable[NamespaceVersion]) -> dict[tuple[str, str], list[_Life]]:
    """Return the lives of each (cluster, namespace), in order.

    Only two different uids prove that a namespace was recreated. A version without a uid comes from a folder of manifests, which has
    no uids, and belongs to the same life, so owners retain their history when a cluster moves from manifests to its API server or back.
    """
    spans: dict[tuple[str, str], dict[str, tuple[datetime, datetime]]] = {}
    for version in versions:
        if version.uid:
            of_name = spans.setdefault((version.cluster, version.name), {})
            end = version.valid_to or _ALWAYS[1]
            begin, last = of_name.get(version.uid, (version.valid_from, end))
            of_name[version.uid] = (min(begin, version.valid_from), max(last, end))
    lives = {}
    for key, of_name in spans.items():
        born = sorted((begin, end, uid) for uid, (begin, end) in of_name.items())
        nexts = [begin for begin, _, _ in born[1:]] + [_ALWAYS[1]]
        # Two lives never overlap, even if the times of observation suggest it: the start of the next one ends the previous one.
        lives[key] = [_Life(uid=uid, begin=begin, end=min(end, after)) for (begin, end, uid), after in zip(born, nexts, strict=True)]
    return lives


def _within_its_life(version: NamespaceVersion, lives: Mapping[tuple[str, str], list[_Life]]) -> NamespaceVersion:
    """Return the version, ending no later than the life it belongs to."""
    for life in lives.get((version.cluster, version.name), ()):
        if life.uid == version.uid and (version.valid_to or _ALWAYS[1]) > life.end:
            return replace(version, valid_to=life.end)
    return version


def _within_a_life(binding: BindingVersion, lives: Mapping[tuple[str, str], list[_Life]]) -> BindingVersion:
    """Return the binding, ending with the life of its namespace in which it began: it was deleted with the namespace."""
    for life in lives.get((binding.cluster, binding.namespace), [])[:-1]:
        if binding.valid_from < life.end:
            return binding if binding.valid_to is not None and binding.valid_to <= life.end else replace(binding, valid_to=life.end)
    return binding


def _reborn(lives: Mapping[tuple[str, str], list[_Life]]) -> list[tuple[str, str, datetime]]:
    """Return (cluster, namespace, start of the newest life) of namespaces that were deleted and recreated."""
    return [(cluster, name, of_name[-1].begin) for (cluster, name), of_name in sorted(lives.items()) if len(of_name) > 1]


def _joined(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """Merge grants that differ only in adjacent times: every new version of a namespace repeats its grants."""
    spans: dict[Grant, list[tuple[datetime, datetime]]] = {}
    for grant in grants:
        spans.setdefault(replace(grant, since=None, until=None), []).append((grant.since or _ALWAYS[0], grant.until or _ALWAYS[1]))
    joined = []
    for grant, times in spans.items():
        merged: list[tuple[datetime, datetime]] = []
        for since, until in sorted(times):
            if merged and since <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], until))
            else:
                merged.append((since, until))
        for since, until in merged:
            joined.append(replace(grant, since=None if since == _ALWAYS[0] else since, until=None if until == _ALWAYS[1] else until))
    return tuple(joined)


def _among(cluster: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(cluster, pattern.replace("[", "[[]")) for pattern in patterns)
