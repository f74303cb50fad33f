"""The collector against simulated nodes: what is refused and what breaks first, then what is stored, and how it ends."""

import base64
import datetime as dt
import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.simulator.node import SimulatedNode
from collectors.streaming.collect import Collector
from tests.modules import load
from tests.peers import certificates
from warehouse import config, schema
from warehouse.errors import ConfigError

streams: Any = load(Path(__file__).with_name("streams.py"))


def test_a_configuration_without_any_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="no cluster to collect"):
        Collector(config.Config.model_validate({"clusters": [{"name": "c1"}]}))


def test_an_unreachable_relay_is_reported_and_booked_as_disconnected(stand: Any, wait: Any) -> None:
    with stand.collecting(stand.settings("127.0.0.1:1")) as collector:
        assert "127.0.0.1:1" in wait(lambda: (p := collector.ready()) and "cannot be reached" in p and p, what="complaint")
        assert collector.healthy() is None
        time.sleep(1.2)
    assert stand.coverage() == []  # an outage that still lasts is booked when it ends, or every five minutes
    with SimulatedNode("c1/n1") as late:
        address = late.address
        late.stop()
        with stand.collecting(stand.settings(address)):
            time.sleep(1.5)
            late.start()
            streams.observe(late, [flow_pb2.Flow(node_name="c1/n1", uuid="u1"), flow_pb2.Flow(node_name="c1/n1", uuid="u2")])
            stand.wait_for_flows(1)
    (row,) = stand.coverage("disconnected")
    assert address in row["detail"]
    assert row["to"] - row["from"] > dt.timedelta(seconds=1)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("other_ca", "not signed by hubble.tls.ca"),
        ("expired", "expired|not valid now"),
        ("wrong_name", "server_name"),
        ("no_client_certificate", "hubble.tls.cert"),
        ("plaintext_server", "without TLS"),
    ],
)
def test_a_certificate_that_does_not_fit_is_named_and_nothing_is_sent(
    fault: str, words: str, stand: Any, wait: Any, tmp_path: Path
) -> None:
    ours = certificates.authority(tmp_path / "ours")
    theirs = certificates.authority(tmp_path / "theirs")
    name = "n1.c1.hubble-grpc.cilium.io"
    span = dt.timedelta(hours=-1) if fault == "expired" else dt.timedelta(days=1)
    pair = (theirs if fault == "other_ca" else ours).issue("elsewhere.example" if fault == "wrong_name" else name, valid_for=span)
    server = (
        SimulatedNode("c1/n1")
        if fault == "plaintext_server"
        else streams.tls_node(*pair, ours.ca if fault == "no_client_certificate" else None)
    )
    with server:
        tls = {"ca": ours.ca, "server_name": name}
        with stand.collecting(stand.settings(server.address, plaintext=False, tls=tls)) as collector:
            problem = wait(
                lambda: (p := collector.ready()) and "not connected yet" not in p and "not started" not in p and p, what="refusal"
            )
    assert re.search(words, problem), problem
    assert stand.uuids() == []


def test_an_address_that_is_no_hubble_is_reported(stand: Any, wait: Any) -> None:
    with streams.Server(None) as server, stand.collecting(stand.settings(server.address)) as collector:
        wait(lambda: "Unimplemented" in (collector.ready() or ""), what="complaint")


def test_garbage_in_a_stream_is_set_aside_and_counted_and_the_flows_around_it_are_stored(stand: Any, flows_of: Any) -> None:
    make = flows_of("c1/n1")

    def answer(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        good = [observer_pb2.GetFlowsResponse(flow=flow, node_name="c1/n1").SerializeToString() for flow in make(3)]
        yield good[0]
        yield b"\xff\xff\xff garbage"
        yield observer_pb2.GetFlowsResponse().SerializeToString()
        yield b"\x0a\x20\xff\xff\xff\xff\xff GET http://h/x?token=s3cr3t"  # a response whose flow is none
        yield from good[1:]
        time.sleep(60)

    with streams.Server(answer) as server, stand.collecting(stand.settings(server.address)):
        assert sorted(stand.wait_for_flows(3)) == sorted(make.made)
    assert sum(row["flows_lost"] for row in stand.coverage("lost") if row["source"] == "decode") == 3
    kept = (stand.folder / "spool" / "rejected" / "c1.jsonl").read_text().splitlines()
    assert len(kept) == 3
    assert all(json.loads(line)["reason"] for line in kept)
    messages = [base64.b64decode(json.loads(line)["message"]) for line in kept]
    assert sum(b"?token=******" in message for message in messages) == 1


def test_what_a_newer_agent_sends_is_stored_and_can_be_rebuilt(stand: Any, flows_of: Any) -> None:
    from collectors.decoding.decode import rebuild

    (flow,) = flows_of("c1/n1")(1)
    newer = flow.SerializeToString() + b"\x10\xe7\x07" + b"\xfa\xff\x07\x03new"  # verdict 999, and field 16383

    def answer(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"\x0a" + bytes([len(newer)]) + newer
        time.sleep(60)

    assert len(newer) < 128
    with streams.Server(answer) as server, stand.collecting(stand.settings(server.address)):
        stand.wait_for_flows(1)
    (message,) = rebuild(stand.lake.read(schema.FLOWS))
    assert flow_pb2.Flow.FromString(message).SerializeToString(deterministic=True) == flow_pb2.Flow.FromString(newer).SerializeToString(
        deterministic=True
    )
    assert stand.lake.read(schema.FLOWS, ["verdict"])["verdict"].to_pylist() == ["999"]


def test_sigterm_stores_what_has_come_and_ends_in_time_with_0(stand: Any, flows_of: Any, node: SimulatedNode, wait: Any) -> None:
    make = flows_of("c1/n1")
    streams.observe(node, make(11))
    stand.settings(node.address, collect={"flush_every": "1h", "listen": "127.0.0.1:0"})
    collector = streams.process(stand)
    try:
        lines = iter(collector.stderr or [])
        wait(lambda: "stream opened" in next(lines), what="stream")
        time.sleep(1)
        began = time.monotonic()
        collector.send_signal(signal.SIGTERM)
        assert collector.wait(300) == 0
        assert time.monotonic() - began < 100
    finally:
        collector.kill()
    assert sorted(stand.uuids()) == sorted(make.made[:10])


def test_it_ends_by_itself_and_fails_if_it_never_got_through(stand: Any) -> None:
    stand.settings("127.0.0.1:1")
    collector = streams.process(stand, "--for", "2s")
    output, errors = collector.communicate(timeout=200)
    assert collector.returncode == 1
    assert "0 flows stored" in output
    assert "127.0.0.1:1: cannot be reached" in errors
    assert streams.process(stand, "--for", "soon").wait(200) == 2


def test_health_readiness_and_metrics_are_served(stand: Any, flows_of: Any, node: SimulatedNode) -> None:
    from collectors.streaming.health import HealthServer

    make = flows_of("c1/n1")
    streams.observe(node, make(5))

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{server.address}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    with stand.collecting(stand.settings(node.address)) as collector:
        server = HealthServer("127.0.0.1:0", healthy=collector.healthy, ready=collector.ready)
        with pytest.raises(ConfigError, match=r"collect\.listen"):
            HealthServer(server.address, healthy=collector.healthy, ready=collector.ready)
        stand.wait_for_flows(4)
        assert get("/healthz") == (200, "ok\n")
        assert get("/readyz") == (200, "ok\n")
        assert get("/else")[0] == 404
        status, metrics = get("/metrics")
        assert status == 200
        assert 'hindcast_flows_stored_total{cluster="c1"}' in metrics
        node.stop()
        time.sleep(0.5)
        assert get("/readyz")[0] == 503
        server.close()


def test_a_token_goes_to_the_gateway_over_tls_and_a_wrong_one_is_reported(stand: Any, flows_of: Any, wait: Any, tmp_path: Path) -> None:
    ours = certificates.authority(tmp_path / "tls")
    certificate, key = ours.issue("gateway.example")
    (tmp_path / "token").write_text("open-sesame\n")
    (tmp_path / "password").write_text("hunter2")
    told: list[str] = []
    make = flows_of("c1/n1")

    def answer(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        told.append(dict(context.invocation_metadata())["authorization"])
        if told[-1] not in ("Bearer open-sesame", "Basic YWRhOmh1bnRlcjI="):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")
        yield from (observer_pb2.GetFlowsResponse(flow=flow).SerializeToString() for flow in make(1))
        time.sleep(30)

    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    tls = {"plaintext": False, "tls": {"ca": str(ours.ca), "server_name": "gateway.example"}}
    with streams.Server(answer, credentials) as server:
        for number, auth in enumerate(
            [{"bearer_file": str(tmp_path / "token")}, {"username": "ada", "password_file": str(tmp_path / "password")}], start=1
        ):
            with stand.collecting(stand.settings(server.address, auth=auth, **tls)):
                stand.wait_for_flows(number)
        (tmp_path / "token").write_text("wrong")
        with stand.collecting(stand.settings(server.address, auth={"bearer_file": str(tmp_path / "token")}, **tls)) as collector:
            problem = wait(lambda: (p := collector.ready()) and "refuses who we are" in p and p, what="refusal")
    assert "hubble.auth" in problem
    assert "wrong" not in problem


def test_only_flows_that_match_the_configured_filters_are_stored(stand: Any, flows_of: Any, node: SimulatedNode) -> None:
    make = flows_of("c1/n1")
    streams.observe(node, make(3))
    for flow in make(4):
        flow.verdict = flow_pb2.DROPPED
        node.observe(flow)
    for flow in make(2):
        flow.verdict = flow_pb2.DROPPED
        flow.source.pod_name = flow.source.namespace = "noise"
        flow.source.pod_name = "noise-1"
        node.observe(flow)
    streams.observe(node, make(1))
    filters = {"allow": [{"verdict": ["DROPPED"]}], "deny": [{"source_pod": ["noise/"]}]}
    with stand.collecting(stand.settings(node.address, **filters)):
        stand.wait_for_flows(4)
    assert sorted(stand.uuids()) == sorted(make.made[3:7])


def test_a_filter_that_hubble_does_not_know_is_reported(stand: Any, node: SimulatedNode, wait: Any) -> None:
    with stand.collecting(stand.settings(node.address, allow=[{"verdicts": ["DROPPED"]}])) as collector:
        assert "hubble.allow[0]" in wait(lambda: (p := collector.ready()) and "verdicts" in p and p, what="complaint")


def test_certificates_that_rotate_on_disk_are_used_for_the_next_stream(stand: Any, flows_of: Any, wait: Any, tmp_path: Path) -> None:
    name = "n1.c1.hubble-grpc.cilium.io"
    ours = certificates.authority(tmp_path / "tls")
    ours.issue("client", valid_for=dt.timedelta(hours=-1))
    client, key = ours.client
    tls = {"ca": str(ours.ca), "cert": str(client), "key": str(key), "server_name": name}
    with streams.tls_node(*ours.issue(name), ours.ca) as server:
        streams.observe(server, flows_of("c1/n1")(3))
        with stand.collecting(stand.settings(server.address, plaintext=False, tls=tls)) as collector:
            assert "hubble.tls.cert" in wait(lambda: (p := collector.ready()) and "cannot be reached" in p and p, what="refusal")
            ours.issue("client")
            stand.wait_for_flows(2)
