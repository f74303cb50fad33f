"""A change of a blueprint for many clusters, as it follows from the events that were recorded of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipelines.blueprints import model as blueprints
from pipelines.blueprints.model import BlueprintFile
from pipelines.proposals.entries import Recorded
from warehouse.access.principals import OPERATOR, Principal

STUCK_AFTER = timedelta(minutes=5)
"""Publishing that began so long ago and has no end was interrupted: it may be taken up again."""


class Event(StrEnum):
    """What happened to a change."""

    BEGUN = "begun"
    """It was planned for its clusters, and somebody decided to publish it."""
    PUBLISHING = "publishing"
    """Publishing to some clusters began. If nothing follows, Hindcast was stopped in the middle."""
    PUBLISHED = "published"
    FAILED = "failed"
    """Publishing, or rolling back, did not succeed; the detail says how far it came."""
    STOPPED = "stopped"
    """It does not go on to further clusters; those that have it keep it."""
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    HANDED_OVER = "handed_over"
    """The changed file was handed over to Git."""
    WATCHED = "watched"
    """New flows were found that it drops."""


class Status(StrEnum):
    """What can be done with a change next."""

    PLANNED = "planned"
    """Nothing is published yet."""
    CANARY = "canary"
    """It is published to its canaries, and waits for somebody to go on."""
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    FAILED = "failed"
    STOPPED = "stopped"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"


_STATUS = {
    Event.BEGUN: Status.PLANNED,
    Event.PUBLISHING: Status.PUBLISHING,
    Event.FAILED: Status.FAILED,
    Event.STOPPED: Status.STOPPED,
    Event.ROLLING_BACK: Status.ROLLING_BACK,
    Event.ROLLED_BACK: Status.ROLLED_BACK,
}


@dataclass(frozen=True, kw_only=True)
class Entry(Recorded):
    """One event of a change."""

    event: Event


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change with everything that happened to it, in order."""

    id: str
    """Also the `run` of the rows of `policy_changes` about what was done to each object."""
    blueprint: str
    version: str
    entries: tuple[Entry, ...]

    @property
    def begun(self) -> Mapping[str, Any]:
        """What was recorded when it began."""
        return self.entries[0].about

    @property
    def author(self) -> str:
        return self.entries[0].actor

    @property
    def time(self) -> datetime:
        """When it began."""
        return self.entries[0].time

    @property
    def reason(self) -> str:
        return str(self.begun.get("reason") or "")

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters that it is for."""
        return tuple(self.begun["clusters"])

    @property
    def canary(self) -> tuple[str, ...]:
        """Those of them that it is published to first."""
        return tuple(self.begun["canary"])

    @property
    def text(self) -> str:
        """The text of the changed file."""
        return str(self.begun["file"]["text"])

    @property
    def text_before(self) -> str:
        """The text of the file before; empty if it is new."""
        return str(self.begun["file"]["before"])

    @property
    def source(self) -> Path:
        """The path of the file."""
        return Path(self.begun["file"]["source"])

    def file(self) -> BlueprintFile:
        """Return the changed file. Raises ConfigError if its text cannot be read, for instance because it is hidden."""
        return blueprints.parse(self.text, self.source)

    @property
    def is_at_once(self) -> bool:
        """Whether blueprints were published to all their clusters at once, without canaries of a choice."""
        return bool(self.begun.get("at_once"))

    def plan(self, cluster: str) -> Mapping[str, Any]:
        """What was planned for a cluster, in numbers; empty if nothing was. At once, each cluster is planned when it is reached."""
        plans = [found for entry in self.entries if (found := entry.about.get("plans", {}).get(cluster))]
        return plans[-1] if plans else {}

    def planned(self, cluster: str) -> frozenset[str]:
        """The hashes of what was planned for a cluster; see `previewing.digests`."""
        return frozenset(self.plan(cluster).get("digests", ()))

    @property
    def published(self) -> tuple[str, ...]:
        """The clusters that it was published to, also if it was rolled back since."""
        done = [
            name for entry in self.entries if entry.event in (Event.PUBLISHED, Event.FAILED) for name in entry.about.get("clusters", ())
        ]
        return tuple(dict.fromkeys(done))

    @property
    def publisher(self) -> Principal:
        """As whom it was published last: a user with her groups, or the operator, who has the configuration's own credentials."""
        found = next((entry for entry in reversed(self.entries) if entry.event is Event.PUBLISHING and "groups" in entry.about), None)
        return OPERATOR if found is None else Principal(user=found.actor, groups=frozenset(found.about["groups"]))

    @property
    def rest(self) -> tuple[str, ...]:
        """The clusters that it was not published to."""
        return tuple(name for name in self.clusters if name not in self.published)

    @property
    def status(self) -> Status:
        last = next(entry for entry in reversed(self.entries) if entry.event not in (Event.HANDED_OVER, Event.WATCHED))
        if last.event is Event.PUBLISHED:
            return Status.CANARY if self.rest else Status.PUBLISHED
        return _STATUS[last.event]

    def is_stuck(self, now: datetime) -> bool:
        """Whether publishing, or rolling back, was interrupted."""
        return self.status in (Status.PUBLISHING, Status.ROLLING_BACK) and now - self.entries[-1].time > STUCK_AFTER


def by_id(found: Sequence[tuple[str, str, str, Entry]]) -> list[Change]:
    """Return changes from entries with id, blueprint and version, the newest first; one whose first event is missing is left out."""
    listed: dict[str, list[tuple[str, str, Entry]]] = {}
    for change, blueprint, version, entry in found:
        listed.setdefault(change, []).append((blueprint, version, entry))
    made = [
        Change(
            id=change,
            blueprint=parts[0][0],
            version=parts[0][1],
            entries=tuple(sorted((entry for _, _, entry in parts), key=lambda entry: entry.number)),
        )
        for change, parts in listed.items()
    ]
    return sorted((one for one in made if one.entries[0].number == 1), key=lambda one: one.time, reverse=True)
