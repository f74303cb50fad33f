"""A lake of a few thousand simulated flows, and a real server over it."""

import asyncio
import contextlib
import datetime as dt
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest

from api import identity
from api.observer import Observer
from api.server import Server
from collectors.decoding import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from collectors.streaming.coverage_rows import coverage_row
from warehouse import config, schema
from warehouse.access.principals import OPERATOR
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door

START = dt.datetime(2026, 3, 2, 22, tzinfo=dt.UTC)
FLOWS = 3_000
RATE = 0.25
"""Flows a second and node: the flows span some hours on both sides of midnight."""
GRANTS = {"grants": [{"subject": "ada", "role": "namespace-owner", "namespaces": ["cart"]}, {"subject": "group:all", "role": "auditor"}]}


def simulated(count: int, *, seed: int = 1, start: dt.datetime = START) -> list[flow_pb2.Flow]:
    """Flows of a small fleet of one cluster, in the order of time."""
    traffic = Traffic(build_fleet(seed, ("c1",), 2), seed, start, RATE)
    flows = list(itertools.islice(traffic.flows(), count))
    return sorted(flows, key=lambda flow: flow.time.ToNanoseconds())


def store(lake: Lake, flows: list[flow_pb2.Flow], *, cluster: str = "c1") -> None:
    """Append flows as a collector does."""
    messages = [flow.SerializeToString() for flow in flows]
    rows = decode.decode(messages, cluster=cluster, recorded=dt.datetime.now(dt.UTC), live=False).rows
    lake.commit(schema.FLOWS, lake.write_files(schema.FLOWS, rows), transactions={}, metadata={})


def book(lake: Lake, *rows: dict[str, Any]) -> None:
    """Add rows to the ledger."""
    table = schema.COVERAGE
    lake.commit(table, lake.write_files(table, pa.Table.from_pylist(list(rows), schema=table.schema)), transactions={}, metadata={})


@dataclass
class Stored:
    """A lake and the flows in it, as they are after a collector removed their secrets, oldest first."""

    folder: Path
    lake: Lake
    flows: list[flow_pb2.Flow] = field(default_factory=list)

    def door(self, ownership: dict[str, Any] | None = None) -> Door:
        return Door(self.lake, config.Ownership.model_validate(ownership or GRANTS), purpose="serve")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """The lake: two files, and a ledger in which one node was not seen for a while and lost flows."""
    folder = tmp_path_factory.mktemp("served")
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    flows = simulated(FLOWS)
    store(lake, flows[::2])
    store(lake, flows[1::2])
    rebuilt = [flow_pb2.Flow.FromString(message) for message in decode.rebuild(lake.read(schema.FLOWS))]
    nodes = sorted({flow.node_name for flow in flows})
    end = flows[-1].time.ToDatetime(dt.UTC)
    hour = dt.timedelta(hours=1)
    book(
        lake,
        *(coverage_row("c1", (START, end), node, "connected", "stream", 10, None, None, end) for node in nodes[1:]),
        coverage_row("c1", (START, START + hour), nodes[0], "connected", "stream", 10, None, None, end),
        coverage_row("c1", (START + hour, START + 2 * hour), nodes[0], "gap", "node_restart", None, None, "its agent restarted", end),
        coverage_row("c1", (START + 2 * hour, end), nodes[0], "connected", "stream", 10, None, None, end),
        coverage_row("c1", (START + 3 * hour, START + 3 * hour + hour / 60), nodes[0], "lost", "HUBBLE_RING_BUFFER", None, 17, None, end),
    )
    return Stored(folder, lake, sorted(rebuilt, key=lambda flow: flow.time.ToNanoseconds()))


class Client:
    """A client of the Observer service."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def responses(self, *, metadata: Any = None, **request: Any) -> list[observer_pb2.GetFlowsResponse]:
        """Everything that GetFlows answers."""
        return list(self.stream(metadata=metadata, **request))

    def flows(self, **request: Any) -> list[flow_pb2.Flow]:
        """The flows that GetFlows answers."""
        return [one.flow for one in self.responses(**request) if one.HasField("flow")]

    def stream(self, *, metadata: Any = None, timeout: float | None = 300, **request: Any) -> Any:
        """The call itself."""
        call = self.channel.unary_stream(
            "/observer.Observer/GetFlows",
            request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
            response_deserializer=observer_pb2.GetFlowsResponse.FromString,
        )
        return call(observer_pb2.GetFlowsRequest(**request), metadata=metadata, timeout=timeout)

    def ask(self, method: str, *, metadata: Any = None) -> Any:
        """The answer to a call without arguments, such as ServerStatus."""
        return self.channel.unary_unary(
            f"/observer.Observer/{method}",
            request_serializer=getattr(observer_pb2, f"{method}Request").SerializeToString,
            response_deserializer=getattr(observer_pb2, f"{method}Response").FromString,
        )(getattr(observer_pb2, f"{method}Request")(), metadata=metadata, timeout=300)


@contextlib.contextmanager
def running(make: Callable[[], Server]) -> Iterator[Server]:
    """A server that runs in a thread with an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Server:
        server = make()
        await server.start()
        return server

    try:
        server = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def plain_server(door: Door, who: Any = OPERATOR, **limits: Any) -> Server:
    """A server without TLS that answers as one principal."""
    return Server(Observer(door, identity.Fixed(who), config.ServeLimits(**limits)), "127.0.0.1:0", None)


@contextlib.contextmanager
def serving(door: Door, who: Any = OPERATOR, **limits: Any) -> Iterator[Client]:
    """A client of such a server."""
    with running(lambda: plain_server(door, who, **limits)) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Client(channel)


@pytest.fixture(scope="module")
def client(stored: Stored) -> Iterator[Client]:
    """A client of a server that answers as the operator."""
    with serving(stored.door()) as made:
        yield made


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
