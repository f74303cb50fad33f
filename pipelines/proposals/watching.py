"""Looks for flows that are dropped because of an applied proposal, for the time after it that the configuration says.

The drops are found by the policy engine: what was dropped since, and would not have been under the policies as they were before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pipelines.policy.reading import Document
from pipelines.policy.settings import Semantics
from pipelines.proposals import applying
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Entry, Proposal, ProposedObject
from pipelines.replay import whatif
from pipelines.replay.candidates import Identity, identity
from pipelines.replay.changed_edges import END_COLUMNS, ChangedEdge
from pipelines.replay.in_force import Compiler, History, InForce, Period
from pipelines.replay.outcomes import Change
from pipelines.replay.whatif import Result, WhatIf
from warehouse.access.principals import Principal
from warehouse.engine import Window
from warehouse.errors import ConfigError, HindcastError, ProposalError
from warehouse.questions.proposal_questions import ProposedEdges
from warehouse.wording import counted

_HOUR = timedelta(hours=1)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What became of the traffic after a proposal was applied, as far as the user may see."""

    since: datetime
    until: datetime
    drops: tuple[ChangedEdge, ...]
    """Edges that were dropped, and that the policies before the change allow."""
    unannounced: tuple[ChangedEdge, ...] = ()
    """Those of them of which the proposal's own simulation had not said that it denies them: nobody has accepted these."""
    uncertain: tuple[ChangedEdge, ...]
    """Edges that were dropped, and of which it cannot be told whether the change is the cause."""
    notes: tuple[str, ...] = ()
    is_judged: bool = True
    """False if it could not be told what the change drops; the notes say why."""

    @property
    def flows(self) -> int:
        """Number of flows that the change dropped."""
        return sum(edge.flows for edge in self.drops)

    @property
    def unannounced_flows(self) -> int:
        """Number of flows that the change dropped without announcing it."""
        return sum(edge.flows for edge in self.unannounced)

    @property
    def in_words(self) -> str:
        """How many flows the change dropped, for people."""
        found = f"{counted(self.flows, 'flow')} on {counted(len(self.drops), 'edge')}"
        if not self.drops or len(self.unannounced) == len(self.drops):
            return found
        if not self.unannounced:
            return f"{found}, as announced,"
        return f"{found}, {counted(self.unannounced_flows, 'flow')} of them on {counted(len(self.unannounced), 'edge')} not announced,"


class _Applied(History):
    """Configuration history in which a change is in force from when it was applied, also where that was not recorded yet."""

    def __init__(self, history: History, cluster: str, entry: Entry) -> None:
        super().__init__(history.door, history.principal)
        object.__setattr__(self, "_cluster", cluster)
        object.__setattr__(self, "_entry", entry)

    def periods(
        self, window: Window, *, clusters: Collection[str] = (), semantics: Semantics = Semantics.CILIUM, compiler: Compiler | None = None
    ) -> InForce:
        found = super().periods(window, clusters=clusters, semantics=semantics, compiler=compiler)
        cluster: str = self._cluster  # type: ignore[attr-defined]
        entry: Entry = self._entry  # type: ignore[attr-defined]
        changed = {_identity(one): None if one.after is None else Document(one.after) for one in entry.objects}
        periods = [part for one in found.periods.get(cluster, ()) for part in _cut(one, entry.time, changed)]
        return InForce(periods={**found.periods, cluster: tuple(periods)}, notes=found.notes)


def _cut(period: Period, moment: datetime, changed: dict[Identity, Document | None]) -> Iterator[Period]:
    """Cut a period at a moment, from which on objects are as they were changed."""
    if period.since < moment:
        yield replace(period, until=min(period.until, moment))
    if period.until > moment:
        kept = [document for document in period.documents if identity(document) not in changed]
        documents = (*kept, *(document for document in changed.values() if document is not None))
        yield replace(period, since=max(period.since, moment), documents=documents)


def _identity(one: ProposedObject) -> Identity:
    return one.key.kind, one.key.namespace or "", one.key.name


def watch(desk: Desk, proposal: Proposal, who: Principal | None = None) -> Watched:
    """Return what an applied proposal has dropped so far, as far as a principal (the user of the desk by default) may see.

    Raises ProposalError if it is not applied; ConfigError, AccessDeniedError, LakeError.
    """
    entry = proposal.applied
    if entry is None:
        raise ProposalError(f"proposal {proposal.id} was not applied, so there is nothing to watch")
    principal, until = who or desk.who, min(desk.now, entry.time + desk.settings.proposals.watch)
    try:
        result = without_change(desk, proposal, principal, until)
    except ConfigError as error:
        return not_judged(entry, until, error)
    drops = [edge for edge in result.edges if edge.change is Change.NEWLY_ALLOWED and edge.last_seen >= entry.time]
    uncertain = [
        edge for edge in result.edges if edge.change is Change.UNCERTAIN and edge.before == "denied" and edge.last_seen >= entry.time
    ]
    announced = _announced(desk, proposal, principal) if drops else frozenset()
    return Watched(
        since=entry.time,
        until=until,
        drops=tuple(drops),
        unannounced=tuple(edge for edge in drops if not announced & _names(edge, desk.settings.ownership.peer_detail)),
        uncertain=tuple(uncertain),
        notes=result.notes,
    )


def without_change(desk: Desk, proposal: Proposal, who: Principal, until: datetime) -> Result:
    """Return what the policies as they were before an applied proposal would do to the traffic since, as far as a principal may see.

    Raises ConfigError if that cannot be told, AccessDeniedError, QueryError, LakeError.
    """
    entry = proposal.applied
    assert entry is not None  # noqa: S101 (callers have looked)
    since = max(entry.time, until - desk.settings.proposals.simulate)
    asked = WhatIf(
        window=Window(since=since.replace(minute=0, second=0, microsecond=0), until=max(until, entry.time + _INSTANT)),
        clusters=(proposal.cluster,),
        namespaces=(proposal.namespace,) if proposal.namespace else (),
        documents=tuple(Document(applying.plain(one.before)) for one in entry.objects if one.before is not None),
        removed=tuple(_identity(one) for one in entry.objects if one.before is None),
        with_examples=False,
    )
    return whatif.simulate(_Applied(History(desk.door, who), proposal.cluster, entry), asked)


Name = tuple[Any, ...]


def _announced(desk: Desk, proposal: Proposal, who: Principal) -> frozenset[Name]:
    """The edges that the simulation of the proposal has said it denies, and that were therefore accepted with it."""
    rows = desk.door.answer(who, ProposedEdges(proposal=proposal.id, judgement=proposal.judgement.number)).rows.to_pylist()
    return frozenset(name_of(row) for row in rows if row["change"] == Change.NEWLY_DENIED.value)


def _names(edge: ChangedEdge, peer_detail: str) -> frozenset[Name]:
    """The names under which an edge may have been announced: its own, and without the workload that its author was not shown."""
    row = edge.row()
    hidden = ("source_workload_name", "destination_workload_name") if peer_detail == "namespace" else ()
    return frozenset({name_of(row), *(name_of({**row, column: None}) for column in hidden)})


def name_of(row: Mapping[str, Any]) -> Name:
    """Return what makes two rows of changed edges the same edge."""
    ends = [row[f"{side}_{column}"] for side in ("source", "destination") for column in END_COLUMNS]
    return row["cluster"], *ends, row["destination_port"], row["l4_protocol"]


def not_judged(entry: Entry, until: datetime, error: HindcastError) -> Watched:
    """Return what there is to say if it cannot be told what a change drops."""
    return Watched(since=entry.time, until=until, drops=(), uncertain=(), notes=(str(error),), is_judged=False)
