"""Puts the objects of a change back in its clusters: what there is to put back is read and tried everywhere before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipelines.blueprints.planning import Change as PlannedChange
from pipelines.blueprints.publishing import Publication, Step
from pipelines.central import rights
from pipelines.central.model import Change
from pipelines.objects.canonical import Manifest
from pipelines.proposals import applying, live, states
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Entry
from warehouse.errors import ClusterError, ProposalError

if TYPE_CHECKING:
    from pipelines.cluster_access import ClusterAccess

CAUSE = "roll_back"
"""The `cause` of rows about objects that are put back."""


@dataclass(kw_only=True)
class InCluster:
    """What is put back in one cluster."""

    cluster: str
    api: ClusterAccess
    done: Entry
    """What the change did."""
    found: list[Manifest | None] = field(default_factory=list)
    """The objects in force."""

    def read(self, *, even_if_changed: bool) -> None:
        """Read the objects in force, and try to put them back by dry runs. Raises ProposalError, ClusterError."""
        self.found = [live.read(self.api, one.key, one.after or one.before) for one in self.done.objects]
        for one, now in zip(self.done.objects, self.found, strict=True):
            if not even_if_changed and not live.is_as_judged(one.after, (one.uid, one.resource_version), now):
                said = f"{self.cluster}: {one.key} was changed after it was applied, so rolling back would undo that as well"
                raise ProposalError(f"{said}: look at it, and roll back with --even-if-changed if that is what you want")
            applying.restore(self.api, one, now, dry_run=True)

    def put_back(self, change: Change, actor: str) -> Publication:
        """Put the objects back, the last first, and stop at the first failure."""
        publication = Publication(cluster=self.cluster, run=change.id, cause=CAUSE, actor=actor)
        for one, now in zip(reversed(self.done.objects), reversed(self.found), strict=True):
            try:
                after, result, detail = applying.restore(self.api, one, now), "done", None
            except ClusterError as error:
                after, result, detail = now, "failed", f"{one.key}: {error}"
            action = states.reverse(one, now, after).action
            planned = PlannedChange(
                key=one.key, action=action, blueprint=change.blueprint, blueprint_version=change.version, manifest=one.before, before=now
            )
            publication.steps.append(Step(change=planned, action=action, result=result, time=datetime.now(UTC), after=after, detail=detail))
            if result == "failed":
                break
        return publication


@contextmanager
def opened(desk: Desk, done: Mapping[str, Entry]) -> Iterator[list[InCluster]]:
    """Open the API servers of the clusters that a change was published to. Raises ConfigError."""
    with ExitStack() as stack:
        open_one = rights.opener(desk)
        found = [
            InCluster(cluster=name, api=stack.enter_context(closing(open_one(desk.cluster(name)))), done=entry)
            for name, entry in done.items()
        ]
        yield found
