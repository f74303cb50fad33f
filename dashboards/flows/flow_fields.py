"""The fields of one flow as groups with the names people use, and which of them are hidden since they are not the principal's. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dashboards.flows import flow_rows
from warehouse.access import redaction
from warehouse.schema import FLOWS

HIDDEN = "hidden: not yours"
_SIDE = {
    "namespace": "Namespace", "workload_name": "Workload", "workload_kind": "Workload kind", "pod_name": "Pod", "ip": "Address",
    "port": "Port", "service_name": "Service", "names": "DNS names", "identity": "Identity", "labels": "Labels",
    "cluster_name": "Cluster", "mac": "MAC address",
}  # fmt: skip
_DECISION = {
    "verdict": "Verdict", "drop_reason_desc": "Drop reason", "traffic_direction": "Direction", "is_reply": "Reply",
    "l4_protocol": "Protocol", "tcp_flags": "TCP flags", "egress_allowed_by": "Egress allowed by",
    "ingress_allowed_by": "Ingress allowed by", "egress_denied_by": "Egress denied by", "ingress_denied_by": "Ingress denied by",
}  # fmt: skip
_WHERE = {"time": "Time", "cluster": "Cluster", "node_name": "Node", "uuid": "UUID"}
_WORDS = {"l7": "L7", "http": "HTTP", "url": "URL", "dns": "DNS", "ip": "IP", "icmp": "ICMP", "ns": "ns", "id": "id"}
_LEFT_OUT = ("rest", "date", "time_ns")


def groups(flow: Mapping[str, Any], owns: Callable[[str], bool], peer_detail: str) -> dict[str, dict[str, str]]:
    """The fields by group, each by its name; what is empty is left out, what is hidden of a foreign side says so."""
    hidden = _hidden(flow, owns, peer_detail)
    found: dict[str, dict[str, str]] = {"Decision": _named(flow, _DECISION, hidden), "Where and when": _named(flow, _WHERE, hidden)}
    known = {*_DECISION, *_WHERE, *_LEFT_OUT}
    for side in ("source", "destination"):
        names = {f"{side}_{part}": label for part, label in _SIDE.items()}
        known |= names.keys()
        found[side.capitalize()] = _named(flow, names, hidden)
    layer7 = {name: label(name.removeprefix("l7_")) for name in flow if name.startswith("l7_")}
    found["Application (L7)"] = _named(flow, layer7, hidden)
    rest = {name: label(name) for name in flow if name not in known and name not in layer7}
    found["More"] = _named(flow, rest, frozenset())
    return {name: fields for name, fields in found.items() if fields}


def label(name: str) -> str:
    """A column's name for people: `destination_service_namespace` -> `Destination service namespace`."""
    words = [_WORDS.get(word, word) for word in name.split("_")]
    return words[0][:1].upper() + words[0][1:] + "".join(f" {word}" for word in words[1:])


def _named(flow: Mapping[str, Any], names: Mapping[str, str], hidden: frozenset[str]) -> dict[str, str]:
    found = {}
    for name, shown in names.items():
        if flow.get(name) not in (None, [], ""):
            found[shown] = flow_rows.plain(flow[name])
        elif name in hidden:
            found[shown] = HIDDEN
    return found


def _hidden(flow: Mapping[str, Any], owns: Callable[[str], bool], peer_detail: str) -> frozenset[str]:
    """The columns that are empty because one side is someone else's; of what has no namespace nothing is known to be hidden."""
    sides: Sequence[str] = ("source", "destination")
    foreign = [side for side in sides if flow.get(f"{side}_namespace") and not owns(flow[f"{side}_namespace"])]
    if len(foreign) != 1:
        return frozenset()
    return redaction.hidden_columns(FLOWS, foreign[0], peer_detail)
