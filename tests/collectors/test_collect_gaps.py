"""What the collector did not see is declared: overrun rings, restarts, losses, silent streams, and a collector that is killed."""

import datetime as dt
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.simulator.node import SimulatedNode
from tests.modules import load
from warehouse import schema

UTC = dt.UTC

streams: Any = load(Path(__file__).with_name("streams.py"))


def test_a_ring_that_was_overrun_while_nobody_read_is_a_gap(stand: Any, flows_of: Any) -> None:
    make = flows_of("c1/n1")
    sent = make(5)
    with SimulatedNode("c1/n1", capacity=15) as node:
        streams.observe(node, sent)
        with stand.collecting(stand.settings(node.address)):
            stand.wait_for_flows(4)
        missed = make(100)
        streams.observe(node, missed)
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
    streams.observe(node, make(5))
    with stand.collecting(stand.settings(node.address)):
        stand.wait_for_flows(4)
    streams.observe(node, make(50))
    with stand.collecting(stand.settings(node.address)):
        stand.wait_for_flows(54)
    assert stand.coverage("gap", "lost") == []
    assert sum(row["flows_received"] for row in stand.coverage("connected")) == 54


def test_a_node_that_restarts_is_a_gap_that_says_so(stand: Any, flows_of: Any, node: SimulatedNode) -> None:
    make = flows_of("c1/n1")
    with stand.collecting(stand.settings(node.address)):
        streams.observe(node, make(5))
        stand.wait_for_flows(4)
        time.sleep(2.5)
        node.restart()
        streams.observe(node, make(5))
        stand.wait_for_flows(8)
        time.sleep(0.6)
    assert [row["source"] for row in stand.coverage("gap")] in (["node_restart"], ["ring_overrun"])
    assert sorted(stand.uuids()) == sorted(make.made[:4] + make.made[5:9])


def test_lost_events_of_every_source_are_booked_with_their_numbers(stand: Any, flows_of: Any, node: SimulatedNode) -> None:
    make = flows_of("c1/n1")
    streams.observe(node, make(2))
    for source, count in ((flow_pb2.PERF_EVENT_RING_BUFFER, 7), (flow_pb2.OBSERVER_EVENTS_QUEUE, 11)):
        node.observe(flow_pb2.LostEvent(source=source, num_events_lost=count))
        streams.observe(node, make(1))
    streams.observe(node, make(1))
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

    with streams.Server(answer) as server, stand.collecting(stand.settings(server.address, silent_after="500ms")):
        stand.wait_for_flows(3)
    assert len(asked) >= 3


def test_a_stream_that_ends_in_good_order_is_opened_again(stand: Any, flows_of: Any) -> None:
    make = flows_of("c1/n1")

    def answer(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from (observer_pb2.GetFlowsResponse(flow=flow).SerializeToString() for flow in make(1))

    with streams.Server(answer) as server, stand.collecting(stand.settings(server.address)):
        stand.wait_for_flows(3)


def test_flows_from_1970_and_the_future_are_kept_and_flagged_and_do_not_move_the_resume_point(
    stand: Any, flows_of: Any, node: SimulatedNode
) -> None:
    make = flows_of("c1/n1")
    streams.observe(
        node, make(3) + make(1, at=dt.datetime(1970, 1, 2, tzinfo=UTC)) + make(1, at=dt.datetime.now(UTC) + dt.timedelta(hours=5))
    )
    streams.observe(node, make(3))
    with stand.collecting(stand.settings(node.address)):
        stand.wait_for_flows(7)
    streams.observe(node, make(3))
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


def test_killed_at_random_moments_nothing_is_doubled_and_what_is_missing_is_declared(stand: Any, flows_of: Any) -> None:
    make = flows_of("c1/n1")
    sent: list[flow_pb2.Flow] = []
    with SimulatedNode("c1/n1", capacity=1023) as node:
        stand.settings(node.address)
        for run in range(4):
            collector = streams.process(stand)
            deadline = time.monotonic() + 2.2 + run * 0.17
            while time.monotonic() < deadline:
                some = make(20)
                streams.observe(node, some)
                sent += some
                time.sleep(0.02)
            os.kill(collector.pid, signal.SIGKILL)
            collector.communicate()
        final = streams.process(stand, "--for", "3s")
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
