"""The words that `hubble` prints for drop reasons, where they are not simply the name of the reason. Data only.

The names are those of `DropReason` in Hubble's flow.proto; the words are those of Cilium 1.20 (`pkg/monitor/api/drop.go`), which
`hubble observe -o compact` shows.
"""

DROP_TEXTS = {
    "DROP_REASON_UNKNOWN": "Success",
    "INVALID_PACKET_DROPPED": "Invalid packet",
    "CT_TRUNCATED_OR_INVALID_HEADER": "CT: Truncated or invalid header",
    "CT_MISSING_TCP_ACK_FLAG": "Fragmentation needed",
    "CT_UNKNOWN_L4_PROTOCOL": "CT: Unknown L4 protocol",
    "CT_CANNOT_CREATE_ENTRY_FROM_PACKET": "CT: Can't create entry from packet",
    "UNSUPPORTED_L3_PROTOCOL": "Unsupported L3 protocol",
    "UNKNOWN_L4_PROTOCOL": "Unknown L4 protocol",
    "UNKNOWN_ICMPV4_CODE": "Unknown ICMPv4 code",
    "UNKNOWN_ICMPV4_TYPE": "Unknown ICMPv4 type",
    "UNKNOWN_ICMPV6_CODE": "Unknown ICMPv6 code",
    "UNKNOWN_ICMPV6_TYPE": "Unknown ICMPv6 type",
    "INVALID_GENEVE_OPTION": "Invalid Geneve option",
    "UNKNOWN_L3_TARGET_ADDRESS": "Unknown L3 target address",
    "STALE_OR_UNROUTABLE_IP": "Stale or unroutable IP",
    "ERROR_WHILE_CORRECTING_L3_CHECKSUM": "Error while correcting L3 checksum",
    "ERROR_WHILE_CORRECTING_L4_CHECKSUM": "Error while correcting L4 checksum",
    "CT_MAP_INSERTION_FAILED": "CT: Map insertion failed",
    "INVALID_IPV6_EXTENSION_HEADER": "Invalid IPv6 extension header",
    "IP_FRAGMENTATION_NOT_SUPPORTED": "IP fragmentation not supported",
    "NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT": "No tunnel/encapsulation endpoint (datapath BUG!)",
    "FAILED_TO_INSERT_INTO_PROXYMAP": "NAT 46/64 not enabled",
    "REACHED_EDT_RATE_LIMITING_DROP_HORIZON": "Reached EDT rate-limiting drop horizon",
    "UNSUPPORTED_L2_PROTOCOL": "Unsupported L2 protocol",
    "NO_MAPPING_FOR_NAT_MASQUERADE": "No mapping for NAT masquerade",
    "UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE": "Unsupported protocol for NAT masquerade",
    "FIB_LOOKUP_FAILED": "FIB lookup failed",
    "NAT_NOT_NEEDED": "NAT not needed",
    "IS_A_CLUSTERIP": "Is a ClusterIP",
    "FORBIDDEN_ICMPV6_MESSAGE": "Forbidden ICMPv6 message",
    "DENIED_BY_LB_SRC_RANGE_CHECK": "Denied by LB src range check",
    "POLICY_DENY": "Policy denied by denylist",
    "VLAN_FILTERED": "VLAN traffic disallowed by VLAN filter",
    "INVALID_VNI": "Incorrect VNI from VTEP",
    "INVALID_TC_BUFFER": "Failed to update or lookup TC buffer",
    "NO_SID": "No SID was found for the IP address",
    "MISSING_SRV6_STATE": "SRv6 state was removed during tail call",
    "NAT46": "L3 translation from IPv4 to IPv6 failed (NAT46)",
    "NAT64": "L3 translation from IPv6 to IPv4 failed (NAT64)",
    "AUTH_REQUIRED": "Authentication required",
    "CT_NO_MAP_FOUND": "No conntrack map found",
    "SNAT_NO_MAP_FOUND": "No nat map found",
    "INVALID_CLUSTER_ID": "Invalid ClusterID",
    "UNSUPPORTED_PROTOCOL_FOR_DSR_ENCAP": "Unsupported packet protocol for DSR encapsulation",
    "NO_EGRESS_GATEWAY": "No egress gateway found",
    "UNENCRYPTED_TRAFFIC": "Traffic is unencrypted",
    "TTL_EXCEEDED": "TTL exceeded",
    "NO_NODE_ID": "No node ID found",
    "DROP_RATE_LIMITED": "Rate limited",
    "IGMP_HANDLED": "IGMP handled",
    "IGMP_SUBSCRIBED": "IGMP subscribed",
    "DROP_HOST_NOT_READY": "Host datapath not ready",
    "DROP_EP_NOT_READY": "Endpoint policy program not available",
    "DROP_NO_EGRESS_IP": "No Egress IP configured",
    "DROP_PUNT_PROXY": "Punt to proxy",
    "DROP_FRAG_NOT_FOUND_WORLD": "First logical datagram fragment not found from world",
}


def drop_text(reason: str | None) -> str:
    """Return the words for a drop reason; None is that of a flow without one, which `hubble` calls a success."""
    name = reason or "DROP_REASON_UNKNOWN"
    return DROP_TEXTS.get(name) or name.replace("_", " ").capitalize()
