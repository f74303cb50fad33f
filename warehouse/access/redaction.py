"""What an owner sees of a row whose other side is someone else's: columns by what they tell. Pure.

A side without namespace (the world, a host) is nobody's and shown. The levels, each hiding more than the one before:
full; workload (no pod, address, labels, L7, policies of the peer); namespace (nor workload, service, identity);
hidden (nor namespace). A column that is not named here tells who knows what, and is hidden from `workload` on.
"""

from __future__ import annotations

from warehouse.schema import Table

LEVELS = ("full", "workload", "namespace", "hidden")

FROM_NAMESPACE_ON = frozenset({"workload_name", "workload_kind", "service_name", "service_namespace", "identity", "cluster_name", "entity"})
"""Of a side, without its `source_` or `destination_`: shown at `workload`, hidden from `namespace` on."""
FROM_HIDDEN_ON = frozenset({"namespace"})
SHOWN_OF_A_SIDE = frozenset({"port"})
POLICIES = {"source": ("egress_allowed_by", "egress_denied_by"), "destination": ("ingress_allowed_by", "ingress_denied_by")}
"""What decided on the traffic of a side."""
SHOWN = frozenset({
    "cluster", "date", "time", "time_ns", "uuid", "flow_type", "flow_count", "recorded_lag_ms", "clock_skew", "node_name",
    "verdict", "drop_reason", "drop_reason_desc", "traffic_direction", "is_reply", "reply", "event_type", "event_sub_type",
    "l4_protocol", "l7_type", "ip_version", "ip_encrypted", "tcp_flags", "icmp_type", "icmp_code", "trace_observation_point",
    "trace_reason", "policy_match_type", "auth_type", "ip_trace_option_type", "tunnel_protocol", "tunnel_ip_version",
    "tunnel_source_port", "tunnel_destination_port", "tunnel_vni", "sock_xlate_point", "debug_capture_point", "emitter_name",
    "emitter_version", "aggregate_ingress_flow_count", "aggregate_egress_flow_count", "aggregate_unknown_flow_count",
    "hour", "minute", "flows", "repeats", "replies", "first_seen", "last_seen", "learned_from",
})  # fmt: skip
"""Of neither side, and telling nothing of who the peer is."""
HIDDEN = frozenset({
    "summary", "rest", "policy_log", "interface_name", "interface_index", "trace_id", "ip_trace_id", "socket_cookie", "cgroup_id",
    "node_labels", "tunnel_source_ip", "tunnel_destination_ip", "proxy_port", "file_name", "file_line",
})  # fmt: skip
"""Of both sides at once, or of the machine below: an address, a URL or a socket tells who the peer is."""


def hidden_columns(table: Table, peer: str, level: str) -> frozenset[str]:
    """Columns of a table with two sides that are empty for who owns only the other side than `peer` (source or destination)."""
    if level not in LEVELS:
        raise ValueError(f"peer_detail {level!r} is none of {', '.join(LEVELS)}")
    mine = "destination" if peer == "source" else "source"
    shown = {name for name in table.schema.names if level == "full" or _is_shown(name, mine, peer, LEVELS.index(level))}
    return frozenset(table.schema.names) - shown - {*table.partition_by, table.time_column}


def _is_shown(name: str, mine: str, peer: str, step: int) -> bool:
    if name in SHOWN or name in POLICIES[mine]:
        return True
    side, _, part = name.partition("_")
    if side == mine:
        return True
    if side != peer:
        return False
    return part in SHOWN_OF_A_SIDE or (step < 2 and part in FROM_NAMESPACE_ON) or (step < 3 and part in FROM_HIDDEN_ON)
