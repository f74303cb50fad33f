"""Looks for flows that are dropped because of an applied proposal, for the time after it that the configuration says.

The drops are found by the policy engine: what was dropped since, and would not have been under the policies as they were before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow.compute as pc

from pipelines.policy.reading import Document
from pipelines.policy.settings import Semantics
from pipelines.proposals import applying, steps, store
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Entry, Event, Proposal, ProposedObject, Status
from pipelines.proposals.risks import counted
from pipelines.replay import whatif
from pipelines.replay.candidates import Identity, identity
from pipelines.replay.changed_edges import ChangedEdge
from pipelines.replay.in_force import Compiler, History, InForce, Period
from pipelines.replay.outcomes import Change
from pipelines.replay.whatif import WhatIf
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.errors import ConfigError, HindcastError, ProposalError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.schema import POLICY_CHANGES

_HOUR = timedelta(hours=1)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What became of the traffic after a proposal was applied, as far as the user may see."""

    since: datetime
    until: datetime
    drops: tuple[ChangedEdge, ...]
    """Edges that were dropped, and that the policies before the change allow."""
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
    def in_words(self) -> str:
        """How many flows the change dropped, for people."""
        return f"{counted(self.flows, 'flow')} on {counted(len(self.drops), 'edge')}"


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
    until = min(desk.now, entry.time + desk.settings.proposals.watch)
    hour = entry.time.replace(minute=0, second=0, microsecond=0)
    asked = WhatIf(
        window=Window(since=hour, until=max(until, entry.time + _INSTANT)),
        clusters=(proposal.cluster,),
        namespaces=(proposal.namespace,) if proposal.namespace else (),
        documents=tuple(Document(applying.plain(one.before)) for one in entry.objects if one.before is not None),
        removed=tuple(_identity(one) for one in entry.objects if one.before is None),
        with_examples=False,
    )
    history = _Applied(History(desk.door, who or desk.who), proposal.cluster, entry)
    try:
        result = whatif.simulate(history, asked)
    except ConfigError as error:
        return _not_judged(entry, until, error)
    drops = [edge for edge in result.edges if edge.change is Change.NEWLY_ALLOWED and edge.last_seen >= entry.time]
    uncertain = [
        edge for edge in result.edges if edge.change is Change.UNCERTAIN and edge.before == "denied" and edge.last_seen >= entry.time
    ]
    return Watched(since=entry.time, until=until, drops=tuple(drops), uncertain=tuple(uncertain), notes=result.notes)


def _not_judged(entry: Entry, until: datetime, error: HindcastError) -> Watched:
    return Watched(since=entry.time, until=until, drops=(), uncertain=(), notes=(str(error),), is_judged=False)


def watched(desk: Desk) -> list[Proposal]:
    """Return the applied proposals whose time of being watched is not over. Raises LakeError."""
    since = desk.now - desk.settings.proposals.watch - _HOUR
    rows = desk.lake.read(POLICY_CHANGES, ["proposal", "event"], since=since, matching=pc.field("event") == Event.APPLIED.value)
    found = [store.one(desk.lake, proposal) for proposal in sorted(set(rows["proposal"].to_pylist()))]
    return [
        one
        for one in found
        if one.status(desk.now) is Status.APPLIED
        and one.applied
        and desk.now < one.applied.time + desk.settings.proposals.watch + _HOUR / 12
    ]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One proposal that was looked at, and what was done about it."""

    proposal: Proposal
    watched: Watched
    is_rolled_back: bool = False
    failure: str = ""
    """Why it could not be rolled back."""


def look_at_all(desk: Desk) -> Iterator[Looked]:
    """Look at every proposal that is being watched; record new drops, and roll back where the configuration's rule says so.

    Everything is looked at with the sight of the process itself. A roll-back is made as the user who applied the proposal. A proposal that
    cannot be judged does not keep those after it from being looked at. Safe to run again: the same drops are recorded once. Raises
    LakeError if it cannot be read which proposals are being watched.
    """
    for proposal in watched(desk):
        try:
            looked = _looked_at(desk, proposal)
        except HindcastError as error:
            assert proposal.applied is not None  # noqa: S101 (it is being watched)
            looked = Looked(proposal=proposal, watched=_not_judged(proposal.applied, desk.now, error))
        yield looked


def _looked_at(desk: Desk, proposal: Proposal) -> Looked:
    found = watch(desk, proposal, OPERATOR)
    last = next((entry.about.get("flows", 0) for entry in reversed(proposal.entries) if entry.event is Event.WATCHED), 0)
    current = proposal
    if found.flows > last:
        about = {"flows": found.flows, "edges": len(found.drops), "until": found.until.isoformat()}
        detail = f"{found.in_words} dropped because of it"
        current = steps.add(desk, proposal, Event.WATCHED, about=about, detail=detail, actor="hindcast")
    limit = desk.settings.proposals.roll_back_at
    if limit is None or found.flows < limit:
        return Looked(proposal=current, watched=found)
    return _rolled_back(desk, current, found, limit)


def watch_fleet(settings: config.Config) -> dict[str, int]:
    """Look at every proposal that is being watched, as `look_at_all` does; return how many there are, drop flows, and were rolled back.

    Raises ProposalError after all were looked at if one could not be judged or rolled back, LakeError.
    """
    lake = Lake.open(settings.lake)
    door = Door(lake, settings.ownership, settings.rollups, purpose="watching proposals")
    found = list(look_at_all(Desk(settings=settings, lake=lake, door=door, who=OPERATOR)))
    failures = [f"proposal {one.proposal.id} cannot be rolled back: {one.failure}" for one in found if one.failure]
    failures += [f"proposal {one.proposal.id} is not judged: {'; '.join(one.watched.notes)}" for one in found if not one.watched.is_judged]
    if failures:
        raise ProposalError(f"of {counted(len(found), 'proposal')} looked at: {'; '.join(failures)}")
    return {
        "watched": len(found),
        "dropping": sum(bool(one.watched.drops) for one in found),
        "rolled_back": sum(one.is_rolled_back for one in found),
    }


def _rolled_back(desk: Desk, proposal: Proposal, found: Watched, limit: int) -> Looked:
    applied = proposal.applied
    assert applied is not None  # noqa: S101 (it is being watched)
    groups = [str(group) for group in applied.about.get("groups", ())]
    who = Principal(user=applied.actor, groups=frozenset(groups))
    acting = replace(desk, who=who)
    detail = f"rolled back by the rule roll_back_at: {limit}: {found.in_words} dropped because of it"
    try:
        return Looked(proposal=applying.roll_back(acting, proposal, detail=detail), watched=found, is_rolled_back=True)
    except HindcastError as error:
        return Looked(proposal=proposal, watched=found, failure=str(error))
