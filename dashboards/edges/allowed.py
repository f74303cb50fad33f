"""*Observed, Allowed, Both* on the map: what the policies in force at the window's end allow, beside what was seen.

Who may reach whom is worked out by `pipelines.replay.reachable`; here it becomes edges, marks and numbers of the map. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dashboards.edges.edges import OUTSIDE, Edge, End
from pipelines.replay.reachable import Node, Reachable, Standing
from warehouse.questions.flow_filter import FlowFilter, plain

OBSERVED, ALLOWED, BOTH = "observed", "allowed", "both"
VIEWS = {OBSERVED: "Observed", ALLOWED: "Allowed", BOTH: "Both"}
LEVEL = "workload"
"""Policies are judged between workloads, so the other levels show what was observed alone."""
FOLD_FROM = 200
"""Pairs that are allowed and were not seen, above which those with workloads that every other reaches are a list instead of lines."""
_SHOWN = {ALLOWED: (Standing.USED, Standing.UNUSED)}
_COUNTED = {
    Standing.USED: "allowed and used",
    Standing.UNUSED: "allowed and not used",
    Standing.REFUSED: "observed and not allowed",
    Standing.SEEN: "observed and not known whether allowed",
}
_WORDS = {
    Standing.USED: "allowed by policy",
    Standing.UNUSED: "allowed by policy and never seen in the window",
    Standing.REFUSED: "not allowed by the policies in force now",
    Standing.SEEN: "not known whether the policies allow it",
}


@dataclass(frozen=True)
class Mark:
    """What the policies make of an edge."""

    standing: Standing
    words: str
    """For its tooltip."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """The edges of the map with those that are allowed and were not seen."""

    found: list[Edge]
    with_ports: list[Edge]
    """The same, each port for itself."""
    marks: Mapping[tuple[End, End], Mark] = field(default_factory=dict)
    open_to_all: tuple[End, ...] = ()
    """Workloads that everyone reaches."""
    notes: tuple[str, ...] = ()

    def standing(self, edge: Edge) -> Standing:
        """The standing of an edge. One that was not judged was seen, and nothing is known of its policies."""
        mark = self.marks.get((edge.source, edge.destination))
        return mark.standing if mark else Standing.SEEN

    def seen_in(self, view: str, edges: Sequence[Edge]) -> list[Edge]:
        """The edges that a view shows."""
        return [edge for edge in edges if view not in _SHOWN or self.standing(edge) in _SHOWN[view]]

    def counts(self, edges: Sequence[Edge]) -> list[str]:
        """How many of the edges stand how, for the summary line."""
        standings = [self.standing(edge) for edge in edges]
        return [
            f"**{standings.count(one):,}** {words}" for one, words in _COUNTED.items() if one is not Standing.SEEN or one in standings
        ]  # fmt: skip


def overlay(found: Sequence[Edge], with_ports: Sequence[Edge], judged: Reachable, wanted: FlowFilter) -> Overlay:
    """Return the observed edges with marks, and after them the pairs that are allowed and were not seen, as edges without flows."""
    wanted = plain(wanted)
    observed = {(edge.source, edge.destination) for edge in found}
    marks: dict[tuple[End, End], Mark] = {}
    more, more_with_ports = list[Edge](), list[Edge]()
    for pair, by_standing in judged.pairs.items():
        standing, ends = judged.standing(pair), (_end(pair[0]), _end(pair[1]))
        if standing is None or standing is Standing.UNCERTAIN:
            continue
        if ends not in observed:
            if standing is not Standing.UNUSED or not _concerns(wanted, *ends):
                continue
            ports = by_standing[standing]
            clusters = tuple(sorted(judged.clusters[pair]))
            more.append(_unseen(ends, "", clusters, wanted))
            more_with_ports += [_unseen(ends, f"{number}/{protocol}", clusters, wanted) for protocol, number in ports]
        ports_of = ", ".join(f"{number}/{protocol}" for protocol, number in by_standing[standing][:5])
        marks[ends] = Mark(standing, f"{_WORDS[standing]}: {ports_of}")
    notes = list(judged.notes)
    unknown = sum(judged.standing(pair) is Standing.UNCERTAIN for pair in judged.pairs)
    if unknown:
        notes.append(f"pairs that are left out, because it is not known whether the policies allow them: {unknown:,}")
    if any(marks[ends].standing is Standing.REFUSED for ends in observed & marks.keys()):
        notes.append(
            "what was observed and is not allowed passed before a policy changed, or the policies on record do not explain this cluster's "
            "traffic: What-if says how much of it they reproduce"
        )
    if wanted.conditions or wanted.verdicts or wanted.drop_reasons or wanted.nodes:
        notes.append("filters other than on cluster and namespace narrow what was observed, not what is allowed")
    open_to_all = set(map(_end, judged.open_to_all))
    if len(more) > FOLD_FROM:
        open_to_all |= _reached_by_all(judged)
        more, more_with_ports = ([edge for edge in edges if edge.destination not in open_to_all] for edges in (more, more_with_ports))
    everyone = sorted(end for end in open_to_all if _concerns(wanted, end, end))
    return Overlay(
        found=[*found, *sorted(more, key=str)],
        with_ports=[*with_ports, *sorted(more_with_ports, key=str)],
        marks=marks,
        open_to_all=tuple(everyone),
        notes=tuple(notes),
    )


def _reached_by_all(judged: Reachable) -> set[End]:
    """The workloads that the policies let every workload reach."""
    callers: dict[Node, set[Node]] = {}
    for (source, destination), by_standing in judged.pairs.items():
        if source in judged.callers and (Standing.USED in by_standing or Standing.UNUSED in by_standing):
            callers.setdefault(destination, set()).add(source)
    return {_end(node) for node, found in callers.items() if len(judged.callers) > 1 and judged.callers <= found | {node}}


def _end(node: Node) -> End:
    return End(node[0] or OUTSIDE, node[1])


def _unseen(ends: tuple[End, End], port: str, clusters: tuple[str, ...], wanted: FlowFilter) -> Edge:
    return Edge(
        source=ends[0], destination=ends[1], port=port, clusters=clusters, flows=0, denied=0, audited=0, reason=None,
        first=wanted.until, last=wanted.until, first_denied=None, buckets=(),
    )  # fmt: skip


def _concerns(wanted: FlowFilter, source: End, destination: End) -> bool:
    """Whether a pair is one that the filter's namespaces are about."""
    either, of_source, of_destination = wanted.namespaces, wanted.source_namespaces, wanted.destination_namespaces
    return (
        (not either or source.namespace in either or destination.namespace in either)
        and (not of_source or source.namespace in of_source)
        and (not of_destination or destination.namespace in of_destination)
    )
