"""The canonical form of a Kubernetes object: the server's fields are removed, the defaults of its kind are filled in.

Two manifests with the same canonical form mean the same. Supported kinds: NetworkPolicy, Cilium's policies and CIDR groups,
the admin policies, Namespace, ValidatingAdmissionPolicy and its binding. Objects of any other kind are left without
defaults. It does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Manifest = dict[str, Any]
"""A Kubernetes object as JSON: apiVersion, kind, metadata and the rest."""

SERVER_METADATA = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "deletionGracePeriodSeconds", "generateName"}
)
"""Metadata that the API server writes, whatever was applied."""

CILIUM_POLICIES = frozenset({"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"})
CILIUM_RULES = ("ingress", "ingressDeny", "egress", "egressDeny")
_ADMIN_POLICIES = frozenset({"AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"})


@dataclass(frozen=True)
class Body:
    """All of an object except metadata and status, in canonical form. Shared by equal objects: do not modify it."""

    value: Mapping[str, Any]
    text: str
    """The same as JSON with sorted keys: bodies with equal text mean the same."""


def canonical(manifest: Manifest) -> Manifest:
    """Return the object without the server's fields and with the defaults of its kind. Parts are shared: do not modify it."""
    return {**canonical_body(manifest).value, "metadata": canonical_metadata(manifest)}


def canonical_body(manifest: Manifest) -> Body:
    """Return the object without metadata and status. Fleets repeat objects, so the result for each distinct one is cached."""
    return _body(as_text({key: value for key, value in manifest.items() if key not in {"status", "metadata"} and value is not None}))


def canonical_metadata(manifest: Manifest) -> dict[str, Any]:
    """Return the metadata without the server's fields."""
    given = manifest.get("metadata")
    metadata = {key: _without_nulls(value) for key, value in given.items() if key not in SERVER_METADATA} if isinstance(given, dict) else {}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    labels = metadata.get("labels", {})
    if manifest.get("kind") == "Namespace" and isinstance(labels, dict) and "name" in metadata:
        metadata["labels"] = labels | {"kubernetes.io/metadata.name": metadata["name"]}  # the server adds it
    return metadata


def as_text(value: Any) -> str:
    """Return JSON with sorted keys; keys that are not strings, which JSON does not have, are converted."""
    try:
        return json.dumps(value, sort_keys=True, default=str)
    except TypeError:
        return json.dumps(json.loads(json.dumps(value, default=str)), sort_keys=True)


@lru_cache(maxsize=50_000)
def _body(text: str) -> Body:
    body: Manifest = _without_nulls(json.loads(text))
    fill = _DEFAULTS.get(str(body.get("kind")))
    body = fill(body) if fill else body
    return Body(value=body, text=as_text(body))


_SETS_ALONE = frozenset(
    {"Service", "RoleBinding", "ClusterRoleBinding", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "PodLabels"}
)
"""Other recorded kinds; the recorded part has only lists whose order has no meaning."""


def unordered(kind: str, path: tuple[str, ...]) -> bool:
    """Return whether the order of the list at `path` (keys, without indexes) has no meaning in this kind.

    Lists in policies are sets: of peers, ports, or-ed rules. The exceptions are the rules of admin policies, where the first
    match wins, and variables of admission policies, which may refer to earlier ones.
    """
    if path[:1] in {("metadata",), ("status",)} or kind in _SETS_ALONE:
        return True
    if kind in _ADMIN_POLICIES:
        return path not in {("spec", "ingress"), ("spec", "egress")}
    if kind == "ValidatingAdmissionPolicy":
        return path != ("spec", "variables")
    return kind in _DEFAULTS


def _without_nulls(value: Any) -> Any:
    """Treat null as an absent field, and empty parts of a label selector as absent ones."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None and not _empty_selector_part(key, child)}
    if isinstance(value, list):
        return [_without_nulls(child) for child in value]
    return value


def _empty_selector_part(key: str, value: Any) -> bool:
    return (key == "matchLabels" and value == {}) or (key == "matchExpressions" and value == [])


def _dicts(value: Any) -> Iterable[dict[str, Any]]:
    """Return the mappings of a list; a malformed value has none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _spec(manifest: Manifest) -> dict[str, Any]:
    spec = manifest.get("spec")
    return spec if isinstance(spec, dict) else {}


def _network_policy(manifest: Manifest) -> Manifest:
    """NetworkPolicy is stored as protobuf: empty lists disappear, ports default to TCP, policyTypes follow from the rules."""
    manifest = _without_empty_lists(manifest)
    spec = manifest.setdefault("spec", {})
    if not isinstance(spec, dict):
        return manifest
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for rule in (*_dicts(spec.get("ingress")), *_dicts(spec.get("egress"))):
        for port in _dicts(rule.get("ports")):
            port.setdefault("protocol", "TCP")
    return manifest


def _without_empty_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty_lists(child) for key, child in value.items() if child != []}
    if isinstance(value, list):
        return [_without_empty_lists(child) for child in value]
    return value


def _cilium_policy(manifest: Manifest) -> Manifest:
    """A custom resource: the server stores what was written. The defaults are those of the schema and the agent."""
    if manifest.get("specs") == [] and "spec" in manifest:
        del manifest["specs"]
    for rule in (*_dicts([manifest.get("spec")]), *_dicts(manifest.get("specs"))):
        fill_cilium_rule(rule)
    return manifest


def fill_cilium_rule(rule: dict[str, Any]) -> None:
    """Fill in what the agent assumes for a rule: any protocol, IPv4, and a default deny in each direction that has rules."""
    given = [name for name in CILIUM_RULES if rule.get(name)]
    for name in CILIUM_RULES:
        # Without any rule the agent refuses the policy, so an empty list must differ from no list; otherwise it means nothing.
        if given and rule.get(name) == []:
            del rule[name]
        for entry in _dicts(rule.get(name)):
            for to_ports in _dicts(entry.get("toPorts")):
                for port in _dicts(to_ports.get("ports")):
                    if not port.get("protocol"):
                        port["protocol"] = "ANY"
            for icmp in _dicts(entry.get("icmps")):
                for field in _dicts(icmp.get("fields")):
                    field.setdefault("family", "IPv4")
    default_deny = rule.get("enableDefaultDeny", {})
    if isinstance(default_deny, dict):
        implied = {name: any(rule.get(part) for part in (name, f"{name}Deny")) for name in ("ingress", "egress")}
        rule["enableDefaultDeny"] = implied | default_deny


def _namespace(manifest: Manifest) -> Manifest:
    """Remove the finalizer that the server adds."""
    spec = manifest.setdefault("spec", {})
    if isinstance(spec, dict):
        spec.setdefault("finalizers", ["kubernetes"])
    return manifest


def _admission_policy(manifest: Manifest) -> Manifest:
    spec = _spec(manifest)
    if manifest.get("kind") == "ValidatingAdmissionPolicy" and spec:
        spec.setdefault("failurePolicy", "Fail")
    for name in ("matchConstraints", "matchResources"):
        match = spec.get(name)
        if isinstance(match, dict):
            match.setdefault("matchPolicy", "Equivalent")
            match.setdefault("namespaceSelector", {})
            match.setdefault("objectSelector", {})
            for rule in (*_dicts(match.get("resourceRules")), *_dicts(match.get("excludeResourceRules"))):
                rule.setdefault("scope", "*")
    return manifest


def _as_written(manifest: Manifest) -> Manifest:
    return manifest


_DEFAULTS: dict[str, Callable[[Manifest], Manifest]] = {
    "NetworkPolicy": _network_policy,
    "CiliumNetworkPolicy": _cilium_policy,
    "CiliumClusterwideNetworkPolicy": _cilium_policy,
    "CiliumCIDRGroup": _as_written,
    "AdminNetworkPolicy": _as_written,
    "BaselineAdminNetworkPolicy": _as_written,
    "ClusterNetworkPolicy": _as_written,
    "Namespace": _namespace,
    "ValidatingAdmissionPolicy": _admission_policy,
    "ValidatingAdmissionPolicyBinding": _admission_policy,
}
