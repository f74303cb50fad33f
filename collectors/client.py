"""One Hubble address: its channel, its stream of flows as raw bytes, its nodes' states, and what its errors mean.

The one module, with the simulator, that imports grpc. When to connect, and what to do with what comes, is others' work.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf import json_format
from grpc.experimental import ChannelOptions

from collectors.hubble_api.observer import observer_pb2
from collectors.hubble_api.relay import relay_pb2
from warehouse import config
from warehouse.errors import ConfigError, StreamError, StreamRefusedError

OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # Hubble's servers do not cap what they send
    ("grpc.keepalive_time_ms", 360_000),  # servers close connections that are pinged more often than every 5 minutes
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, with the certificates of now
    ("grpc.enable_retries", 0),
    (ChannelOptions.SingleThreadedUnaryStream, 1),  # a third of the CPU a message
)
CALL_SECONDS = 10.0
_SERVICE = "/observer.Observer/"


class Call:
    """A running stream of GetFlowsResponse messages, each as bytes."""

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address

    def __iter__(self) -> Iterator[bytes]:
        """The messages as they come; ends when the server ends the stream. Raises StreamError, StreamRefusedError."""
        try:
            yield from self._call
        except grpc.RpcError as error:
            raise explain(error, self._address) from error

    def cancel(self) -> None:
        """End the stream, from any thread; who iterates gets a StreamError."""
        self._call.cancel()


class Client:
    """A connection to hubble-relay or to one Hubble node. Certificates and secrets are read when it is made."""

    def __init__(self, hubble: config.Hubble, address: str) -> None:
        """Raises ConfigError for a file or variable that cannot be read. Connects only when something is asked."""
        self.address = address
        options: list[tuple[str, int | str]] = list(OPTIONS)
        self._metadata = _metadata(hubble.auth)
        if hubble.plaintext:
            self._channel = grpc.insecure_channel(address, options)
        else:
            if hubble.tls.server_name:
                options.append(("grpc.ssl_target_name_override", hubble.tls.server_name))
            self._channel = grpc.secure_channel(address, _credentials(hubble.tls), options)

    def close(self) -> None:
        """Cancel what runs and disconnect."""
        self._channel.close()

    def follow(self, request: observer_pb2.GetFlowsRequest) -> Call:
        """Begin a stream of flows."""
        method: Any = self._channel.unary_stream(_SERVICE + "GetFlows", request_serializer=observer_pb2.GetFlowsRequest.SerializeToString)
        return Call(method(request, metadata=self._metadata), self.address)

    def nodes(self) -> tuple[observer_pb2.Node, ...]:
        """The nodes' states and counters as relay knows them; of a node that is asked itself, its own, without a name.

        Raises StreamError, StreamRefusedError.
        """
        request = observer_pb2.GetNodesRequest()
        try:
            return tuple(self._ask("GetNodes", request, observer_pb2.GetNodesResponse.FromString).nodes)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise explain(error, self.address) from error
        status = self.status()
        node = observer_pb2.Node(version=status.version, state=relay_pb2.NODE_CONNECTED, uptime_ns=status.uptime_ns)
        node.num_flows, node.max_flows, node.seen_flows = status.num_flows, status.max_flows, status.seen_flows
        return (node,)

    def status(self) -> observer_pb2.ServerStatusResponse:
        """What `hubble status` shows. Raises StreamError, StreamRefusedError."""
        try:
            answer = self._ask("ServerStatus", observer_pb2.ServerStatusRequest(), observer_pb2.ServerStatusResponse.FromString)
        except grpc.RpcError as error:
            raise explain(error, self.address) from error
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


def explain(error: grpc.RpcError, address: str) -> StreamError:
    """What a failed call means, in words, and whether time may cure it."""
    code, details = error.code(), (error.details() or "").strip()
    for sign, meaning in _REFUSALS:
        if sign in details:
            return StreamRefusedError(f"{address}: {meaning} ({details})")
    match code:
        case grpc.StatusCode.UNIMPLEMENTED:
            text = "it does not speak Hubble's Observer API (Unimplemented): is this the address of hubble-relay or of a Hubble node?"
            return StreamRefusedError(f"{address}: {text}")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return StreamRefusedError(f"{address}: it refuses who we are: check hubble.auth and hubble.tls.cert ({details})")
        case grpc.StatusCode.INVALID_ARGUMENT:
            return StreamRefusedError(f"{address}: it refuses the request: check hubble.allow and hubble.deny ({details})")
        case grpc.StatusCode.UNAVAILABLE:
            # With TLS 1.3 a server that refuses our certificate just hangs up.
            hint = "; if it asks for a client certificate, check hubble.tls.cert and hubble.tls.key" if "Socket closed" in details else ""
            return StreamError(f"{address}: cannot be reached or went away{hint} ({details})")
        case _:
            return StreamError(f"{address}: the call failed: {code.name} {details}")


_REFUSALS = (
    ("WRONG_VERSION_NUMBER", "it answers without TLS: say hubble.plaintext: true if that is meant"),
    ("Hostname Verification", "its certificate is for another name: set hubble.tls.server_name to the name it carries"),
    ("not match peer certificate", "its certificate is for another name: set hubble.tls.server_name to the name it carries"),
    ("certificate has expired", "its certificate has expired"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by hubble.tls.ca, or is not valid now"),
    ("CERTIFICATE_REQUIRED", "it asks for a client certificate: set hubble.tls.cert and hubble.tls.key"),
    ("tlsv13 alert certificate", "it does not accept our client certificate: check hubble.tls.cert"),
    ("TLSV1_ALERT_UNKNOWN_CA", "it does not accept our client certificate: check hubble.tls.cert"),
)


def _credentials(tls: config.Tls) -> grpc.ChannelCredentials:
    def content(name: str) -> bytes | None:
        path = getattr(tls, name)
        try:
            return None if path is None else bytes(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"hubble.tls.{name}: {path} cannot be read: {error.strerror}") from error

    return grpc.ssl_channel_credentials(root_certificates=content("ca"), private_key=content("key"), certificate_chain=content("cert"))


def _metadata(auth: config.Auth | None) -> tuple[tuple[str, str], ...]:
    if auth is None:
        return ()
    if auth.username is None:
        return (("authorization", f"Bearer {config.read_secret(auth.bearer_file, auth.bearer_env)}"),)
    password = config.read_secret(auth.password_file, auth.password_env)
    return (("authorization", "Basic " + base64.b64encode(f"{auth.username}:{password}".encode()).decode()),)
