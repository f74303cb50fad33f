"""Spans that are read with one scan give the same flows, in the same order, as spans that are read one by one."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from api import history
from api.blocks import Block, StoppedError
from api.plans import plan
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from tests.modules import load
from warehouse.access.principals import Principal
from warehouse.engine import Window
from warehouse.questions import flow_spans
from warehouse.schema import FLOWS

world: Any = load(Path(__file__).with_name("conftest.py"))
stored = world.stored


def read(stored: Any, user: str, **request: Any) -> list[bytes]:
    door = stored.door()
    who = Principal(user=user)
    subject = flow_spans.flows_of(Window(), ()).subject
    with ThreadPoolExecutor(1) as ahead, door.reading(who, "flows", subject) as reading:
        asked = history.History(reading, stored.lake.pinned(FLOWS), plan(observer_pb2.GetFlowsRequest(**request)), ahead)
        return [message for piece in asked.pieces() for message in piece.messages.to_pylist()]


@pytest.mark.parametrize(
    ("user", "request_"),
    [
        ("ada", {}),
        ("ada", {"whitelist": [flow_pb2.FlowFilter(source_pod=["cart/"])]}),
        ("ada", {"blacklist": [flow_pb2.FlowFilter(http_path=["/api.*"])]}),
        ("ada", {"number": 170, "first": True}),
    ],
)
def test_a_block_gives_what_its_spans_give_one_by_one(
    stored: Any, monkeypatch: pytest.MonkeyPatch, user: str, request_: dict[str, Any]
) -> None:
    monkeypatch.setattr(history, "FIRST_ROWS", 5)
    monkeypatch.setattr(history, "MOST_ROWS", 20)
    made = list[int]()

    class Counted(Block):
        def __init__(self, spans: Any, *more: Any) -> None:
            made.append(len(spans))
            super().__init__(spans, *more)

    monkeypatch.setattr(history, "Block", Counted)
    together = read(stored, user, **request_)
    assert max(made) > 2
    monkeypatch.setattr(history, "BLOCK_PIECES", 1)
    assert together == read(stored, user, **request_)
    assert together


def test_a_block_that_nobody_wants_stops_reading() -> None:
    stopped = threading.Event()
    block = Block([(0, 1), (1, 2)], lambda rows: pytest.fail("it was encoded"), stopped)
    stopped.set()
    with pytest.raises(StoppedError):
        block.add(pa.record_batch({"time": [1]}))
