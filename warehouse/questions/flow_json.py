"""Converts a row of `flows` to the JSON that `hubble observe -o jsonpb` prints for the flow. Pure.

Empty columns are omitted, like unset fields in Hubble's output. Fields that are only in `rest` (newer than our columns) are omitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_EVENTS = {"FIN": "FIN", "SYN": "SYN", "RST": "RST", "PSH": "PSH", "ACK": "ACK", "URG": "URG", "ECE": "ECE", "CWR": "CWR", "NS": "NS"}


def flow_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flow with Hubble's field names, in the order of Hubble's message."""
    ends = {side: _end(row, side) for side in ("source", "destination")}
    flow = {
        "time": _time(row),
        "uuid": row.get("uuid"),
        "emitter": _some(name=row.get("emitter_name"), version=row.get("emitter_version")),
        "verdict": row.get("verdict"),
        "drop_reason": row.get("drop_reason"),
        "auth_type": row.get("auth_type"),
        "ethernet": _some(source=row.get("source_mac"), destination=row.get("destination_mac")),
        "IP": _some(
            source=row.get("source_ip"),
            source_xlated=row.get("source_xlated"),
            destination=row.get("destination_ip"),
            ipVersion=row.get("ip_version"),
            encrypted=row.get("ip_encrypted"),
        ),
        "l4": _l4(row),
        **ends,
        "Type": row.get("flow_type"),
        "node_name": row.get("node_name"),
        "node_labels": row.get("node_labels"),
        "source_names": row.get("source_names"),
        "destination_names": row.get("destination_names"),
        "l7": _l7(row),
        "reply": row.get("reply"),
        "event_type": _some(type=row.get("event_type"), sub_type=row.get("event_sub_type")),
        "source_service": _some(name=row.get("source_service_name"), namespace=row.get("source_service_namespace")),
        "destination_service": _some(name=row.get("destination_service_name"), namespace=row.get("destination_service_namespace")),
        "traffic_direction": row.get("traffic_direction"),
        "policy_match_type": row.get("policy_match_type"),
        "trace_observation_point": row.get("trace_observation_point"),
        "trace_reason": row.get("trace_reason"),
        "file": _some(name=row.get("file_name"), line=row.get("file_line")),
        "drop_reason_desc": row.get("drop_reason_desc"),
        "is_reply": row.get("is_reply"),
        "debug_capture_point": row.get("debug_capture_point"),
        "interface": _some(index=row.get("interface_index"), name=row.get("interface_name")),
        "proxy_port": row.get("proxy_port"),
        "trace_context": _some(parent=_some(trace_id=row.get("trace_id"))),
        "sock_xlate_point": row.get("sock_xlate_point"),
        "socket_cookie": _long(row.get("socket_cookie")),
        "cgroup_id": _long(row.get("cgroup_id")),
        "Summary": row.get("summary"),
        **{name: _policies(row.get(name)) for name in ("egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by")},
        "policy_log": row.get("policy_log"),
        "aggregate": _some(
            **{f"{name}_flow_count": _long(row.get(f"aggregate_{name}_flow_count")) for name in ("ingress", "egress")},
            unknown_direction_flow_count=_long(row.get("aggregate_unknown_flow_count")),
        ),
    }
    return _some(**flow) or {}


def _some(**fields: Any) -> dict[str, Any] | None:
    """Return the fields that are set; None if there are none."""
    return {name: value for name, value in fields.items() if value is not None and value != [] and value != ""} or None


def _long(value: int | None) -> str | None:
    """Return a 64-bit number as text, as protobuf's JSON mapping does."""
    return None if value is None else str(value)


def _time(row: Mapping[str, Any]) -> str | None:
    moment: datetime | None = row.get("time")
    if moment is None:
        return None
    nanoseconds = f"{moment.microsecond * 1000 + (row.get('time_ns') or 0):09d}"
    while nanoseconds.endswith("000"):
        nanoseconds = nanoseconds[:-3]
    return f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{nanoseconds}" if nanoseconds else "") + "Z"


def _end(row: Mapping[str, Any], side: str) -> dict[str, Any] | None:
    workload = _some(name=row.get(f"{side}_workload_name"), kind=row.get(f"{side}_workload_kind"))
    return _some(
        ID=row.get(f"{side}_endpoint_id"),
        identity=row.get(f"{side}_identity"),
        cluster_name=row.get(f"{side}_cluster_name"),
        namespace=row.get(f"{side}_namespace"),
        labels=row.get(f"{side}_labels"),
        pod_name=row.get(f"{side}_pod_name"),
        workloads=[workload] if workload else None,
    )


def _l4(row: Mapping[str, Any]) -> dict[str, Any] | None:
    protocol = row.get("l4_protocol")
    if protocol is None:
        return None
    if protocol.startswith("ICMP"):
        return {protocol: _some(type=row.get("icmp_type"), code=row.get("icmp_code")) or {}}
    flags = {_EVENTS[flag]: True for flag in (row.get("tcp_flags") or "").split(", ") if flag in _EVENTS}
    return {protocol: _some(source_port=row.get("source_port"), destination_port=row.get("destination_port"), flags=flags or None) or {}}


def _l7(row: Mapping[str, Any]) -> dict[str, Any] | None:
    def part(prefix: str, *names: str) -> dict[str, Any] | None:
        return _some(**{name: row.get(f"l7_{prefix}_{name}") for name in names})

    kafka = part("kafka", "error_code", "api_version", "api_key", "correlation_id", "topic")
    return _some(
        type=row.get("l7_type"),
        latency_ns=_long(row.get("l7_latency_ns")),
        dns=part("dns", "query", "ips", "ttl", "cnames", "observation_source", "rcode", "qtypes", "rrtypes"),
        http=part("http", "code", "method", "url", "protocol", "headers"),
        kafka=kafka,
    )


def _policies(listed: list[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    written = [_some(**{**policy, "revision": _long(policy.get("revision") or None)}) or {} for policy in listed or ()]
    return written or None
