"""Losses that a ring reports only after the collector was told to stop."""

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2


class LateReporter:
    """A node that sends a flow every 20 ms and, a second after `stopping` is set, reports flows that its ring lost."""

    def __init__(self, make: Any, source: Any = flow_pb2.HUBBLE_RING_BUFFER) -> None:
        self.stopping = threading.Event()
        self._make, self._source = make, source

    def __call__(self, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        stopped_at = None
        while context.is_active():
            time.sleep(0.02)
            yield observer_pb2.GetFlowsResponse(flow=self._make()[0], node_name="c1/n1").SerializeToString()
            if self.stopping.is_set() and stopped_at is None:
                stopped_at = time.monotonic()
            if stopped_at is not None and time.monotonic() > stopped_at + 1:
                lost = flow_pb2.LostEvent(source=self._source, num_events_lost=7)
                response = observer_pb2.GetFlowsResponse(lost_events=lost, node_name="c1/n1")
                response.time.GetCurrentTime()
                yield response.SerializeToString()
                stopped_at = float("inf")


@pytest.fixture
def serve() -> Iterator[Any]:
    """Serves GetFlows with what it is given and returns the address."""
    servers = []

    def start(answer: Any) -> str:
        server = grpc.server(futures.ThreadPoolExecutor(4))
        handler: Any = grpc.unary_stream_rpc_method_handler(answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("observer.Observer", {"GetFlows": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(0)


def test_a_loss_that_is_reported_a_second_after_the_stop_is_booked_over_the_last_flows_stored(
    stand: Any, flows_of: Any, serve: Any
) -> None:
    node = LateReporter(flows_of("c1/n1"))
    with stand.collecting(stand.settings(serve(node))):
        stand.wait_for_flows(20)
        node.stopping.set()
    (lost,) = stand.coverage("lost")
    assert (lost["node_name"], lost["source"], lost["flows_lost"]) == ("c1/n1", "HUBBLE_RING_BUFFER", 7)
    (connected,) = stand.coverage("connected")
    assert lost["from"] < connected["to"]


def test_flows_that_arrive_while_losses_are_waited_for_are_left_to_the_next_run(stand: Any, flows_of: Any, serve: Any) -> None:
    make = flows_of("c1/n1")
    with stand.collecting(stand.settings(serve(LateReporter(make)))):
        stand.wait_for_flows(20)
        began = len(make.made)
    stored = stand.uuids()
    assert set(stored) == set(make.made[: len(stored)])
    assert len(make.made) > began + 20
    assert len(stored) < len(make.made) - 10


def test_a_loss_of_another_source_that_comes_after_the_stop_is_not_booked_since_the_ring_still_holds_it(
    stand: Any, flows_of: Any, serve: Any
) -> None:
    node = LateReporter(flows_of("c1/n1"), flow_pb2.PERF_EVENT_RING_BUFFER)
    with stand.collecting(stand.settings(serve(node))):
        stand.wait_for_flows(20)
        node.stopping.set()
    assert stand.coverage("lost") == []
