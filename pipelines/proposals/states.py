"""What an object in force is to a proposal: as it was before, as proposed, or something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipelines.blueprints.objects import FIELD_MANAGER
from pipelines.objects.canonical import Manifest
from pipelines.objects.compare import Verdict, compare
from pipelines.objects.names import Key
from pipelines.proposals import live
from pipelines.proposals.model import Proposal, ProposedObject
from warehouse.errors import ClusterConflictError, ClusterError

if TYPE_CHECKING:
    from pipelines.cluster_access import ClusterAccess


def is_reached(one: ProposedObject, now: Manifest | None) -> bool:
    """Whether the object in force is what was proposed."""
    return now is None if one.after is None else now is not None and compare(one.after, now).verdict is not Verdict.DRIFT


def reached(one: ProposedObject, now: Manifest | None) -> ProposedObject:
    """Return the object of a proposal as it was changed: with what is in force after it."""
    uid, resource_version = live.version_of(now)
    return replace(one, after=now, uid=uid, resource_version=resource_version)


def at(one: ProposedObject, now: Manifest | None) -> ProposedObject:
    """Return the object of a proposal with what is in force right before it is changed."""
    uid, resource_version = live.version_of(now)
    return replace(one, before=now, uid=uid, resource_version=resource_version)


def reverse(one: ProposedObject, now: Manifest | None, restored: Manifest | None) -> ProposedObject:
    """Return what rolling back did to an object."""
    action = "delete" if restored is None else "create" if now is None else "update"
    uid, resource_version = live.version_of(restored)
    return ProposedObject(key=one.key, action=action, before=now, after=restored, uid=uid, resource_version=resource_version)


def reached_before(proposal: Proposal, found: Sequence[Manifest | None]) -> dict[Key, ProposedObject]:
    """Return those objects of a proposal whose applying was interrupted that are as proposed, with what they were before it began."""
    begun = proposal.entries[-1].objects
    together = zip(proposal.objects, begun, found, strict=True)
    return {one.key: reached(then, now) for one, then, now in together if is_reached(one, now)}


def after_error(api: ClusterAccess, one: ProposedObject, error: ClusterError) -> tuple[ProposedObject | None, str]:
    """Look again at an object whose change ended with an error: the change may have been made, and only its answer lost.

    Args:
        api: the API server.
        one: the object, with what it was right before the change.
        error: the error.

    Returns:
        The object as it was changed, or None if the change was not made or is not known to be ours; and what there is to say about it,
        which is nothing if it is as it was or as proposed.
    """
    try:
        now = live.read(api, one.key, one.after or one.before)
    except ClusterError as unread:
        return None, f"unknown whether {one.key} was changed, since it cannot be read: {unread}"
    if live.is_as_judged(one.before, (one.uid, one.resource_version), now):
        return None, ""
    if is_reached(one, now):
        return reached(one, now), ""
    if isinstance(error, ClusterConflictError) or not _only_we_wrote(one.before, now):
        return None, f"{one.key} is neither as it was nor as proposed, and somebody else may have changed it: it is left as it is"
    return reached(one, now), f"{one.key} did not become what was proposed"


def _only_we_wrote(before: Manifest | None, now: Manifest | None) -> bool:
    """Whether nobody but Hindcast has written an object, apart from its status, since it was as before; false if that is not known."""
    if now is None or not now["metadata"].get("managedFields"):
        return False
    return _writers(now) <= _writers(before)


def _writers(manifest: Manifest | None) -> set[tuple[Any, ...]]:
    """Who has written an object when, apart from its status and from Hindcast."""
    fields: Sequence[dict[str, Any]] = (manifest or {"metadata": {}})["metadata"].get("managedFields") or ()
    found = {(one.get("manager"), one.get("operation"), one.get("time")) for one in fields if not one.get("subresource")}
    return {one for one in found if one[0] != FIELD_MANAGER}
