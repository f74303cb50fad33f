"""Puts back what an applied proposal changed: judged before, as a change of its own, and safe to do again after an interruption.

What the roll-back would deny of the traffic that was recorded since is found first, by the policy engine. A person must accept that;
the rule `roll_back_at` rolls back all the same, and it is recorded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.objects.canonical import Manifest
from pipelines.objects.compare import changes
from pipelines.proposals import applying, live, states, steps, watching
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import JUDGED, Event, Proposal, ProposedObject, Status
from pipelines.replay.changed_edges import ChangedEdge
from pipelines.replay.outcomes import Change
from warehouse.errors import ClusterError, ConfigError, ProposalError, QueryError, RollBackDeniesError
from warehouse.schema import EDGES_1H, FLOWS
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.cluster_access import ClusterAccess

WHATEVER = "*"
"""Accepts whatever a roll-back denies."""


@dataclass(frozen=True, kw_only=True)
class Reversal:
    """What rolling a proposal back would do."""

    proposal: str
    denied: tuple[ChangedEdge, ...] = ()
    """Edges with traffic since the proposal was applied that would be denied, as far as the user may see."""
    uncertain: int = 0
    """Number of edges of which it cannot be told."""
    why_not: str = ""
    """Why it could not be simulated."""

    @property
    def is_harmless(self) -> bool:
        """Whether it is known to deny nothing that was recorded."""
        return not self.denied and not self.uncertain and not self.why_not

    @property
    def judged(self) -> str:
        """What a person accepts: a hash of the edges that would be denied, without the numbers of flows, which grow all the time."""
        said = [self.proposal, self.why_not, self.uncertain > 0, *sorted(str(edge.key) for edge in self.denied)]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:JUDGED]

    @property
    def in_words(self) -> str:
        """What it would do, for people."""
        if self.why_not:
            return f"it cannot be told what rolling back would deny: {self.why_not}"
        flows = sum(edge.flows for edge in self.denied)
        found = [f"would deny {counted(flows, 'flow')} on {counted(len(self.denied), 'edge')} that go through now"] if self.denied else []
        found += [f"for {counted(self.uncertain, 'edge')} it cannot be told"] if self.uncertain else []
        return f"rolling back {', and '.join(found)}" if found else "rolling back would deny nothing that was recorded since"

    def about(self) -> dict[str, Any]:
        """Return what is recorded of it."""
        flows = sum(edge.flows for edge in self.denied)
        return {"denies": {"flows": flows, "edges": len(self.denied), "uncertain": self.uncertain, "why_not": self.why_not}}


def judge(desk: Desk, proposal: Proposal) -> Reversal:
    """Return what rolling back would do to the traffic since the proposal was applied, as far as the user may see. Raises LakeError."""
    if not any(proposal.cluster in desk.door.clusters(desk.who, of=table) for table in (FLOWS, EDGES_1H)):
        return Reversal(proposal=proposal.id)  # no traffic of the cluster was recorded
    try:
        result = watching.without_change(desk, proposal, desk.who, desk.now)
    except (ConfigError, QueryError) as error:
        return Reversal(proposal=proposal.id, why_not=str(error))
    denied = tuple(edge for edge in result.edges if edge.change is Change.NEWLY_DENIED)
    uncertain = sum(edge.change is Change.UNCERTAIN and edge.before != "denied" for edge in result.edges)
    return Reversal(proposal=proposal.id, denied=denied, uncertain=uncertain)


def roll_back(
    desk: Desk,
    proposal: Proposal,
    *,
    even_if_changed: bool = False,
    groups: Sequence[str] | None = None,
    detail: str = "",
    accepted: str | None = None,
) -> Proposal:
    """Put back what an applied proposal changed: a new object is deleted, a changed or deleted one is applied as it was.

    Args:
        desk: the user as whom it is done.
        proposal: an applied one.
        even_if_changed: also if somebody has changed an object since; that change is then lost.
        groups: the user's groups, if they are not those of the desk.
        detail: what to record about it.
        accepted: `Reversal.judged` of what the user accepts that is denied, or WHATEVER.

    An object that is as it was before already is left alone. Raises RollBackDeniesError if it denies what was not accepted; ProposalError
    if an object was changed since, ClusterError, ConfigError, LakeError.
    """
    if not applying.is_stuck(desk, proposal, Status.ROLLING_BACK):
        steps.check_status(proposal, desk, "rolled back", Status.APPLIED)
    applying.check_owner(desk, proposal)
    api = applying.api_of(desk, proposal, groups)
    try:
        found = _found(api, proposal, even_if_changed=even_if_changed)
        reversal = judge(desk, proposal)
        if not reversal.is_harmless and accepted not in (WHATEVER, reversal.judged):
            raise RollBackDeniesError(f"{reversal.in_words}; nothing was changed", judged=reversal.judged)
        for one, now in found:
            if not _is_back(one, now):
                applying.restore(api, one, now, dry_run=True)
        claimed = steps.add(desk, proposal, Event.ROLLING_BACK, objects=[one for one, _ in found], detail=detail, about=reversal.about())
        done = _rolled_back(desk, api, claimed, found)
        return steps.add(desk, claimed, Event.ROLLED_BACK, result="done", objects=done, detail=detail)
    except ClusterError as error:
        raise type(error)(live.in_words(error, desk.who.user)) from error
    finally:
        api.close()


def _found(api: ClusterAccess, proposal: Proposal, *, even_if_changed: bool) -> list[tuple[ProposedObject, Manifest | None]]:
    """The objects as they were applied, each with what is in force now."""
    applied = proposal.applied
    assert applied is not None  # noqa: S101 (follows from the status)
    found = [(one, live.read(api, one.key, one.after or one.before)) for one in applied.objects]
    for one, now in found:
        is_ours = live.is_as_judged(one.after, (one.uid, one.resource_version), now)
        if not (even_if_changed or is_ours or _is_back(one, now)):
            what = "was deleted" if now is None else "was created again" if one.after is None else "was changed"
            raise ProposalError(
                f"{one.key} {what} after it was applied, so rolling back would undo that as well: look at it, and roll back with "
                "--even-if-changed if that is what you want"
            )
    return found


def _rolled_back(
    desk: Desk, api: ClusterAccess, claimed: Proposal, found: Sequence[tuple[ProposedObject, Manifest | None]]
) -> list[ProposedObject]:
    """Restore the objects, the last one first, and return what was done to each, the first one first.

    An error does not say that nothing was changed, since an answer can be lost: the object is then read again.
    """
    done: list[ProposedObject] = []
    for one, now in reversed(found):
        try:
            restored = now if _is_back(one, now) else applying.restore(api, one, now)
        except ClusterError as error:
            restored, said = _after_error(api, one, now)
            if said:
                text = f"{one.key}: {live.in_words(error, desk.who.user)}; {said}; rolled back before it: {applying.names(done)}"
                objects = [each for each, _ in found]
                steps.add(desk, claimed, Event.FAILED, result="failed", detail=text[: steps.LONGEST_REASON], objects=objects)
                raise
        done.append(states.reverse(one, now, restored))
    return done[::-1]


def _after_error(api: ClusterAccess, one: ProposedObject, before: Manifest | None) -> tuple[Manifest | None, str]:
    """Look again at an object whose restoring ended with an error; return it, and what there is to say: nothing if it was restored."""
    try:
        now = live.read(api, one.key, one.after or one.before)
    except ClusterError as unread:
        return None, f"unknown whether it was rolled back, since it cannot be read: {unread}"
    if _is_back(one, now):
        return now, ""
    if live.is_as_judged(before, live.version_of(before), now):
        return now, "it was not changed"
    return now, "it is neither as it was nor as it is to be: look at it"


def _is_back(one: ProposedObject, now: Manifest | None) -> bool:
    """Whether an object is what it was before it was applied."""
    if one.before is None or now is None:
        return one.before is now
    return not changes(applying.plain(one.before), now)
