"""Flows as lines of text, in the compact form that `hubble observe` prints."""

from __future__ import annotations

from typing import Any

from hindcast.drop_texts import drop_text

COLUMNS = (
    "time", "uuid", "cluster", "node_name", "verdict", "drop_reason_desc", "is_reply", "event_type", "event_sub_type",
    "trace_observation_point", "l7_dns_observation_source",
    "l4_protocol", "summary", "l7_type", "policy_match_type", "traffic_direction", "sock_xlate_point", "debug_capture_point", "auth_type",
    "source_namespace", "source_pod_name", "source_ip", "source_port", "source_identity", "source_labels", "source_names",
    "source_service_name", "source_service_namespace",
    "destination_namespace", "destination_pod_name", "destination_ip", "destination_port", "destination_identity", "destination_labels",
    "destination_names", "destination_service_name", "destination_service_namespace", "tcp_flags", "icmp_type", "icmp_code",
)  # fmt: skip
"""The columns of `flows` that are needed to print a line."""

_POLICY_VERDICT = 5
_MATCHES = {1: "L3-Only", 2: "L3-L4", 3: "L4-Only", 4: "all", 5: "L3-Proto", 6: "Proto-Only"}
_RESERVED = "reserved:"


def line(flow: dict[str, Any]) -> str:
    """Return the line for one flow, a row of `flows`, without a line break. Times are UTC."""
    ends = [_end(flow, "source"), _end(flow, "destination")]
    arrow = "->"
    if flow["is_reply"] is None:
        arrow = "<>"
    elif flow["is_reply"]:
        ends.reverse()
        arrow = "<-"
    time = flow["time"]
    stamp = f"{time:%b} {time.day:>2} {time:%H:%M:%S}.{time.microsecond // 1000:03}"
    return f"{stamp}: {ends[0]} {arrow} {ends[1]} {_kind(flow)} {_verdict(flow)} ({flow['summary'] or ''})"


def _verdict(flow: dict[str, Any]) -> str:
    """Return the verdict; for a policy verdict event, the policy's decision."""
    verdict: str = flow["verdict"]
    if flow["event_type"] != _POLICY_VERDICT:
        return verdict
    return {"DROPPED": "DENIED", "AUDIT": "AUDITED", "FORWARDED": "ALLOWED", "REDIRECTED": "ALLOWED"}.get(verdict, verdict)


def _end(flow: dict[str, Any], side: str) -> str:
    """Return a side as pod, service, DNS name or address, with its port and identity."""
    namespace, pod, service = (flow[f"{side}_{part}"] for part in ("namespace", "pod_name", "service_name"))
    names = flow[f"{side}_names"]
    if pod:
        name = f"{namespace}/{pod}" if namespace else pod
    elif service:
        name = f"{flow[f'{side}_service_namespace']}/{service}"
    elif names:
        name = ",".join(names)
    else:
        name = flow[f"{side}_ip"] or (f"{namespace}/?" if namespace else "?")
    port = flow[f"{side}_port"]
    if port and flow["l4_protocol"] in ("TCP", "UDP", "SCTP"):
        name = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return f"{name} {_identity(flow[f'{side}_identity'], flow[f'{side}_labels'])}".rstrip()


def _identity(identity: int | None, labels: list[str] | None) -> str:
    if identity is None:
        return "(unknown)" if labels is None else ""
    reserved = [label.removeprefix(_RESERVED) for label in labels or () if label.startswith(_RESERVED)]
    if identity < 256 and reserved:
        return f"({','.join(reserved)})"
    return f"(ID:{identity})"


def _kind(flow: dict[str, Any]) -> str:
    """Return the kind of the event."""
    match flow["event_type"]:
        case 129:  # an L7 record
            protocol = (flow["summary"] or "").split(" ")[0].lower()
            kind = "dns" if protocol == "dns" else "kafka" if protocol == "kafka" else "http"
            return f"{kind}-{(flow['l7_type'] or '').lower()} {flow['l7_dns_observation_source'] or ''}".rstrip()
        case 4:  # a trace point
            return (flow["trace_observation_point"] or "").lower().replace("_", "-")
        case 1:  # a drop
            return drop_text(flow["drop_reason_desc"])
        case 5:  # a policy verdict
            return f"policy-verdict:{_MATCHES.get(flow['policy_match_type'], 'none')} {flow['traffic_direction'] or ''}".strip()
        case 3:  # a debug capture
            return (flow["debug_capture_point"] or "").lower().replace("_", "-")
        case 7:  # a translated socket
            return (flow["sock_xlate_point"] or "").removeprefix("SOCK_XLATE_POINT_").lower().replace("_", "-")
        case _:
            return "UNKNOWN"
