"""What the gRPC server offers besides flows: health, reflection, bounded requests, and certificates that are renewed while it runs."""

import shutil
import socket
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpclib.health.v1 import health_pb2
from grpclib.reflection.v1alpha import reflection_pb2

from api import identity
from api.observer import Observer
from api.server import Server
from tests.modules import load
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.errors import ConfigError

world: Any = load(Path(__file__).with_name("conftest.py"))
MEGABYTE = 1024**2


def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return caught.value.code(), caught.value.details()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "path",
    ["/observer.Observer/GetFlows", "/grpc.health.v1.Health/Watch", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"],
)
def test_a_request_that_is_too_large_is_refused(client: Any, path: str) -> None:
    code, details = status_of(client.channel.stream_stream(path)(iter([b"x" * (MEGABYTE + 1)]), timeout=60))
    assert (code, "at most 1,048,576 are allowed" in details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)


def test_a_request_that_cannot_be_read_is_refused(client: Any) -> None:
    code, details = status_of(client.channel.unary_stream("/observer.Observer/GetFlows")(b"\xff\xff", timeout=60))
    assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, "the request is not a observer.GetFlowsRequest")
    compressed = client.channel.unary_stream("/observer.Observer/GetFlows")(b"a" * 5_000, timeout=60, compression=grpc.Compression.Gzip)
    code, details = status_of(compressed)
    assert (code, "uncompressed" in details) == (grpc.StatusCode.UNIMPLEMENTED, True)


@pytest.mark.parametrize("method", ["GetAgentEvents", "GetDebugEvents", "Nothing"])
def test_what_relay_does_not_implement_is_not_implemented_here(client: Any, method: str) -> None:
    assert status_of(client.channel.unary_stream(f"/observer.Observer/{method}")(b"", timeout=60))[0] is grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_ends_a_call(client: Any) -> None:
    assert status_of(client.stream(follow=True, timeout=0.5))[0] is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("service", ["", "observer.Observer", "hubble.server.Observer"])
def test_health_is_told_of_the_services_that_clients_ask_for(client: Any, service: str) -> None:
    check = client.channel.unary_unary("/grpc.health.v1.Health/Check", response_deserializer=health_pb2.HealthCheckResponse.FromString)
    answer = check(health_pb2.HealthCheckRequest(service=service).SerializeToString(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_names_the_services_and_gives_their_descriptors(client: Any) -> None:
    for version in ("v1", "v1alpha"):
        ask = client.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="observer.Observer"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.Such"),
        ]
        listed, file, missing = ask(iter([one.SerializeToString() for one in requests]), timeout=60)
        assert {"observer.Observer", "grpc.health.v1.Health"} <= {one.name for one in listed.list_services_response.service}
        assert b"GetFlowsRequest" in file.file_descriptor_response.file_descriptor_proto[0]
        assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_a_second_server_on_the_same_port_is_refused(stored: Any) -> None:
    with world.running(lambda: world.plain_server(stored.door())) as first:
        second = Server(Observer(stored.door(), identity.Fixed(OPERATOR), config.ServeLimits()), f"127.0.0.1:{first.port}", None)
        with pytest.raises(ConfigError, match=r"serve\.listen: .*in use"), world.running(lambda: second):
            pass


def test_a_renewed_certificate_and_authority_are_used_without_a_restart(stored: Any, tmp_path: Path) -> None:
    authorities = load(Path(__file__).with_name("test_identity.py")).Authority
    old, new = authorities(tmp_path, "old"), authorities(tmp_path, "new")
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"

    def install(authority: Any) -> tuple[Path, Path]:
        for source, target in zip((*authority.issue("localhost"), authority.file), (cert, key, ca), strict=True):
            shutil.copy(source, target)
        issued: tuple[Path, Path] = authority.issue("ada")
        return issued

    def presented(port: int, files: tuple[Path, Path]) -> bytes:
        """The certificate of the server, after a byte of its answer shows that it accepted the client's."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(*files)
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as connection:
            if not connection.recv(1):
                raise ConnectionError("refused")
            return connection.getpeercert(binary_form=True) or b""

    first = install(old)
    tls = config.ServeTls(cert=cert, key=key, client_ca=ca)
    observer = Observer(stored.door(), identity.SignedIn(config.Serve(tls=tls), stored.lake), config.ServeLimits())
    with world.running(lambda: Server(observer, "127.0.0.1:0", tls)) as server:
        before = presented(server.port, first)
        second = install(new)
        assert presented(server.port, second) != before
        with pytest.raises((ssl.SSLError, ConnectionError)):
            presented(server.port, first)
        key.write_text("half a key")
        assert presented(server.port, second) != before


def test_files_that_are_no_certificate_are_named(stored: Any, tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("nothing")
    tls = config.ServeTls(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    server = Server(Observer(stored.door(), identity.Fixed(OPERATOR), config.ServeLimits()), "127.0.0.1:0", tls)
    with pytest.raises(ConfigError, match=r"serve\.tls: .*cert\.pem"), world.running(lambda: server):
        pass
