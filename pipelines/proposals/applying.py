"""Applies approved proposals to a cluster as the user who asks, and rolls them back.

What is applied is what was approved, to the object that it was judged against. All objects are tried by dry runs first; if one
fails all the same, those before it are put back. An error does not say that nothing was changed, since an answer can be lost: the
object is then read again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pipelines.objects.canonical import SERVER_METADATA, Manifest
from pipelines.objects.names import Key
from pipelines.proposals import live, rules, states, steps
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Entry, Event, Proposal, ProposedObject, Status
from warehouse.errors import ClusterError, ProposalError

if TYPE_CHECKING:
    from pipelines.cluster_access import ClusterAccess

STUCK_AFTER = timedelta(minutes=5)
"""Applying that began so long ago and has no end was interrupted: it may be taken up again."""


def apply(desk: Desk, proposal: Proposal) -> Proposal:
    """Apply a proposal that is ready, as the user of the desk.

    Raises ProposalError if it may not be applied, or an object is not the one that was judged; ClusterError if the API server
    refuses it. In both cases the cluster is as before, unless the message says otherwise. ConfigError, LakeError.
    """
    is_stuck = _is_stuck(desk, proposal, Status.APPLYING)
    if not is_stuck:
        steps.check_status(proposal, desk, "applied", Status.READY)
    _check_owner(desk, proposal)
    api = _api(desk, proposal)
    try:
        claimed, reached = _begun(desk, api, proposal, is_stuck=is_stuck)
    except ClusterError as error:
        raise type(error)(live.in_words(error, desk.who.user)) from error
    else:
        return _applied(desk, api, claimed, reached)
    finally:
        api.close()


def roll_back(
    desk: Desk, proposal: Proposal, *, even_if_changed: bool = False, groups: Sequence[str] | None = None, detail: str = ""
) -> Proposal:
    """Put back what an applied proposal changed: a new object is deleted, a changed or deleted one is applied as it was.

    Args:
        desk: the user as whom it is done.
        proposal: an applied one.
        even_if_changed: also if somebody has changed an object since; that change is then lost.
        groups: the user's groups, if they are not those of the desk.
        detail: what to record about it.

    Raises ProposalError if an object was changed since, ClusterError, ConfigError, LakeError.
    """
    if not _is_stuck(desk, proposal, Status.ROLLING_BACK):
        steps.check_status(proposal, desk, "rolled back", Status.APPLIED)
    _check_owner(desk, proposal)
    applied = proposal.applied
    assert applied is not None  # noqa: S101 (follows from the status)
    api = _api(desk, proposal, groups)
    try:
        found = [live.read(api, one.key, one.after or one.before) for one in applied.objects]
        if not even_if_changed:
            _check_unchanged(applied, found)
        for one, now in zip(applied.objects, found, strict=True):
            _restore(api, one, now, dry_run=True)
        claimed = steps.add(desk, proposal, Event.ROLLING_BACK, objects=applied.objects, detail=detail)
        done: list[ProposedObject] = []
        for one, now in zip(reversed(applied.objects), reversed(found), strict=True):
            try:
                restored = _restore(api, one, now)
            except ClusterError as error:
                text = f"{one.key}: {live.in_words(error, desk.who.user)}; rolled back before it: {_names(done)}"
                steps.add(desk, claimed, Event.FAILED, result="failed", detail=text[: steps.LONGEST_REASON], objects=applied.objects)
                raise
            done.append(states.reverse(one, now, restored))
        return steps.add(desk, claimed, Event.ROLLED_BACK, result="done", objects=done[::-1], detail=detail)
    except ClusterError as error:
        raise type(error)(live.in_words(error, desk.who.user)) from error
    finally:
        api.close()


def _begun(desk: Desk, api: ClusterAccess, proposal: Proposal, *, is_stuck: bool) -> tuple[Proposal, Collection[Key]]:
    """Check and try what is to be changed, and record that applying begins.

    Returns the proposal, and the objects that are as proposed already, because applying was interrupted after them.
    """
    found = [live.read(api, one.key, one.after) for one in proposal.objects]
    reached = states.reached_before(proposal, found) if is_stuck else {}
    rest = [(one, now) for one, now in zip(proposal.objects, found, strict=True) if one.key not in reached]
    for one, now in rest:
        if not live.is_as_judged(one.before, (one.uid, one.resource_version), now):
            refused = live.refuse_changed(one.key, one.before, now)
            if not is_stuck:
                raise refused
            text = f"applying was interrupted, and {refused}; {_undone(api, list(reached.values()))}"
            _failed(desk, proposal, text, proposal.entries[-1].objects)
            raise ProposalError(text)
    _tried(api, rest)
    begun = [reached.get(one.key) or states.at(one, now) for one, now in zip(proposal.objects, found, strict=True)]
    return steps.add(desk, proposal, Event.APPLYING, objects=begun), reached.keys()


def _applied(desk: Desk, api: ClusterAccess, claimed: Proposal, reached: Collection[Key]) -> Proposal:
    begun = claimed.entries[-1].objects
    done = [one for one in begun if one.key in reached]
    for one in begun:
        if one.key in reached:
            continue
        try:
            done.append(_change(api, one))
        except ClusterError as error:
            changed, said = states.after_error(api, one, error)
            done += [] if changed is None else [changed]
            if changed is not None and not said:
                continue
            text = "; ".join(filter(None, (f"{one.key}: {live.in_words(error, desk.who.user)}", said, _undone(api, done, said))))
            _failed(desk, claimed, text, begun)
            raise type(error)(text) from error
    about = {"groups": sorted(desk.who.groups)}
    detail = "taken up after an interruption" if reached else None
    return steps.add(desk, claimed, Event.APPLIED, result="done", objects=done, about=about, detail=detail)


def _failed(desk: Desk, proposal: Proposal, text: str, objects: Sequence[ProposedObject]) -> None:
    steps.add(desk, proposal, Event.FAILED, result="failed", detail=text[: steps.LONGEST_REASON], objects=objects)


def _change(api: ClusterAccess, one: ProposedObject) -> ProposedObject:
    """Make one change; the object is then as it was stored."""
    if one.after is None:
        assert one.before is not None  # noqa: S101 (a deletion has an object)
        live.remove(api, one.before)
        return one
    stored = live.put(api, one.after, one.before)
    uid, resource_version = live.version_of(stored)
    return replace(one, after=stored, uid=uid, resource_version=resource_version)


def _undone(api: ClusterAccess, done: Sequence[ProposedObject], said: str = "") -> str:
    """Put back what was changed before a failure, and say so: nothing, if nothing was changed, and more was said already."""
    restored, left = [], []
    for one in reversed(done):
        try:
            _restore(api, one, live.read(api, one.key, one.after or one.before))
            restored.append(one)
        except ClusterError as error:
            left.append(f"{one.key} was changed before, and could not be put back: {error}")
    if restored:
        left.append(f"put back: {_names(restored[::-1])}")
    return "; ".join(left) or ("" if said else "nothing was changed")


def _restore(api: ClusterAccess, one: ProposedObject, now: Manifest | None, *, dry_run: bool = False) -> Manifest | None:
    """Make an object what it was before a change; return it."""
    if one.before is not None:
        return live.put(api, plain(one.before), now, dry_run=dry_run, exactly=True)
    if now is not None:
        live.remove(api, now, dry_run=dry_run)
    return None


def plain(manifest: Manifest) -> Manifest:
    """Return an object as it can be applied: without its status and what only the API server writes."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in SERVER_METADATA}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}


def _tried(api: ClusterAccess, objects: Sequence[tuple[ProposedObject, Manifest | None]]) -> None:
    for one, now in objects:
        if one.after is not None:
            live.put(api, one.after, now, dry_run=True)
        elif now is not None:
            live.remove(api, now, dry_run=True)


def _check_owner(desk: Desk, proposal: Proposal) -> None:
    rules.name_of(desk.who)
    if not rules.is_owner(desk.scope, proposal.cluster, proposal.namespace, desk.now):
        where = f"namespace {proposal.namespace}" if proposal.namespace else "the cluster as a whole"
        raise ProposalError(f"proposal {proposal.id} is about {where} of {proposal.cluster}, which is not yours now")


def _check_unchanged(applied: Entry, found: Sequence[Manifest | None]) -> None:
    for one, now in zip(applied.objects, found, strict=True):
        if not live.is_as_judged(one.after, (one.uid, one.resource_version), now):
            what = "was deleted" if now is None else "was created again" if one.after is None else "was changed"
            raise ProposalError(
                f"{one.key} {what} after it was applied, so rolling back would undo that as well: look at it, and roll back with "
                "--even-if-changed if that is what you want"
            )


def _api(desk: Desk, proposal: Proposal, groups: Sequence[str] | None = None) -> ClusterAccess:
    api = desk.api(proposal.cluster, groups=None if groups is None else tuple(groups))
    if api is None:
        raise ProposalError(
            f"cluster {proposal.cluster} has no API server in the configuration, so nothing can be applied: hand the proposal over instead"
        )
    return api


def _is_stuck(desk: Desk, proposal: Proposal, status: Status) -> bool:
    return proposal.status(desk.now) is status and desk.now - proposal.entries[-1].time > STUCK_AFTER


def _names(objects: Sequence[ProposedObject]) -> str:
    return ", ".join(str(one.key) for one in objects) or "nothing"
