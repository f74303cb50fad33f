"""De-duplication: whatever is replayed, in whatever order, each flow counts once."""

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.streaming.known_flows import KnownFlows
from warehouse import schema
from warehouse.errors import LakeError

NOW = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000


class Store:
    """What the lake would hold."""

    def __init__(self) -> None:
        self.rows: pa.Table = schema.FLOWS.schema.empty_table()
        self.asked = 0

    def read(self, columns: Sequence[str] | None, since: dt.datetime, until: dt.datetime) -> pa.Table:
        self.asked += 1
        wanted = [row for row, time in enumerate(self.rows["time"].to_pylist()) if since <= time < until]
        rows = self.rows.take(pa.array(wanted, pa.int64()))
        return rows if columns is None else rows.select(columns)


def flow(number: int, *, second: float, node: str = "n1", with_uuid: bool = True) -> bytes:
    made = flow_pb2.Flow(node_name=node, verdict=flow_pb2.FORWARDED)
    if with_uuid:
        made.uuid = str(uuid.UUID(int=number))
    made.source.ID = number
    made.time.FromMicroseconds(NOW_US + int(second * 1_000_000))
    return made.SerializeToString()


def rows_of(*messages: bytes) -> pa.Table:
    return decode(messages, cluster="c1", recorded=NOW).rows


def accept(held: KnownFlows, store: Store, *messages: bytes) -> list[bool]:
    rows = rows_of(*messages)
    fresh = held.new(rows)
    store.rows = pa.concat_tables([store.rows, rows.filter(pa.array(fresh))])
    return [bool(one) for one in fresh]


def test_nothing_is_new_in_an_empty_batch() -> None:
    assert KnownFlows(Store().read, until_us={}, floor_us=None).new(rows_of()).size == 0


def test_a_flow_that_comes_twice_in_one_batch_counts_once() -> None:
    assert accept(
        KnownFlows(Store().read, until_us={}, floor_us=None), Store(), flow(1, second=0), flow(2, second=1), flow(1, second=0)
    ) == [
        True,
        True,
        False,
    ]


def test_a_replay_is_known_without_asking_the_lake() -> None:
    store = Store()
    held = KnownFlows(store.read, until_us={}, floor_us=None)
    accept(held, store, flow(1, second=0), flow(2, second=1))
    assert accept(held, store, flow(1, second=0), flow(2, second=1), flow(3, second=2)) == [False, False, True]
    assert store.asked == 0


def test_after_a_restart_known_flows_are_read_from_the_lake() -> None:
    store = Store()
    accept(KnownFlows(store.read, until_us={}, floor_us=None), store, flow(1, second=-5), flow(2, second=-4))
    again = KnownFlows(store.read, until_us={"n1": NOW_US - 4_000_000}, floor_us=NOW_US)
    assert accept(again, store, flow(2, second=-4), flow(3, second=-3), flow(4, second=1)) == [False, True, True]


def test_an_unreachable_lake_leaves_the_known_flows_as_they_were() -> None:
    store = Store()

    def away(*_arguments: Any) -> pa.Table:
        raise LakeError("the lake is away")

    held = KnownFlows(away, until_us={"n1": NOW_US}, floor_us=NOW_US)
    with pytest.raises(LakeError):
        held.new(rows_of(flow(1, second=-1), flow(2, second=1)))
    held._look_up = store.read
    assert accept(held, store, flow(1, second=-1), flow(2, second=1)) == [True, True]


def test_flows_without_uuid_are_distinguished_by_content() -> None:
    store = Store()
    held = KnownFlows(store.read, until_us={}, floor_us=None)
    first, second = flow(1, second=0, with_uuid=False), flow(2, second=0, with_uuid=False)
    assert accept(held, store, first, second, first) == [True, True, False]
    again = KnownFlows(store.read, until_us={"n1": NOW_US}, floor_us=NOW_US + 1)
    assert accept(again, store, second, flow(3, second=0, with_uuid=False)) == [False, True]


def test_a_flow_from_1970_or_the_future_is_known_when_it_comes_again_and_holds_up_nothing() -> None:
    store = Store()
    held = KnownFlows(store.read, until_us={}, floor_us=None, remembered=1)
    old, future = flow(1, second=-NOW_US / 1e6 + 1), flow(2, second=86_400)
    assert accept(held, store, old, future, flow(3, second=0)) == [True, True, True]
    assert accept(held, store, flow(4, second=1)) == [True]
    assert store.asked == 2  # for the two, when they came first
    assert accept(held, store, old, future, flow(5, second=2)) == [False, False, True]


@given(
    batches=st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=10),
    remembered=st.integers(1, 30),
    restarts=st.sets(st.integers(0, 9)),
    nodes=st.integers(1, 3),
)
def test_whatever_is_replayed_each_flow_is_stored_once(batches: list[list[int]], remembered: int, restarts: set[int], nodes: int) -> None:
    store = Store()
    held = KnownFlows(store.read, until_us={}, floor_us=None, remembered=remembered)
    for number, batch in enumerate(batches):
        if number in restarts:
            held = KnownFlows(store.read, until_us={}, floor_us=NOW_US + 100_000_000, remembered=remembered)
        accept(held, store, *[flow(one, second=one / 2, node=f"n{one % nodes}", with_uuid=one % 5 != 0) for one in batch])
    stored = store.rows["source_endpoint_id"].fill_null(0).to_pylist()
    assert sorted(stored) == sorted({one for batch in batches for one in batch})
    assert np.all(store.rows["flow_count"].to_numpy() == 1)
