"""Reads, applies and deletes objects of a live cluster, as the field manager `hindcast`. Judging them does not belong here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipelines.blueprints.render import MANAGED_BY
from pipelines.objects.canonical import Manifest
from pipelines.objects.compare import Verdict, compare
from pipelines.objects.names import Key, key_of
from warehouse.errors import ClusterError, ClusterForbiddenError, ClusterMissingError

if TYPE_CHECKING:  # the client of Kubernetes is not needed to import this
    from pipelines.cluster_access import ClusterAccess

FIELD_MANAGER = "hindcast"
APPLY = "application/apply-patch+yaml"
_PLACES = {
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "CiliumNetworkPolicy": ("cilium.io/v2", "ciliumnetworkpolicies"),
    "CiliumClusterwideNetworkPolicy": ("cilium.io/v2", "ciliumclusterwidenetworkpolicies"),
    "CiliumCIDRGroup": ("cilium.io/v2", "ciliumcidrgroups"),
    "AdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1", "adminnetworkpolicies"),
    "BaselineAdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1", "baselineadminnetworkpolicies"),
    "ClusterNetworkPolicy": ("policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies"),
    "ValidatingAdmissionPolicy": ("admissionregistration.k8s.io/v1", "validatingadmissionpolicies"),
    "ValidatingAdmissionPolicyBinding": ("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings"),
}
"""API group and version, and plural, of the kinds that are published."""
PUBLISHED_KINDS = {kind: version for kind, (version, _) in _PLACES.items()}
"""The kinds that are published, with the API group and version that is used."""


def whoami(api: ClusterAccess) -> str:
    """Return the user as which the API server authenticates us. Raises ClusterError."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body, retry=True)
    return str(answer["status"]["userInfo"]["username"])


def read_namespaces(api: ClusterAccess) -> dict[str, dict[str, str]]:
    """Return names and labels of the namespaces that are not being deleted. Raises ClusterError."""
    found: dict[str, dict[str, str]] = {}
    for page in api.list_pages("/api/v1/namespaces"):
        if page.begins:
            found.clear()
        for item in page.items:
            if "deletionTimestamp" not in item["metadata"]:
                found[item["metadata"]["name"]] = item["metadata"].get("labels") or {}
    return found


def read_owned(api: ClusterAccess, *, needed: Collection[str]) -> dict[Key, Manifest]:
    """Return every object that carries Hindcast's label, of the kinds the cluster has.

    A kind that we may not list is skipped, unless it is `needed`. Raises ClusterError.
    """
    found: dict[Key, Manifest] = {}
    for kind, (version, plural) in _PLACES.items():
        of_kind: dict[Key, Manifest] = {}
        try:
            for page in api.list_pages(f"/apis/{version}/{plural}", query={"labelSelector": f"{MANAGED_BY}={FIELD_MANAGER}"}):
                if page.begins:
                    of_kind.clear()
                for item in page.items:
                    manifest = {**item, "apiVersion": version, "kind": kind}
                    of_kind[key_of(manifest)] = manifest
        except ClusterMissingError:
            continue  # a cluster without the kind has no such objects
        except ClusterForbiddenError:
            if kind in needed:
                raise
            continue  # without permission to list a kind, we have never published it
        found |= of_kind
    return found


def read(api: ClusterAccess, manifest: Manifest) -> Manifest | None:
    """Return the live object that a manifest names, or None if it does not exist. Raises ClusterError."""
    try:
        return api.request("GET", _path(manifest))
    except ClusterMissingError:
        return None


def apply(api: ClusterAccess, manifest: Manifest, *, dry_run: bool = False, force: bool = True) -> Manifest:
    """Apply a manifest server-side; return the object as stored or, in a dry run, as it would be.

    Without `force` a field that another manager owns is ClusterConflictError. Raises ClusterError.
    """
    query = {"fieldManager": FIELD_MANAGER, "force": str(force).lower(), "fieldValidation": "Strict", **_dry(dry_run)}
    return api.request("PATCH", _path(manifest), query=query, body=manifest, content_type=APPLY, retry=True)


def put_right(api: ClusterAccess, manifest: Manifest) -> Manifest:
    """Apply; if others added fields that applying does not remove, replace the object. Raises ClusterError.

    Labels, annotations and finalizers of others are preserved.
    """
    stored = apply(api, manifest)
    if compare(manifest, stored).verdict is not Verdict.DRIFT:
        return stored
    metadata, ours = stored["metadata"], manifest["metadata"]
    preserved = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion", "finalizers") if name in metadata}
    for name in ("labels", "annotations"):
        preserved[name] = {**metadata.get(name, {}), **ours.get(name, {})}
    body = {**manifest, "metadata": preserved}
    stored = api.request("PUT", _path(manifest), query={"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}, body=body)
    left = compare(manifest, stored)
    if left.verdict is Verdict.DRIFT:
        raise ClusterError(
            f"cluster {api.cluster}: {key_of(manifest)} is still not as wanted after it was replaced ({', '.join(left.paths)}): "
            "does an admission webhook change it?"
        )
    return stored


def delete(api: ClusterAccess, manifest: Manifest, *, dry_run: bool = False) -> None:
    """Delete the object if it is still the same one; an object that is already gone is no error. Raises ClusterError."""
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": manifest["metadata"]["uid"]}}
    if dry_run:
        body["dryRun"] = ["All"]
    try:
        api.request("DELETE", _path(manifest), body=body)
    except ClusterMissingError:
        return


def replace(api: ClusterAccess, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
    """Replace the object of the uid and resource version in the manifest; return it as stored, or as it would be.

    Raises ClusterConflictError if it is another one by now, ClusterError.
    """
    query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", **_dry(dry_run)}
    return api.request("PUT", _path(manifest), query=query, body=manifest)


def remove(api: ClusterAccess, live: Manifest, *, dry_run: bool = False) -> None:
    """Delete the object in exactly this version. Raises ClusterConflictError if it was changed, ClusterMissingError, ClusterError."""
    exactly = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": exactly}
    if dry_run:
        body["dryRun"] = ["All"]
    api.request("DELETE", _path(live), body=body)


def namespace_is_gone(api: ClusterAccess, namespace: str | None, error: ClusterError) -> bool:
    """Return whether an error occurred because the namespace is gone or being deleted."""
    if namespace is None or not isinstance(error, ClusterMissingError | ClusterForbiddenError):
        return False
    try:
        return "deletionTimestamp" in api.request("GET", f"/api/v1/namespaces/{namespace}")["metadata"]
    except ClusterMissingError:
        return True
    except ClusterError:
        return False


def _dry(dry_run: bool) -> Mapping[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _path(manifest: Manifest) -> str:
    key = key_of(manifest)
    version, plural = _PLACES[key.kind]
    place = ["namespaces", key.namespace] if key.namespace else []
    segments = ["apis", *str(manifest.get("apiVersion", version)).split("/"), *place, plural, key.name]
    if any(segment in ("", ".", "..") for segment in segments):
        raise ClusterError(f"{key}: has an apiVersion, a namespace or a name that cannot stand in the address of an object")
    return "/" + "/".join(quote(segment, safe=":") for segment in segments)
