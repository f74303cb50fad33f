"""What one caller may use, and that callers who hang do not keep others from answers."""

import socket
from pathlib import Path
from typing import Any

import grpc
import h2.connection
import pytest

from collectors.hubble_api.observer import observer_pb2
from tests.modules import load
from warehouse.access.principals import Principal

world: Any = load(Path(__file__).with_name("conftest.py"))
ALL = 2**64 - 1


def ended(call: Any) -> tuple[grpc.StatusCode, str, int]:
    """How a call ended, and how many messages came before."""
    got: list[Any] = []
    with pytest.raises(grpc.RpcError) as caught:
        got.extend(call)
    return caught.value.code(), caught.value.details(), len(got)  # type: ignore[attr-defined]


def test_more_flows_than_one_call_gets_are_cut_with_a_reason(stored: Any) -> None:
    with world.serving(stored.door(), rows=100) as client:
        code, details, count = ended(client.stream(number=ALL))
    assert (code, count) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 100)
    assert "cut after 100 flows" in details


def test_more_reading_than_one_call_gets_is_cut_with_a_reason(stored: Any) -> None:
    with world.serving(stored.door(), seconds=1e-9) as client:
        code, details, _ = ended(client.stream(number=ALL))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "of reading" in details


def test_a_user_has_only_so_many_calls_open_and_others_theirs(stored: Any) -> None:
    with world.serving(stored.door(), Principal(user="ada"), streams=2) as client:
        calls = [client.stream(follow=True) for _ in range(2)]
        for call in calls:
            call.initial_metadata()
        code, details, _ = ended(client.stream(follow=True))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "ada has 2 calls open" in details
        calls[0].cancel()
        while True:
            again = client.stream(number=1)
            try:
                list(again)
            except grpc.RpcError:
                continue  # the cancelled call is not over yet
            break


def test_a_client_that_does_not_read_is_cut_off_and_told_why(stored: Any) -> None:
    options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    with (
        world.running(lambda: world.plain_server(stored.door(), stalled_after="1s")) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel,
    ):
        call = world.Client(channel).stream(number=ALL)
        next(call)
        world.until(lambda: not server._observer._open)
        code, details, count = ended(call)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "nothing was read for 1 s" in details
    assert count < world.FLOWS - 1


def test_a_hundred_clients_that_hang_do_not_keep_another_from_its_answer(stored: Any) -> None:
    options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    with world.running(lambda: world.plain_server(stored.door(), streams=200, stalled_after="600s")) as server:
        address = f"127.0.0.1:{server.port}"
        with grpc.insecure_channel(address, options=options) as channel, grpc.insecure_channel(address) as another:
            hanging = [world.Client(channel).stream(number=300, first=True) for _ in range(100)]
            for call in hanging:
                next(call)
            assert len(world.Client(another).flows(number=5)) == 5
            for call in hanging:
                call.cancel()
        world.until(lambda: not server._observer._open)


def test_a_cancelled_call_is_over(stored: Any) -> None:
    with world.running(lambda: world.plain_server(stored.door())) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = world.Client(channel).stream(number=5, follow=True)
            next(call)
            call.cancel()
        world.until(lambda: not server._observer._open)


def test_a_call_whose_connection_is_cut_is_over_and_the_next_one_is_answered(stored: Any) -> None:
    request = observer_pb2.GetFlowsRequest(number=ALL).SerializeToString()
    with world.running(lambda: world.plain_server(stored.door())) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            http = h2.connection.H2Connection()
            http.initiate_connection()
            headers = [(":method", "POST"), (":scheme", "http"), (":path", "/observer.Observer/GetFlows"), (":authority", "x")]
            http.send_headers(1, [*headers, ("content-type", "application/grpc"), ("te", "trailers")])
            http.send_data(1, b"\0" + len(request).to_bytes(4) + request, end_stream=True)
            connection.sendall(http.data_to_send())
            world.until(lambda: server._observer._open)
            assert connection.recv(1024)
        world.until(lambda: not server._observer._open)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert len(world.Client(channel).flows(number=5)) == 5


def test_garbage_on_the_port_harms_no_one(stored: Any) -> None:
    with world.running(lambda: world.plain_server(stored.door())) as server:
        for garbage in (b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(garbage)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            broken = channel.unary_stream("/observer.Observer/GetFlows")
            assert ended(broken(b"\xff\xff\xff"))[0] is not grpc.StatusCode.OK
            assert len(world.Client(channel).flows(number=5)) == 5
