"""Simulates a change of policies over recorded traffic, for one principal: the whole path from history to the rows of a result."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pipelines.policy.policy_set import READERS
from pipelines.policy.reading import Document
from pipelines.policy.refusals import Refusal
from pipelines.policy.settings import Semantics
from pipelines.replay import agreement, changed_edges, confidence, examples, traffic
from pipelines.replay.agreement import Agreement
from pipelines.replay.candidates import Candidates, Identity, identity
from pipelines.replay.changed_edges import ChangedEdge
from pipelines.replay.confidence import Concerned, Level
from pipelines.replay.flows_again import FlowsAgain
from pipelines.replay.in_force import Compiler, History, InForce
from pipelines.replay.outcomes import Change, Outcomes
from pipelines.replay.simulation import Simulator
from pipelines.replay.steps import Progress, Steps, tell_nobody
from pipelines.replay.traffic import Asked
from warehouse.engine import Window
from warehouse.errors import ConfigError, QueryError
from warehouse.questions.answers import Answer
from warehouse.schema import EDGES_1H

QUESTION = "policy_simulation"
"""Its name in the access log."""
MOST_DISAGREEMENTS = 200
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """A change of policies, and the traffic that it is tried on."""

    window: Window
    """With both bounds."""
    clusters: tuple[str, ...] = ()
    """All that the principal may know of when empty."""
    namespaces: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()
    removed: tuple[Identity, ...] = ()
    policies_of: datetime | None = None
    """Start from the policies that were in force then, in place of those in force at the time of each flow."""
    only: bool = False
    semantics: Semantics = Semantics.CILIUM
    with_examples: bool = True


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the change would have done."""

    edges: list[ChangedEdge]
    """Those that change first, then the uncertain ones, then all others."""
    agreement: Agreement
    """How well the policies in force reproduce what was recorded."""
    concerned: Concerned
    """The flows that the change concerns, and how many of them are uncertain."""
    alone: bool
    """Whether the candidates were judged alone, because no configuration history is known."""
    notes: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    """Candidates that an API server or agent would refuse, so that they do not enforce."""
    answer: Answer
    """The answer that the traffic was read from: its window, coverage and source."""
    hours_read: int = 0
    """Hours of clusters of which the flows themselves were read."""
    hours_left: int = 0
    """Hours of which they would have been needed, but are not stored or too many."""
    disagreements: list[dict[str, Any]] = field(default_factory=list)

    @property
    def confidence(self) -> Level:
        """How far the result is to be trusted."""
        shares = self.answer.shares
        return confidence.level(
            observed=sum(shares.values()) / len(shares) if shares else 0.0,
            reproduced=self.agreement.share,
            unknown=self.agreement.unknown_share,
            uncertain=self.concerned.uncertain_share,
            alone=self.alone,
        )

    def count(self, change: Change) -> tuple[int, int]:
        """Return the number of flows and of edges with this change."""
        found = [edge for edge in self.edges if edge.change is change]
        return sum(edge.flows for edge in found), len(found)


def simulate(history: History, asked: WhatIf, *, progress: Progress = tell_nobody) -> Result:
    """Return what a change of policies would have done to recorded traffic.

    Raises:
        CancelledError: the history's `cancelled` was set.
        AccessDeniedError: the principal owns nothing.
        QueryError: a candidate is in a namespace that is not the principal's; the access log has a note of it.
        ConfigError: there is nothing to try, every candidate would be refused, or a policy to remove was never in force.
        LakeError: the lake cannot be read.
    """
    clusters = _clusters(history, asked)
    steps = Steps(progress, len(clusters) + 3)
    steps.next("reading which policies were in force")
    compiler = Compiler()
    in_force = history.periods(asked.window, clusters=clusters, semantics=asked.semantics, compiler=compiler)
    base = _base(history, asked, clusters, compiler)
    known = in_force.covered or base is not None
    candidates = Candidates(
        documents=asked.documents,
        removed=frozenset(asked.removed),
        base=None if base is None else {name: found[0].documents for name, found in base.periods.items() if found},
        only=asked.only,
        alone=not known,
    )
    _check_removed(asked, in_force, base)
    refusals = _refusals(asked, in_force)
    traffic_asked = Asked(window=asked.window, clusters=clusters, namespaces=asked.namespaces)
    steps.next("reading recorded edges")
    recorded, answer = traffic.read(history, traffic_asked, in_force)
    outcomes: list[Outcomes] = []
    agreements = []
    for one in recorded:
        steps.next(f"judging the edges of {one.cluster}")
        simulator = Simulator(one, candidates)
        outcomes.append(simulator.run())
        agreements.append(agreement.of_cluster(one, simulator.judge))
    again = FlowsAgain(history, traffic_asked, in_force, candidates, steps).run(outcomes)
    steps.next("putting the edges together")
    edges = changed_edges.edges_of(again.outcomes)
    found = agreement.together(agreements)
    shares = answer.shares
    owners = _Owners(history)
    for edge in edges:
        edge.coverage = shares.get(edge.cluster)
        if edge.change is not Change.UNCHANGED:
            edge.owners = owners.of(edge)
    if asked.with_examples:
        examples.add(history, traffic_asked, edges)
    steps.end()
    return Result(
        edges=edges,
        agreement=found,
        concerned=confidence.concerned(again.outcomes),
        alone=candidates.alone,
        notes=(*in_force.notes, *_notes(asked, edges)),
        refusals=refusals,
        answer=answer,
        hours_read=again.hours_read,
        hours_left=again.hours_left,
        disagreements=changed_edges.disagreements(found.cases, MOST_DISAGREEMENTS),
    )


def _clusters(history: History, asked: WhatIf) -> tuple[str, ...]:
    """The clusters of the simulation. Refuses candidates that are not the principal's, and notes that in the access log."""
    door, principal = history.door, history.principal
    known = sorted({*door.clusters(principal), *door.clusters(principal, of=EDGES_1H)})
    if not _named(asked) and asked.policies_of is None and not asked.only:
        raise ConfigError("there is nothing to simulate: name files with policies, --remove, --policies-of or --only")
    unknown = sorted(set(asked.clusters) - set(known))
    if unknown:
        raise ConfigError(f"no cluster {', '.join(unknown)} with flows that you may see; there are {', '.join(known) or 'none'}")
    if asked.window.until is None:
        raise ConfigError("a simulation needs a window with a start and an end")
    moment = asked.window.until - _INSTANT
    clusters = list(asked.clusters or known)
    text = "; ".join(sorted(" ".join(filter(None, one)) for one in _named(asked)))
    with door.refusals(principal, QUESTION, text):
        scope = door.scope(principal)
        for kind, namespace, name in _named(asked):
            where = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
            clusters = [one for one in clusters if (scope.owns(one, namespace, moment) if namespace else scope.sees_whole(one, moment))]
            if not clusters and known:
                whose = f"namespace {namespace} is not yours" if namespace else "only who sees a whole cluster may simulate it"
                raise QueryError(f"{where} cannot be simulated: {whose}")
        if asked.only and not all(scope.sees_whole(one, moment) for one in clusters):
            raise QueryError("--only removes all policies of a cluster, so only who sees the whole cluster may simulate it")
    return tuple(clusters)


def _named(asked: WhatIf) -> set[Identity]:
    """The policies that are added, replaced or removed."""
    return {identity(document) for document in asked.documents if document.kind in READERS} | set(asked.removed)


def _base(history: History, asked: WhatIf, clusters: Collection[str], compiler: Compiler) -> InForce | None:
    if asked.policies_of is None:
        return None
    window = Window(since=asked.policies_of, until=asked.policies_of + _INSTANT)
    found = history.periods(window, clusters=clusters, semantics=asked.semantics, compiler=compiler)
    missing = sorted(name for name, periods in found.periods.items() if not periods or periods[0].not_covered)
    if missing:
        raise ConfigError(
            f"--policies-of: configuration history does not say which policies were in force in {', '.join(missing)} "
            f"at {asked.policies_of:%Y-%m-%d %H:%M} UTC"
        )
    return found


def _check_removed(asked: WhatIf, in_force: InForce, base: InForce | None) -> None:
    known = {
        identity(document)
        for found in (in_force, base)
        if found is not None
        for periods in found.periods.values()
        for period in periods
        for document in period.documents
    }
    for kind, namespace, name in asked.removed:
        if (kind, namespace, name) not in known:
            others = sorted(other for one, where, other in known if (one, where) == (kind, namespace))
            there = f"; there are {', '.join(others)}" if others else ""
            where = f"{namespace}/{name}" if namespace else name
            raise ConfigError(f"--remove {kind} {where}: no such policy was in force in this window{there}")


def _refusals(asked: WhatIf, in_force: InForce) -> tuple[Refusal, ...]:
    """Candidates that would be refused by the latest release and settings in the window. Raises ConfigError if all would be."""
    found: dict[str, Refusal] = {}
    policies = [document for document in asked.documents if document.kind in READERS]
    for periods in in_force.periods.values():
        if periods:
            last = periods[-1]
            compiled = last.compiler.compile(asked.documents, last.settings, last.surroundings)
            found.update({str(one): one for one in compiled.refusals})
    refused = {(one.kind, one.namespace, one.name) for one in found.values()}
    if policies and not asked.removed and {identity(document) for document in policies} <= refused:
        raise ConfigError("every candidate would be refused, so that nothing would change:\n" + "\n".join(sorted(found)))
    return tuple(found[text] for text in sorted(found))


def _notes(asked: WhatIf, edges: Sequence[ChangedEdge]) -> list[str]:
    seen = {shown[1] for edge in edges for shown in (edge.source, edge.destination)}
    wanted = {*asked.namespaces, *(namespace for _, namespace, _ in _named(asked) if namespace)}
    return [f"namespace {name} has no recorded traffic in this window" for name in sorted(wanted - seen)]


class _Owners:
    """Who owns the ends of edges: everyone with a grant for a namespace, for who administers ownership; else the principal alone."""

    def __init__(self, history: History) -> None:
        scope = history.door.scope(history.principal)
        self._all = history.door.grants() if scope.administers else scope.grants
        self._name = None if scope.administers else history.principal.user
        self._found: dict[tuple[str, str], tuple[str, ...]] = {}

    def of(self, edge: ChangedEdge) -> tuple[str, ...]:
        """The owners of either end, sorted."""
        names = [name for shown in (edge.source, edge.destination) if shown[1] for name in self._of(shown[0] or edge.cluster, shown[1])]
        return tuple(sorted(set(names)))

    def _of(self, cluster: str, namespace: str) -> tuple[str, ...]:
        key = (cluster, namespace)
        if key not in self._found:
            grants = [one for one in self._all if one.role == "namespace-owner" and not one.is_denial and one.covers(cluster, namespace)]
            self._found[key] = tuple(self._name or one.subject for one in grants)
        return self._found[key]
