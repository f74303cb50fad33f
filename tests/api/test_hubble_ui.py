"""What Hubble UI's backend asks is answered as it expects: followed flows with its mask, while status and nodes are polled."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from collectors.hubble_api.flow import flow_pb2
from tests.modules import load
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door

world: Any = load(Path(__file__).with_name("conftest.py"))
MASK = FieldMask(
    paths=[
        "time",
        "uuid",
        "verdict",
        "drop_reason_desc",
        "IP",
        "l4",
        "l7",
        "source",
        "destination",
        "source_names",
        "destination_names",
        "source_service",
        "destination_service",
        "traffic_direction",
        "is_reply",
        "node_name",
        "event_type",
    ]
)
NOT_HUBBLES = [flow_pb2.FlowFilter(source_label=["reserved:health"]), flow_pb2.FlowFilter(destination_label=["reserved:health"])]


def test_a_followed_namespace_while_status_is_polled(tmp_path: Path) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    flows = world.simulated(400)
    world.store(lake, flows[:200])
    chosen = [flow_pb2.FlowFilter(source_pod=["cart/"]), flow_pb2.FlowFilter(destination_pod=["cart/"])]
    wanted = [flow.uuid for flow in flows if "cart" in (flow.source.namespace, flow.destination.namespace)]
    with world.serving(Door(lake, config.Ownership())) as client:
        call = client.stream(number=10_000, follow=True, whitelist=chosen, blacklist=NOT_HUBBLES, field_mask=MASK)
        found = [next(call).flow]
        world.store(lake, flows[200:])
        for _ in range(len(wanted) - 1):
            found.append(next(call).flow)
            assert client.ask("ServerStatus").version.startswith("hindcast")
            client.ask("GetNodes")
        call.cancel()
    assert [flow.uuid for flow in found] == wanted
    masked = [flow_pb2.Flow() for _ in wanted]
    for flow, whole in zip(masked, [flow for flow in flows if flow.uuid in wanted], strict=True):
        MASK.MergeMessage(whole, flow)
        flow.l7.http.ClearField("headers")  # collectors leave out the values of some
    assert [flow.source for flow in found] == [flow.source for flow in masked]
    assert not [flow for flow in found if flow.HasField("ethernet") or flow.HasField("interface")]


def test_a_lake_that_is_away_is_said_and_is_back_when_it_is(tmp_path: Path) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    world.store(lake, world.simulated(20))
    with world.serving(Door(lake, config.Ownership())) as client:
        assert len(client.flows(number=5)) == 5
        (tmp_path / "lake").rename(tmp_path / "away")
        with pytest.raises(grpc.RpcError) as caught:
            client.flows(number=5)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT)  # type: ignore[attr-defined]
        (tmp_path / "away").rename(tmp_path / "lake")
        assert len(client.flows(number=5)) == 5
