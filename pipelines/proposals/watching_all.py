"""Looks at every proposal that is being watched: records what it drops, and rolls back where the configuration's rule says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pyarrow.compute as pc

from pipelines.proposals import rolling_back, steps, store, watching
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Event, Proposal, Status
from pipelines.proposals.watching import Watched
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.errors import HindcastError, ProposalError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.schema import POLICY_CHANGES
from warehouse.wording import counted

_HOUR = timedelta(hours=1)


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
            looked = Looked(proposal=proposal, watched=watching.not_judged(proposal.applied, desk.now, error))
        yield looked


def _looked_at(desk: Desk, proposal: Proposal) -> Looked:
    found = watching.watch(desk, proposal, OPERATOR)
    last = next((entry.about.get("flows", 0) for entry in reversed(proposal.entries) if entry.event is Event.WATCHED), 0)
    current = proposal
    if found.flows > last:
        counts = {"flows": found.flows, "edges": len(found.drops), "unannounced": found.unannounced_flows}
        about = counts | {"until": found.until.isoformat()}
        detail = f"{found.in_words} dropped because of it"
        current = steps.add(desk, proposal, Event.WATCHED, about=about, detail=detail, actor="hindcast")
    limit = desk.settings.proposals.roll_back_at
    if limit is None or found.unannounced_flows < limit:
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
        done = rolling_back.roll_back(acting, proposal, detail=detail, accepted=rolling_back.WHATEVER)
        return Looked(proposal=done, watched=found, is_rolled_back=True)
    except HindcastError as error:
        return Looked(proposal=proposal, watched=found, failure=str(error))
