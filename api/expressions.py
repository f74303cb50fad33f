"""Evaluates filters with CEL expressions, in a process of its own that is killed when an expression takes too long or too much memory."""

from __future__ import annotations

import atexit
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from warehouse.errors import QueryLimitError

LENGTH = struct.Struct(">I")
"""What comes before each message to and from the process, and before each flow in one: its length."""
DECIDED, REFUSED = b"d", b"r"
"""What an answer begins with: then come a byte for each flow, 1 where it matches, or the reason of a refusal."""
SECONDS = 5.0
"""How long a batch may take; usual expressions take a tenth of a second for one."""
START_SECONDS = 60.0
BATCH = 4_096
"""Flows that are sent to the process at once."""


class Expressions:
    """One process for all calls, which take turns batch by batch; it is started on first use. May be shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def check(self, filters: bytes) -> None:
        """Raise ValueError if an encoded GetFlowsRequest has filters that cannot be applied, QueryLimitError if that takes too long."""
        self._ask(filters, b"")

    def decide(self, filters: bytes, flows: Sequence[flow_pb2.Flow]) -> list[bool]:
        """Return which flows match. Raises QueryLimitError if it takes too long or too much memory."""
        found: list[bool] = []
        for begin in range(0, len(flows), BATCH):
            encoded = (flow.SerializeToString() for flow in flows[begin : begin + BATCH])
            found += map(bool, self._ask(filters, b"".join(LENGTH.pack(len(one)) + one for one in encoded)))
        return found

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, filters: bytes, flows: bytes) -> bytes:
        with self._lock:
            try:
                connection = self._started()
                deadline = time.monotonic() + SECONDS
                for message in (filters, flows):
                    connection.settimeout(max(0.01, deadline - time.monotonic()))
                    send(connection, message)
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                answer = received(connection)
            except (OSError, EOFError) as error:
                self._end()
                reason = f"more than {SECONDS:g} s" if isinstance(error, TimeoutError) else "too much memory"
                raise QueryLimitError(f"cut off: a CEL expression takes {reason} for a few thousand flows: make it simpler") from error
        if not answer.startswith(DECIDED):
            raise ValueError(answer[1:].decode("utf-8", "replace"))
        return answer[1:]

    def _started(self) -> socket.socket:
        """Return the connection to the process, which is started if there is none."""
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._connection is None:
            self._connection, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-m", "api.expression_worker"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={},
                    cwd="/",
                    start_new_session=True,
                )
            self._connection.settimeout(START_SECONDS)
            for _ in range(2):
                send(self._connection, b"")
            received(self._connection)
        return self._connection

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._connection = self._process = None


EXPRESSIONS = Expressions()
atexit.register(EXPRESSIONS.close)


def encoded(whitelist: Iterable[flow_pb2.FlowFilter], blacklist: Iterable[flow_pb2.FlowFilter]) -> bytes | None:
    """Return the filters for `EXPRESSIONS` if one of them has CEL expressions."""
    request = observer_pb2.GetFlowsRequest(whitelist=whitelist, blacklist=blacklist)
    has = any(one.experimental.cel_expression for one in (*request.whitelist, *request.blacklist))
    return request.SerializeToString() if has else None


def received(connection: socket.socket) -> bytes:
    """Return the next message of a connection. Raises EOFError at its end."""
    return _exactly(connection, LENGTH.unpack(_exactly(connection, LENGTH.size))[0])


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        if not (part := connection.recv(min(count - len(found), 1024**2))):
            raise EOFError
        found += part
    return bytes(found)


def send(connection: socket.socket, message: bytes) -> None:
    """Send a message with its length."""
    connection.sendall(LENGTH.pack(len(message)) + message)
