"""Applies approved proposals to a cluster as the user who asks.

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
from pipelines.proposals.model import Event, Proposal, ProposedObject, Status
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
    stuck = is_stuck(desk, proposal, Status.APPLYING)
    if not stuck:
        steps.check_status(proposal, desk, "applied", Status.READY)
    check_owner(desk, proposal)
    api = api_of(desk, proposal)
    try:
        claimed, reached = _begun(desk, api, proposal, is_stuck=stuck)
    except ClusterError as error:
        raise type(error)(live.in_words(error, desk.who.user)) from error
    else:
        return _applied(desk, api, claimed, reached)
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
            restore(api, one, live.read(api, one.key, one.after or one.before))
            restored.append(one)
        except ClusterError as error:
            left.append(f"{one.key} was changed before, and could not be put back: {error}")
    if restored:
        left.append(f"put back: {names(restored[::-1])}")
    return "; ".join(left) or ("" if said else "nothing was changed")


def restore(api: ClusterAccess, one: ProposedObject, now: Manifest | None, *, dry_run: bool = False) -> Manifest | None:
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


def check_owner(desk: Desk, proposal: Proposal) -> None:
    """Raises ProposalError unless the proposal is about what the user of the desk owns now."""
    rules.name_of(desk.who)
    if not rules.is_owner(desk.scope, proposal.cluster, proposal.namespace, desk.now):
        where = f"namespace {proposal.namespace}" if proposal.namespace else "the cluster as a whole"
        raise ProposalError(f"proposal {proposal.id} is about {where} of {proposal.cluster}, which is not yours now")


def api_of(desk: Desk, proposal: Proposal, groups: Sequence[str] | None = None) -> ClusterAccess:
    """Return the API server of a proposal's cluster, asked as the user of the desk. Raises ProposalError if there is none, ConfigError."""
    api = desk.api(proposal.cluster, groups=None if groups is None else tuple(groups))
    if api is None:
        raise ProposalError(
            f"cluster {proposal.cluster} has no API server in the configuration, so nothing can be applied: hand the proposal over instead"
        )
    return api


def is_stuck(desk: Desk, proposal: Proposal, status: Status) -> bool:
    """Whether a proposal has been in a state, in which it is being changed, for so long that this was interrupted."""
    return proposal.status(desk.now) is status and desk.now - proposal.entries[-1].time > STUCK_AFTER


def names(objects: Sequence[ProposedObject]) -> str:
    """Return the names of objects, for people."""
    return ", ".join(str(one.key) for one in objects) or "nothing"
