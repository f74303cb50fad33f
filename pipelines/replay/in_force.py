"""What was in force in each cluster during a window, cut into periods in which nothing changed."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from pipelines.policy.policy_set import READERS, Compiled, PolicySet, assemble, compile_policy, latest
from pipelines.policy.reading import Document, Surroundings
from pipelines.policy.settings import AgentSettings, Semantics, from_cilium_config, release_of
from pipelines.policy.surroundings import CONTEXT_KINDS, gather
from warehouse.access.principals import Principal
from warehouse.engine import Window
from warehouse.errors import CancelledError, ConfigError
from warehouse.questions.door import Door
from warehouse.questions.question import Question
from warehouse.questions.record_questions import Configuration, ConfigurationCoverage
from warehouse.records.configuration_coverage import KindCoverage
from warehouse.schema import CLUSTER_SETTINGS, POLICY_VERSIONS, SERVICES, WORKLOADS

NEEDED = ("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
"""Kinds without which nobody knows which policies were in force."""
_GROUPS, _SERVICE, _PODS, _AGENTS, _CONFIG = "CiliumCIDRGroup", "Service", "PodLabels", "CiliumAgents", "ConfigMap"
_KINDS = (*READERS, _GROUPS, _SERVICE, _PODS, _AGENTS, _CONFIG)
_TABLES = (POLICY_VERSIONS, SERVICES, WORKLOADS, CLUSTER_SETTINGS)
T = TypeVar("T")
PortNumbers = Mapping[tuple[str, str], int]
"""Number of each named port by protocol and name."""


@dataclass(frozen=True, kw_only=True)
class Period:
    """A span of time in a cluster, [since, until), in which nothing that policies depend on changed."""

    cluster: str
    since: datetime
    until: datetime
    documents: tuple[Document, ...] = ()
    """The policies in force, as far as the principal may see them."""
    settings: AgentSettings = field(default_factory=AgentSettings)
    surroundings: Surroundings = field(default_factory=Surroundings)
    ports_of: Mapping[tuple[str, str], PortNumbers | None] | None = None
    """The named ports of each workload by namespace and name; None for a workload whose pods differ. None if nobody knows them."""
    knows_cluster_name: bool = False
    """Whether the agent's settings say how it names the cluster in labels; else the cluster's name in the lake is assumed."""
    not_covered: tuple[str, ...] = ()
    """Kinds of policies of which configuration history does not say what was in force then. Empty if it covers the period."""
    compiler: Compiler = field(repr=False, compare=False)

    @cached_property
    def policies(self) -> PolicySet:
        """The policies in force, compiled."""
        return self.compiler.compile(self.documents, self.settings, self.surroundings)

    def in_cluster(self, name: str | None) -> Period:
        """Return the period for an agent that names its cluster so in labels; None if labels name no cluster."""
        if self.knows_cluster_name or name == self.settings.cluster_name:
            return self
        if name is None:
            return replace(self, settings=replace(self.settings, policy_default_local_cluster=False))
        return replace(self, settings=replace(self.settings, cluster_name=name))

    def named_ports(self, namespace: str, workload: str | None) -> PortNumbers | None:
        """The named ports of a workload's pods; None when they are not known."""
        return None if self.ports_of is None or workload is None else self.ports_of.get((namespace, workload))


@dataclass(frozen=True, kw_only=True)
class InForce:
    """The periods of a window, by cluster, and what they leave out."""

    periods: Mapping[str, tuple[Period, ...]]
    notes: tuple[str, ...]
    """What is not known or not visible, each in a sentence for the user."""

    def at(self, cluster: str, moment: datetime) -> Period | None:
        """The period of a cluster at a time; None outside of the window."""
        return next((one for one in self.periods.get(cluster, ()) if one.since <= moment < one.until), None)

    @property
    def covered(self) -> bool:
        """Whether configuration history covers any part of the window."""
        return any(not period.not_covered for periods in self.periods.values() for period in periods)


class Compiler:
    """Compiles sets of policies that have most policies in common; each policy is compiled once.

    Two sets therefore share the `Rule` objects of a policy that is in both, with the same settings and surroundings.
    """

    def __init__(self) -> None:
        self._compiled: dict[tuple[int, AgentSettings, int], Compiled] = {}
        self._documents: dict[str, Document] = {}
        self._around: dict[tuple[int, ...], Surroundings] = {}
        self._kept: list[object] = []

    def document(self, digest: str, manifest: str) -> Document:
        """Return a stored manifest, read once for each hash."""
        found = self._documents.get(digest)
        if found is None:
            found = self._documents[digest] = Document(json.loads(manifest))
        return found

    def compile(self, documents: Iterable[Document], settings: AgentSettings, surroundings: Surroundings) -> PolicySet:
        """Compile policies like `compile_policies`. Equal documents and surroundings must be the same objects to be compiled once."""
        listed = list(documents)
        context = [document for document in listed if document.kind in CONTEXT_KINDS]
        if context:
            key = (id(surroundings), *map(id, context))
            self._kept += [surroundings, *context]
            surroundings = self._around.setdefault(key, gather(context, surroundings))
        return assemble([self._of(document, settings, surroundings) for document in latest(listed)], settings, surroundings)

    def _of(self, document: Document, settings: AgentSettings, surroundings: Surroundings) -> Compiled:
        key = (id(document), settings, id(surroundings))
        found = self._compiled.get(key)
        if found is None:
            self._kept += [document, surroundings]  # an id is unique only as long as its object lives
            found = self._compiled[key] = compile_policy(document, settings, surroundings)
        return found


@dataclass(frozen=True, kw_only=True)
class _Version:
    begin: datetime
    end: datetime | None
    kind: str
    namespace: str | None
    name: str
    document: Document


@dataclass(frozen=True)
class History:
    """Configuration history, as far as one principal may see it."""

    door: Door
    principal: Principal
    cancelled: threading.Event | None = field(default=None, compare=False)
    """Once it is set, the question that runs is interrupted, and no other is asked."""

    def answer(self, question: Question[T]) -> T:
        """Return the door's answer to a question of the principal. Raises CancelledError, and whatever `Door.answer` raises."""
        if self.cancelled is not None and self.cancelled.is_set():
            raise CancelledError("cancelled")
        return self.door.answer(self.principal, question, cancelled=self.cancelled)

    @property
    def sees_labels(self) -> bool:
        """Whether no label is hidden from the principal, so that a label that is missing was not stored."""
        scope = self.door.scope(self.principal)
        return scope.everything and scope.reads_every_label

    def periods(
        self, window: Window, *, clusters: Collection[str] = (), semantics: Semantics = Semantics.CILIUM, compiler: Compiler | None = None
    ) -> InForce:
        """Return what was in force in a window with both bounds, in the named clusters or in all that the principal may know of.

        Pass the same `compiler` to compile the policies of several windows together. Raises AccessDeniedError, QueryError, LakeError.
        """
        since, until = window.since, window.until
        if since is None or until is None or until <= since:
            raise ConfigError("policies are replayed over a window with a start and an end")
        rows = self.answer(Configuration(window=window, tables=_TABLES, clusters=tuple(clusters), kinds=_KINDS)).rows.to_pylist()
        known = _Known(*(self.answer(ConfigurationCoverage(at=at, clusters=tuple(clusters))) for at in (since, until)))
        compiler = compiler or Compiler()
        versions: dict[str, list[_Version]] = {cluster: [] for cluster in (*clusters, *known.clusters)}
        for row in rows:
            if row["kind"] == _CONFIG and (row["namespace"], row["name"]) != ("kube-system", "cilium-config"):
                continue
            versions.setdefault(row["cluster"], []).append(
                _Version(
                    begin=row["valid_from"],
                    end=row["valid_to"],
                    kind=row["kind"],
                    namespace=row["namespace"],
                    name=row["name"],
                    document=compiler.document(row["hash"], row["manifest"]),
                )
            )
        periods, notes = {}, []
        for cluster in sorted(versions):
            of_cluster = _OfCluster(cluster, versions[cluster], known, semantics, compiler)
            periods[cluster] = tuple(of_cluster.periods(since, until))
            notes += of_cluster.notes
        scope = self.door.scope(self.principal)
        notes += [
            f"{cluster}: policies of other namespaces, cluster-wide policies and the agent's settings are not yours to see, so they are "
            "not judged by, and the agent's defaults are assumed"
            for cluster in sorted(versions)
            if not scope.sees_whole(cluster, since)
        ]
        return InForce(periods=periods, notes=tuple(notes))


class _Known:
    """When each kind of each cluster was known, by the coverage at the two ends of a window."""

    def __init__(self, at_start: Iterable[KindCoverage], at_end: Iterable[KindCoverage]) -> None:
        self._start = {(one.cluster, one.kind): one for one in at_start}
        self._end = {(one.cluster, one.kind): one for one in at_end}

    @property
    def clusters(self) -> set[str]:
        """Clusters that were ever read."""
        return {cluster for cluster, _ in self._end}

    def span(self, cluster: str, kind: str, since: datetime, until: datetime) -> tuple[datetime, datetime] | None:
        """The part of the window in which a kind was known; None if there is none.

        What two observations agree on was in force between them, so one gap between two observations does not count.
        """
        start, end = self._start.get((cluster, kind)), self._end.get((cluster, kind))
        if start is None or end is None:
            return None
        begin = since if start.before is not None else start.after
        finish = until if end.after is not None else end.before
        if begin is None or finish is None or finish <= begin:
            return None
        return max(begin, since), min(finish, until)

    def ever(self, cluster: str, kind: str) -> bool:
        """Whether a kind was known at any time up to the window's end or after it."""
        found = self._end.get((cluster, kind))
        return found is not None and (found.before is not None or found.after is not None)


class _OfCluster:
    """Cuts the history of one cluster into periods."""

    def __init__(self, cluster: str, versions: list[_Version], known: _Known, semantics: Semantics, compiler: Compiler) -> None:
        self._cluster, self._versions, self._known, self._semantics, self._compiler = cluster, versions, known, semantics, compiler
        self.notes: list[str] = []
        self._surroundings: dict[tuple[object, ...], tuple[Surroundings, dict[tuple[str, str], PortNumbers | None] | None]] = {}

    def periods(self, since: datetime, until: datetime) -> Iterator[Period]:
        """Yield the periods of [since, until), in order."""
        spans = {kind: self._known.span(self._cluster, kind, since, until) for kind in NEEDED}
        changes = {moment for one in self._versions for moment in (one.begin, one.end) if moment is not None}
        changes |= {moment for span in spans.values() if span for moment in span}
        bounds = [since, *sorted(moment for moment in changes if since < moment < until), until]
        before: Period | None = None
        for begin, documents in self._in_force(bounds[:-1]):
            end = bounds[bounds.index(begin) + 1]
            missing = tuple(kind for kind, span in spans.items() if span is None or not span[0] <= begin < span[1])
            one = self._period(begin, end, documents, missing)
            if before is not None and _same(before, one):
                before = replace(before, until=end)
                continue
            if before is not None:
                yield before
            before = one
        if before is not None:
            yield before
        self.notes += self._gaps(spans, since, until)

    def _in_force(self, moments: list[datetime]) -> Iterator[tuple[datetime, list[_Version]]]:
        """Yield the versions in force at each of the moments, which are in order."""
        waiting = sorted(self._versions, key=lambda one: one.begin, reverse=True)
        current: list[_Version] = []
        for moment in moments:
            while waiting and waiting[-1].begin <= moment:
                current.append(waiting.pop())
            current = [one for one in current if one.end is None or one.end > moment]
            yield moment, current

    def _period(self, begin: datetime, end: datetime, versions: list[_Version], missing: tuple[str, ...]) -> Period:
        by_kind: dict[str, list[_Version]] = {}
        for one in sorted(versions, key=lambda one: (one.kind, one.namespace or "", one.name)):
            by_kind.setdefault(one.kind, []).append(one)
        surroundings, ports = self._around(by_kind)
        return Period(
            cluster=self._cluster,
            since=begin,
            until=end,
            documents=tuple(one.document for kind in READERS for one in by_kind.get(kind, ())),
            settings=self._settings(by_kind),
            knows_cluster_name=any("cluster-name" in (one.document.manifest.get("data") or {}) for one in by_kind.get(_CONFIG, ())),
            surroundings=surroundings,
            ports_of=ports,
            not_covered=missing,
            compiler=self._compiler,
        )

    def _around(self, by_kind: Mapping[str, list[_Version]]) -> tuple[Surroundings, dict[tuple[str, str], PortNumbers | None] | None]:
        groups, services, pods = ([one.document for one in by_kind.get(kind, ())] for kind in (_GROUPS, _SERVICE, _PODS))
        knows_pods = self._known.ever(self._cluster, _PODS)
        ports = _ports(pods) if knows_pods else None
        key = (*map(id, [*groups, *services]), repr(ports))
        found = self._surroundings.get(key)
        if found is None:
            known = Surroundings(
                cidr_groups={} if self._known.ever(self._cluster, _GROUPS) else None,
                services=() if self._known.ever(self._cluster, _SERVICE) else None,
                named_ports=_numbers(pods) if knows_pods else None,
            )
            found = self._surroundings[key] = (gather([*groups, *services], known), ports)
        return found

    def _settings(self, by_kind: Mapping[str, list[_Version]]) -> AgentSettings:
        settings = AgentSettings(semantics=self._semantics, cluster_name=self._cluster)
        try:
            for one in by_kind.get(_AGENTS, ()):
                version = (one.document.manifest.get("spec") or {}).get("version")
                if version:
                    settings = replace(settings, release=release_of(version))
            for one in by_kind.get(_CONFIG, ()):
                settings = from_cilium_config(one.document.manifest.get("data") or {}, settings)
        except ConfigError as error:
            self.notes.append(f"{self._cluster}: the agent's settings cannot be read, so its defaults are assumed: {error}")
        return settings

    def _gaps(self, spans: Mapping[str, tuple[datetime, datetime] | None], since: datetime, until: datetime) -> Iterator[str]:
        if not any(spans.values()):
            yield f"{self._cluster}: configuration history does not cover this window, so it is not known which policies were in force"
            return
        alike: dict[tuple[datetime, datetime] | None, list[str]] = {}
        for kind, span in spans.items():
            alike.setdefault(span, []).append(kind)
        for span, kinds in alike.items():
            if span is None:
                yield f"{self._cluster}: it is not known which objects of kind {', '.join(kinds)} were in force"
            elif span != (since, until):
                known = f"from {span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M} UTC"
                yield f"{self._cluster}: it is known {known} only which objects of kind {', '.join(kinds)} were in force"
        if not self._known.ever(self._cluster, _CONFIG):
            yield f"{self._cluster}: the agent's settings were not recorded, so its defaults are assumed"


def _same(one: Period, other: Period) -> bool:
    """Whether nothing that policies depend on differs between two periods."""
    return (
        one.not_covered == other.not_covered
        and one.settings == other.settings
        and one.surroundings is other.surroundings
        and list(map(id, one.documents)) == list(map(id, other.documents))
    )


def _pod_ports(document: Document) -> dict[tuple[str, str], int]:
    spec = document.manifest.get("spec") or {}
    ports: list[dict[str, Any]] = spec.get("ports") or []
    return {
        (port.get("protocol") or "TCP", port["name"]): port["containerPort"] for port in ports if "name" in port and "containerPort" in port
    }


def _ports(pods: Iterable[Document]) -> dict[tuple[str, str], PortNumbers | None]:
    """The named ports of each workload; None where its pods disagree."""
    found: dict[tuple[str, str], PortNumbers | None] = {}
    for document in pods:
        metadata, spec = document.manifest["metadata"], document.manifest.get("spec") or {}
        key = (metadata.get("namespace") or "default", (spec.get("workload") or {}).get("name") or metadata["name"])
        ports = _pod_ports(document)
        found[key] = ports if found.get(key, ports) == ports else None
    return found


def _numbers(pods: Iterable[Document]) -> dict[tuple[str, str], frozenset[int]]:
    found: dict[tuple[str, str], set[int]] = {}
    for document in pods:
        for name, number in _pod_ports(document).items():
            found.setdefault(name, set()).add(number)
    return {name: frozenset(numbers) for name, numbers in found.items()}
