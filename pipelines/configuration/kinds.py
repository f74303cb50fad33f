"""The kinds of configuration history: where each is read, which table stores it, and objects reduced to what is recorded of them.

Which part of an object is recorded is defined in pipelines.configuration.recorded_parts. No I/O.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.configuration import recorded_parts
from pipelines.objects.canonical import Manifest
from pipelines.objects.names import Key
from warehouse.errors import ConfigError
from warehouse.schema import CLUSTER_SETTINGS, NAMESPACES, POLICY_VERSIONS, ROLE_BINDINGS, SERVICES, WORKLOADS, Table

_CILIUM, _RBAC, _NETWORK_API = ("cilium.io",), ("rbac.authorization.k8s.io",), ("policy.networking.k8s.io",)
_ADMISSION = "admissionregistration.k8s.io"

CILIUM_NAMESPACE = "kube-system"
CILIUM_CONFIG = "cilium-config"
CILIUM_DAEMONSET = "cilium"
POD_LABELS = "PodLabels"
CILIUM_AGENTS = "CiliumAgents"
CLUSTER_VERSION = "ClusterVersion"
MANIFEST_FILE = "ManifestFile"
"""A file of a folder of manifests, by its path, with the keys of the objects it defines."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """An object as it was observed, reduced to the part that is recorded.

    `changed` and `manager` are the time and the field manager of its last change, from its managed fields; `created` is its
    creation time. They are None where the source does not have them.
    """

    kind: str
    api_version: str
    namespace: str | None
    name: str
    uid: str | None
    manifest: str
    status: str | None
    hash: str
    created: datetime | None
    changed: datetime | None
    manager: str | None

    @property
    def key(self) -> Key:
        """The key that identifies the object within its cluster over time."""
        return Key(self.kind, self.namespace, self.name)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind that is read. `places` are list paths in order of preference; the first that the cluster serves is read."""

    name: str
    table: Table
    places: tuple[str, ...]
    namespaced: bool = True
    keep: Callable[[Manifest], Manifest | None]
    """Returns the part of an object that is recorded as its manifest, or None for objects that are not recorded."""
    keep_status: Callable[[Manifest], Any] = lambda _item: None
    groups: tuple[str, ...] = ()
    """API groups that a manifest of this kind may have; the empty string is the core group."""
    query: Mapping[str, str] | None = None
    """Selectors for the list request."""
    applies: bool = True
    """Whether the recorded manifest is complete, so that kubectl can apply it."""

    @property
    def is_optional(self) -> bool:
        """Whether a cluster may lack this kind, because it has to be installed or is newer than some clusters."""
        return bool({*_CILIUM, *_NETWORK_API, _ADMISSION} & set(self.groups))

    @property
    def resource(self) -> tuple[str, str]:
        """API group and plural, as audit events write them."""
        parts = self.places[0].strip("/").split("/")
        return ("" if parts[0] == "api" else parts[1]), parts[-1]


def _policy(name: str, *places: str, namespaced: bool, groups: tuple[str, ...]) -> Kind:
    return Kind(
        name=name,
        table=POLICY_VERSIONS,
        places=places,
        namespaced=namespaced,
        keep=recorded_parts.whole,
        keep_status=recorded_parts.conditions,
        groups=groups,
    )


def _controller(name: str, plural: str, group: str = "apps") -> Kind:
    return Kind(
        name=name, table=WORKLOADS, places=(f"/apis/{group}/v1/{plural}",), keep=recorded_parts.workload, groups=(group,), applies=False
    )


def _admission(name: str, plural: str) -> Kind:
    return Kind(
        name=name,
        table=POLICY_VERSIONS,
        places=(f"/apis/{_ADMISSION}/v1/{plural}",),
        namespaced=False,
        keep=recorded_parts.published,
        groups=(_ADMISSION,),
        query={"labelSelector": "=".join(recorded_parts.PUBLISHED)},
    )


KINDS: tuple[Kind, ...] = (
    Kind(name="Namespace", table=NAMESPACES, places=("/api/v1/namespaces",), namespaced=False, keep=recorded_parts.namespace, groups=("",)),
    _policy("NetworkPolicy", "/apis/networking.k8s.io/v1/networkpolicies", namespaced=True, groups=("networking.k8s.io", "extensions")),
    _policy("CiliumNetworkPolicy", "/apis/cilium.io/v2/ciliumnetworkpolicies", namespaced=True, groups=_CILIUM),
    _policy("CiliumClusterwideNetworkPolicy", "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies", namespaced=False, groups=_CILIUM),
    _policy(
        "CiliumCIDRGroup",
        "/apis/cilium.io/v2/ciliumcidrgroups",
        "/apis/cilium.io/v2alpha1/ciliumcidrgroups",
        namespaced=False,
        groups=_CILIUM,
    ),
    _policy(
        "ClusterNetworkPolicy", "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies", namespaced=False, groups=_NETWORK_API
    ),
    _policy("AdminNetworkPolicy", "/apis/policy.networking.k8s.io/v1alpha1/adminnetworkpolicies", namespaced=False, groups=_NETWORK_API),
    _policy(
        "BaselineAdminNetworkPolicy",
        "/apis/policy.networking.k8s.io/v1alpha1/baselineadminnetworkpolicies",
        namespaced=False,
        groups=_NETWORK_API,
    ),
    _admission("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
    _admission("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
    _controller("Deployment", "deployments"),
    _controller("StatefulSet", "statefulsets"),
    _controller("DaemonSet", "daemonsets"),
    _controller("ReplicaSet", "replicasets"),
    _controller("CronJob", "cronjobs", "batch"),
    _controller("Job", "jobs", "batch"),
    Kind(name="Node", table=WORKLOADS, places=("/api/v1/nodes",), namespaced=False, keep=recorded_parts.node, groups=("",), applies=False),
    Kind(name="Service", table=SERVICES, places=("/api/v1/services",), keep=recorded_parts.whole, groups=("",)),
    Kind(
        name="RoleBinding",
        table=ROLE_BINDINGS,
        places=("/apis/rbac.authorization.k8s.io/v1/rolebindings",),
        keep=recorded_parts.binding,
        groups=_RBAC,
    ),
    Kind(
        name="ClusterRoleBinding",
        table=ROLE_BINDINGS,
        places=("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",),
        namespaced=False,
        keep=recorded_parts.binding,
        groups=_RBAC,
    ),
    Kind(
        name="ConfigMap",
        table=CLUSTER_SETTINGS,
        # Only this one object is read, and the read permission covers only this one.
        places=(f"/api/v1/namespaces/{CILIUM_NAMESPACE}/configmaps",),
        keep=lambda item: recorded_parts.whole(item) if item["metadata"].get("name") == CILIUM_CONFIG else None,
        groups=("",),
        query={"fieldSelector": f"metadata.name={CILIUM_CONFIG}"},
    ),
)
"""The kinds whose objects are recorded one by one, in the order they are read."""

PODS = Kind(name="Pod", table=WORKLOADS, places=("/api/v1/pods",), keep=lambda _item: None, groups=("",), applies=False)
"""Pods are not recorded one by one: see PodLabels in `pipelines.configuration.pods`."""

DERIVED: dict[str, Table] = {
    POD_LABELS: WORKLOADS,
    CILIUM_AGENTS: CLUSTER_SETTINGS,
    CLUSTER_VERSION: CLUSTER_SETTINGS,
    MANIFEST_FILE: CLUSTER_SETTINGS,
}
"""Hindcast's own kinds, derived from several objects, the API server or a folder of manifests."""

TABLE_OF: dict[str, Table] = {**{kind.name: kind.table for kind in KINDS}, **DERIVED}
"""The table that stores the versions of each kind."""

BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}


_SHORT = {
    "anp": "AdminNetworkPolicy",
    "banp": "BaselineAdminNetworkPolicy",
    "ccg": "CiliumCIDRGroup",
    "ccnp": "CiliumClusterwideNetworkPolicy",
    "cj": "CronJob",
    "cm": "ConfigMap",
    "cnp": "CiliumNetworkPolicy",
    "deploy": "Deployment",
    "ds": "DaemonSet",
    "netpol": "NetworkPolicy",
    "no": "Node",
    "ns": "Namespace",
    "rs": "ReplicaSet",
    "sts": "StatefulSet",
    "svc": "Service",
}


def named(text: str) -> str:
    """Return the kind for a name, plural or short name in any case. Raises ConfigError, which names the nearest match."""
    names = {name.lower(): name for name in TABLE_OF}
    plurals = {kind.resource[1]: kind.name for kind in KINDS}
    known = {**_SHORT, **plurals, **names}
    if text.lower() in known:
        return known[text.lower()]
    close = difflib.get_close_matches(text.lower(), known, n=1)
    raise ConfigError(
        f"{text!r} is not a recorded kind"
        + (f"; did you mean {known[close[0]]}?" if close else f"; use one of {', '.join(sorted(TABLE_OF))}")
    )


def tables_of(names: Iterable[str]) -> list[Table]:
    """Return the tables that store versions of these kinds, without duplicates."""
    return list({TABLE_OF[name].name: TABLE_OF[name] for name in names}.values())


def observe(kind: Kind, item: Manifest) -> Observed | None:
    """Reduce an object to what is recorded, or return None if it is not recorded. API lists omit `kind` and `apiVersion` of items."""
    item = {**item, "kind": kind.name, "apiVersion": item.get("apiVersion") or api_version(kind.places[0])}
    recorded = kind.keep(item)
    if recorded is None:
        return None
    metadata = item["metadata"]
    changed, manager = last_change(metadata)
    return observed(
        recorded,
        namespace=namespace_of(kind, metadata),
        uid=metadata.get("uid"),
        status=kind.keep_status(item),
        created=moment(metadata.get("creationTimestamp")),
        changed=changed,
        manager=manager,
    )


def namespace_of(kind: Kind, metadata: Manifest) -> str | None:
    """Return the object's namespace, or None if it is cluster-scoped. A Namespace belongs to itself, so its owners can see it."""
    if kind.name == "Namespace":
        return str(metadata["name"])
    return metadata.get("namespace") if kind.namespaced else None


def observed(
    manifest: Manifest,
    *,
    namespace: str | None = None,
    uid: str | None = None,
    status: Any = None,
    created: datetime | None = None,
    changed: datetime | None = None,
    manager: str | None = None,
) -> Observed:
    """Return an Observed for a manifest that is already reduced."""
    text = canonical(manifest)
    status_text = None if status is None else canonical(status)
    return Observed(
        kind=manifest["kind"],
        api_version=manifest["apiVersion"],
        namespace=namespace,
        name=manifest["metadata"]["name"],
        uid=uid,
        manifest=text,
        status=status_text,
        hash=hashlib.sha256(f"{text}\n{status_text or ''}".encode()).hexdigest(),
        created=created,
        changed=changed,
        manager=manager,
    )


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def api_version(place: str) -> str:
    """Return the API version of a list path: `v1`, or group and version."""
    parts = place.strip("/").split("/")
    return parts[1] if parts[0] == "api" else f"{parts[1]}/{parts[2]}"


def last_change(metadata: Manifest) -> tuple[datetime | None, str | None]:
    """Return when, and by which field manager, the object (not its status) was last changed according to its managed fields."""
    newest: tuple[datetime | None, str | None] = (None, None)
    for entry in metadata.get("managedFields") or []:
        at = moment(entry.get("time"))
        if at is not None and entry.get("subresource") is None and (newest[0] is None or at >= newest[0]):
            newest = (at, entry.get("manager"))
    return newest


def moment(text: Any) -> datetime | None:
    """Return an API time in UTC, or None for None. Fractions finer than a microsecond are truncated."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).astimezone(UTC)
    except ValueError:
        return None
