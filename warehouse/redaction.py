"""What an owner sees of a flow whose other side is someone else's: columns by what they tell. Pure.

A side without namespace (the world, a host) is nobody's and shown. The levels, each hiding more than the one before:
full; workload (no pod, address, labels, L7, policies of the peer); namespace (nor workload, service, identity);
hidden (nor namespace).
"""

from __future__ import annotations

from warehouse.schema import FLOWS

LEVELS = ("full", "workload", "namespace", "hidden")

_SIDE = {
    "workload": ("pod_name", "ip", "endpoint_id", "labels", "names", "mac", "xlated"),
    "namespace": ("workload_name", "workload_kind", "service_name", "service_namespace", "identity", "cluster_name"),
    "hidden": ("namespace",),
}
_POLICIES = {"source": ("egress_allowed_by", "egress_denied_by"), "destination": ("ingress_allowed_by", "ingress_denied_by")}
# Of both sides at once, or of the machine below: an address, a URL or a socket tells who the peer is.
_SHARED = (
    "summary", "rest", "policy_log", "interface_name", "interface_index", "trace_id", "ip_trace_id", "socket_cookie", "cgroup_id",
    "node_labels", "tunnel_source_ip", "tunnel_destination_ip", "proxy_port", "file_name", "file_line",
)  # fmt: skip


def hidden_columns(peer: str, level: str) -> frozenset[str]:
    """Columns of `flows` that are empty for who owns only the other side than `peer` (source or destination)."""
    if level not in LEVELS:
        raise ValueError(f"peer_detail {level!r} is none of {', '.join(LEVELS)}")
    if level == "full":
        return frozenset()
    hidden = {*_POLICIES[peer], *_SHARED}
    hidden |= {column.name for column in FLOWS.columns if column.name.startswith("l7_") and column.name != "l7_type"}
    for step in LEVELS[1 : LEVELS.index(level) + 1]:
        hidden |= {f"{peer}_{part}" for part in _SIDE[step]}
    return frozenset(column.name for column in FLOWS.columns if column.name in hidden)
