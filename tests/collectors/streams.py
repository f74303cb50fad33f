"""Servers to collect from, and `hindcast collect` as a process, for the tests of the collector."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.node import ServerTLS, SimulatedNode


def observe(node: SimulatedNode, flows: list[flow_pb2.Flow]) -> None:
    """All of them readable: the newest is so only when another follows."""
    for flow in flows:
        node.observe(flow)


def tls_node(certificate: Path, key: Path, authority: Path | None = None) -> SimulatedNode:
    return SimulatedNode("c1/n1", tls=ServerTLS(certificate.read_bytes(), key.read_bytes(), authority.read_bytes() if authority else None))


class Server:
    """A gRPC server on loopback that answers GetFlows as told, or knows no method at all."""

    def __init__(
        self, answer: Callable[[bytes, grpc.ServicerContext], Iterator[bytes]] | None, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        if answer:
            handler: Any = grpc.unary_stream_rpc_method_handler(answer)
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("observer.Observer", {"GetFlows": handler}),))
        listen = "127.0.0.1:0"
        port = self._server.add_secure_port(listen, credentials) if credentials else self._server.add_insecure_port(listen)
        self.address = f"127.0.0.1:{port}"

    def __enter__(self) -> "Server":
        self._server.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.stop(0)


def process(stand: Any, *arguments: str) -> subprocess.Popen[str]:
    """`hindcast collect` in a process of its own, with the settings made last."""
    command = [sys.executable, "-c", "from hindcast.cli import main; main()", "collect", "--config", str(stand.folder / "hindcast.yaml")]
    return subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
