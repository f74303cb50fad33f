"""The company's traffic as its nodes report it: calls, DNS lookups, probes, external traffic, and what policy denied.

Seeded: the same seed, fleet and start give the same flows, uuids included.
"""

from __future__ import annotations

import datetime as dt
import math
import random
import uuid
from collections.abc import Iterator

from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.fleet import AUDITED, CALLS, DENIED, Fleet, Pod
from collectors.simulator.story import CUT_OFF, DEPLOYED, Phase, Story, redeployed

DROP, TRACE, POLICY_VERDICT, ACCESS_LOG = 1, 4, 5, 129  # Cilium's event types
HOST, WORLD = 1, 2  # reserved identities
FROM_WORLD = ("192.0.2.{}", "203.0.113.{}")
PATHS = ("/v1/items", "/v1/items/42", "/v1/cart", "/v1/session", "/v1/orders", "/healthz")
CODES = (200,) * 90 + (201, 204, 301, 304, 400, 401, 404, 404, 500, 503)


def daily_factor(at: dt.datetime) -> float:
    """Return the load of the company: 0.3 at 02:00 UTC, 1.0 at 14:00, and less at weekends."""
    hour = at.hour + at.minute / 60
    busy = 0.65 + 0.35 * math.cos((hour - 14) / 12 * math.pi)
    return busy * (0.6 if at.weekday() >= 5 else 1.0)


class Traffic:
    """An endless stream of a fleet's flows from a given time on, in the order of time."""

    def __init__(self, fleet: Fleet, seed: int, start: dt.datetime, flows_per_second: float, story: Story | Phase | None = None) -> None:
        if start.tzinfo is None or flows_per_second <= 0:
            raise ValueError("traffic needs a start with a time zone and a rate above zero")
        self._fleet = fleet
        self._rate = flows_per_second
        self._start_ns = int(start.timestamp() * 1_000_000) * 1_000
        self._chance = random.Random(f"{seed}/traffic")
        self._story = story
        self._phase = Phase()

    def flows(self) -> Iterator[flow_pb2.Flow]:
        """Yield each flow with its time, uuid and node; `flows_per_second` is the rate at the busiest hour."""
        at = self._start_ns
        kinds = (self._call, self._lookup, self._probe, self._from_world, self._to_world, self._denied, self._audited)
        while True:
            kind = self._chance.choices(kinds, (60, 12, 8, 8, 5, 2, 1))[0]
            if self._story is not None:
                self._phase = self._story.phase(at)
            rate = self._rate * daily_factor(dt.datetime.fromtimestamp(at / 1e9, dt.UTC))
            for flow in kind(self._chance.choice(self._fleet.clusters)):
                at += max(1, int(self._chance.expovariate(rate) * 1e9))
                flow.time.FromNanoseconds(at)
                flow.uuid = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
                yield flow

    def _pod(self, cluster: str, service: str) -> Pod:
        pod = self._chance.choice(self._fleet.pods[cluster, service])
        return redeployed(pod) if self._phase.deployed and service == DEPLOYED else pod

    def _any_pod(self, cluster: str) -> Pod:
        return self._pod(cluster, self._chance.choice(CALLS)[0])

    def _call(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        pair = self._chance.choice(self._phase.calls)
        if self._phase.incident and pair == CUT_OFF:
            yield from self._refused(cluster, pair)
            return
        client, server = (self._pod(cluster, service) for service in pair)
        port = self._chance.randrange(32_768, 61_000)
        yield self._trace(client.node, client, server, port, flow_pb2.EGRESS)
        yield self._trace(server.node, client, server, port, flow_pb2.INGRESS)
        if server.protocol in ("http", "grpc"):
            yield from self._http(client, server, port)
        yield self._trace(server.node, client, server, port, flow_pb2.INGRESS, reply=True)

    def _http(self, client: Pod, server: Pod, port: int) -> Iterator[flow_pb2.Flow]:
        grpc = server.protocol == "grpc"
        path = f"/{server.endpoint.namespace}.v1.{server.service}/Get" if grpc else self._chance.choice(PATHS)
        http = flow_pb2.HTTP(
            method="POST" if grpc else self._chance.choice(("GET", "GET", "GET", "POST")),
            url=f"http://{server.service}.{server.endpoint.namespace}.svc:{server.port}{path}",
            protocol="HTTP/2" if grpc else "HTTP/1.1",
            headers=[flow_pb2.HTTPHeader(key="X-Request-Id", value=f"{self._chance.getrandbits(64):016x}")],
        )
        for reply in (False, True):
            flow = self._packet(server.node, client, server, port, flow_pb2.INGRESS, reply)
            self._as_l7(flow, reply)
            if reply:
                http.code = 200 if grpc else self._chance.choice(CODES)
            flow.l7.http.CopyFrom(http)
            flow.Summary = f"{http.protocol} {http.code or ''} {http.method} {http.url}".replace("  ", " ")
            yield flow

    def _lookup(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        client, resolver = self._any_pod(cluster), self._pod(cluster, "coredns")
        server = self._any_pod(cluster)
        query = f"{server.service}.{server.endpoint.namespace}.svc.cluster.local."
        port = self._chance.randrange(32_768, 61_000)
        yield self._trace(client.node, client, resolver, port, flow_pb2.EGRESS)
        for reply in (False, True):
            flow = self._packet(client.node, client, resolver, port, flow_pb2.EGRESS, reply)
            self._as_l7(flow, reply)
            flow.l7.dns.CopyFrom(flow_pb2.DNS(query=query, observation_source="proxy", qtypes=["A"]))
            if reply:
                flow.l7.dns.ips.append(server.ip)
                flow.l7.dns.rrtypes.append("A")
                flow.l7.dns.ttl = 30
            flow.Summary = f"DNS {'Answer' if reply else 'Query'} {query} A"
            yield flow

    def _probe(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        server = self._any_pod(cluster)
        flow = self._trace(server.node, server, server, self._chance.randrange(32_768, 61_000), flow_pb2.INGRESS)
        flow.source.CopyFrom(flow_pb2.Endpoint(identity=HOST, cluster_name=cluster, labels=["reserved:host"]))
        flow.IP.source = server.ip.rpartition(".")[0] + ".1"
        yield flow

    def _from_world(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        gateway = self._pod(cluster, "gateway")
        flow = self._trace(gateway.node, gateway, gateway, self._chance.randrange(1_024, 65_536), flow_pb2.INGRESS)
        flow.source.CopyFrom(flow_pb2.Endpoint(identity=WORLD, labels=["reserved:world"]))
        flow.IP.source = self._chance.choice(FROM_WORLD).format(self._chance.randrange(1, 255))
        yield flow

    def _to_world(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        outside = self._phase.outside(cluster)
        service, (name, address) = self._chance.choice(list(outside.items()))
        client = self._pod(cluster, service)
        flow = self._trace(client.node, client, client, self._chance.randrange(32_768, 61_000), flow_pb2.EGRESS)
        identity = 16_777_217 + list(outside).index(service)
        flow.destination.CopyFrom(flow_pb2.Endpoint(identity=identity, labels=[f"fqdn:{name}", "reserved:world"]))
        flow.IP.destination = address
        flow.l4.TCP.destination_port = 443
        flow.destination_names.append(name)
        yield flow

    def _verdict(self, cluster: str, pair: tuple[str, str], verdict: flow_pb2.Verdict) -> flow_pb2.Flow:
        client, server = (self._pod(cluster, service) for service in pair)
        flow = self._packet(server.node, client, server, self._chance.randrange(32_768, 61_000), flow_pb2.INGRESS, False)
        flow.verdict = verdict
        flow.event_type.type = POLICY_VERDICT
        flow.l4.TCP.flags.CopyFrom(flow_pb2.TCPFlags(SYN=True))
        return flow

    def _denied(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        yield from self._refused(cluster, self._chance.choice(DENIED))

    def _refused(self, cluster: str, pair: tuple[str, str]) -> Iterator[flow_pb2.Flow]:
        """Yield the two events of one denied packet: the verdict (5), then the drop (1)."""
        flow = self._verdict(cluster, pair, flow_pb2.DROPPED)
        flow.ClearField("is_reply")
        flow.drop_reason = flow.drop_reason_desc = flow_pb2.POLICY_DENIED
        flow.Summary = "TCP Flags: SYN"
        drop = flow_pb2.Flow()
        drop.CopyFrom(flow)
        drop.event_type.type, drop.event_type.sub_type = DROP, flow_pb2.POLICY_DENIED
        drop.file.CopyFrom(flow_pb2.FileInfo(name="bpf_lxc.c", line=2_063))
        yield flow
        yield drop

    def _audited(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        yield self._verdict(cluster, self._chance.choice(AUDITED), flow_pb2.AUDIT)

    def _as_l7(self, flow: flow_pb2.Flow, reply: bool) -> None:
        flow.Type = flow_pb2.L7
        flow.event_type.type = ACCESS_LOG
        flow.l7.type = flow_pb2.RESPONSE if reply else flow_pb2.REQUEST
        if reply:
            flow.l7.latency_ns = int(self._chance.lognormvariate(15, 1))
        flow.ClearField("ethernet")

    def _trace(
        self, node: str, client: Pod, server: Pod, port: int, direction: flow_pb2.TrafficDirection, reply: bool = False
    ) -> flow_pb2.Flow:
        flow = self._packet(node, client, server, port, direction, reply)
        to_pod = (direction == flow_pb2.INGRESS) != reply
        flow.event_type.type = TRACE
        flow.trace_observation_point = flow_pb2.TO_ENDPOINT if to_pod else flow_pb2.TO_STACK
        flow.event_type.sub_type = 0 if to_pod else flow_pb2.TO_STACK
        flow.trace_reason = flow_pb2.REPLY if reply else flow_pb2.ESTABLISHED
        flow.interface.CopyFrom(flow_pb2.NetworkInterface(index=12, name="lxc" + client.mac.replace(":", "")))
        flow.Summary = "UDP" if server.protocol == "dns" else "TCP Flags: ACK, PSH"
        return flow

    def _packet(self, node: str, client: Pod, server: Pod, port: int, direction: flow_pb2.TrafficDirection, reply: bool) -> flow_pb2.Flow:
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
        if not reply and direction == flow_pb2.EGRESS:
            flow.destination_service.CopyFrom(flow_pb2.Service(name=server.service, namespace=server.endpoint.namespace))
        return flow
