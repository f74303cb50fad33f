"""One Hubble address: its stream of flows as raw bytes, its nodes' states, and our credentials for it.

Besides the simulator, the only module that imports grpc, which requests states; flows use a connection of their own
(collectors/streaming/transport.py). When to connect, and how to process the answers, does not belong here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import grpc
from google.protobuf import json_format

from collectors.hubble_api.observer import observer_pb2
from collectors.hubble_api.relay import relay_pb2
from collectors.streaming.failures import explain
from collectors.streaming.transport import Call, Credentials
from warehouse import config
from warehouse.errors import ConfigError, StreamError

OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # Hubble's servers do not cap what they send
    ("grpc.keepalive_time_ms", 360_000),  # servers close connections that are pinged more often than every 5 minutes
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, with the certificates of now
    ("grpc.enable_retries", 0),
)
CALL_SECONDS = 10.0
_SERVICE = "/observer.Observer/"


class Client:
    """A connection to hubble-relay or to one Hubble node. Certificates and secrets are read when it is made."""

    def __init__(self, hubble: config.Hubble, address: str) -> None:
        """Raises ConfigError for a file or variable that cannot be read. Connects only when something is asked."""
        self.address = address
        options: list[tuple[str, int | str]] = list(OPTIONS)
        self._metadata = _metadata(hubble.auth)
        self._credentials = None if hubble.plaintext else _credentials(hubble.tls)
        if self._credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            tls = self._credentials
            if tls.server_name:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            credentials = grpc.ssl_channel_credentials(root_certificates=tls.ca, private_key=tls.key, certificate_chain=tls.cert)
            self._channel = grpc.secure_channel(address, credentials, options)

    def close(self) -> None:
        """Cancel running requests and disconnect; streams end by themselves."""
        self._channel.close()

    def follow(self, request: observer_pb2.GetFlowsRequest) -> Call:
        """A stream of flows, to be iterated; each comes with a connection of its own."""
        method = _SERVICE + "GetFlows"
        return Call(self.address, method, request.SerializeToString(), credentials=self._credentials, metadata=self._metadata)

    def nodes(self) -> tuple[observer_pb2.Node, ...]:
        """Return the nodes' states and counters as relay reports them; a node returns only its own, without a name.

        Raises StreamError, StreamRefusedError.
        """
        request = observer_pb2.GetNodesRequest()
        try:
            return tuple(self._ask("GetNodes", request, observer_pb2.GetNodesResponse.FromString).nodes)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise _explained(error, self.address) from error
        status = self.status()
        node = observer_pb2.Node(version=status.version, state=relay_pb2.NODE_CONNECTED, uptime_ns=status.uptime_ns)
        node.num_flows, node.max_flows, node.seen_flows = status.num_flows, status.max_flows, status.seen_flows
        return (node,)

    def status(self) -> observer_pb2.ServerStatusResponse:
        """Return what `hubble status` shows. Raises StreamError, StreamRefusedError."""
        try:
            answer = self._ask("ServerStatus", observer_pb2.ServerStatusRequest(), observer_pb2.ServerStatusResponse.FromString)
        except grpc.RpcError as error:
            raise _explained(error, self.address) from error
        status: observer_pb2.ServerStatusResponse = answer
        return status

    def _ask(self, method: str, request: Any, read: Callable[[bytes], Any]) -> Any:
        ask = self._channel.unary_unary(_SERVICE + method, request_serializer=type(request).SerializeToString, response_deserializer=read)
        return ask(request, metadata=self._metadata, timeout=CALL_SECONDS)


def flows_request(hubble: config.Hubble, since_ns: int) -> observer_pb2.GetFlowsRequest:
    """Follow the flows from a moment on, filtered as configured. Raises ConfigError for a filter Hubble does not know."""
    request = observer_pb2.GetFlowsRequest(follow=True)
    request.since.FromNanoseconds(since_ns)
    for name, filters, target in (("allow", hubble.allow, request.whitelist), ("deny", hubble.deny, request.blacklist)):
        for number, written in enumerate(filters):
            try:
                json_format.ParseDict(written, target.add())
            except json_format.ParseError as error:
                raise ConfigError(f"hubble.{name}[{number}]: not a FlowFilter: {error}") from error
    return request


def _explained(error: grpc.RpcError, address: str) -> StreamError:
    return explain(error.code().name, error.details() or "", address)


def _credentials(tls: config.Tls) -> Credentials:
    def content(name: str) -> bytes | None:
        path = getattr(tls, name)
        try:
            return None if path is None else bytes(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"hubble.tls.{name}: {path} cannot be read: {error.strerror}") from error

    ca = content("ca") or Path(certifi.where()).read_bytes()
    return Credentials(ca=ca, cert=content("cert"), key=content("key"), server_name=tls.server_name)


def _metadata(auth: config.Auth | None) -> tuple[tuple[str, str], ...]:
    if auth is None:
        return ()
    if auth.username is None:
        return (("authorization", f"Bearer {config.read_secret(auth.bearer_file, auth.bearer_env)}"),)
    password = config.read_secret(auth.password_file, auth.password_env)
    return (("authorization", "Basic " + base64.b64encode(f"{auth.username}:{password}".encode()).decode()),)
