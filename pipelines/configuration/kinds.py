"""The kinds of configuration history: where they are read, which table they go to, and what of an object is kept.

Pure. Kept is what the user decided, not what the API server manages; never a Secret, and of pods and pod templates no
environment, command or volume, since those hold secrets, too.
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

from pipelines.objects.names import Key
from warehouse.errors import ConfigError
from warehouse.schema import CLUSTER_SETTINGS, NAMESPACES, POLICY_VERSIONS, ROLE_BINDINGS, SERVICES, WORKLOADS, Table

Manifest = dict[str, Any]

_CILIUM, _RBAC, _NETWORK_API = ("cilium.io",), ("rbac.authorization.k8s.io",), ("policy.networking.k8s.io",)
_ADMISSION = "admissionregistration.k8s.io"

CILIUM_NAMESPACE = "kube-system"
CILIUM_CONFIG = "cilium-config"
CILIUM_DAEMONSET = "cilium"
POD_LABELS = "PodLabels"
CILIUM_AGENTS = "CiliumAgents"
CLUSTER_VERSION = "ClusterVersion"
MANIFEST_FILE = "ManifestFile"
"""A file of a folder of manifests, by its path, with the keys of the objects that stand in it."""

_SERVER_MANAGED_ANNOTATIONS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "control-plane.alpha.kubernetes.io/leader",
)
POD_OWN_LABELS = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "batch.kubernetes.io/job-name",
        "controller-revision-hash",
        "controller-uid",
        "job-name",
        "pod-template-generation",
        "pod-template-hash",
        "statefulset.kubernetes.io/pod-name",
    }
)
"""Labels that each pod or each rollout has for itself. Cilium leaves them out of identities by default (job names it keeps)."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """An object as it was seen, reduced to what is kept.

    `changed` and `manager` are what its managed fields say of its last change; `created` is its creation. Null where the
    source does not say.
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
        """What names the object in its cluster, now and later."""
        return Key(self.kind, self.namespace, self.name)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind that is read. `places` are the paths of its list, the best first: the first one the cluster has is read."""

    name: str
    table: Table
    places: tuple[str, ...]
    namespaced: bool = True
    keep: Callable[[Manifest], Manifest | None]
    """What of an object is kept as its manifest; None for objects that are not kept."""
    keep_status: Callable[[Manifest], Any] = lambda _item: None
    groups: tuple[str, ...] = ()
    """API groups a manifest of this kind may be of; the empty text is the core group."""
    query: Mapping[str, str] | None = None
    """Selectors of the list."""
    applies: bool = True
    """Whether the manifest is whole, so that kubectl can apply it."""

    @property
    def is_optional(self) -> bool:
        """Whether a cluster may well be without this kind: it is installed, or newer than some clusters."""
        return bool({*_CILIUM, *_NETWORK_API, _ADMISSION} & set(self.groups))

    @property
    def resource(self) -> tuple[str, str]:
        """API group and plural, as audit events name it."""
        parts = self.places[0].strip("/").split("/")
        return ("" if parts[0] == "api" else parts[1]), parts[-1]


def _whole(item: Manifest) -> Manifest:
    """All of the object but what the API server manages."""
    metadata = item.get("metadata") or {}
    kept = {name: metadata[name] for name in ("name", "namespace", "labels") if metadata.get(name)}
    annotations = {name: value for name, value in (metadata.get("annotations") or {}).items() if name not in _SERVER_MANAGED_ANNOTATIONS}
    if annotations:
        kept["annotations"] = annotations
    rest = {name: value for name, value in item.items() if name not in ("apiVersion", "kind", "metadata", "status")}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": kept, **rest}


def _namespace(item: Manifest) -> Manifest:
    kept = _whole(item)
    kept.pop("spec", None)  # finalizers, which the API server sets
    return kept


def _binding(item: Manifest) -> Manifest | None:
    """Bindings that name people; Kubernetes' own and those of service accounts alone give no one a namespace."""
    labels = (item.get("metadata") or {}).get("labels") or {}
    people = [subject for subject in item.get("subjects") or [] if subject.get("kind") in ("User", "Group")]
    return _whole(item) if people and labels.get("kubernetes.io/bootstrapping") != "rbac-defaults" else None


def pod_traits(spec: Manifest) -> Manifest:
    """What policies can tell pods apart by, beside labels."""
    ports = [
        {name: port[name] for name in ("name", "containerPort", "protocol") if name in port}
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        for port in container.get("ports") or []
        if port.get("name")
    ]
    kept: Manifest = {"serviceAccountName": spec.get("serviceAccountName") or "default"}
    if spec.get("hostNetwork"):
        kept["hostNetwork"] = True
    if ports:
        kept["ports"] = sorted(ports, key=lambda port: json.dumps(port, sort_keys=True))
    return kept


def _workload(item: Manifest) -> Manifest | None:
    """Selector and what its pods will have. Replicas are left out: autoscalers change them all day."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    if any(owner.get("controller") for owner in metadata.get("ownerReferences") or []):
        return None  # the owner is what people know
    template = ((spec.get("jobTemplate") or {}).get("spec") or spec).get("template") or {}
    labels = {name: value for name, value in ((template.get("metadata") or {}).get("labels") or {}).items() if name not in POD_OWN_LABELS}
    kept = _whole({**item, "metadata": {**metadata, "annotations": None}})
    for name in set(kept) - {"apiVersion", "kind", "metadata"}:
        del kept[name]
    selector = spec.get("selector") if "jobTemplate" not in spec and item["kind"] != "Job" else None
    kept["spec"] = {
        **({"selector": selector} if selector else {}),
        "template": {"metadata": {"labels": labels}, "spec": pod_traits(template.get("spec") or {})},
    }
    return kept


def _node(item: Manifest) -> Manifest:
    """Labels alone: by these nodes are selected."""
    kept = _whole({**item, "metadata": {**item["metadata"], "annotations": None}})
    kept.pop("spec", None)
    return kept


def _conditions(item: Manifest) -> Any:
    """The conditions of a policy, without the times at which they were looked at."""
    conditions = (item.get("status") or {}).get("conditions") or []
    kept = [{name: each[name] for name in ("type", "status", "reason", "message") if each.get(name)} for each in conditions]
    return {"conditions": sorted(kept, key=lambda each: str(each.get("type")))} if kept else None


def _policy(name: str, *places: str, namespaced: bool, groups: tuple[str, ...]) -> Kind:
    return Kind(name=name, table=POLICY_VERSIONS, places=places, namespaced=namespaced, keep=_whole, keep_status=_conditions, groups=groups)


def _controller(name: str, plural: str, group: str = "apps") -> Kind:
    return Kind(name=name, table=WORKLOADS, places=(f"/apis/{group}/v1/{plural}",), keep=_workload, groups=(group,), applies=False)


def _published(item: Manifest) -> Manifest | None:
    """Admission policies are the cluster's own matter, but for those that guard what Hindcast published."""
    labels = (item.get("metadata") or {}).get("labels") or {}
    return _whole(item) if labels.get(_PUBLISHED[0]) == _PUBLISHED[1] else None


def _admission(name: str, plural: str) -> Kind:
    return Kind(
        name=name,
        table=POLICY_VERSIONS,
        places=(f"/apis/{_ADMISSION}/v1/{plural}",),
        namespaced=False,
        keep=_published,
        groups=(_ADMISSION,),
        query={"labelSelector": "=".join(_PUBLISHED)},
    )


_PUBLISHED = ("app.kubernetes.io/managed-by", "hindcast")

KINDS: tuple[Kind, ...] = (
    Kind(name="Namespace", table=NAMESPACES, places=("/api/v1/namespaces",), namespaced=False, keep=_namespace, groups=("",)),
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
    Kind(name="Node", table=WORKLOADS, places=("/api/v1/nodes",), namespaced=False, keep=_node, groups=("",), applies=False),
    Kind(name="Service", table=SERVICES, places=("/api/v1/services",), keep=_whole, groups=("",)),
    Kind(name="RoleBinding", table=ROLE_BINDINGS, places=("/apis/rbac.authorization.k8s.io/v1/rolebindings",), keep=_binding, groups=_RBAC),
    Kind(
        name="ClusterRoleBinding",
        table=ROLE_BINDINGS,
        places=("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",),
        namespaced=False,
        keep=_binding,
        groups=_RBAC,
    ),
    Kind(
        name="ConfigMap",
        table=CLUSTER_SETTINGS,
        # Only this one is read, and the rights to read it are for this one.
        places=(f"/api/v1/namespaces/{CILIUM_NAMESPACE}/configmaps",),
        keep=lambda item: _whole(item) if item["metadata"].get("name") == CILIUM_CONFIG else None,
        groups=("",),
        query={"fieldSelector": f"metadata.name={CILIUM_CONFIG}"},
    ),
)
"""The kinds whose objects are kept one by one, in the order they are read."""

PODS = Kind(name="Pod", table=WORKLOADS, places=("/api/v1/pods",), keep=lambda _item: None, groups=("",), applies=False)
"""Pods are not kept one by one: see PodLabels in `pipelines.configuration.pods`."""

DERIVED: dict[str, Table] = {
    POD_LABELS: WORKLOADS,
    CILIUM_AGENTS: CLUSTER_SETTINGS,
    CLUSTER_VERSION: CLUSTER_SETTINGS,
    MANIFEST_FILE: CLUSTER_SETTINGS,
}
"""Hindcast's own kinds, made from what several objects, the API server or a folder of manifests say."""

TABLE_OF: dict[str, Table] = {**{kind.name: kind.table for kind in KINDS}, **DERIVED}
"""The table that has a kind's versions."""

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
    """The kind that people mean: by its name, its plural or its short name, in any case. Raises ConfigError with the nearest."""
    names = {name.lower(): name for name in TABLE_OF}
    plurals = {kind.resource[1]: kind.name for kind in KINDS}
    known = {**_SHORT, **plurals, **names}
    if text.lower() in known:
        return known[text.lower()]
    close = difflib.get_close_matches(text.lower(), known, n=1)
    raise ConfigError(
        f"no kind {text!r} is recorded" + (f"; did you mean {known[close[0]]}?" if close else f"; there are {', '.join(sorted(TABLE_OF))}")
    )


def tables_of(names: Iterable[str]) -> list[Table]:
    """The tables that hold versions of these kinds, each once."""
    return list({TABLE_OF[name].name: TABLE_OF[name] for name in names}.values())


def observe(kind: Kind, item: Manifest) -> Observed | None:
    """The object reduced to what is kept; None if it is not kept. Lists of the API leave `kind` and `apiVersion` out of items."""
    item = {**item, "kind": kind.name, "apiVersion": item.get("apiVersion") or api_version(kind.places[0])}
    kept = kind.keep(item)
    if kept is None:
        return None
    metadata = item["metadata"]
    changed, manager = last_change(metadata)
    return observed(
        kept,
        namespace=namespace_of(kind, metadata),
        uid=metadata.get("uid"),
        status=kind.keep_status(item),
        created=moment(metadata.get("creationTimestamp")),
        changed=changed,
        manager=manager,
    )


def namespace_of(kind: Kind, metadata: Manifest) -> str | None:
    """The namespace an object belongs to; None for one of the whole cluster. A Namespace belongs to itself, so its owners see it."""
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
    """An Observed of a manifest that is already reduced."""
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
    """JSON with sorted keys and no spaces: equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def api_version(place: str) -> str:
    """The API version of a list's path: `v1`, or group and version."""
    parts = place.strip("/").split("/")
    return parts[1] if parts[0] == "api" else f"{parts[1]}/{parts[2]}"


def last_change(metadata: Manifest) -> tuple[datetime | None, str | None]:
    """When, and by which field manager, the object (not its status) was changed last, as far as its managed fields tell."""
    newest: tuple[datetime | None, str | None] = (None, None)
    for entry in metadata.get("managedFields") or []:
        at = moment(entry.get("time"))
        if at is not None and entry.get("subresource") is None and (newest[0] is None or at >= newest[0]):
            newest = (at, entry.get("manager"))
    return newest


def moment(text: Any) -> datetime | None:
    """A time of the API, in UTC; None for none. Fractions finer than a microsecond are cut."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).astimezone(UTC)
    except ValueError:
        return None
