"""Filters match the flows that Cilium's own code matches, and are refused where it refuses them."""

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import grpc
import pytest

from api.expression_worker import expressions
from collectors.filtering.filters import compile_filters
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from tests.peers import filter_generator

pytestmark = pytest.mark.peers
NODE = "test/node-1"
FLOWS, FILTERS, EXPRESSIONS = 600, 3_000, 400


@pytest.fixture(scope="module")
def flows() -> list[flow_pb2.Flow]:
    """Flows of a small fleet, changed a little so that every field of a filter has something to match."""
    traffic = Traffic(build_fleet(3, ("c1", "c2"), 2), 3, dt.datetime(2026, 3, 2, tzinfo=dt.UTC), 5)
    made = []
    for number, flow in enumerate(itertools.islice(traffic.flows(), FLOWS)):
        flow.node_name = NODE
        if number % 5 == 0:
            flow.interface.name, flow.interface.index = f"eth{number % 3}", number % 3
        if number % 7 == 0:
            flow.ip_trace_id.trace_id = number % 4
            flow.trace_context.parent.trace_id = f"trace-{number % 5}"
        if number % 6 == 0:
            flow.IP.source_xlated, flow.IP.encrypted = "10.9.0.1", True
        if number % 4 == 0:
            flow.destination_service.name, flow.destination_service.namespace = "web", flow.destination.namespace or "shop"
            flow.source_names.append("www.example.com")
        if number % 11 == 0:
            flow.source.workloads.add(name="second", kind="StatefulSet")
        made.append(flow)
    return made


@pytest.fixture(scope="module")
def node(running: ModuleType, flows: list[flow_pb2.Flow], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A channel to a node of Cilium's code that holds the flows."""
    folder = tmp_path_factory.mktemp("node")
    last = flow_pb2.Flow(uuid="last")  # a node gives an event away only when another follows it
    last.time.CopyFrom(flows[-1].time)
    file = running.write_flows(folder / "flows", [flow.SerializeToString() for flow in [*flows, last, last]])
    with running.hubble_node(folder, name=NODE, flows=file, rate=0, more=("--keep-time",)) as peer:
        peer.wait_fed()
        with grpc.insecure_channel(peer.address) as channel:
            yield channel


def theirs(channel: grpc.Channel, wanted: flow_pb2.FlowFilter) -> set[str] | None:
    """The uuids of the flows that the node matches; None if it refuses the filter."""
    ask = channel.unary_stream(
        "/observer.Observer/GetFlows",
        request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
        response_deserializer=observer_pb2.GetFlowsResponse.FromString,
    )
    try:
        return {one.flow.uuid for one in ask(observer_pb2.GetFlowsRequest(number=2**63 - 1, whitelist=[wanted]))} - {"last", ""}
    except grpc.RpcError:
        return None


def ours(flows: list[flow_pb2.Flow], wanted: flow_pb2.FlowFilter) -> set[str] | None:
    try:
        matches = compile_filters([wanted], [], expressions=expressions)
    except ValueError:
        return None
    return {flow.uuid for flow in flows if matches(flow)}


def compare(node: Any, flows: list[flow_pb2.Flow], filters: Iterable[flow_pb2.FlowFilter], *, count: int) -> None:
    """Each of so many filters matches the same flows here and there; a fair part of them match some, and some are refused."""
    differing = []
    matched = refused = 0
    for wanted in itertools.islice(filters, count):
        one, other = theirs(node, wanted), ours(flows, wanted)
        matched += bool(one)
        refused += one is None
        if one != other:
            differing.append((str(wanted), "refused" if one is None else len(one), "refused" if other is None else len(other)))
    assert not differing, "\n".join(map(str, differing[:20]))
    assert matched > count // 4
    assert refused > count // 100


def test_filters_match_what_ciliums_own_code_matches(node: Any, flows: list[flow_pb2.Flow], ) -> None:
    make = filter_generator.filters(flows, seed=1)
    compare(node, flows, (make() for _ in itertools.count()), count=FILTERS)


def test_expressions_match_what_ciliums_own_code_matches(node: Any, flows: list[flow_pb2.Flow], ) -> None:
    make = filter_generator.expressions(flows, seed=1)
    made = (flow_pb2.FlowFilter(experimental=flow_pb2.FlowFilter.Experimental(cel_expression=make())) for _ in itertools.count())
    compare(node, flows, made, count=EXPRESSIONS)
