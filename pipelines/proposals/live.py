"""Reads and changes single objects of a cluster, each in exactly the version that was judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipelines.blueprints import objects
from pipelines.objects.canonical import Manifest
from pipelines.objects.compare import Verdict, changes, compare
from pipelines.objects.names import Key, key_of
from warehouse.errors import ClusterConflictError, ClusterError, ClusterForbiddenError, ClusterMissingError, ProposalError

if TYPE_CHECKING:
    from pipelines.cluster_access import ClusterAccess

Version = tuple[str | None, str | None]
"""uid and resource version of an object; None where there is none."""


def read(api: ClusterAccess, key: Key, wanted: Manifest | None) -> Manifest | None:
    """Return the object in force, or None if there is none. Raises ClusterError."""
    return objects.read(api, wanted if wanted is not None else named(key))


def named(key: Key) -> Manifest:
    """Return a manifest that names an object and says nothing else of it."""
    metadata = {"name": key.name} | ({"namespace": key.namespace} if key.namespace else {})
    return {"apiVersion": objects.PUBLISHED_KINDS[key.kind], "kind": key.kind, "metadata": metadata}


def version_of(manifest: Manifest | None) -> Version:
    """Return uid and resource version of an object."""
    if manifest is None:
        return None, None
    metadata: Mapping[str, str] = manifest["metadata"]
    return metadata.get("uid"), metadata.get("resourceVersion")


def is_as_judged(judged: Manifest | None, version: Version, live: Manifest | None) -> bool:
    """Whether the object in force is still the one that was judged: the same version, or one that differs in its status alone."""
    if judged is None or live is None:
        return judged is live
    uid, resource_version = version
    found_uid, found_version = version_of(live)
    if uid is not None and uid != found_uid:
        return False
    return (resource_version is not None and resource_version == found_version) or not changes(judged, live)


def put(api: ClusterAccess, wanted: Manifest, live: Manifest | None, *, dry_run: bool = False, exactly: bool = False) -> Manifest:
    """Make the object what is wanted by server-side apply, if it is still in the version `live`; return it as stored.

    If others own fields that applying does not remove, the object is replaced instead, in the same version. Labels and annotations of
    others stay, unless it is to be `exactly` what is wanted.

    Raises:
        ClusterConflictError: it is another version by now, or somebody else has created it.
        ClusterError: the API server refuses it; or, of a dry run, an admission webhook would make something else of it.
    """
    if live is None:
        stored = objects.apply(api, wanted, dry_run=dry_run, force=False)
        return _checked(api, wanted, stored)
    uid, resource_version = version_of(live)
    metadata = wanted["metadata"] | {"uid": uid, "resourceVersion": resource_version}
    bound = {**wanted, "metadata": metadata}
    tried = objects.apply(api, bound, dry_run=True)
    if compare(wanted, tried).verdict is not Verdict.DRIFT and not (exactly and changes(wanted, tried)):
        return live if dry_run else _checked(api, wanted, objects.apply(api, bound))
    kept = {name: live["metadata"][name] for name in ("finalizers", "ownerReferences") if name in live["metadata"]}
    for name in ("labels", "annotations"):
        others = {} if exactly else live["metadata"].get(name, {})
        together = {**others, **metadata.get(name, {})}
        kept |= {name: together} if together else {}
    whole = {**wanted, "metadata": {**metadata, **kept}}
    _checked(api, wanted, objects.replace(api, whole, dry_run=True))
    return live if dry_run else _checked(api, wanted, objects.replace(api, whole))


def remove(api: ClusterAccess, live: Manifest, *, dry_run: bool = False) -> None:
    """Delete the object in exactly this version. Raises ClusterConflictError if it was changed, ClusterError."""
    try:
        objects.remove(api, live, dry_run=dry_run)
    except ClusterMissingError as error:
        raise ClusterConflictError(f"cluster {api.cluster}: {key_of(live)} is gone: somebody has deleted it") from error


def _checked(api: ClusterAccess, wanted: Manifest, stored: Manifest) -> Manifest:
    left = compare(wanted, stored)
    if left.verdict is Verdict.DRIFT:
        raise ClusterError(
            f"cluster {api.cluster}: {key_of(wanted)} does not become what was proposed ({', '.join(left.paths)}): "
            "does an admission webhook change it, or did somebody else create it?"
        )
    return stored


def in_words(error: ClusterError, user: str) -> str:
    """Return what an error of the API server means for the user as whom it was asked."""
    text = str(error)
    if isinstance(error, ClusterForbiddenError) and "cannot impersonate" in text:
        return (
            f"Hindcast's credentials may not act as {user!r} in this cluster; its impersonation rights name no such user or group: {text}"
        )
    if isinstance(error, ClusterForbiddenError):
        return f"the cluster does not let {user!r} do that, or knows no such user: {text}"
    return text


def refuse_changed(key: Key, judged: Manifest | None, live: Manifest | None) -> ProposalError:
    """Return the error for an object that is not the one that was judged."""
    now = "was deleted after" if live is None else "was created after" if judged is None else "was changed after"
    return ProposalError(f"{key} {now} the proposal was judged: judge it again, and have it approved again where that is needed")
