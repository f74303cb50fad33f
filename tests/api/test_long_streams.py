"""A stream goes on when the files that it began with are deleted: no flow is missing and none comes twice."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from api import calls, history
from api.plans import plan
from collectors.hubble_api.observer import observer_pb2
from hindcast import flow_export
from pipelines.maintenance import compaction
from tests.modules import load
from warehouse import config, schema
from warehouse.access.principals import OPERATOR
from warehouse.lake.tables import Lake
from warehouse.questions import flow_spans
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter

world: Any = load(Path(__file__).with_name("conftest.py"))
COUNT = 900


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Lake, list[Any]]:
    """A lake with two of three flows in several files; every handle is old at once, and pieces are small."""
    monkeypatch.setattr(flow_spans, "HANDLE_SECONDS", 0.0)
    monkeypatch.setattr(history, "FIRST_ROWS", 20)
    monkeypatch.setattr(history, "MOST_ROWS", 100)
    monkeypatch.setattr(history, "MOST_HELD", 50)
    monkeypatch.setattr(flow_export, "PIECE_ROWS", 100)
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    flows = world.simulated(COUNT)
    for part in range(4):
        world.store(lake, [flow for number, flow in enumerate(flows) if number % 6 == part])
    return lake, flows


def merge(lake: Lake) -> None:
    """Merge the files of closed hours, and delete those that were replaced, as vacuum does an hour later."""
    before = lake.files(schema.FLOWS)
    compaction.compact_closed_hours(lake, now=dt.datetime.now(dt.UTC))
    replaced = set(before) - set(lake.files(schema.FLOWS))
    assert replaced
    for path in replaced:
        Path(path).unlink()


def messages(batch: Any) -> list[str]:
    """The uuids of the flows of a batch."""
    content, found = bytes(batch.content), []
    while content:
        length = int.from_bytes(content[1:5])
        response = observer_pb2.GetFlowsResponse.FromString(content[5 : 5 + length])
        found += [response.flow.uuid] if response.HasField("flow") else []
        content = content[5 + length :]
    return found


@pytest.mark.parametrize(("number", "follow"), [(0, False), (COUNT, True)])
def test_a_stream_outlives_its_files(made: tuple[Lake, list[Any]], number: int, follow: bool) -> None:
    lake, flows = made
    first = observer_pb2.GetFlowsRequest(number=number, follow=follow)
    first.since.CopyFrom(flows[0].time)
    door = Door(lake, config.Ownership())
    late = flows[4::6]
    with ThreadPoolExecutor(1) as ahead:
        call = calls.Call(door, OPERATOR, plan(first), config.ServeLimits(), ahead)
        got: list[str] = []
        for place, batch in enumerate(call.recorded()):
            got += messages(batch)
            if place == 1:
                merge(lake)
                world.store(lake, late)  # before and after the place that the stream has come to
            if place == 4:
                merge(lake)
        sent_of_late = len(set(got) & {flow.uuid for flow in late})
        world.store(lake, flows[5::6])
        if follow:
            for batch in call.appended():
                got += messages(batch)
        call.close()
    assert len(got) == len(set(got))
    wanted = {flow.uuid for number, flow in enumerate(flows) if number % 6 < 4}
    assert wanted <= set(got)
    assert 0 < sent_of_late <= len(late)
    if follow:
        assert set(got) == {flow.uuid for flow in flows}


def test_an_export_outlives_its_files(made: tuple[Lake, list[Any]]) -> None:
    lake, flows = made
    wanted = FlowFilter(since=flows[0].time.ToDatetime(dt.UTC), until=flows[-1].time.ToDatetime(dt.UTC) + dt.timedelta(seconds=1))
    got: list[pa.RecordBatch] = []
    with flow_export.every(Door(lake, config.Ownership()), OPERATOR, wanted) as reader:
        for place, batch in enumerate(reader):
            got.append(batch)
            if place == 1:
                merge(lake)
    found = pa.Table.from_batches(got)["uuid"].to_pylist()
    assert sorted(found) == sorted(flow.uuid for number, flow in enumerate(flows) if number % 6 < 4)
