"""Looks at every change of a blueprint that is being watched: records what it drops, and rolls back by the rule of the configuration.

The rule is that of proposals, `proposals.roll_back_at`. Drops that the plan of the change had announced do not count for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import pyarrow.compute as pc

from pipelines.central import acting, aftermath, store
from pipelines.central.model import Change, Event, Status
from pipelines.proposals import watching
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Entry
from pipelines.proposals.watching import Watched
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.errors import HindcastError, ProposalError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.proposal_questions import CHANGE
from warehouse.schema import POLICY_CHANGES
from warehouse.wording import counted

_LATE = timedelta(minutes=5)
"""How much longer a change is looked at than it is watched: the drops of the last minutes are found by the next run."""
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One change that was looked at, and what was done about it."""

    change: Change
    clusters: Mapping[str, Watched]
    """What it drops in each cluster in which it is being watched."""
    is_rolled_back: bool = False
    failure: str = ""
    """Why it could not be rolled back."""

    @property
    def is_judged(self) -> bool:
        """Whether it could be told what the change drops in every cluster."""
        return all(one.is_judged for one in self.clusters.values())

    @property
    def flows(self) -> int:
        """Number of flows that the change dropped, in all of the clusters."""
        return sum(one.flows for one in self.clusters.values())

    @property
    def unannounced_flows(self) -> int:
        """Number of those that its plan had not announced."""
        return sum(one.unannounced_flows for one in self.clusters.values())

    @property
    def in_words(self) -> str:
        """What it drops in each cluster, for people."""
        return "; ".join(f"{cluster}: {one.in_words} dropped because of it" for cluster, one in self.clusters.items() if one.drops)


def watched(desk: Desk) -> list[tuple[Change, Mapping[str, Entry]]]:
    """Return the changes that are being watched, with what was done in each cluster in which they are. Raises LakeError."""
    began = desk.now - desk.settings.proposals.watch - _HOUR
    recent = desk.lake.read(POLICY_CHANGES, ["run"], since=began, matching=pc.field("cause") == "publish")["run"].unique()
    rows = desk.lake.read(POLICY_CHANGES, matching=(pc.field("cause") == CHANGE) & pc.field("run").isin(recent))
    found: list[tuple[Change, Mapping[str, Entry]]] = []
    for change in store.changes_of(rows):
        if change.status in (Status.PUBLISHING, Status.ROLLING_BACK, Status.ROLLED_BACK):
            continue
        done = store.done(desk.lake, change)
        young = {name: one for name, one in done.items() if desk.now < one.time + desk.settings.proposals.watch + _LATE}
        if young:
            found.append((change, young))
    return found


def look_at_all(desk: Desk) -> Iterator[Looked]:
    """Look at every change that is being watched; record new drops, and roll back where the configuration's rule says so.

    Everything is looked at with the sight of the process itself. A roll-back is made in every cluster, as whoever published the change. A
    change that cannot be judged does not keep those after it from being looked at. Safe to run again: the same drops are recorded once.
    Raises LakeError if it cannot be read which changes are being watched.
    """
    for change, clusters in watched(desk):
        try:
            looked = _looked_at(desk, change, clusters)
        except HindcastError as error:
            unknown = {name: watching.not_judged(entry, desk.now, error) for name, entry in clusters.items()}
            looked = Looked(change=change, clusters=unknown)
        yield looked


def _looked_at(desk: Desk, change: Change, clusters: Mapping[str, Entry]) -> Looked:
    found = Looked(change=change, clusters={name: aftermath.seen_in(desk, change, name, entry) for name, entry in clusters.items()})
    last = next((entry.about.get("flows", 0) for entry in reversed(change.entries) if entry.event is Event.WATCHED), 0)
    if found.flows > last:
        about = {"flows": found.flows, "unannounced": found.unannounced_flows, "clusters": [*found.clusters]}
        found = replace(found, change=acting.watched(desk, change, about, found.in_words))
    limit = desk.settings.proposals.roll_back_at
    if limit is None or found.unannounced_flows < limit:
        return found
    acting_as = replace(desk, who=found.change.publisher)
    try:
        done = acting.roll_back(acting_as, found.change, reason=f"rolled back by the rule roll_back_at: {limit}: {found.in_words}")
        return replace(found, change=done, is_rolled_back=True)
    except HindcastError as error:
        return replace(found, failure=str(error))


def watch_fleet(settings: config.Config) -> dict[str, int]:
    """Look at every change that is being watched, as `look_at_all` does; return how many there are, drop flows, and were rolled back.

    Raises ProposalError after all were looked at if one could not be judged or rolled back, LakeError.
    """
    lake = Lake.open(settings.lake)
    door = Door(lake, settings.ownership, settings.rollups, purpose="watching changes of blueprints")
    found = list(look_at_all(Desk(settings=settings, lake=lake, door=door, who=OPERATOR)))
    failures = [f"change {one.change.id} cannot be rolled back: {one.failure}" for one in found if one.failure]
    failures += [
        f"change {one.change.id} is not judged in {cluster}: {'; '.join(watched.notes)}"
        for one in found
        for cluster, watched in one.clusters.items()
        if not watched.is_judged
    ]
    if failures:
        raise ProposalError(f"of {counted(len(found), 'change')} of blueprints looked at: {'; '.join(failures)}")
    return {
        "watched": len(found),
        "dropping": sum(bool(one.flows) for one in found),
        "rolled_back": sum(one.is_rolled_back for one in found),
    }
