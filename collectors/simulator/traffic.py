"""The company's traffic as its nodes report it: calls, DNS lookups, probes, external traffic, and attempts that nothing allows.

What happens to each connection is up to the policies in force (collectors.simulator.enforcement), not decided here.
Seeded: the same seed, fleet and start give the same flows, uuids included.
"""

from __future__ import annotations

import datetime as dt
import math
import random
import uuid
from collections.abc import Iterator, Sequence

from collectors.hubble_api.flow import flow_pb2
from collectors.simulator import packets, policies
from collectors.simulator.enforcement import Decision, Direction, Enforcement
from collectors.simulator.fleet import AUDITED, BLOCKED_HOST, CALLS, DENIED, IN_AUDIT_MODE, Fleet, Pod
from collectors.simulator.story import DEPLOYED, Phase, Story, redeployed

HOST, WORLD = 1, 2  # reserved identities
FIRST_LOCAL_IDENTITY = 16_777_217
"""Cilium numbers the identities of addresses with a name from here on, each node for itself."""
NEW_CONNECTIONS = 0.15
"""Share of the calls whose beginning is seen, with the verdict of policy; the others are packets of open connections."""
FROM_WORLD = ("192.0.2.{}", "203.0.113.{}")
EPHEMERAL_PORTS = (32_768, 61_000)
LOOKED_UP = 0.3
"""Share of the connections to the internet before which the host's name is looked up."""
PATHS = ("/v1/items", "/v1/items/42", "/v1/cart", "/v1/session", "/v1/orders", "/healthz")
CODES = (200,) * 90 + (201, 204, 301, 304, 400, 401, 404, 404, 500, 503)


def daily_factor(at: dt.datetime) -> float:
    """Return the load of the company: 0.3 at 02:00 UTC, 1.0 at 14:00, and less at weekends."""
    hour = at.hour + at.minute / 60
    busy = 0.65 + 0.35 * math.cos((hour - 14) / 12 * math.pi)
    return busy * (0.6 if at.weekday() >= 5 else 1.0)


class Traffic:
    """An endless stream of a fleet's flows from a given time on, in the order of time."""

    def __init__(
        self,
        fleet: Fleet,
        seed: int,
        start: dt.datetime,
        flows_per_second: float,
        story: Story | Phase | None = None,
        *,
        clusters: Sequence[str] | None = None,
    ) -> None:
        """Prepare the traffic of a fleet, or of some of its clusters."""
        if start.tzinfo is None or flows_per_second <= 0:
            raise ValueError("traffic needs a start with a time zone and a rate above zero")
        self._fleet = fleet
        self._rate = flows_per_second
        self._start_ns = int(start.timestamp() * 1_000_000) * 1_000
        self._chance = random.Random(f"{seed}/traffic")
        self._story = story
        self._phase = Phase()
        self._clusters = tuple(clusters or fleet.clusters)
        self._enforcements: dict[tuple[str, Phase], Enforcement] = {}

    def flows(self) -> Iterator[flow_pb2.Flow]:
        """Yield each flow with its time, uuid and node; `flows_per_second` is the rate at the busiest hour."""
        at = self._start_ns
        kinds = (self._call, self._lookup, self._probe, self._from_world, self._to_world, self._attempt, self._attempt_in_audit)
        while True:
            kind = self._chance.choices(kinds, (60, 12, 8, 8, 5, 2, 1))[0]
            if self._story is not None:
                self._phase = self._story.phase(at)
            rate = self._rate * daily_factor(dt.datetime.fromtimestamp(at / 1e9, dt.UTC))
            for flow in kind(self._chance.choice(self._clusters)):
                at += max(1, int(self._chance.expovariate(rate) * 1e9))
                flow.time.FromNanoseconds(at)
                flow.uuid = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
                yield flow

    def _pod(self, cluster: str, service: str) -> Pod:
        pod = self._chance.choice(self._fleet.pods[cluster, service])
        return redeployed(pod) if self._phase.deployed and service == DEPLOYED else pod

    def _any_pod(self, cluster: str) -> Pod:
        return self._pod(cluster, self._chance.choice(CALLS)[0])

    def _enforcement(self, cluster: str) -> Enforcement:
        key = (cluster, self._phase)
        if key not in self._enforcements:
            found = policies.in_force(self._fleet, *key)
            self._enforcements[key] = Enforcement(found, policies.cilium_settings(self._fleet, *key))
        return self._enforcements[key]

    def _decide(self, cluster: str, direction: Direction, client: Pod, server: Pod) -> Decision:
        ends = (client.endpoint, server.endpoint) if direction == "egress" else (server.endpoint, client.endpoint)
        protocol = "UDP" if server.protocol == "dns" else "TCP"
        return self._enforcement(cluster).decide(direction, *ends, port=server.port, protocol=protocol)

    def _connection(
        self, cluster: str, client: Pod, server: Pod, port: int, *, begins: bool = True
    ) -> tuple[list[flow_pb2.Flow], dict[Direction, Decision]]:
        """Return what policy has nodes report of a new connection, and its decisions, unless it keeps the connection from opening.

        A connection whose beginning is not seen has nothing reported, unless it is denied.
        """
        reported: list[flow_pb2.Flow] = []
        found: dict[Direction, Decision] = {}
        ends: tuple[tuple[Direction, Pod], ...] = (("egress", client), ("ingress", server))
        for direction, end in ends:
            if not end.node:
                continue  # outside of the cluster
            decision = found[direction] = self._decide(cluster, direction, client, server)
            if not decision.is_allowed and end.service not in IN_AUDIT_MODE:
                return [*reported, *packets.refused(direction, decision, client, server, port)], {}
            if begins or not decision.is_allowed:
                reported.append(packets.verdict(direction, decision, client, server, port))
        return reported, found

    def _call(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        client, server = (self._pod(cluster, service) for service in self._chance.choice(self._phase.calls))
        port = self._chance.randrange(*EPHEMERAL_PORTS)
        begins = self._chance.random() < NEW_CONNECTIONS
        reported, decisions = self._connection(cluster, client, server, port, begins=begins)
        yield from reported
        if not decisions:
            return
        yield packets.trace(client.node, client, server, port, flow_pb2.EGRESS)
        yield packets.trace(server.node, client, server, port, flow_pb2.INGRESS)
        if decisions["ingress"].is_proxied:
            yield from self._http(client, server, port)
        yield packets.trace(server.node, client, server, port, flow_pb2.INGRESS, reply=True)

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
            flow = packets.packet(server.node, client, server, port, flow_pb2.INGRESS, reply)
            packets.make_l7(flow, int(self._chance.lognormvariate(15, 1)) if reply else None)
            if reply:
                http.code = 200 if grpc else self._chance.choice(CODES)
            flow.l7.http.CopyFrom(http)
            flow.Summary = f"{http.protocol} {http.code or ''} {http.method} {http.url}".replace("  ", " ")
            yield flow

    def _lookup(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        server = self._any_pod(cluster)
        name = f"{server.service}.{server.endpoint.namespace}.svc.cluster.local."
        yield from self._resolve(cluster, self._any_pod(cluster), name, server.ip)

    def _resolve(self, cluster: str, client: Pod, name: str, address: str) -> Iterator[flow_pb2.Flow]:
        resolver, port = self._pod(cluster, policies.RESOLVER), self._chance.randrange(*EPHEMERAL_PORTS)
        reported, decisions = self._connection(cluster, client, resolver, port, begins=False)
        yield from reported
        if not decisions:
            return
        yield packets.trace(client.node, client, resolver, port, flow_pb2.EGRESS)
        if not decisions["egress"].is_proxied:
            return
        for reply in (False, True):
            flow = packets.packet(client.node, client, resolver, port, flow_pb2.EGRESS, reply)
            packets.make_l7(flow, int(self._chance.lognormvariate(15, 1)) if reply else None)
            flow.l7.dns.CopyFrom(flow_pb2.DNS(query=name, observation_source="proxy", qtypes=["A"]))
            if reply:
                flow.l7.dns.ips.append(address)
                flow.l7.dns.rrtypes.append("A")
                flow.l7.dns.ttl = 30
            flow.Summary = f"DNS {'Answer' if reply else 'Query'} {name} A"
            yield flow

    def _probe(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        server = self._any_pod(cluster)
        endpoint = flow_pb2.Endpoint(identity=HOST, cluster_name=cluster, labels=["reserved:host"])
        host = Pod("host", "", 0, "", server.ip.rpartition(".")[0] + ".1", server.mac, endpoint)
        yield from self._arriving(cluster, host, server)

    def _from_world(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        gateway = self._pod(cluster, policies.GATEWAY)
        address = self._chance.choice(FROM_WORLD).format(self._chance.randrange(1, 255))
        endpoint = flow_pb2.Endpoint(identity=WORLD, labels=["reserved:world"])
        yield from self._arriving(cluster, Pod("world", "", 0, "", address, gateway.mac, endpoint), gateway)

    def _arriving(self, cluster: str, client: Pod, server: Pod) -> Iterator[flow_pb2.Flow]:
        """Yield what comes to a pod from what is not a pod."""
        port = self._chance.randrange(*EPHEMERAL_PORTS)
        reported, decisions = self._connection(cluster, client, server, port, begins=False)
        yield from reported
        if decisions:
            yield packets.trace(server.node, client, server, port, flow_pb2.INGRESS)

    def _to_world(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        outside = self._phase.outside(drifted=self._fleet.drifts(cluster))
        service = self._chance.choice(list(outside))
        labels = [f"fqdn:{outside[service][0]}", "reserved:world"]
        identity = FIRST_LOCAL_IDENTITY + list(outside).index(service)
        yield from self._leaving(cluster, service, outside[service], flow_pb2.Endpoint(identity=identity, labels=labels))

    def _leaving(self, cluster: str, service: str, host: tuple[str, str], endpoint: flow_pb2.Endpoint) -> Iterator[flow_pb2.Flow]:
        """Yield the lookup of a host on the internet, and what goes there."""
        client, (name, address) = self._pod(cluster, service), host
        if self._chance.random() < LOOKED_UP:
            yield from self._resolve(cluster, client, f"{name}.", address)
        port, server = self._chance.randrange(*EPHEMERAL_PORTS), Pod(name, "https", 443, "", address, client.mac, endpoint)
        reported, decisions = self._connection(cluster, client, server, port, begins=self._chance.random() < NEW_CONNECTIONS)
        sent = [*reported, *([packets.trace(client.node, client, server, port, flow_pb2.EGRESS)] if decisions else [])]
        for flow in sent:
            flow.destination_names.append(name)
            yield flow

    def _attempt(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        """Yield an attempt that nobody expects to succeed."""
        which = self._chance.randrange(len(DENIED) + 1)
        if which < len(DENIED):
            yield from self._reaching(cluster, *DENIED[which])
        else:
            yield from self._leaving(cluster, *BLOCKED_HOST, flow_pb2.Endpoint(identity=WORLD, labels=["reserved:world"]))

    def _attempt_in_audit(self, cluster: str) -> Iterator[flow_pb2.Flow]:
        yield from self._reaching(cluster, *self._chance.choice(AUDITED))

    def _reaching(self, cluster: str, caller: str, called: str) -> Iterator[flow_pb2.Flow]:
        """Yield what policy has nodes report of an attempt to reach a service."""
        client, server = self._pod(cluster, caller), self._pod(cluster, called)
        decision = self._decide(cluster, "ingress", client, server)
        port = self._chance.randrange(*EPHEMERAL_PORTS)
        if decision.is_allowed:
            raise ValueError(f"the company's policies allow {caller} to reach {called}, which is to be an attempt that they deny")
        yield from self._connection(cluster, client, server, port, begins=False)[0]
