"""The traffic of a namespace as recommendations are made from it: distinct edges of a window, with both ends, by the day.

Edges come from edges_1h. What its rows fold (single addresses behind a range, types of ICMP) is read from the flows of
the hours that still have them, and stays folded in the others.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Direction
from pipelines.recommend import observed
from pipelines.recommend.observed import ObservedEdge, Seen
from pipelines.recommend.recommendation import Traffic
from pipelines.recommend.triage import ServicePort
from pipelines.replay import recorded_ends
from pipelines.replay.ends import End, LearnedNames, namespace_labels, side_of, valid_address
from pipelines.replay.in_force import History
from warehouse.access.principals import Scope
from warehouse.engine import Window
from warehouse.errors import ConfigError, QueryError
from warehouse.questions import edge_questions, replay_questions
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.record_questions import Configuration
from warehouse.schema import EDGES_1H, SERVICES, WORKLOADS

_DIRECTIONS = {"EGRESS": Direction.EGRESS, "INGRESS": Direction.INGRESS}
_WITHOUT_NAME = (None, "world", "world-ipv4", "world-ipv6")
"""Entities of ends that only an address or a DNS name tells apart."""
_NEVER_BEGUN, _NEVER_ENDED = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
_EXAMPLES = 3
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class TrafficOf:
    """Whose traffic is read, and when."""

    namespace: str
    window: Window
    """With both bounds; extended to whole hours where the edges are."""
    clusters: tuple[str, ...] = ()
    """Empty for every cluster that the principal may know of; the namespace must then be in one of them only."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The traffic of a namespace in one cluster."""

    cluster: str
    traffic: Traffic
    notes: tuple[str, ...] = ()


def read(history: History, wanted: TrafficOf) -> Recorded:
    """Read the traffic of a namespace, as far as the principal may see it.

    Raises:
        ConfigError: the window has no bounds, there is no traffic, or it is in several clusters and none was named.
        QueryError: the namespace was not the principal's at the end of the window, in any of the clusters.
        AccessDeniedError, LakeError: as for every question.
    """
    since, until = wanted.window.since, wanted.window.until
    if since is None or until is None or until <= since:
        raise ConfigError("traffic is read from a window with a start and an end")
    _check_ownership(history, wanted, min(until, datetime.now(UTC)) - _INSTANT)
    flow_filter = FlowFilter(since=since, until=until, clusters=wanted.clusters, namespaces=(wanted.namespace,))
    answer = history.answer(replay_questions.DistinctEdges(wanted=flow_filter))
    rows = answer.plain().to_pylist()
    cluster = _cluster(rows, wanted, since, until)
    labels = {row["id"]: tuple(row["labels"]) for row in answer.label_sets.to_pylist()}
    mine = [row for row in rows if row["cluster"] == cluster]
    read_from = replace(flow_filter, clusters=(cluster,), since=answer.window.since or since, until=answer.window.until or until)
    reader = _Reader(history, read_from, labels)
    edges = reader.edges(mine)
    coverage = [node for node in answer.coverage if node.cluster == cluster]
    gaps = [f"{node.node_name}, {1 - node.covered:.1%} of its time" for node in coverage if node.covered < 1]
    seen = Seen(since, until, answer.shares.get(cluster), tuple(sorted(gaps)), answer.coverage.flows_lost.get(cluster, 0))
    notes = ("there are more edges than are read, so the recommendation is not complete",) if answer.cut else ()
    objects = Objects(history, cluster, wanted.window)
    known = objects.label_sets(wanted.namespace, {end.workload for edge in edges for end in (edge.source, edge.destination) if end.labels})
    return Recorded(cluster=cluster, traffic=Traffic(edges, seen, known, objects.service_ports()), notes=notes)


def _check_ownership(history: History, wanted: TrafficOf, at: datetime) -> None:
    """Refuse a namespace that is not the principal's: what she sees of it as a peer is no basis for its policies."""
    door, principal = history.door, history.principal
    with door.refusals(principal, "recommendation", f"namespace {wanted.namespace}"):
        scope = door.scope(principal)
        clusters = wanted.clusters or {*door.clusters(principal), *door.clusters(principal, of=EDGES_1H)}
        if clusters and not any(scope.owns(cluster, wanted.namespace, at) for cluster in clusters):
            raise QueryError(f"policies of namespace {wanted.namespace} cannot be recommended: it is not yours")


def _cluster(rows: Iterable[Mapping[str, Any]], wanted: TrafficOf, since: datetime, until: datetime) -> str:
    """The one cluster in which the namespace has traffic."""
    sides = ("source", "destination")
    found: list[str] = sorted({row["cluster"] for row in rows if any(_is_local(row, side, wanted.namespace) for side in sides)})
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"namespace {wanted.namespace} has traffic in {', '.join(found)}: name one of them with --cluster")
    where = f" in {', '.join(wanted.clusters)}" if wanted.clusters else ""
    when = f"from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"
    raise ConfigError(f"no traffic of a namespace {wanted.namespace!r} was recorded{where} {when}, as far as you may see")


def _is_local(row: Mapping[str, Any], side: str, namespace: str) -> bool:
    return bool(row[f"{side}_namespace"] == namespace and row[f"{side}_cluster_name"] is None)


@dataclass
class _Sum:
    """What adds up to one edge."""

    at: dict[str | None, int] = field(default_factory=lambda: defaultdict(int))
    replies: int = 0
    reported: int = 0
    first_seen: datetime = _NEVER_BEGUN
    last_seen: datetime = _NEVER_ENDED
    days: set[date] = field(default_factory=set)
    uuids: list[str] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row of edges or of connections."""
        self.at[row["traffic_direction"]] += row["flows"] - row.get("repeats", 0)
        self.reported += row["flows"]
        self.replies += row["replies"]
        self.first_seen, self.last_seen = min(self.first_seen, row["first_seen"]), max(self.last_seen, row["last_seen"])
        self.days |= {row["first_seen"].date(), row["last_seen"].date()}
        self.uuids += row.get("uuids") or []

    @property
    def flows(self) -> int:
        """Flows, each counted once although both ends may have reported it (docs/counting.md)."""
        known = max((self.at[name] for name in _DIRECTIONS), default=0)
        return known + sum(count for name, count in self.at.items() if name not in _DIRECTIONS)


_Key = tuple[End, End, str, int | None, int | None, str, str]


class _Reader:
    """Turns rows of one cluster into edges."""

    def __init__(self, history: History, wanted: FlowFilter, labels: Mapping[str, tuple[str, ...]]) -> None:
        self._history, self._wanted, self._labels = history, wanted, labels
        self._scope: Scope = history.door.scope(history.principal)
        self._sums: dict[_Key, _Sum] = defaultdict(_Sum)

    def edges(self, rows: Iterable[Mapping[str, Any]]) -> list[ObservedEdge]:
        """The edges of rows of edges_1h, with the detail of flows where there still are flows."""
        rows = list(rows)
        detailed = self._detail([row for row in rows if _is_folded(row)])
        for row in rows:
            if not _is_folded(row) or row["since"] not in detailed:
                self._sums[self._key(row, None)].add(row)
        for row in (row for of_hour in detailed.values() for row in of_hour):
            self._sums[self._key(row, _icmp_type(row))].add(row)
        names = self._history.answer(edge_questions.names(self._wanted)).rows.to_pylist()
        learned = LearnedNames.read(names)
        of_address: dict[str, set[str]] = defaultdict(set)
        for row in names:
            of_address[row["ip"]].add(row["name"])
        ends: dict[End, observed.End] = {}
        for key in self._sums:
            for end in key[:2]:
                if end not in ends:
                    ends[end] = _observed(end, learned, of_address)
        return [_edge(key, one, ends) for key, one in self._sums.items()]

    def _key(self, row: Mapping[str, Any], icmp_type: int | None) -> _Key:
        source, destination = self._end(row, "source"), self._end(row, "destination")
        protocol = row["l4_protocol"] or ""
        return source, destination, protocol, row["destination_port"], icmp_type, row["verdict"] or "", row["drop_reason_desc"] or ""

    def _end(self, row: Mapping[str, Any], side: str) -> End:
        part: dict[str, Any] = {name: row.get(f"{side}_{name}") for name in ("cluster_name", "namespace", "entity", "dns_name", "cidr")}
        labels = row.get(f"{side}_labels")
        if labels is None:
            labels = self._labels.get(row.get(f"{side}_labels_id") or "")
        owned = part["namespace"] is None or self._scope.owns(row["cluster"], part["namespace"], self._wanted.until)
        address = row.get(f"{side}_ip") if part["namespace"] is None else None
        return End(
            cluster=row["cluster"],
            workload=row[f"{side}_workload_name"],
            labels=tuple(labels) if labels else None,
            address=valid_address(address),
            names=tuple(row[f"{side}_names"]) if row.get(f"{side}_names") else None,
            is_hidden=not labels and not owned,
            **part,
        )

    def _detail(self, folded: list[Mapping[str, Any]]) -> dict[datetime, list[Mapping[str, Any]]]:
        """Connections in place of folded rows, for each hour that still has all of the flows."""
        if not folded:
            return {}
        answer = self._history.answer(replay_questions.connections(self._wanted))
        found: dict[datetime, list[Mapping[str, Any]]] = defaultdict(list)
        for row in answer.rows.to_pylist():
            if row["cluster"] == self._wanted.clusters[0] and _is_folded(row):
                found[row["since"]].append(row)
        if answer.cut:
            return {}
        kept, wanted = (_flows_by_hour(some) for some in ((row for rows in found.values() for row in rows), folded))
        return {hour: rows for hour, rows in found.items() if kept[hour] >= wanted[hour]}


def _flows_by_hour(rows: Iterable[Mapping[str, Any]]) -> Counter[datetime]:
    found: Counter[datetime] = Counter()
    for row in rows:
        found[row["since"]] += row["flows"]
    return found


def _is_folded(row: Mapping[str, Any]) -> bool:
    """Whether a row of edges_1h is about an address without a name, or about ICMP; the same for a row of connections."""
    if (row["l4_protocol"] or "").startswith("ICMP"):
        return True
    return any(
        row[f"{side}_namespace"] is None and row[f"{side}_dns_name"] is None and row[f"{side}_entity"] in _WITHOUT_NAME
        for side in ("source", "destination")
    )


def _icmp_type(row: Mapping[str, Any]) -> int | None:
    """The type of ICMP of a connection; the flow leaves out a 0."""
    return (row["icmp_type"] or 0) if (row["l4_protocol"] or "").startswith("ICMP") else None


def _observed(end: End, learned: LearnedNames, of_address: Mapping[str, Collection[str]]) -> observed.End:
    """An end as recommendations read it. An address without a name gets the names that history has for it."""
    inferred = end.namespace is None and end.address is not None and not (end.names or end.dns_name) and end.address in of_address
    if inferred:
        end = replace(end, names=tuple(sorted(of_address[end.address or ""])))
    return observed.End(
        side_of(end, learned=learned), end.namespace or "", end.workload or "", end.cluster_name or "", names_inferred=inferred
    )


def _edge(key: _Key, one: _Sum, ends: Mapping[End, observed.End]) -> ObservedEdge:
    source, destination, protocol, port, icmp_type, verdict, reason = key
    return ObservedEdge(
        source=ends[source],
        destination=ends[destination],
        protocol=protocol,
        port=port,
        flows=one.flows,
        first_seen=one.first_seen,
        last_seen=one.last_seen,
        days=frozenset(one.days),
        verdict=verdict,
        seen_at=frozenset(_DIRECTIONS[name] for name, count in one.at.items() if name in _DIRECTIONS and count),
        icmp_type=icmp_type,
        drop_reason=reason,
        is_reply=protocol.startswith("ICMP") and one.replies == one.reported,
        examples=tuple(one.uuids[:_EXAMPLES]),
    )


class Objects:
    """Configuration history that says more of the traffic: labels of pods, and ports of Services."""

    def __init__(self, history: History, cluster: str, window: Window) -> None:
        question = Configuration(window=window, tables=(WORKLOADS, SERVICES), clusters=(cluster,), kinds=("PodLabels", "Service"))
        rows = history.answer(question).rows.to_pylist()
        self._cluster = cluster
        self._manifests = [(row["kind"], json.loads(row["manifest"])) for row in rows]

    def label_sets(self, namespace: str, seen: Collection[str]) -> dict[tuple[str, str], dict[str, list[LabelSet]]]:
        """The labels of the namespace's workloads of which no flow shows any."""
        found: dict[str, list[LabelSet]] = {}
        for manifest in self._of_kind("PodLabels"):
            workload = recorded_ends.workload_of(manifest)
            if manifest["metadata"].get("namespace") == namespace and workload not in seen:
                texts = (*recorded_ends.pod_labels(manifest), *namespace_labels(namespace, self._cluster, {}))
                found[workload] = [LabelSet(texts)]  # the last version counts
        return {("", namespace): found}

    def service_ports(self) -> list[ServicePort]:
        """The ports of Services whose pods listen on another one."""
        found = []
        for manifest in self._of_kind("Service"):
            spec = manifest.get("spec") or {}
            for port in spec.get("ports") or []:
                target = port.get("targetPort")
                if isinstance(target, int) and target != port["port"]:
                    namespace = manifest["metadata"].get("namespace") or "default"
                    protocol = port.get("protocol") or "TCP"
                    found.append(ServicePort(namespace, spec.get("selector") or {}, protocol, port["port"], target))
        return found

    def _of_kind(self, kind: str) -> Iterator[Mapping[str, Any]]:
        return (manifest for found, manifest in self._manifests if found == kind)
