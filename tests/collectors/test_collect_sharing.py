"""Two collectors of one cluster: one of them stores its flows, and what the other one has is neither lost nor stored twice."""

import contextlib
import datetime as dt
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from collectors.decoding.decode import decode
from collectors.sharing.assignment import assign
from collectors.simulator.node import SimulatedNode
from collectors.streaming.collect import Collector
from collectors.streaming.spool import Batch, Spool
from tests.modules import load
from warehouse import schema
from warehouse.errors import ConfigError

UTC = dt.UTC

streams: Any = load(Path(__file__).with_name("streams.py"))


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
    streams.observe(node, make(5))
    other = stand.settings(node.address, collect={"spool": stand.folder / "other"})
    with stand.collecting(stand.settings(node.address)) as first:
        stand.wait_for_flows(4)
        with elsewhere(), stand.collecting(other) as second:
            assert "standing by" in wait(lambda: (p := second.ready()) and "standing by" in p and p, what="notice")
            streams.observe(node, make(5))
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
    streams.observe(node, make(5))
    with stand.collecting(stand.settings(node.address)) as first:
        stand.wait_for_flows(4)
        twice, old = make.made[0], make(1, at=dt.datetime.now(UTC) - dt.timedelta(hours=1))
        messages = [flow.SerializeToString() for flow in old]
        rows = decode(messages, cluster="c1", recorded=dt.datetime.now(UTC)).rows
        known = stand.lake.read(schema.FLOWS).cast(rows.schema)
        spool.put(Batch(cluster="c1", sequence=1, rows=pa.concat_tables([rows, known.filter(pc.field("uuid") == twice)])))
        with elsewhere(), stand.collecting(other):
            wait(lambda: not spool.units(), what="an empty spool")
        streams.observe(node, make(5))
        stand.wait_for_flows(10)
        wait(lambda: first.flows_stored == 9, what="what it stored in its count, which comes after the commit")
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
            streams.observe(node, make(10))
            time.sleep(0.1)
        streams.observe(node, make(1))
        stand.wait_for_flows(200)
    assert sorted(stand.uuids()) == sorted(make.made[:200])
