"""The stream's transport against a real gRPC server: what is refused, what is held back, and what goes through a proxy."""

import contextlib
import itertools
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest

from collectors.streaming.transport import Call
from warehouse.errors import StreamError, StreamRefusedError

METHOD = "/observer.Observer/GetFlows"


@contextlib.contextmanager
def server(answer: Callable[[bytes, Any], Iterator[bytes]]) -> Iterator[str]:
    """Answers GetFlows as told."""
    running = grpc.server(futures.ThreadPoolExecutor(4))
    handler: Any = grpc.unary_stream_rpc_method_handler(answer)
    running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("observer.Observer", {"GetFlows": handler}),))
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop(0)


def call(address: str, request: bytes = b"") -> Call:
    return Call(address, METHOD, request, credentials=None, metadata=[("x-who", "me")])


def read(call: Call) -> list[bytes]:
    return [messages[number] for messages in call for number in range(len(messages))]


def read_one(messages: Iterator[Any]) -> bytes:
    return bytes(next(messages)[0])


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, StreamRefusedError, "hubble.allow"),
        (grpc.StatusCode.UNAVAILABLE, StreamError, "went away.*100% gone: ü"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, StreamError, "RESOURCE_EXHAUSTED 100% gone: ü"),
    ],
)
@pytest.mark.parametrize("before", [0, 3])
def test_a_status_that_is_not_ok_is_raised_with_its_message_after_what_came_before(
    before: int, code: grpc.StatusCode, error: type[Exception], words: str
) -> None:
    def answer(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from [b"message"] * before
        context.abort(code, "100% gone: ü")

    got: list[int] = []
    with server(answer) as address, pytest.raises(error, match=words):
        got.extend(len(messages) for messages in call(address))
    assert sum(got) == before


def test_a_call_can_be_cancelled_from_another_thread_while_nothing_comes() -> None:
    def answer(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        time.sleep(30)

    with server(answer) as address:
        running = call(address)
        threading.Timer(0.5, running.cancel).start()
        began = time.monotonic()
        with pytest.raises(StreamError, match="CANCELLED"):
            read(running)
        assert time.monotonic() - began < 30


@pytest.mark.slow
def test_with_more_than_1024_open_files_a_call_on_which_nothing_comes_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, turns = threading.Event(), itertools.count()

    def answer(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        answered.wait(30)

    turn = Call._read

    def counted(self: Call, multi: Any) -> bool:
        next(turns)
        return turn(self, multi)

    monkeypatch.setattr(Call, "_read", counted)
    _soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        for _ in range(1_100):
            stack.enter_context(open(os.devnull))  # noqa: PTH123  # many plain descriptors, not a file to be read
        with server(answer) as address:
            first = iter(call(address))
            assert read_one(first) == b"first"
            threading.Timer(2.0, answered.set).start()
            before = next(turns)
            assert list(first) == []
            assert next(turns) - before < 20


def test_a_server_that_is_not_grpc_is_reported() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        with listener.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=hang_up, daemon=True).start()
    with listener, pytest.raises(StreamError, match="cannot be reached or went away"):
        read(call(f"127.0.0.1:{listener.getsockname()[1]}"))


def test_a_message_of_any_size_comes_whole_and_one_alone_comes_at_once() -> None:
    large = bytes(range(256)) * 40_000

    def answer(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield request
        yield dict(context.invocation_metadata())["x-who"].encode()
        yield b""
        yield large
        time.sleep(30)

    with server(answer) as address:
        running = call(address, b"asked")
        got: list[bytes] = []
        for messages in running:
            got += [messages[number] for number in range(len(messages))]
            if len(got) == 4:
                break
        assert got == [b"asked", b"me", b"", large]


@pytest.mark.slow
def test_a_server_has_to_wait_while_nothing_is_read() -> None:
    sent = itertools.count()
    last = [0]

    def answer(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        for last[0] in sent:
            yield bytes(100_000)

    with server(answer) as address:
        running = iter(call(address))
        next(running)
        most = -1
        while last[0] != most:  # until it stands
            most = last[0]
            time.sleep(1)
        assert most * 100_000 < 64 * 1024**2
        assert sum(len(messages) for messages in itertools.islice(running, 1000)) > 100  # and goes on
        running.close()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_connections_go_through_the_proxy_of_the_environment_unless_the_host_is_exempt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(403)

        def log_message(self, *_arguments: Any) -> None:
            pass

    def answer(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"through"

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with server(answer) as address:
        assert read(call(address)) == [b"through"]
        assert asked == []
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        with pytest.raises(StreamError, match="403"):
            read(call(address))
    proxy.shutdown()
    assert asked == [address]
