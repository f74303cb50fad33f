"""A simulated node over a real channel on loopback."""

from __future__ import annotations

import datetime as dt
import ipaddress
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.hubble_api.peer import peer_pb2
from collectors.simulator.node import ServerTLS, SimulatedNode

OBSERVER = "/observer.Observer/"


def flow(seconds: int) -> flow_pb2.Flow:
    """A flow of node eu/n1 at that second."""
    made = flow_pb2.Flow(uuid=f"u{seconds}", node_name="eu/n1", verdict=flow_pb2.FORWARDED)
    made.source.namespace = "shop"
    made.source.cluster_name = "eu"
    made.time.FromSeconds(seconds)
    return made


@pytest.fixture
def node() -> Iterator[SimulatedNode]:
    """A running node with an empty ring of seven."""
    with SimulatedNode("eu/n1", capacity=7) as running:
        yield running


@pytest.fixture
def channel(node: SimulatedNode) -> Iterator[grpc.Channel]:
    """A plain channel to the node."""
    with grpc.insecure_channel(node.address) as opened:
        grpc.channel_ready_future(opened).result(timeout=50)
        yield opened


def get_flows(channel: grpc.Channel, request: observer_pb2.GetFlowsRequest) -> Iterator[observer_pb2.GetFlowsResponse]:
    """The stream of one request."""
    call = channel.unary_stream(
        OBSERVER + "GetFlows",
        request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
        response_deserializer=observer_pb2.GetFlowsResponse.FromString,
    )
    stream: Iterator[observer_pb2.GetFlowsResponse] = call(request, timeout=100)
    return stream


def ask(channel: grpc.Channel, method: str) -> bytes:
    """The answer to an empty request, as bytes."""
    call: Callable[..., bytes] = channel.unary_unary(OBSERVER + method)
    return call(b"", timeout=50)


def refusal(channel: grpc.Channel, request: observer_pb2.GetFlowsRequest) -> tuple[grpc.StatusCode, str | None]:
    """The status a request ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        list(get_flows(channel, request))
    return caught.value.code(), caught.value.details()


def test_first_with_follow_is_an_invalid_argument(channel: grpc.Channel) -> None:
    code, _text = refusal(channel, observer_pb2.GetFlowsRequest(first=True, follow=True))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unsupported_filter_is_refused_by_name(channel: grpc.Channel) -> None:
    request = observer_pb2.GetFlowsRequest()
    request.blacklist.add().experimental.cel_expression.append("true")
    code, text = refusal(channel, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text is not None
    assert "experimental" in text


def test_an_invalid_mask_ends_with_unknown(channel: grpc.Channel) -> None:
    request = observer_pb2.GetFlowsRequest()
    request.field_mask.paths.append("nonsense")
    assert refusal(channel, request) == (grpc.StatusCode.UNKNOWN, "invalid fieldmask")


@pytest.mark.parametrize("method", ["GetNodes", "GetAgentEvents"])
def test_what_a_node_does_not_serve_is_unimplemented(channel: grpc.Channel, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel, method)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_empty_node_answers_with_nothing(channel: grpc.Channel) -> None:
    assert list(get_flows(channel, observer_pb2.GetFlowsRequest(number=5))) == []


def test_flows_come_with_their_node_and_time(node: SimulatedNode, channel: grpc.Channel) -> None:
    for second in range(3):
        node.observe(flow(second))
    got = list(get_flows(channel, observer_pb2.GetFlowsRequest()))
    assert [(each.flow.uuid, each.node_name, each.time.seconds) for each in got] == [("u0", "eu/n1", 0), ("u1", "eu/n1", 1)]


def test_a_mask_without_time_and_node_empties_the_outer_ones(node: SimulatedNode, channel: grpc.Channel) -> None:
    node.observe(flow(1))
    node.observe(flow(2))
    request = observer_pb2.GetFlowsRequest()
    request.field_mask.paths.append("uuid")
    assert list(get_flows(channel, request)) == [observer_pb2.GetFlowsResponse(flow=flow_pb2.Flow(uuid="u1"))]


def test_status_and_namespaces_tell_what_the_ring_holds(node: SimulatedNode, channel: grpc.Channel) -> None:
    for second in range(20):
        node.observe(flow(second))
    status = observer_pb2.ServerStatusResponse.FromString(ask(channel, "ServerStatus"))
    assert (status.num_flows, status.max_flows, status.seen_flows) == (7, 7, 20)
    named = observer_pb2.GetNamespacesResponse.FromString(ask(channel, "GetNamespaces"))
    assert [(each.cluster, each.namespace) for each in named.namespaces] == [("eu", "shop")]


def test_the_health_service_says_serving(channel: grpc.Channel) -> None:
    call: Callable[..., bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert call(b"", timeout=50) == b"\x08\x01"


def test_a_follow_breaks_when_the_node_restarts_and_the_ring_is_gone(node: SimulatedNode, channel: grpc.Channel) -> None:
    for second in range(3):
        node.observe(flow(second))
    request = observer_pb2.GetFlowsRequest(follow=True)
    request.since.FromSeconds(0)
    stream = get_flows(channel, request)
    assert [next(stream).flow.uuid, next(stream).flow.uuid] == ["u0", "u1"]
    address = node.address
    node.restart()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert node.address == address
    with grpc.insecure_channel(address) as again:
        grpc.channel_ready_future(again).result(timeout=50)
        assert list(get_flows(again, observer_pb2.GetFlowsRequest())) == []


def test_peers_are_listed_then_followed(node: SimulatedNode, channel: grpc.Channel) -> None:
    node.peers.put("eu/n1", node.address, tls=True)
    call = channel.unary_stream(
        "/peer.Peer/Notify",
        request_serializer=peer_pb2.NotifyRequest.SerializeToString,
        response_deserializer=peer_pb2.ChangeNotification.FromString,
    )
    stream = call(peer_pb2.NotifyRequest(), timeout=100)
    known = next(stream)
    assert (known.name, known.type, known.tls.server_name) == ("eu/n1", peer_pb2.PEER_ADDED, "n1.eu.hubble-grpc.cilium.io")
    node.peers.put("eu/n2", "127.0.0.1:1")
    node.peers.put("eu/n2", "127.0.0.1:2")
    node.peers.remove("eu/n2")
    assert [next(stream).type for _ in range(3)] == [peer_pb2.PEER_ADDED, peer_pb2.PEER_UPDATED, peer_pb2.PEER_DELETED]
    stream.cancel()


def certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "n1")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return built.public_bytes(pem), secret


def test_mutual_tls_refuses_a_client_without_a_certificate() -> None:
    public, secret = certificate()
    anonymous = grpc.ssl_channel_credentials(public)
    known = grpc.ssl_channel_credentials(public, secret, public)
    with SimulatedNode("eu/n1", tls=ServerTLS(public, secret, client_authority=public)) as node:
        with grpc.secure_channel(node.address, anonymous) as channel, pytest.raises(grpc.RpcError) as caught:
            list(get_flows(channel, observer_pb2.GetFlowsRequest()))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with grpc.secure_channel(node.address, known) as channel:
            assert list(get_flows(channel, observer_pb2.GetFlowsRequest())) == []


def test_a_paused_follower_learns_what_it_lost_with_the_first_event_after_a_second(node: SimulatedNode, channel: grpc.Channel) -> None:
    for second in range(2):
        node.observe(flow(second))
    request = observer_pb2.GetFlowsRequest(follow=True)
    request.since.FromSeconds(0)
    stream = get_flows(channel, request)
    assert next(stream).flow.uuid == "u0"
    padding = "x" * 10_000
    for second in range(2, 3_000):  # far more than the transport buffers while nobody reads
        big = flow(second)
        big.node_labels.append(padding)
        node.observe(big)
    read = [next(stream).flow.uuid]  # the ring notices that this reader was too slow
    while read[-1] != "u2998":
        read.append(next(stream).flow.uuid)
    time.sleep(1.1)
    for second in range(3_000, 3_003):
        node.observe(flow(second))
    report = next(response for response in stream if response.HasField("lost_events"))
    assert report.lost_events.source == flow_pb2.HUBBLE_RING_BUFFER
    assert report.lost_events.num_events_lost == 2_998 - len(read)
    assert report.node_name == "eu/n1"
