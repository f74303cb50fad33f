"""A simulated Hubble node: a real gRPC server on loopback with the Observer and Peer services of a node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from collectors.filtering.filters import compile_filters
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.hubble_api.peer import peer_pb2
from collectors.simulator.peers import Peers
from collectors.simulator.ring import DEFAULT_CAPACITY, NANOSECONDS, Event, Query, Ring

VERSION = "cilium-simulated v1.21.0"
LARGEST_NUMBER = (1 << 63) - 1
SERVING = b"\x08\x01"
THREADS = 32  # each open stream occupies one

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """The certificate a node presents, and the authority that must have issued its clients' certificates, if required."""

    certificate: bytes
    key: bytes
    client_authority: bytes | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Server-side TLS; client certificates are required only with a `client_authority`."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)],
            root_certificates=self.client_authority,
            require_client_auth=self.client_authority is not None,
        )


def _nanoseconds(request: observer_pb2.GetFlowsRequest, field: str) -> int | None:
    return getattr(request, field).ToNanoseconds() if request.HasField(field) else None


class SimulatedNode:
    """One node `cluster/node`; `observe` adds flows, and `restart` drops them all."""

    def __init__(self, name: str, capacity: int = DEFAULT_CAPACITY, tls: ServerTLS | None = None, peers: Peers | None = None) -> None:
        self.name = name
        self.peers = Peers() if peers is None else peers
        self.ring = Ring(capacity)
        self.port = 0
        self._tls = tls
        self._server: grpc.Server | None = None
        self._stopping = threading.Event()
        self._started_ns = 0

    @property
    def address(self) -> str:
        """The address where the node listens; the port stays the same across restarts."""
        return f"127.0.0.1:{self.port}"

    def observe(self, event: Event) -> None:
        """Add an event seen by the datapath: a flow, or a number of lost events."""
        self.ring.write(event)

    def start(self) -> None:
        """Listen; the first start chooses a port."""
        if self._server is not None:
            raise RuntimeError(f"{self.name} is already running")
        self._stopping = threading.Event()
        server = grpc.server(futures.ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers(tuple(self._handlers()))
        if self._tls is None:
            self.port = server.add_insecure_port(self.address)
        else:
            self.port = server.add_secure_port(self.address, self._tls.credentials())
        self._started_ns = time.monotonic_ns()
        server.start()
        self._server = server

    def stop(self) -> None:
        """Break every stream and stop listening; stopping twice is harmless."""
        if self._server is not None:
            stopped = self._server.stop(grace=0)
            self._stopping.set()
            stopped.wait()
            self._server = None

    def restart(self) -> None:
        """Stop, lose the ring as an agent does, and listen again on the same port."""
        self.stop()
        self.ring = Ring(self.ring.capacity)
        self.start()

    def __enter__(self) -> SimulatedNode:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _handlers(self) -> Iterator[grpc.GenericRpcHandler]:
        observer: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "GetFlows": grpc.unary_stream_rpc_method_handler(self._get_flows, observer_pb2.GetFlowsRequest.FromString, _to_bytes),
            "ServerStatus": grpc.unary_unary_rpc_method_handler(
                self._server_status, observer_pb2.ServerStatusRequest.FromString, _to_bytes
            ),
            "GetNamespaces": grpc.unary_unary_rpc_method_handler(
                self._get_namespaces, observer_pb2.GetNamespacesRequest.FromString, _to_bytes
            ),
            "GetNodes": grpc.unary_unary_rpc_method_handler(self._get_nodes, observer_pb2.GetNodesRequest.FromString, _to_bytes),
        }
        yield grpc.method_handlers_generic_handler("observer.Observer", observer)
        # `hubble status` first calls gRPC's health service; these two bytes are a HealthCheckResponse with SERVING.
        health: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(lambda _request, _context: SERVING)
        yield grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health})
        notify: grpc.RpcMethodHandler[Any, Any] = grpc.unary_stream_rpc_method_handler(
            self._notify, peer_pb2.NotifyRequest.FromString, _to_bytes
        )
        yield grpc.method_handlers_generic_handler("peer.Peer", {"Notify": notify})

    def _serve(self, context: grpc.ServicerContext, read: Callable[[Callable[[], bool]], Iterator[_Read]]) -> Iterator[_Read]:
        """Stream what `read` yields until the client leaves; a node that stops breaks the stream instead of ending it."""
        stopping = self._stopping
        yield from read(lambda: stopping.is_set() or not context.is_active())
        if stopping.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, f"{self.name} is stopping")

    def _get_flows(self, request: observer_pb2.GetFlowsRequest, context: grpc.ServicerContext) -> Iterator[observer_pb2.GetFlowsResponse]:
        if request.number > LARGEST_NUMBER:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"number {request.number} is too large")
        shape: Any = flow_pb2.Flow.DESCRIPTOR
        if not request.field_mask.IsValidForDescriptor(shape):
            context.abort(grpc.StatusCode.UNKNOWN, "invalid fieldmask")
        try:
            query = Query(
                number=request.number,
                first=request.first,
                follow=request.follow,
                since_ns=_nanoseconds(request, "since"),
                until_ns=_nanoseconds(request, "until"),
                matches=compile_filters(request.whitelist, request.blacklist),
            )
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        ring = self.ring
        for event in self._serve(context, lambda stopped: ring.read(query, stopped)):
            yield self._response(event, request)

    def _response(self, event: Event, request: observer_pb2.GetFlowsRequest) -> observer_pb2.GetFlowsResponse:
        if isinstance(event, flow_pb2.LostEvent):
            now = Timestamp()
            now.FromNanoseconds(time.time_ns())
            return observer_pb2.GetFlowsResponse(lost_events=event, node_name=self.name, time=now)
        flow = event
        if request.field_mask.paths:
            flow = flow_pb2.Flow()
            request.field_mask.MergeMessage(event, flow)
        response = observer_pb2.GetFlowsResponse(flow=flow, node_name=flow.node_name)
        if flow.HasField("time"):  # a mask without time empties the outer one too, as a real node does
            response.time.CopyFrom(flow.time)
        return response

    def _server_status(
        self, _request: observer_pb2.ServerStatusRequest, _context: grpc.ServicerContext
    ) -> observer_pb2.ServerStatusResponse:
        uptime = time.monotonic_ns() - self._started_ns
        return observer_pb2.ServerStatusResponse(
            num_flows=len(self.ring),
            max_flows=self.ring.capacity,
            seen_flows=self.ring.written,
            uptime_ns=uptime,
            version=VERSION,
            flows_rate=self.ring.written * NANOSECONDS / max(uptime, 1),
        )

    def _get_namespaces(
        self, _request: observer_pb2.GetNamespacesRequest, context: grpc.ServicerContext
    ) -> observer_pb2.GetNamespacesResponse:
        seen: set[tuple[str, str]] = set()
        for event in self._serve(context, lambda stopped: self.ring.read(Query(), stopped)):
            if isinstance(event, flow_pb2.Flow):
                seen.update((end.cluster_name, end.namespace) for end in (event.source, event.destination) if end.namespace)
        named = [observer_pb2.Namespace(cluster=cluster, namespace=namespace) for cluster, namespace in sorted(seen)]
        return observer_pb2.GetNamespacesResponse(namespaces=named)

    def _get_nodes(self, _request: observer_pb2.GetNodesRequest, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "GetNodes not implemented")

    def _notify(self, _request: peer_pb2.NotifyRequest, context: grpc.ServicerContext) -> Iterator[peer_pb2.ChangeNotification]:
        return self._serve(context, self.peers.changes)


def _to_bytes(message: Message) -> bytes:
    return message.SerializeToString()
