"""The events that nodes report of one packet, as Hubble encodes them: traces, verdicts of policy, drops, requests.

Which packets there are, and what happens to them, is decided in collectors.simulator.traffic.
"""

from __future__ import annotations

from collections.abc import Iterator

from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.enforcement import Decision, Direction
from collectors.simulator.fleet import Pod

DROP, TRACE, POLICY_VERDICT, ACCESS_LOG = 1, 4, 5, 129  # Cilium's event types
PROXY_PORT = 14_823
L3_ONLY, L3_L4 = 1, 2
"""How a policy matched."""


def verdict(direction: Direction, decision: Decision, client: Pod, server: Pod, port: int) -> flow_pb2.Flow:
    """Return the event that tells what policy decided on a packet that opens a connection."""
    node = client.node if direction == "egress" else server.node
    flow = packet(node, client, server, port, flow_pb2.EGRESS if direction == "egress" else flow_pb2.INGRESS, False)
    flow.event_type.type = POLICY_VERDICT
    flow.Summary = "TCP Flags: SYN"
    if flow.l4.HasField("TCP"):
        flow.l4.TCP.flags.CopyFrom(flow_pb2.TCPFlags(SYN=True))
    if decision.is_allowed:
        flow.verdict = flow_pb2.REDIRECTED if decision.is_proxied else flow_pb2.FORWARDED
        flow.policy_match_type = L3_L4 if direction == "ingress" or not server.node else L3_ONLY
        if decision.is_proxied:
            flow.proxy_port = PROXY_PORT
        getattr(flow, f"{direction}_allowed_by").extend(decision.policies)
        return flow
    flow.verdict = flow_pb2.AUDIT
    getattr(flow, f"{direction}_denied_by").extend(decision.policies)
    return flow


def refused(direction: Direction, decision: Decision, client: Pod, server: Pod, port: int) -> Iterator[flow_pb2.Flow]:
    """Yield the two events of one denied packet: the verdict (5), then the drop (1)."""
    flow = verdict(direction, decision, client, server, port)
    flow.verdict = flow_pb2.DROPPED
    flow.ClearField("is_reply")
    flow.drop_reason = flow.drop_reason_desc = flow_pb2.POLICY_DENY if decision.policies else flow_pb2.POLICY_DENIED
    drop = flow_pb2.Flow()
    drop.CopyFrom(flow)
    drop.ClearField(f"{direction}_denied_by")
    drop.event_type.type, drop.event_type.sub_type = DROP, flow.drop_reason
    drop.file.CopyFrom(flow_pb2.FileInfo(name="bpf_lxc.c", line=2_063))
    yield flow
    yield drop


def make_l7(flow: flow_pb2.Flow, latency_ns: int | None) -> None:
    """Make a packet's event one that the proxy reports: of a request, or, with a latency, of the response."""
    flow.Type = flow_pb2.L7
    flow.event_type.type = ACCESS_LOG
    flow.l7.type = flow_pb2.REQUEST if latency_ns is None else flow_pb2.RESPONSE
    if latency_ns is not None:
        flow.l7.latency_ns = latency_ns
    flow.ClearField("ethernet")


def trace(node: str, client: Pod, server: Pod, port: int, direction: flow_pb2.TrafficDirection, reply: bool = False) -> flow_pb2.Flow:
    """Return the event of a packet of an open connection, on its way to a pod or to the network."""
    flow = packet(node, client, server, port, direction, reply)
    to_pod = (direction == flow_pb2.INGRESS) != reply
    flow.event_type.type = TRACE
    flow.trace_observation_point = flow_pb2.TO_ENDPOINT if to_pod else flow_pb2.TO_STACK
    flow.event_type.sub_type = 0 if to_pod else flow_pb2.TO_STACK
    flow.trace_reason = flow_pb2.REPLY if reply else flow_pb2.ESTABLISHED
    flow.interface.CopyFrom(flow_pb2.NetworkInterface(index=12, name="lxc" + client.mac.replace(":", "")))
    flow.Summary = "UDP" if server.protocol == "dns" else "TCP Flags: ACK, PSH"
    return flow


def packet(node: str, client: Pod, server: Pod, port: int, direction: flow_pb2.TrafficDirection, reply: bool) -> flow_pb2.Flow:
    """Return what every event of one packet has in common; a reply goes from the server to the client."""
    source, target = (server, client) if reply else (client, server)
    ports = (server.port, port) if reply else (port, server.port)
    flow = flow_pb2.Flow(
        verdict=flow_pb2.FORWARDED,
        ethernet=flow_pb2.Ethernet(source=source.mac, destination=target.mac),
        IP=flow_pb2.IP(source=source.ip, destination=target.ip, ipVersion=flow_pb2.IPv4),
        source=source.seen_from(node),
        destination=target.seen_from(node),
        Type=flow_pb2.L3_L4,
        node_name=node,
        reply=reply,
        traffic_direction=direction,
        node_labels=["kubernetes.io/arch=amd64", "kubernetes.io/os=linux", f"kubernetes.io/hostname={node.rpartition('/')[2]}"],
    )
    flow.emitter.CopyFrom(flow_pb2.Emitter(name="Hubble", version="1.21.0+simulated"))
    flow.is_reply.value = reply
    layer = flow.l4.UDP if server.protocol == "dns" else flow.l4.TCP
    layer.source_port, layer.destination_port = ports
    if server.protocol != "dns":
        flow.l4.TCP.flags.CopyFrom(flow_pb2.TCPFlags(ACK=True, PSH=True))
    if not reply and direction == flow_pb2.EGRESS and server.node:
        flow.destination_service.CopyFrom(flow_pb2.Service(name=server.service, namespace=server.endpoint.namespace))
    return flow
