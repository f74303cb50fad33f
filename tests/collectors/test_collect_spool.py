"""While the lake is away flows wait in the spool; damaged and full spools lose nothing silently."""

import datetime as dt
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow.parquet as pq
import pytest

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.simulator.node import SimulatedNode
from collectors.streaming.coverage_rows import coverage_row
from collectors.streaming.spool import Batch, Spool
from tests.modules import load
from warehouse import schema

UTC = dt.UTC

streams: Any = load(Path(__file__).with_name("streams.py"))


def _put_back(away: Path, folder: Path) -> None:
    """Bring a table's folder back, although a collector may have written files to its place; the log comes last, with every file there."""
    for file in away.rglob("*.parquet"):
        if "_delta_log" not in file.parts:
            place = folder / file.relative_to(away)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.rename(place)
    (away / "_delta_log").rename(folder / "_delta_log")


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

    with streams.Server(answer) as server:
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
            _put_back(folder.with_name("away"), folder)
            stand.wait_for_flows(6)
    assert sorted(stand.uuids()) == sorted(make.made)
    assert [row["flows_lost"] for row in stand.coverage("lost")] == [42]


def test_a_lake_whose_disk_takes_nothing_costs_no_flow(stand: Any, flows_of: Any, node: SimulatedNode, wait: Any) -> None:
    make = flows_of("c1/n1")
    streams.observe(node, make(5))
    stand.settings(node.address)
    collector = streams.process(stand)
    try:
        stand.wait_for_flows(4)
        hard = resource.prlimit(collector.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(collector.pid, resource.RLIMIT_FSIZE, (0, hard))
        streams.observe(node, make(50))
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
    streams.observe(node, make(5))
    log = stand.folder / "lake" / "flows" / "_delta_log"
    away = log.with_name("_away")
    with stand.collecting(stand.settings(node.address)):
        stand.wait_for_flows(4)
        log.rename(away)
        log.write_text("in the way")  # the table is not there, and cannot be made anew
        streams.observe(node, make(50))
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
    streams.observe(node, make(3))
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
    streams.observe(node, make(5))
    log = stand.folder / "lake" / "flows" / "_delta_log"
    away = log.with_name("_away")
    with stand.collecting(stand.settings(node.address)) as collector:
        stand.wait_for_flows(4)
        log.rename(away)
        log.write_text("in the way")
        streams.observe(node, make(10))
        (spooled,) = wait(lambda: list((stand.folder / "spool" / "c1").glob("*.parquet")), what="batch in the spool")
        # A busy machine may put fewer than all ten flows into the first batch.
        damaged = set(pq.read_table(spooled, columns=["uuid"])["uuid"].to_pylist())
        spooled.write_bytes(b"")
        log.unlink()
        away.rename(log)
        streams.observe(node, make(10))
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
    streams.observe(node, flows_of("c1/n1")(3))
    for _ in range(2):
        Spool(stand.folder / "spool", 2**30).put(batch)
        with stand.collecting(stand.settings(node.address)) as collector:
            wait(lambda: collector.ready() is None, what="stream")
    assert [row["flows_lost"] for row in stand.coverage("lost")] == [42]


def test_a_full_spool_holds_the_streams_and_says_so_in_the_ledger(stand: Any, flows_of: Any, node: SimulatedNode, wait: Any) -> None:
    make = flows_of("c1/n1")
    streams.observe(node, make(5))
    log = stand.folder / "lake" / "flows" / "_delta_log"
    away = log.with_name("_away")
    small = {"spool_max_bytes": 1, "flush_rows": 10}
    with stand.collecting(stand.settings(node.address, collect=small)) as collector:
        stand.wait_for_flows(4)
        log.rename(away)
        log.write_text("in the way")

        def goes_on() -> bool:
            streams.observe(node, make(20))
            time.sleep(0.4)
            return collector._paused_since_us is not None

        wait(goes_on, what="held streams")
        log.unlink()
        away.rename(log)
        stand.wait_for_flows(len(make.made) - 1)
    assert sorted(stand.uuids()) == sorted(make.made[:-1])
    assert "spool_full" in [row["source"] for row in stand.coverage("disconnected")]
