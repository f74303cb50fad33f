"""The table `flows`: a flattened Hubble flow, with the Hubble field that each column holds. No I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Column, Table, column, partition_columns

POLICIES = pa.list_(
    pa.struct(
        [
            pa.field("name", pa.string()),
            pa.field("namespace", pa.string()),
            pa.field("labels", STRINGS),
            pa.field("revision", pa.int64()),
            pa.field("kind", pa.string()),
        ]
    )
)
HEADERS = pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.string())]))


def _end(side: str) -> list[Column]:
    """Return the columns about one side of a flow that are rarely useful for pruning; `side` is source or destination."""
    return [
        column(
            f"{side}_workload_kind",
            pa.string(),
            f"Kind of the {side} workload, e.g. Deployment; local endpoints only",
            f"{side}.workloads[0].kind",
        ),
        column(f"{side}_endpoint_id", pa.int32(), f"Cilium endpoint id of the {side}, local endpoints only", f"{side}.ID"),
        column(f"{side}_cluster_name", pa.string(), f"Cluster of the {side} as its agent names it (cluster mesh)", f"{side}.cluster_name"),
        column(f"{side}_labels", STRINGS, f"Security labels of the {side}, with their source prefix (k8s:, reserved:)", f"{side}.labels"),
        column(f"{side}_names", STRINGS, f"DNS names the agent had seen resolve to the {side} address", f"{side}_names"),
        column(f"{side}_service_name", pa.string(), f"Kubernetes Service of the {side} address", f"{side}_service.name"),
        column(f"{side}_service_namespace", pa.string(), f"Namespace of that Service ({side})", f"{side}_service.namespace"),
        column(f"{side}_mac", pa.string(), f"Ethernet address of the {side}", f"ethernet.{side}"),
    ]


_S, _I, _L, _B = pa.string(), pa.int32(), pa.int64(), pa.bool_()

# Columns used for pruning come first: the log has statistics of the first few only.
_PRUNING = [
    column("time", TIMESTAMP, "When the agent received the flow", "time"),
    column("source_namespace", _S, "Kubernetes namespace of the source; null outside the cluster", "source.namespace"),
    column("destination_namespace", _S, "Kubernetes namespace of the destination; null outside the cluster", "destination.namespace"),
    column(
        "verdict",
        _S,
        "FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED, TRACED, TRANSLATED or VERDICT_UNKNOWN; a number if newer than this version",
        "verdict",
    ),
    column("drop_reason_desc", _S, "Why it was dropped, e.g. POLICY_DENIED; null for other verdicts and for L7 drops", "drop_reason_desc"),
    column("traffic_direction", _S, "INGRESS or EGRESS, seen from the endpoint; null if unknown", "traffic_direction"),
    column(
        "is_reply", _B, "True for a reply, false for a request, null where Hubble does not know (drops, encapsulated traffic)", "is_reply"
    ),
    column("source_workload_name", _S, "Name of the source workload; local endpoints only", "source.workloads[0].name"),
    column("destination_workload_name", _S, "Name of the destination workload; local endpoints only", "destination.workloads[0].name"),
    column("source_pod_name", _S, "Pod of the source", "source.pod_name"),
    column("destination_pod_name", _S, "Pod of the destination", "destination.pod_name"),
    column("source_ip", _S, "Source address", "IP.source"),
    column("destination_ip", _S, "Destination address", "IP.destination"),
    column("l4_protocol", _S, "TCP, UDP, ICMPv4, ICMPv6 or SCTP; null for others (stored in rest)", "l4"),
    column("source_port", _I, "Source port of TCP, UDP or SCTP", "l4.*.source_port"),
    column("destination_port", _I, "Destination port of TCP, UDP or SCTP", "l4.*.destination_port"),
    column("source_identity", _I, "Security identity of the source (1 host, 2 world, ...)", "source.identity"),
    column("destination_identity", _I, "Security identity of the destination", "destination.identity"),
    column(
        "node_name", _S, "Node that saw the flow, as cluster/node; without prefix when the agent's cluster is called default", "node_name"
    ),
    column("event_type", _I, "Cilium's monitor event: 1 drop, 4 trace, 5 policy verdict, 129 L7, ...", "event_type.type"),
    column("event_sub_type", _I, "Sub-type of the event: drop reason or trace point", "event_type.sub_type"),
    column("l7_type", _S, "REQUEST, RESPONSE or SAMPLE; null without L7", "l7.type"),
    column("flow_count", _L, "Number of flows this row represents: 1, or the sum of the counts of an aggregate", unit="flows"),
    column("recorded_lag_ms", _L, "How long after `time` the lake learned of the flow; time + lag is the recorded time", unit="ms"),
    column("clock_skew", _B, "True if `time` was more than an hour ahead of, or a day behind, the collector's clock; null otherwise"),
]

_DETAILS = [
    column("time_ns", pa.int16(), "Nanoseconds of the time beyond the microseconds in `time`, 0 to 999", "time", "ns"),
    column("uuid", _S, "Hubble's id of the flow on its node; null before Cilium 1.12 and in aggregates", "uuid"),
    column("flow_type", _S, "L3_L4, L7 or SOCK", "Type"),
    *_end("source"),
    *_end("destination"),
    column("source_xlated", _S, "Source address after SNAT", "IP.source_xlated"),
    column("ip_version", _S, "IPv4 or IPv6", "IP.ipVersion"),
    column("ip_encrypted", _B, "True if the packet was encrypted by WireGuard or IPsec; null otherwise", "IP.encrypted"),
    column(
        "tcp_flags",
        _S,
        "TCP flags that are set, in the order FIN SYN RST PSH ACK URG ECE CWR NS, separated by a comma and a space",
        "l4.TCP.flags",
    ),
    column("icmp_type", _I, "ICMP or ICMPv6 type; null for 0, which is echo reply in ICMP", "l4.ICMP*.type"),
    column("icmp_code", _I, "ICMP or ICMPv6 code; null for 0", "l4.ICMP*.code"),
    column("l7_latency_ns", _L, "Time from request to response", "l7.latency_ns", "ns"),
    column("l7_http_code", _I, "HTTP status of a response", "l7.http.code"),
    column("l7_http_method", _S, "HTTP method", "l7.http.method"),
    column("l7_http_url", _S, "HTTP URL", "l7.http.url"),
    column("l7_http_protocol", _S, "HTTP version, e.g. HTTP/1.1", "l7.http.protocol"),
    column("l7_http_headers", HEADERS, "HTTP headers the proxy was told to keep", "l7.http.headers"),
    column("l7_dns_query", _S, "DNS name asked for, with its final dot", "l7.dns.query"),
    column("l7_dns_ips", STRINGS, "Addresses in the DNS answer", "l7.dns.ips"),
    column("l7_dns_ttl", _L, "Time to live of the DNS answer; agents send 4294967295 where there is none", "l7.dns.ttl", "s"),
    column("l7_dns_cnames", STRINGS, "Canonical names in the DNS answer", "l7.dns.cnames"),
    column("l7_dns_observation_source", _S, "Who saw the DNS message: proxy or agent", "l7.dns.observation_source"),
    column("l7_dns_rcode", _I, "DNS response code; null for 0, NOERROR", "l7.dns.rcode"),
    column("l7_dns_qtypes", STRINGS, "DNS question types", "l7.dns.qtypes"),
    column("l7_dns_rrtypes", STRINGS, "DNS record types in the answer", "l7.dns.rrtypes"),
    column("l7_kafka_error_code", _I, "Kafka error code (agents before 2026-07)", "l7.kafka.error_code"),
    column("l7_kafka_api_version", _I, "Kafka API version", "l7.kafka.api_version"),
    column("l7_kafka_api_key", _S, "Kafka API, e.g. produce", "l7.kafka.api_key"),
    column("l7_kafka_correlation_id", _I, "Kafka correlation id", "l7.kafka.correlation_id"),
    column("l7_kafka_topic", _S, "Kafka topic", "l7.kafka.topic"),
    column("node_labels", STRINGS, "Labels of the node", "node_labels"),
    column("interface_name", _S, "Network interface", "interface.name"),
    column("interface_index", _I, "Index of the network interface", "interface.index"),
    column("trace_observation_point", _S, "Where in the datapath it was seen, e.g. TO_ENDPOINT", "trace_observation_point"),
    column("trace_reason", _S, "Why it was traced, e.g. NEW, ESTABLISHED, REPLY", "trace_reason"),
    column(
        "policy_match_type", _I, "How the policy matched: 1 L3, 2 L3L4, 3 L4, 4 all, 5 L3Proto, 6 Proto; null for none", "policy_match_type"
    ),
    column("egress_allowed_by", POLICIES, "Policies that allowed it on egress (policy verdicts only)", "egress_allowed_by"),
    column("ingress_allowed_by", POLICIES, "Policies that allowed it on ingress (policy verdicts only)", "ingress_allowed_by"),
    column("egress_denied_by", POLICIES, "Policies that denied it on egress (policy verdicts only)", "egress_denied_by"),
    column("ingress_denied_by", POLICIES, "Policies that denied it on ingress (policy verdicts only)", "ingress_denied_by"),
    column("policy_log", STRINGS, "Log texts of the matching policies", "policy_log"),
    column("auth_type", _S, "Mutual authentication: SPIRE or TEST_ALWAYS_FAIL; null when disabled", "auth_type"),
    column("proxy_port", _I, "Port of the proxy it was redirected to", "proxy_port"),
    column("trace_id", _S, "Trace id from the request's trace context", "trace_context.parent.trace_id"),
    column("ip_trace_id", _L, "Trace id from an IP option", "ip_trace_id.trace_id"),
    column("ip_trace_option_type", _I, "Type of the IP option that held it", "ip_trace_id.ip_option_type"),
    column("tunnel_protocol", _S, "VXLAN or GENEVE of the underlay", "tunnel.protocol"),
    column("tunnel_source_ip", _S, "Source address of the underlay", "tunnel.IP.source"),
    column("tunnel_destination_ip", _S, "Destination address of the underlay", "tunnel.IP.destination"),
    column("tunnel_ip_version", _S, "IPv4 or IPv6 of the underlay", "tunnel.IP.ipVersion"),
    column("tunnel_source_port", _I, "UDP source port of the underlay", "tunnel.l4.UDP.source_port"),
    column("tunnel_destination_port", _I, "UDP destination port of the underlay", "tunnel.l4.UDP.destination_port"),
    column("tunnel_vni", _I, "Virtual network identifier of the tunnel", "tunnel.vni"),
    column("file_name", _S, "Datapath source file that dropped it", "file.name"),
    column("file_line", _I, "Line in that file", "file.line"),
    column("sock_xlate_point", _S, "Where a socket event was taken, e.g. SOCK_XLATE_POINT_PRE_DIRECTION_FWD", "sock_xlate_point"),
    column("socket_cookie", _L, "Cookie of the socket (socket events)", "socket_cookie"),
    column("cgroup_id", _L, "Control group of the socket (socket events)", "cgroup_id"),
    column("debug_capture_point", _S, "Where a debug capture was taken", "debug_capture_point"),
    column("emitter_name", _S, "Program that emitted the flow", "emitter.name"),
    column("emitter_version", _S, "Version of that program", "emitter.version"),
    column("aggregate_ingress_flow_count", _L, "Flows aggregated, ingress", "aggregate.ingress_flow_count", "flows"),
    column("aggregate_egress_flow_count", _L, "Flows aggregated, egress", "aggregate.egress_flow_count", "flows"),
    column("aggregate_unknown_flow_count", _L, "Flows aggregated, direction unknown", "aggregate.unknown_direction_flow_count", "flows"),
    column("drop_reason", _I, "Drop reason as a number (deprecated by Cilium, still sent)", "drop_reason"),
    column("reply", _B, "True for a reply (deprecated by Cilium, still sent); null otherwise", "reply"),
    column("summary", _S, "One line about the flow (deprecated by Cilium, still sent)", "Summary"),
    column("rest", pa.binary(), "Protobuf fields of the flow that have no column, so that nothing is lost; null for nearly every flow"),
]

FLOWS = Table(
    name="flows",
    doc="One row per Hubble flow, flattened. A zero, empty text or false that Hubble did not send is null here.",
    columns=(*partition_columns(), *_PRUNING, *_DETAILS),
    partition_by=("cluster", "date"),
    statistics_columns=4,  # a quiet fleet commits small files often, and the order of rows lets no other column exclude a file
    recorded='"time" + to_milliseconds(coalesce(recorded_lag_ms, 0))',
)
