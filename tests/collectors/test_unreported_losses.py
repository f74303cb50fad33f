"""Losses that a node had not reported yet when its stream broke, or when the collector was killed: they are declared all the same."""

import datetime as dt
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import grpc
import pytest

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.simulator.node import SimulatedNode
from collectors.streaming import stream
from collectors.streaming.collect import Collector

HISTORY, LOST, AFTER = 80, 20, 30
"""Flows that were sent before the loss, that the ring lost, and that were sent after it until the stream broke."""


class Node:
    """A node whose streams are written down: for each stream the flows it sends, then it breaks, or stays open if it is the last.

    A flow is sent only if it is not older than what the request asks for, as a ring does. The first HISTORY flows of the first
    stream come one after the other, all others at once. The first stream breaks when `may_break` is set.
    """

    def __init__(self, *streams: Sequence[flow_pb2.Flow]) -> None:
        self.streams = list(streams)
        self.opened = 0
        self.may_break = threading.Event()

    def __call__(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        since = observer_pb2.GetFlowsRequest.FromString(request).since.ToNanoseconds()
        number = min(self.opened, len(self.streams) - 1)
        self.opened += 1
        for place, flow in enumerate(self.streams[number]):
            if flow.time.ToNanoseconds() >= since:
                yield observer_pb2.GetFlowsResponse(flow=flow, node_name=flow.node_name, time=flow.time).SerializeToString()
                time.sleep(0.1 if number == 0 and place < HISTORY else 0)
        if number < len(self.streams) - 1:
            while context.is_active() and not self.may_break.wait(0.05):
                pass
            time.sleep(1)  # so that what was sent last arrives
            context.abort(grpc.StatusCode.UNAVAILABLE, "the node is stopping")
        while context.is_active():
            time.sleep(0.05)


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


@pytest.fixture
def made(flows_of: Any) -> list[flow_pb2.Flow]:
    """A flow every 100 ms, up to now: the history, what is lost, what follows, and as much again."""
    make, now = flows_of("c1/n1"), dt.datetime.now(dt.UTC)
    count = HISTORY + LOST + 2 * AFTER
    return [make(1, at=now - dt.timedelta(milliseconds=100 * (count - number)))[0] for number in range(count)]


def split(made: list[flow_pb2.Flow]) -> tuple[list[flow_pb2.Flow], ...]:
    """The history, what is lost, what follows, what comes later."""
    ends = (0, HISTORY, HISTORY + LOST, HISTORY + LOST + AFTER, len(made))
    return tuple(made[begin:end] for begin, end in itertools.pairwise(ends))


def undeclared(stand: Any, flows: Sequence[flow_pb2.Flow]) -> list[dt.datetime]:
    """The times of these flows that are neither stored nor in a gap or a loss of the ledger."""
    known, rows = set(stand.uuids()), stand.coverage("gap", "lost")
    times = [flow.time.ToDatetime(dt.UTC) for flow in flows if flow.uuid not in known]
    return [at for at in times if not any(row["from"] <= at < row["to"] for row in rows)]


def test_a_loss_that_the_node_had_not_reported_when_the_stream_broke_is_declared_if_the_ring_no_longer_holds_the_flows(
    stand: Any, serve: Any, made: list[flow_pb2.Flow]
) -> None:
    history, lost, after, later = split(made)
    node = Node(history + after, after[10:] + later)
    with stand.collecting(stand.settings(serve(node))):
        stand.wait_for_flows(HISTORY + AFTER)
        node.may_break.set()
        stand.wait_for_flows(len(made) - LOST)
    assert undeclared(stand, lost) == []
    (gap,) = stand.coverage("gap")
    assert (gap["node_name"], gap["source"], gap["flows_lost"]) == ("c1/n1", "unreported", None)
    assert history[0].time.ToDatetime(dt.UTC) < gap["from"]
    assert gap["to"] == after[10].time.ToDatetime(dt.UTC)  # what the ring still held is known to be complete


def test_a_broken_stream_is_no_gap_if_the_ring_reaches_back_to_flows_that_are_known_to_be_complete(
    stand: Any, serve: Any, made: list[flow_pb2.Flow]
) -> None:
    history, lost, after, later = split(made)
    node = Node(history + after, history + lost + after + later)
    with stand.collecting(stand.settings(serve(node))):
        stand.wait_for_flows(HISTORY + AFTER)
        node.may_break.set()
        stand.wait_for_flows(len(made))
    assert stand.coverage("gap", "lost") == []
    assert sorted(stand.uuids()) == sorted(flow.uuid for flow in made)


def test_a_second_break_does_not_make_the_time_before_the_first_one_complete(stand: Any, serve: Any, made: list[flow_pb2.Flow]) -> None:
    history, lost, after, later = split(made)
    nothing: list[flow_pb2.Flow] = []
    node = Node(history + after, nothing, after[10:20], after[15:] + later)
    with stand.collecting(stand.settings(serve(node))):
        stand.wait_for_flows(HISTORY + AFTER)
        node.may_break.set()
        stand.wait_for_flows(len(made) - LOST)
    assert undeclared(stand, lost) == []


def test_a_loss_that_the_node_had_not_reported_when_the_collector_was_killed_is_declared_by_the_next_run(
    stand: Any, serve: Any, made: list[flow_pb2.Flow]
) -> None:
    history, lost, after, later = split(made)
    before, behind = Node(history + after), Node(after[10:] + later)
    stand.settings(serve(lambda request, context: (behind if before.opened else before)(request, context)))
    collector = run(stand)
    stand.wait_for_flows(HISTORY + AFTER)
    os.kill(collector.pid, signal.SIGKILL)
    collector.communicate()
    run(stand, "--for", "6s").communicate(timeout=300)
    stand.wait_for_flows(len(made) - LOST)
    assert undeclared(stand, lost) == []


def run(stand: Any, *more: str) -> subprocess.Popen[bytes]:
    """The collector as a process of its own."""
    command = [sys.executable, "-c", "from hindcast.cli import main; main()", "collect", "--config", str(stand.folder / "hindcast.yaml")]
    return subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_flows_that_a_ring_overwrites_while_the_collector_does_not_read_are_declared_and_counted(
    stand: Any, flows_of: Any, wait: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "INBOX_MESSAGES", 100)
    go_on = threading.Event()
    go_on.set()
    receive = Collector._receive
    monkeypatch.setattr(Collector, "_receive", lambda collector: receive(collector) if go_on.is_set() else None)
    make, sent = flows_of("c1/n1"), []
    with SimulatedNode("c1/n1", capacity=255) as node:

        def send(count: int, padding: int = 0) -> None:
            for flow in make(count, Summary="x" * padding):
                node.observe(flow)
                sent.append(flow)
                time.sleep(0.001)

        with stand.collecting(stand.settings(node.address)):
            wait(lambda: send(1) or stand.uuids(), what="first flow")  # before the stream is open, the ring may overwrite what it likes
            send(300)
            stand.wait_for_flows(200)
            go_on.clear()
            send(2_500, padding=20_000)  # 50 MB do not fit into sockets and inbox: the ring overwrites flows that nobody has read
            go_on.set()
            wait(lambda: send(1) or stand.coverage("lost"), what="loss in the ledger")
    known = set(stand.uuids())
    stored = [place for place, flow in enumerate(sent) if flow.uuid in known]
    missing = [flow for flow in sent[: stored[-1]] if flow.uuid not in known]
    assert missing
    assert undeclared(stand, missing) == []
    lost = stand.coverage("lost")
    assert sum(row["flows_lost"] for row in lost) == len(missing)
