"""A proposal, as it follows from the events that were recorded of it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pipelines.objects.canonical import Manifest
from pipelines.objects.names import Key
from pipelines.proposals.entries import Recorded


class Event(StrEnum):
    """What happened to a proposal."""

    REFUSED = "refused"
    """It was not accepted: its author may not propose it, or it fails a check. Nothing follows."""
    PROPOSED = "proposed"
    JUDGED = "judged"
    """Its objects had changed, so it was checked and simulated again; approvals from before do not count any more."""
    APPROVED = "approved"
    REJECTED = "rejected"
    APPLYING = "applying"
    """Applying began. If nothing follows, Hindcast was stopped in the middle."""
    APPLIED = "applied"
    FAILED = "failed"
    """Applying, or rolling back, did not succeed; the detail says how far it came."""
    HANDED_OVER = "handed_over"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    WATCHED = "watched"
    """Flows were found that the change drops."""


class Status(StrEnum):
    """What can be done with a proposal next."""

    REFUSED = "refused"
    WAITING = "waiting"
    """It needs an approval."""
    READY = "ready"
    """It may be applied or handed over."""
    EXPIRED = "expired"
    """Its approval, or its judgement if it needs no approval, is too old: judge it again."""
    REJECTED = "rejected"
    APPLYING = "applying"
    APPLIED = "applied"
    HANDED_OVER = "handed-over"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"


class Needs(StrEnum):
    """Who must approve."""

    NOBODY = "nobody"
    ANOTHER_OWNER = "another owner"
    PLATFORM = "the platform"


@dataclass(frozen=True, kw_only=True)
class ProposedObject:
    """One object of a proposal: what it was when it was judged, and what it is to become."""

    key: Key
    action: str
    """create, update or delete."""
    before: Manifest | None = None
    """The object in force when the proposal was judged; None if there was none."""
    after: Manifest | None = None
    """The object that is applied, exactly; None to delete it."""
    uid: str | None = None
    resource_version: str | None = None
    """Of the object that it was judged against; None where only configuration history was known."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check."""

    check: str
    """schema, admission, guard-rail or state."""
    is_met: bool | None
    """None if it could not be made."""
    text: str
    path: str = ""
    line: int | None = None
    blueprint: str = ""
    """The blueprint whose guard-rail it is."""

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass(frozen=True, kw_only=True)
class Entry(Recorded):
    """One event of a proposal."""

    event: Event
    objects: tuple[ProposedObject, ...] = ()
    """The objects as they are at this event: of an applied one, with the uid and resource version that applying gave them."""
    run: str = ""


JUDGED = 12
"""Length of the beginning of a digest by which people name a judgement."""
_JUDGING = (Event.PROPOSED, Event.JUDGED)
_FINAL = {
    Event.REFUSED: Status.REFUSED,
    Event.REJECTED: Status.REJECTED,
    Event.APPLYING: Status.APPLYING,
    Event.APPLIED: Status.APPLIED,
    Event.HANDED_OVER: Status.HANDED_OVER,
    Event.ROLLING_BACK: Status.ROLLING_BACK,
    Event.ROLLED_BACK: Status.ROLLED_BACK,
}


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A proposal with everything that happened to it, in order."""

    id: str
    cluster: str
    namespace: str | None
    """The namespace of its objects; None for those of the whole cluster."""
    entries: tuple[Entry, ...]

    @property
    def author(self) -> str:
        """Who proposed it."""
        return self.entries[0].actor

    @property
    def time(self) -> datetime:
        """When it was proposed."""
        return self.entries[0].time

    @property
    def judgement(self) -> Entry:
        """The latest event that checked and simulated it; the refusal, if it was never accepted."""
        return next((entry for entry in reversed(self.entries) if entry.event in _JUDGING), self.entries[0])

    @property
    def objects(self) -> tuple[ProposedObject, ...]:
        """Its objects, as they were judged last."""
        return self.judgement.objects

    @property
    def digest(self) -> str:
        """A hash of what is applied, of what it is applied to, and of what was found about it: an approval counts for this alone."""
        said = [[*one.key, one.action, one.before, one.after, one.uid, one.resource_version] for one in self.objects]
        about = {name: self.judgement.about.get(name) for name in ("risks", "needs", "simulation")}
        return hashlib.sha256(json.dumps([self.judgement.number, said, about], sort_keys=True, default=str).encode()).hexdigest()

    @property
    def judged(self) -> str:
        """The beginning of the digest, by which people name what they approve."""
        return self.digest[:JUDGED]

    @property
    def needs(self) -> Needs:
        """Who must approve it."""
        return Needs(self.judgement.about.get("needs", Needs.PLATFORM.value))

    @property
    def approval(self) -> Entry | None:
        """The approval of what was judged last; None if there is none."""
        after = [entry for entry in self.entries if entry.number > self.judgement.number]
        return next((one for one in after if one.event is Event.APPROVED and one.about.get("digest") == self.digest), None)

    @property
    def applied(self) -> Entry | None:
        """The event that applied it; None if it was not applied."""
        return next((entry for entry in reversed(self.entries) if entry.event is Event.APPLIED), None)

    def expires(self) -> datetime | None:
        """Until when it may be applied: a time of its approval, or of its judgement if it needs none. None while it waits."""
        entry = self.judgement if self.needs is Needs.NOBODY else self.approval
        return None if entry is None else datetime.fromisoformat(entry.about["expires"])

    def status(self, now: datetime) -> Status:
        """Return what can be done with it next."""
        last = next(entry for entry in reversed(self.entries) if entry.event is not Event.WATCHED)
        if last.event is Event.FAILED:
            return Status.APPLIED if self.applied is not None else self._open(now)
        return _FINAL.get(last.event) or self._open(now)

    def _open(self, now: datetime) -> Status:
        expires = self.expires()
        if expires is None:
            return Status.WAITING
        return Status.READY if now < expires else Status.EXPIRED

    @property
    def title(self) -> str:
        """Its objects, for people."""
        first = f"{self.objects[0].action} {self.objects[0].key}" if self.objects else "nothing"
        return first + (f" and {len(self.objects) - 1} more" if len(self.objects) > 1 else "")

    def checks(self) -> tuple[Check, ...]:
        """The checks of the latest judgement."""
        return tuple(Check(**one) for one in self.judgement.about.get("checks", ()))


def by_id(entries: Sequence[tuple[str, str, str | None, Entry]]) -> list[Proposal]:
    """Return proposals from entries with their id, cluster and namespace; the newest proposal first."""
    found: dict[str, list[tuple[str, str | None, Entry]]] = {}
    for proposal, cluster, namespace, entry in entries:
        found.setdefault(proposal, []).append((cluster, namespace, entry))
    made = [
        Proposal(
            id=proposal,
            cluster=listed[0][0],
            namespace=listed[0][1],
            entries=tuple(sorted((entry for _, _, entry in listed), key=lambda entry: entry.number)),
        )
        for proposal, listed in found.items()
    ]
    return sorted(made, key=lambda one: one.time, reverse=True)
