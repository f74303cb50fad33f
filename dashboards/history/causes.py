"""Which policies decide on a pod's traffic, and the filters that find what a policy denied by default. Pure.

Hubble names a policy only where a rule matched. A drop by default deny names none: it is the work of all policies that
select the pod in that direction, so they are found here by their selectors. Judging whole connections is not done here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dashboards.history.changes import Change
from warehouse.questions.conditions import Condition, Side

Direction = Literal["ingress", "egress"]
SIDES: dict[Direction, Side] = {"ingress": "destination", "egress": "source"}
"""The end of a flow whose policies decide in a direction."""
_NAMESPACE = "io.kubernetes.pod.namespace"


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The pods that one rule set of a policy isolates in a direction."""

    direction: Direction
    namespace: str | None
    """None for pods of any namespace."""
    selector: Mapping[str, Any]

    def selects(self, namespace: str | None, labels: Mapping[str, str]) -> bool:
        """Whether a pod with these labels (without their source, such as `k8s:`) is among them."""
        return self.namespace in (None, namespace) and all(_fulfils(labels, part) for part in _requirements(self.selector))

    def conditions(self) -> list[Condition] | None:
        """The filter that finds what these pods were denied; None where filters cannot express the selector."""
        side = SIDES[self.direction]
        found = [Condition(field="ns", operator="=", values=(self.namespace,), side=side)] if self.namespace else []
        for key, operator, values in _requirements(self.selector):
            if any("," in value for value in values):
                return None
            match operator:
                case "In" | "NotIn":
                    sign = "=" if operator == "In" else "!="
                    found.append(Condition(field="label", operator=sign, values=tuple(f"{key}={value}" for value in values), side=side))
                case "Exists" | "DoesNotExist":
                    sign = "~" if operator == "Exists" else "!~"
                    pattern = f"(^|\n)k8s:{key.replace('.', '[.]')}="
                    found.append(Condition(field="label", operator=sign, values=(pattern,), side=side))
                case _:
                    return None
        return [*found, Condition(field="direction", operator="=", values=(self.direction.upper(),))]


def reaches(version: Mapping[str, Any]) -> list[Reach]:
    """What a version of a NetworkPolicy, CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy isolates; nothing for other kinds."""
    manifest = json.loads(version["manifest"] or "{}")
    match version["kind"]:
        case "NetworkPolicy":
            spec = manifest.get("spec") or {}
            types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
            return [
                Reach(direction=direction, namespace=version["namespace"], selector=spec.get("podSelector") or {})
                for direction in SIDES
                if direction.capitalize() in types
            ]
        case "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy":
            specs = [manifest.get("spec"), *(manifest.get("specs") or [])]
            return [reach for spec in specs if spec for reach in _of_cilium(spec, version["namespace"])]
    return []


def _of_cilium(spec: Mapping[str, Any], namespace: str | None) -> list[Reach]:
    if "endpointSelector" not in spec:  # a policy of nodes, whose flows belong to no namespace
        return []
    closed = spec.get("enableDefaultDeny") or {}
    return [
        Reach(direction=direction, namespace=namespace, selector=spec["endpointSelector"] or {})
        for direction in SIDES
        if closed.get(direction, spec.get(direction) is not None or spec.get(f"{direction}Deny") is not None)
    ]


def _requirements(selector: Mapping[str, Any]) -> list[tuple[str, str, tuple[str, ...]]]:
    """A selector's conditions as (label, operator, values); the namespace's pseudo label is left out."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    found += [(_key(key), "In", (str(value),)) for key, value in (selector.get("matchLabels") or {}).items()]
    found += [
        (_key(part["key"]), part["operator"], tuple(map(str, part.get("values") or ()))) for part in selector.get("matchExpressions") or ()
    ]
    return [part for part in found if part[0] != _NAMESPACE]


def _key(key: str) -> str:
    """A label's name without the source that Cilium writes before it (`k8s:app`, `any:app`)."""
    source, colon, rest = key.partition(":")
    return rest if colon and source in ("k8s", "any") else key


def _fulfils(labels: Mapping[str, str], requirement: tuple[str, str, tuple[str, ...]]) -> bool:
    key, operator, values = requirement
    match operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def labels_of(written: Iterable[str] | None) -> dict[str, str]:
    """Labels as flows hold them (`k8s:app=web`) -> names and values."""
    pairs = (label.removeprefix("k8s:").partition("=") for label in written or () if label.startswith("k8s:"))
    return {name: value for name, _, value in pairs}


def directions(flow: Mapping[str, Any]) -> tuple[Direction, ...]:
    """The directions in which policies may have decided on a flow."""
    match flow.get("traffic_direction"):
        case "INGRESS":
            return ("ingress",)
        case "EGRESS":
            return ("egress",)
    return ("egress", "ingress")


def deciding(flow: Mapping[str, Any], versions: Iterable[Mapping[str, Any]]) -> list[tuple[Direction, Mapping[str, Any]]]:
    """The versions, of those in force at a flow's time, that select the end they decide for, with the direction."""
    found: list[tuple[Direction, Mapping[str, Any]]] = []
    for version in versions:
        if version["cluster"] != flow["cluster"]:
            continue
        for direction in directions(flow):
            side = SIDES[direction]
            namespace, labels = flow.get(f"{side}_namespace"), labels_of(flow.get(f"{side}_labels"))
            if namespace and any(reach.direction == direction and reach.selects(namespace, labels) for reach in reaches(version)):
                found.append((direction, version))
    return found


def last_change(flow: Mapping[str, Any], changes: Sequence[Change]) -> Change | None:
    """The newest of changes (newest first) before a flow, in what decides on it; a deleted version counts as it was."""
    for change in changes:
        here = [{**version, "cluster": flow["cluster"]} for version in (change.after, change.before) if version]
        if change.at <= flow["time"] and flow["cluster"] in change.clusters and deciding(flow, here):
            return change
    return None


def last_change_at_edge(
    source: str, destination: str, clusters: Sequence[str], first_denied: Any, changes: Sequence[Change]
) -> Change | None:
    """The newest of changes (newest first) before an edge's first denial, to a policy about either end's namespace."""
    for change in changes:
        if change.at > first_denied or not set(clusters) & set(change.clusters):
            continue
        versions = [version for version in (change.after, change.before) if version]
        for reach in (reach for version in versions for reach in reaches(version)):
            end = destination if reach.direction == "ingress" else source
            if reach.namespace in (None, end):
                return change
    return None
