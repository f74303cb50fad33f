"""The simulated node beside Cilium's own: the same flows, the same requests, the same answers."""

import datetime as dt
import itertools
import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.node import SimulatedNode
from collectors.simulator.peers import Peers
from collectors.simulator.traffic import Traffic

pytestmark = pytest.mark.peers

START = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
FLOWS = 200


def traffic(node: str) -> list[flow_pb2.Flow]:
    """Seeded flows, all said to come from `node`."""
    flows = list(itertools.islice(Traffic(build_fleet(1), 1, START, 100.0).flows(), FLOWS))
    for flow in flows:
        flow.node_name = node
    return flows


def ask(address: str, request: observer_pb2.GetFlowsRequest) -> list[str]:
    """The uuids answered, or the status that refused."""
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_stream(
            "/observer.Observer/GetFlows",
            request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
            response_deserializer=observer_pb2.GetFlowsResponse.FromString,
        )
        try:
            return [response.flow.uuid for response in call(request, timeout=100) if response.HasField("flow")]
        except grpc.RpcError as error:
            return [str(error.code())]


def requests(flows: list[flow_pb2.Flow], count: int) -> list[observer_pb2.GetFlowsRequest]:
    """Requests over the flows' times and values: since, until, number, first, and filters of one or two fields."""
    chance = random.Random(7)
    made = []
    for _ in range(count):
        request = observer_pb2.GetFlowsRequest()
        if chance.random() < 0.5:
            request.since.CopyFrom(chance.choice(flows).time)
        if chance.random() < 0.4:
            request.until.CopyFrom(chance.choice(flows).time)
        if not request.HasField("since") or chance.random() < 0.3:
            request.number = chance.choice([1, 5, 50, 1000])
            request.first = chance.random() < 0.4
        for filters in (request.whitelist, request.blacklist):
            for _ in range(chance.choice([0, 0, 1, 2])):
                like = chance.choice(flows)
                filter_ = filters.add()
                for _ in range(chance.choice([1, 2])):
                    match chance.randrange(7):
                        case 0:
                            filter_.verdict.append(like.verdict)
                        case 1:
                            filter_.source_pod.append(like.source.namespace + "/")
                        case 2:
                            filter_.destination_ip.append(like.IP.destination)
                        case 3:
                            filter_.protocol.append(chance.choice(["tcp", "udp", "http", "dns"]))
                        case 4:
                            filter_.destination_port.append(str(chance.choice([80, 443, 53, 8080, 5432])))
                        case 5:
                            filter_.reply.append(chance.random() < 0.5)
                        case _:
                            filter_.destination_identity.append(like.destination.identity)
        made.append(request)
    return made


def test_generated_requests_get_the_answers_of_ciliums_node(running: ModuleType, tmp_path: Path) -> None:
    flows = traffic("test/node-1")
    running.write_flows(tmp_path / "flows", [flow.SerializeToString() for flow in flows])
    more = ["--keep-time", "--hold", "--prime", "0"]
    with SimulatedNode("test/node-1") as ours, running.hubble_node(tmp_path, flows=tmp_path / "flows", rate=0, more=more) as theirs:
        theirs.wait_fed()
        for flow in flows:
            ours.observe(flow)
        asked = requests(flows, 150)
        answers = [(ask(ours.address, request), ask(theirs.address, request)) for request in asked]
    assert sum(bool(theirs) for _, theirs in answers) > 50
    different = [(str(request), mine, real) for request, (mine, real) in zip(asked, answers, strict=True) if mine != real]
    assert not different, f"{len(different)} of {len(asked)}, the first: {different[0]}"


def test_a_real_relay_merges_two_simulated_nodes(running: ModuleType, tmp_path: Path) -> None:
    peers = Peers()
    with SimulatedNode("test/node-1", peers=peers) as first, SimulatedNode("test/node-2", peers=peers) as second:
        for node in (first, second):
            peers.put(node.name, node.address)
            for flow in traffic(node.name):
                node.observe(flow)
        with running.hubble_relay(tmp_path, peer_service=first.address, nodes=2) as relay:
            request = observer_pb2.GetFlowsRequest(number=FLOWS)
            with grpc.insecure_channel(relay.address) as channel:
                call: Any = channel.unary_stream(
                    "/observer.Observer/GetFlows",
                    request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
                    response_deserializer=observer_pb2.GetFlowsResponse.FromString,
                )
                nodes = [response.node_name for response in call(request, timeout=200) if response.HasField("flow")]
    assert {node: nodes.count(node) for node in nodes} == {"test/node-1": FLOWS - 1, "test/node-2": FLOWS - 1}


def test_the_hubble_command_reads_the_simulated_node(running: ModuleType) -> None:
    flows = traffic("test/node-1")
    with SimulatedNode("test/node-1") as node:
        for flow in flows:
            node.observe(flow)
        done = running.run_hubble(["observe", "--server", node.address, "--last", "20", "-o", "jsonpb"])
    assert done.returncode == 0, done.stderr
    uuids = [json.loads(line)["flow"]["uuid"] for line in done.stdout.splitlines() if "flow" in json.loads(line)]
    assert uuids == [flow.uuid for flow in flows][-1 - len(uuids) : -1]
    assert len(uuids) in (19, 20)
