"""The collector against simulated nodes: what is refused and what breaks first, then what is stored and what is declared missing."""

import base64
import contextlib
import datetime as dt
import itertools
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.sharing.assignment import assign
from collectors.simulator.node import ServerTLS, SimulatedNode
from collectors.streaming.collect import Collector
from collectors.streaming.coverage_rows import coverage_row
from collectors.streaming.spool import Batch, Spool
from warehouse import config, schema
from warehouse.errors import ConfigError

UTC = dt.UTC


@pytest.fixture
def node() -> Iterator[SimulatedNode]:
    with SimulatedNode("c1/n1") as running:
        yield running


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


# What is refused or breaks -----------------------------------------------------------------------------------


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
            observe(late, [flow_pb2.Flow(node_name="c1/n1", uuid="u1"), flow_pb2.Flow(node_name="c1/n1", uuid="u2")])
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
    fault: str, words: str, stand: Any, wait: Any, tmp_path: Path, certificates: ModuleType
) -> None:
    ours = certificates.certificates(tmp_path / "ours")
    theirs = certificates.certificates(tmp_path / "theirs")
    name = "n1.c1.hubble-grpc.cilium.io"
    span = dt.timedelta(hours=-1) if fault == "expired" else dt.timedelta(days=1)
    pair = (theirs if fault == "other_ca" else ours).issue("elsewhere.example" if fault == "wrong_name" else name, valid_for=span)
    server = (
        SimulatedNode("c1/n1") if fault == "plaintext_server" else tls_node(*pair, ours.ca if fault == "no_client_certificate" else None)
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
    with Server(None) as server, stand.collecting(stand.settings(server.address)) as collector:
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

    with Server(answer) as server, stand.collecting(stand.settings(server.address)):
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
    with Server(answer) as server, stand.collecting(stand.settings(server.address)):
        stand.wait_for_flows(1)
    (message,) = rebuild(stand.lake.read(schema.FLOWS))
    assert flow_pb2.Flow.FromString(message).SerializeToString(deterministic=True) == flow_pb2.Flow.FromString(newer).SerializeToString(
        deterministic=True
    )
    assert stand.lake.read(schema.FLOWS, ["verdict"])["verdict"].to_pylist() == ["999"]


def test_while_the_lake_is_away_and_an_old_flow_has_to_be_looked_up_a_loss_is_booked_once(stand: Any, flows_of: Any, wait: Any) -> None:
    make, release = flows_of("c1/n1"), threading.Event()
    begin = dt.datetime.now(UTC) - dt.timedelta(minutes=5)
    first = make(2, at=begin) + make(1, at=begin + dt.timedelta(seconds=2))
    old, new = make(1, at=begin + dt.timedelta(seconds=1)), make(2)

    def answer(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        if not stand.uuids():
            yield from (observer_pb2.GetFlowsResponse(flow=flow).SerializeToString() for flow in first)
        yield observer_pb2.GetFlowsResponse(flow=new.pop(0)).SerializeToString()
        release.wait(600)
        lost = observer_pb2.GetFlowsResponse(lost_events=flow_pb2.LostEvent(source=flow_pb2.PERF_EVENT_RING_BUFFER, num_events_lost=42))
        yield from (message.SerializeToString() for message in (lost, observer_pb2.GetFlowsResponse(flow=old[0])))
        time.sleep(60)

    with Server(answer) as server:
        with stand.collecting(stand.settings(server.address)):
            stand.wait_for_flows(4)
        with stand.collecting(stand.settings(server.address)) as collector:
            stand.wait_for_flows(5)
            folder = stand.folder / "lake" / "flows"
            folder.rename(folder.with_name("away"))
            release.set()
            wait(lambda: "cannot be read" in (collector.ready() or ""), what="failed look-up")
            ticks = collector.ticks
            wait(lambda: collector.ticks > ticks + 5, what="further attempts")
            folder.with_name("away").rename(folder)
            stand.wait_for_flows(6)
    assert sorted(stand.uuids()) == sorted(make.made)
    assert [row["flows_lost"] for row in stand.coverage("lost")] == [42]


def test_flows_from_1970_and_the_future_are_kept_and_flagged_and_do_not_move_the_resume_point(
    stand: Any, flows_of: Any, node: SimulatedNode
) -> None:
    make = flows_of("c1/n1")
    observe(node, make(3) + make(1, at=dt.datetime(1970, 1, 2, tzinfo=UTC)) + make(1, at=dt.datetime.now(UTC) + dt.timedelta(hours=5)))
    observe(node, make(3))
    with stand.collecting(stand.settings(node.address)):
        stand.wait_for_flows(7)
    observe(node, make(3))
    with stand.collecting(stand.settings(node.address)):
        stand.wait_for_flows(10)
    assert sorted(stand.uuids()) == sorted(make.made[:10])
    rows = stand.lake.read(schema.FLOWS, ["uuid", "clock_skew"]).to_pylist()
    assert {row["uuid"] for row in rows if row["clock_skew"]} == set(make.made[3:5])
    # A ring goes back to the newest flow that is older than the request, which is that of 1970: more is not known to be complete.
    assert [row for row in stand.coverage("gap") if row["source"] != "unreported"] == []
    hour = dt.timedelta(hours=1)
    now = dt.datetime.now(UTC)
    assert stand.lake.read(schema.FLOWS, ["uuid"], ["c1"], now - hour, now + hour).num_rows == 8


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Collectors that are made here seem to run on another machine, and leave the cluster c1 to one that runs on this.

    On this machine, being this process, one would be taken for a restart.
    """
    own = f"{socket.gethostname().lower()}-{os.getpid()}"
    host = next(
        name for name in map("elsewhere-{}".format, itertools.count()) if assign(["c1"], [own, f"{name}-{os.getpid()}"])["c1"] == own
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket, "gethostname", lambda: host)
        yield


def test_a_second_collector_of_a_cluster_stands_by_and_nothing_is_doubled(
    stand: Any, flows_of: Any, node: SimulatedNode, wait: Any
) -> None:
    make = flows_of("c1/n1")
    observe(node, make(5))
    other = stand.settings(node.address, collect={"spool": stand.folder / "other"})
    with stand.collecting(stand.settings(node.address)) as first:
        stand.wait_for_flows(4)
        with elsewhere(), stand.collecting(other) as second:
            assert "standing by" in wait(lambda: (p := second.ready()) and "standing by" in p and p, what="notice")
            observe(node, make(5))
            stand.wait_for_flows(9)
            assert second.flows_stored == 0
        assert first.ready() is None
    assert sorted(stand.uuids()) == sorted(make.made[:9])


def test_a_collector_with_the_spool_of_another_one_is_refused(stand: Any, node: SimulatedNode, wait: Any) -> None:
    settings = stand.settings(node.address)
    with stand.collecting(settings) as first:
        wait(lambda: first.ticks, what="a collector at work")
        with pytest.raises(ConfigError, match=r"collect\.spool: another collector uses"):
            Collector(settings).run(threading.Event())
    with stand.collecting(settings) as again:
        wait(lambda: again.ticks, what="a collector at work")


def test_what_a_collector_spooled_of_a_cluster_that_is_another_s_by_now_is_stored_and_the_other_goes_on(
    stand: Any, flows_of: Any, node: SimulatedNode, wait: Any
) -> None:
    make, spool = flows_of("c1/n1"), Spool(stand.folder / "other", 10**9)
    other = stand.settings(node.address, collect={"spool": stand.folder / "other"})
    observe(node, make(5))
    with stand.collecting(stand.settings(node.address)) as first:
        stand.wait_for_flows(4)
        twice, old = make.made[0], make(1, at=dt.datetime.now(UTC) - dt.timedelta(hours=1))
        messages = [flow.SerializeToString() for flow in old]
        rows = decode(messages, cluster="c1", recorded=dt.datetime.now(UTC)).rows
        known = stand.lake.read(schema.FLOWS).cast(rows.schema)
        spool.put(Batch(cluster="c1", sequence=1, rows=pa.concat_tables([rows, known.filter(pc.field("uuid") == twice)])))
        with elsewhere(), stand.collecting(other):
            wait(lambda: not spool.units(), what="an empty spool")
        observe(node, make(5))
        stand.wait_for_flows(10)
        assert first.flows_stored == 9
    assert sorted(stand.uuids()) == sorted(make.made[:10])


def test_a_collector_without_flows_adds_nothing_to_the_log_but_its_claim(stand: Any, node: SimulatedNode, wait: Any) -> None:
    settings = stand.settings(node.address, collect={"flush_every": "50ms", "leases": {"duration": "1s"}})
    with stand.collecting(settings) as collector:
        wait(lambda: "not connected" in (collector.ready() or ""), what="a stream that waits for its first message")
        before = stand.lake.version(schema.FLOWS)
        signs = stand.folder / "lake" / "_collectors"
        (sign,) = signs.iterdir()
        written = sign.stat().st_mtime_ns
        wait(lambda: sign.stat().st_mtime_ns > written, what="another sign of life")
        assert stand.lake.version(schema.FLOWS) == before
    assert stand.uuids() == []
    assert list(signs.iterdir()) == []


def test_two_collectors_that_both_take_themselves_for_the_only_one_store_each_flow_once(
    stand: Any, flows_of: Any, node: SimulatedNode
) -> None:
    make = flows_of("c1/n1")
    other = stand.settings(node.address, collect={"spool": stand.folder / "other"})
    with stand.collecting(stand.settings(node.address)), stand.collecting(other):
        for _ in range(20):
            observe(node, make(10))
            time.sleep(0.1)
        observe(node, make(1))
        stand.wait_for_flows(200)
    assert sorted(stand.uuids()) == sorted(make.made[:200])


# What is declared missing -----------------------------------------------------------------------------------


def test_a_ring_that_was_overrun_while_nobody_read_is_a_gap(stand: Any, flows_of: Any) -> None:
    make = flows_of("c1/n1")
    sent = make(5)
    with SimulatedNode("c1/n1", capacity=15) as node:
        observe(node, sent)
        with stand.collecting(stand.settings(node.address)):
            stand.wait_for_flows(4)
        missed = make(100)
        observe(node, missed)
        with stand.collecting(stand.settings(node.address)):
            stand.wait_for_flows(19)
    stored = set(stand.uuids())
    (gap,) = stand.coverage("gap")
    assert (gap["node_name"], gap["source"]) == ("c1/n1", "ring_overrun")
    assert len(stand.uuids()) == len(stored)
    for flow in [one for one in missed if one.uuid not in stored][:-1]:
        assert gap["from"] <= flow.time.ToDatetime(UTC) < gap["to"]
    first, last = (flow.time.ToDatetime(UTC) for flow in (sent[0], sent[3]))
    assert first < gap["from"] <= last + dt.timedelta(microseconds=1)  # the node had not reported the losses among its last flows
    for row in stand.coverage("connected"):
        assert row["to"] <= last + dt.timedelta(microseconds=1) or row["from"] >= gap["to"]


def test_a_pause_in_which_the_ring_kept_everything_is_no_gap(stand: Any, flows_of: Any, node: SimulatedNode) -> None:
    make = flows_of("c1/n1")
    observe(node, make(5))
    with stand.collecting(stand.settings(node.address)):
        stand.wait_for_flows(4)
    observe(node, make(50))
    with stand.collecting(stand.settings(node.address)):
        stand.wait_for_flows(54)
    assert stand.coverage("gap", "lost") == []
    assert sum(row["flows_received"] for row in stand.coverage("connected")) == 54


def test_a_node_that_restarts_is_a_gap_that_says_so(stand: Any, flows_of: Any, node: SimulatedNode) -> None:
    make = flows_of("c1/n1")
    with stand.collecting(stand.settings(node.address)):
        observe(node, make(5))
        stand.wait_for_flows(4)
        time.sleep(2.5)
        node.restart()
        observe(node, make(5))
        stand.wait_for_flows(8)
        time.sleep(0.6)
    assert [row["source"] for row in stand.coverage("gap")] in (["node_restart"], ["ring_overrun"])
    assert sorted(stand.uuids()) == sorted(make.made[:4] + make.made[5:9])


def test_lost_events_of_every_source_are_booked_with_their_numbers(stand: Any, flows_of: Any, node: SimulatedNode) -> None:
    make = flows_of("c1/n1")
    observe(node, make(2))
    for source, count in ((flow_pb2.PERF_EVENT_RING_BUFFER, 7), (flow_pb2.OBSERVER_EVENTS_QUEUE, 11)):
        node.observe(flow_pb2.LostEvent(source=source, num_events_lost=count))
        observe(node, make(1))
    observe(node, make(1))
    with stand.collecting(stand.settings(node.address)):
        stand.wait_for_flows(4)
    assert {row["source"]: row["flows_lost"] for row in stand.coverage("lost")} == {
        "PERF_EVENT_RING_BUFFER": 7,
        "OBSERVER_EVENTS_QUEUE": 11,
    }


def test_a_silent_stream_is_opened_anew(stand: Any, flows_of: Any) -> None:
    make = flows_of("c1/n1")
    asked = []

    def answer(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        asked.append(time.monotonic())
        yield from (observer_pb2.GetFlowsResponse(flow=flow).SerializeToString() for flow in make(1))
        time.sleep(60)

    with Server(answer) as server, stand.collecting(stand.settings(server.address, silent_after="500ms")):
        stand.wait_for_flows(3)
    assert len(asked) >= 3


def test_a_stream_that_ends_in_good_order_is_opened_again(stand: Any, flows_of: Any) -> None:
    make = flows_of("c1/n1")

    def answer(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from (observer_pb2.GetFlowsResponse(flow=flow).SerializeToString() for flow in make(1))

    with Server(answer) as server, stand.collecting(stand.settings(server.address)):
        stand.wait_for_flows(3)


# Storing ----------------------------------------------------------------------------------------------------


def process(stand: Any, *arguments: str) -> subprocess.Popen[str]:
    """`hindcast collect` in a process of its own, with the settings made last."""
    command = [sys.executable, "-c", "from hindcast.cli import main; main()", "collect", "--config", str(stand.folder / "hindcast.yaml")]
    return subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_lake_whose_disk_takes_nothing_costs_no_flow(stand: Any, flows_of: Any, node: SimulatedNode, wait: Any) -> None:
    make = flows_of("c1/n1")
    observe(node, make(5))
    stand.settings(node.address)
    collector = process(stand)
    try:
        stand.wait_for_flows(4)
        hard = resource.prlimit(collector.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(collector.pid, resource.RLIMIT_FSIZE, (0, hard))
        observe(node, make(50))
        time.sleep(1.5)
        assert len(stand.uuids()) == 4
        resource.prlimit(collector.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert sorted(stand.wait_for_flows(54)) == sorted(make.made[:54])
        collector.terminate()
        errors = collector.communicate(timeout=150)[1]
        assert collector.returncode == 0
    finally:
        collector.kill()
    assert "the lake cannot be used" in errors
    assert sorted(stand.uuids()) == sorted(make.made[:54])
    assert sum(row["flows_received"] for row in stand.coverage("connected")) == 54
    assert list((stand.folder / "lake").rglob("*.unfinished")) == []


def test_what_waits_in_the_spool_is_stored_by_the_next_run(stand: Any, flows_of: Any, node: SimulatedNode, wait: Any) -> None:
    make = flows_of("c1/n1")
    observe(node, make(5))
    log = stand.folder / "lake" / "flows" / "_delta_log"
    away = log.with_name("_away")
    with stand.collecting(stand.settings(node.address)):
        stand.wait_for_flows(4)
        log.rename(away)
        log.write_text("in the way")  # the table is not there, and cannot be made anew
        observe(node, make(50))
        wait(lambda: list((stand.folder / "spool" / "c1").glob("*.parquet")), what="batch in the spool")
    log.unlink()
    away.rename(log)
    node.restart()  # its ring is gone: only the spool has them
    with stand.collecting(stand.settings(node.address)):
        assert sorted(stand.wait_for_flows(54)) == sorted(make.made[:54])
    assert list((stand.folder / "spool" / "c1").glob("*.parquet")) == []
    assert sum(row["flows_received"] for row in stand.coverage("connected")) == 54


@pytest.mark.parametrize("damage", ["empty", "cut off", "something else"])
def test_a_damaged_spool_file_of_an_earlier_run_is_set_aside_and_booked_and_the_rest_is_stored(
    damage: str, stand: Any, flows_of: Any, node: SimulatedNode, wait: Any
) -> None:
    make = flows_of("c1/n1")
    spool = Spool(stand.folder / "spool", 2**30)
    for sequence in (10, 11, 12):
        encoded = [flow.SerializeToString() for flow in make(5)]
        spool.put(Batch(cluster="c1", sequence=sequence, rows=decode(encoded, cluster="c1", recorded=dt.datetime.now(UTC)).rows))
    damaged = spool.paths("c1")[1]
    content = damaged.read_bytes()
    damaged.write_bytes({"empty": b"", "cut off": content[: len(content) // 2], "something else": b"PAR1 no PAR1"}[damage])
    observe(node, make(3))
    with stand.collecting(stand.settings(node.address)) as collector:
        stand.wait_for_flows(12)
        wait(lambda: collector.ready() is None, what="readiness")
    assert sorted(stand.uuids()) == sorted(make.made[:5] + make.made[10:17])
    (row,) = stand.coverage("gap")
    assert (row["source"], row["node_name"]) == ("spool_unreadable", None)
    assert [path.name for path in (stand.folder / "spool" / "unreadable").iterdir()] == [f"c1-{damaged.name}"]
    assert spool.paths("c1") == []


def test_a_spool_file_damaged_while_the_lake_is_away_is_set_aside_and_booked_and_collecting_goes_on(
    stand: Any, flows_of: Any, node: SimulatedNode, wait: Any
) -> None:
    make = flows_of("c1/n1")
    observe(node, make(5))
    log = stand.folder / "lake" / "flows" / "_delta_log"
    away = log.with_name("_away")
    with stand.collecting(stand.settings(node.address)) as collector:
        stand.wait_for_flows(4)
        log.rename(away)
        log.write_text("in the way")
        observe(node, make(10))
        (spooled,) = wait(lambda: list((stand.folder / "spool" / "c1").glob("*.parquet")), what="batch in the spool")
        # A busy machine may put fewer than all ten flows into the first batch.
        damaged = set(pq.read_table(spooled, columns=["uuid"])["uuid"].to_pylist())
        spooled.write_bytes(b"")
        log.unlink()
        away.rename(log)
        observe(node, make(10))
        wait(lambda: stand.coverage("gap"), what="booking")
        stand.wait_for_flows(24 - len(damaged))
        assert collector.healthy() is None
    assert damaged
    assert [row["source"] for row in stand.coverage("gap")] == ["spool_unreadable"]
    stored = stand.uuids()
    assert len(stored) == len(set(stored))
    # A stream that is opened again may bring what the damaged file held, since the ring still has it.
    assert set(make.made[:24]) - damaged <= set(stored) <= set(make.made)


def test_a_batch_that_was_stored_but_not_deleted_from_the_spool_is_not_booked_again(
    stand: Any, flows_of: Any, node: SimulatedNode, wait: Any
) -> None:
    now = dt.datetime.now(UTC)
    lost = coverage_row("c1", (now - dt.timedelta(seconds=9), now), "c1/n1", "lost", "PERF_EVENT_RING_BUFFER", None, 42, None, now)
    batch = Batch(cluster="c1", sequence=1, rows=schema.FLOWS.schema.empty_table(), coverage=[lost])
    observe(node, flows_of("c1/n1")(3))
    for _ in range(2):
        Spool(stand.folder / "spool", 2**30).put(batch)
        with stand.collecting(stand.settings(node.address)) as collector:
            wait(lambda: collector.ready() is None, what="stream")
    assert [row["flows_lost"] for row in stand.coverage("lost")] == [42]


def test_a_full_spool_holds_the_streams_and_says_so_in_the_ledger(stand: Any, flows_of: Any, node: SimulatedNode, wait: Any) -> None:
    make = flows_of("c1/n1")
    observe(node, make(5))
    log = stand.folder / "lake" / "flows" / "_delta_log"
    away = log.with_name("_away")
    small = {"spool_max_bytes": 1, "flush_rows": 10}
    with stand.collecting(stand.settings(node.address, collect=small)) as collector:
        stand.wait_for_flows(4)
        log.rename(away)
        log.write_text("in the way")

        def goes_on() -> bool:
            observe(node, make(20))
            time.sleep(0.4)
            return collector._paused_since_us is not None

        wait(goes_on, what="held streams")
        log.unlink()
        away.rename(log)
        stand.wait_for_flows(len(make.made) - 1)
    assert sorted(stand.uuids()) == sorted(make.made[:-1])
    assert "spool_full" in [row["source"] for row in stand.coverage("disconnected")]


def test_sigterm_stores_what_has_come_and_ends_in_time_with_0(stand: Any, flows_of: Any, node: SimulatedNode, wait: Any) -> None:
    make = flows_of("c1/n1")
    observe(node, make(11))
    stand.settings(node.address, collect={"flush_every": "1h", "listen": "127.0.0.1:0"})
    collector = process(stand)
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
    collector = process(stand, "--for", "2s")
    output, errors = collector.communicate(timeout=200)
    assert collector.returncode == 1
    assert "0 flows stored" in output
    assert "127.0.0.1:1: cannot be reached" in errors
    assert process(stand, "--for", "soon").wait(200) == 2


def test_health_readiness_and_metrics_are_served(stand: Any, flows_of: Any, node: SimulatedNode) -> None:
    from collectors.streaming.health import HealthServer

    make = flows_of("c1/n1")
    observe(node, make(5))

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


def test_killed_at_random_moments_nothing_is_doubled_and_what_is_missing_is_declared(stand: Any, flows_of: Any) -> None:
    make = flows_of("c1/n1")
    sent: list[flow_pb2.Flow] = []
    with SimulatedNode("c1/n1", capacity=1023) as node:
        stand.settings(node.address)
        for run in range(4):
            collector = process(stand)
            deadline = time.monotonic() + 2.2 + run * 0.17
            while time.monotonic() < deadline:
                some = make(20)
                observe(node, some)
                sent += some
                time.sleep(0.02)
            os.kill(collector.pid, signal.SIGKILL)
            collector.communicate()
        final = process(stand, "--for", "3s")
        final.communicate(timeout=300)
    stored = stand.uuids()
    assert len(stored) == len(set(stored))
    declared = stand.coverage("gap", "lost")
    known = set(stored)
    begin = next(number for number, flow in enumerate(sent) if flow.uuid in known)  # what fell out of the ring before is no history
    assert len(known) > 1000
    for flow in sent[begin:-1]:
        if flow.uuid not in known:
            at = flow.time.ToDatetime(UTC)
            assert any(row["from"] <= at < row["to"] for row in declared), f"{at} is missing, undeclared"


# What is asked -----------------------------------------------------------------------------------------------


def test_a_token_goes_to_the_gateway_over_tls_and_a_wrong_one_is_reported(
    stand: Any, flows_of: Any, wait: Any, tmp_path: Path, certificates: ModuleType
) -> None:
    ours = certificates.certificates(tmp_path / "tls")
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
    with Server(answer, credentials) as server:
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
    observe(node, make(3))
    for flow in make(4):
        flow.verdict = flow_pb2.DROPPED
        node.observe(flow)
    for flow in make(2):
        flow.verdict = flow_pb2.DROPPED
        flow.source.pod_name = flow.source.namespace = "noise"
        flow.source.pod_name = "noise-1"
        node.observe(flow)
    observe(node, make(1))
    filters = {"allow": [{"verdict": ["DROPPED"]}], "deny": [{"source_pod": ["noise/"]}]}
    with stand.collecting(stand.settings(node.address, **filters)):
        stand.wait_for_flows(4)
    assert sorted(stand.uuids()) == sorted(make.made[3:7])


def test_a_filter_that_hubble_does_not_know_is_reported(stand: Any, node: SimulatedNode, wait: Any) -> None:
    with stand.collecting(stand.settings(node.address, allow=[{"verdicts": ["DROPPED"]}])) as collector:
        assert "hubble.allow[0]" in wait(lambda: (p := collector.ready()) and "verdicts" in p and p, what="complaint")


def test_certificates_that_rotate_on_disk_are_used_for_the_next_stream(
    stand: Any, flows_of: Any, wait: Any, tmp_path: Path, certificates: ModuleType
) -> None:
    name = "n1.c1.hubble-grpc.cilium.io"
    ours = certificates.certificates(tmp_path / "tls")
    ours.issue("client", valid_for=dt.timedelta(hours=-1))
    client, key = ours.client
    tls = {"ca": str(ours.ca), "cert": str(client), "key": str(key), "server_name": name}
    with tls_node(*ours.issue(name), ours.ca) as server:
        observe(server, flows_of("c1/n1")(3))
        with stand.collecting(stand.settings(server.address, plaintext=False, tls=tls)) as collector:
            assert "hubble.tls.cert" in wait(lambda: (p := collector.ready()) and "cannot be reached" in p and p, what="refusal")
            ours.issue("client")
            stand.wait_for_flows(2)
