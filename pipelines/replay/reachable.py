"""Who may reach whom by the policies in force at the end of a window, beside who did: what a map of both is drawn from.

Judging belongs to `pipelines.audits.exposure`, drawing to `dashboards`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from pipelines.audits.exposure import Port, Reached, exposure
from pipelines.audits.workloads import Workload, read_workloads
from pipelines.policy.model import Direction, Side
from pipelines.policy.policy_set import PolicySet
from pipelines.policy.verdict import Verdict
from pipelines.replay import traffic
from pipelines.replay.auditing import last_known
from pipelines.replay.ends import End
from pipelines.replay.in_force import History, Period
from pipelines.replay.traffic import ALLOWED, EGRESS, INGRESS, UNKNOWN, Asked, Traffic
from warehouse.engine import Window
from warehouse.questions.record_questions import Configuration
from warehouse.schema import NAMESPACES, WORKLOADS

MOST_JUDGED = 400_000
"""Connections between workloads that are judged in a cluster although nobody made them. Beyond that workloads are left out, and a note
says how many."""
Node = tuple[str, str]
"""Namespace and workload, or an empty namespace and the name of what is outside. The workload is empty where it is not visible."""
Pair = tuple[Node, Node]
"""Who calls, and who is called."""
_OUTSIDE = "world"
_INSTANT = timedelta(microseconds=1)


class Standing(StrEnum):
    """How traffic and policies agree on a pair. The first that holds for any of its ports counts."""

    REFUSED = "refused"
    """Traffic was seen that the policies deny now."""
    USED = "used"
    """Traffic was seen, and the policies allow it."""
    SEEN = "seen"
    """Traffic was seen, and it is not known whether the policies allow it."""
    UNUSED = "unused"
    """The policies allow it, and nothing was seen."""
    UNCERTAIN = "uncertain"
    """Nothing was seen, and it is not known whether the policies allow it."""


@dataclass(frozen=True)
class Judged:
    """How traffic and policies agree on one pair and port."""

    pair: Pair
    port: Port
    reached: Reached
    verdict: Verdict


@dataclass
class Reachable:
    """What the policies make of each pair."""

    pairs: dict[Pair, dict[Standing, list[Port]]] = field(default_factory=dict)
    """The ports of each pair by their standing, in the order of numbers."""
    clusters: dict[Pair, set[str]] = field(default_factory=dict)
    callers: set[Node] = field(default_factory=set)
    """The workloads whose calls were judged."""
    open_to_all: set[Node] = field(default_factory=set)
    """Workloads that no policy isolates from callers. Pairs with them that nobody used are left out."""
    notes: list[str] = field(default_factory=list)
    """What is not known, each in a sentence for the user."""

    def standing(self, pair: Pair) -> Standing | None:
        """The standing of a pair; None if it was not judged."""
        of_pair = self.pairs.get(pair, {})
        return next((one for one in Standing if one in of_pair), None)

    def add(self, cluster: str, judged: Iterable[Judged]) -> None:
        """Add what was judged in a cluster. A port on which traffic was seen counts as seen, whatever else is said of it."""
        for one in judged:
            ports = self.pairs.setdefault(one.pair, {}).setdefault(standing_of(one.reached, one.verdict), [])
            if one.port not in ports:
                ports.append(one.port)
                ports.sort(key=lambda port: (port[1], port[0]))
            self.clusters.setdefault(one.pair, set()).add(cluster)
        for by_standing in self.pairs.values():
            seen = {port for standing in (Standing.REFUSED, Standing.USED, Standing.SEEN) for port in by_standing.get(standing, ())}
            for standing in (Standing.UNUSED, Standing.UNCERTAIN):
                left = [port for port in by_standing.pop(standing, ()) if port not in seen]
                if left:
                    by_standing[standing] = left


def standing_of(reached: Reached, verdict: Verdict) -> Standing:
    """The standing of a single connection."""
    if reached is Reached.OBSERVED:
        return Standing.REFUSED if verdict is Verdict.DENIED else Standing.SEEN
    return {Reached.BOTH: Standing.USED, Reached.ALLOWED: Standing.UNUSED, Reached.UNCERTAIN: Standing.UNCERTAIN}[reached]


def reachable(history: History, window: Window, clusters: Sequence[str] = ()) -> Reachable:
    """Return who may reach whom in each cluster, of the pairs that concern the principal.

    What was seen is judged at the ends that reported it, as in a simulation; what was not, at both ends, on the ports on which the
    destination was reached in the window and those that its pods name.
    Raises ConfigError for a window without bounds, and AccessDeniedError, QueryError and LakeError as every question.
    """
    in_force = history.periods(window, clusters=clusters)
    found = Reachable(notes=list(in_force.notes))
    until = window.until
    if not in_force.periods or until is None:
        found.notes.append("no configuration history is known of this window, so it is not known what policies allowed")
        return found
    seen, _ = traffic.read(history, Asked(window=window, clusters=tuple(clusters)), in_force)
    of_cluster = {one.cluster: one for one in seen}
    scope = history.door.scope(history.principal)
    for cluster in sorted(in_force.periods):
        period, problem = last_known(in_force, cluster, until)
        if period is None:
            found.notes.append(f"{cluster}: not judged, because {problem}")
            continue
        at = period.until - _INSTANT

        def owns(namespace: str, cluster: str = cluster, at: datetime = at) -> bool:
            return scope.owns(cluster, namespace, at)

        workloads = workloads_of(history, window, period, at)
        one = _Cluster(of_cluster.get(cluster), workloads, owns, sees_whole=scope.sees_whole(cluster, at))
        place = next(number for number, other in enumerate(in_force.periods[cluster]) if other is period)
        judged_by = period if one.traffic is None else one.traffic.periods[place]
        found.add(cluster, one.judge(judged_by.policies))
        found.open_to_all |= one.open_to_all
        found.callers |= one.callers
        found.notes += [f"{cluster}: {note}" for note in one.notes]
    return found


def workloads_of(history: History, window: Window, period: Period, at: datetime) -> list[Workload]:
    """Return the workloads of the cluster that existed at a time, as far as configuration history says."""
    question = Configuration(window=window, tables=(WORKLOADS, NAMESPACES), clusters=(period.cluster,), kinds=("PodLabels", "Namespace"))
    rows = history.answer(question).rows.to_pylist()
    now = [row for row in rows if row["valid_from"] <= at and (row["valid_to"] is None or row["valid_to"] > at)]
    namespaces = {row["name"]: json.loads(row["manifest"])["metadata"].get("labels") or {} for row in now if row["kind"] == "Namespace"}
    return read_workloads([json.loads(row["manifest"]) for row in now if row["kind"] == "PodLabels"], namespaces, period.settings)


def node_of(end: End) -> Node:
    """The node that stands for an end."""
    if end.namespace is not None:
        return end.namespace, end.workload or ""
    return "", (end.dns_name or "").rstrip(".") or end.entity or "unknown"


class _Cluster:
    """The ends of one cluster, and what was seen between them."""

    def __init__(self, seen: Traffic | None, workloads: Sequence[Workload], owns: Callable[[str], bool], *, sees_whole: bool) -> None:
        self.traffic, self._owns, self._sees_whole = seen, owns, sees_whole
        self.notes: list[str] = []
        if not sees_whole:
            self.notes.append("a cluster-wide policy may allow what yours deny, so nothing that was observed is called not allowed")
        self.open_to_all: set[Node] = set()
        ends = seen.ends if seen is not None else ()
        self._nodes = [node_of(end) for end in ends]
        # Which policies hold at an end whose labels are hidden is not the principal's to see either, so only her own end is judged.
        self._sides = [
            replace(side, enforced=False) if end.is_hidden and end.namespace is not None else side
            for end, side in zip(ends, seen.sides if seen is not None else (), strict=True)
        ]
        if any(end.is_hidden and end.namespace is not None for end in ends):
            self.notes.append(
                "labels and policies of peers that are not yours are not visible: pairs with them are judged at your end alone"
            )
        labelled = {node for node, side in zip(self._nodes, self._sides, strict=True) if side.subject is not None}
        self._callers = [
            place for place, end in enumerate(ends)
            if (end.namespace is not None and end.cluster_name is None and (end.labels is not None or self._nodes[place] not in labelled))
            or (end.entity == _OUTSIDE and self._nodes[place] == ("", _OUTSIDE))
        ]  # fmt: skip
        self._named: dict[Node, set[Port]] = {}
        for workload in workloads:
            node = (workload.namespace, workload.name)
            self._named.setdefault(node, set()).update((protocol, number) for (protocol, _), number in workload.named_ports)
            if node not in labelled:
                self._callers.append(len(self._sides))
                self._nodes.append(node)
                self._sides.append(workload.side())
        self.callers = {self._nodes[place] for place in self._callers if self._nodes[place][0]}

    def judge(self, policies: PolicySet) -> list[Judged]:
        """Judge what was seen, and what could be between workloads."""
        seen, ports = self._seen()
        count = len(self._sides)
        self._nodes += self._nodes
        self._sides += [replace(side, subject=None, enforced=False) for side in self._sides]
        found = self._judged(policies, range(2 * count), range(2 * count), {}, seen)
        targets, wanted, budget, left_out = list[int](), dict[int, list[Port]](), MOST_JUDGED, 0
        for place in self._callers:
            subject, node = self._sides[place].subject, self._nodes[place]
            if subject is None or not node[0]:
                continue
            if not _isolates(policies, self._sides[place]):
                self.open_to_all.add(node)
                continue
            of_target = sorted(ports.get(node, set()) | self._named.get(node, set()))
            budget -= len(of_target) * len(self._callers)
            if budget < 0:
                left_out += 1
                continue
            targets.append(place)
            wanted[place] = of_target
        if left_out:
            self.notes.append(f"workloads that are too many to judge who may reach them without having done so: {left_out:,}")
        found += self._judged(policies, targets, self._callers, wanted, {})
        self.open_to_all = {node for node in self.open_to_all if self._owns(node[0])}
        return [one for one in found if any(node[0] and self._owns(node[0]) for node in one.pair)]

    def _judged(
        self,
        policies: PolicySet,
        targets: Sequence[int],
        peers: Sequence[int],
        ports: Mapping[int, Sequence[Port]],
        seen: Mapping[tuple[int, int, Port], int],
    ) -> list[Judged]:
        sides = self._sides
        found = exposure(
            policies, [sides[at] for at in targets], [sides[at] for at in peers], [ports.get(at, ()) for at in targets], seen
        )  # fmt: skip
        judged = []
        for one in found:
            pair = self._nodes[peers[one.peer]], self._nodes[targets[one.target]]
            verdict = one.verdict if self._sees_whole or one.verdict is Verdict.ALLOWED else Verdict.UNCERTAIN
            if one.flows or pair[0] != pair[1]:
                judged.append(Judged(pair, one.port, one.reached, verdict))
        return judged

    def _seen(self) -> tuple[dict[tuple[int, int, Port], int], dict[Node, set[Port]]]:
        """Flows by destination, source and port; and the ports on which each node was reached.

        As in a simulation, a connection is judged at the ends that reported it. An end that did not is written as its number among
        the sides that follow all others, at which nothing is enforced.
        """
        one = self.traffic
        seen: dict[tuple[int, int, Port], int] = {}
        ports: dict[Node, set[Port]] = {}
        if one is None or not len(one):
            return seen, ports
        key, place = np.unique(np.stack([one.destination, one.source, one.protocol, one.number]), axis=1, return_inverse=True)
        flows, forwarded = np.zeros((key.shape[1], 3), np.int64), np.zeros(key.shape[1], np.int64)
        np.add.at(flows, place.reshape(-1), one.flows.sum(axis=2))
        np.add.at(forwarded, place.reshape(-1), one.flows[:, :, ALLOWED].sum(axis=1))
        for (destination, source, protocol, number), counts, passed in zip(key.T.tolist(), flows.tolist(), forwarded.tolist(), strict=True):
            if number < 0 or not sum(counts):
                continue
            port = one.protocols[protocol], number
            at_source = source + (0 if counts[UNKNOWN] or counts[EGRESS] else len(self._sides))
            at_destination = destination + (0 if counts[UNKNOWN] or counts[INGRESS] else len(self._sides))
            seen[at_destination, at_source, port] = sum(counts)
            if passed and not port[0].startswith("ICMP"):
                ports.setdefault(self._nodes[destination], set()).add(port)
        return seen, ports


def _isolates(policies: PolicySet, side: Side) -> bool:
    """Whether a workload denies callers that nothing allows."""
    labels = side.subject
    if labels is None or not policies.enforces_at(labels):
        return False
    return policies.denies_always(labels) or bool(policies.applicable(Direction.INGRESS, labels).isolating)
