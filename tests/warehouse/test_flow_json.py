"""A row as the JSON that hubble prints: against protobuf's own printing of the flow that was stored."""

import datetime as dt
import itertools
import json

from google.protobuf.json_format import MessageToDict

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse.questions.flow_json import flow_json


def test_simulated_flows_are_printed_as_hubble_prints_them() -> None:
    now = dt.datetime(2026, 3, 2, 14, tzinfo=dt.UTC)
    flows = list(itertools.islice(Traffic(build_fleet(1, clusters=("c1",)), 1, now, 5.0).flows(), 3_000))
    rows = decode([flow.SerializeToString() for flow in flows], cluster="c1", recorded=now).rows.to_pylist()
    differing = []
    for flow, row in zip(flows, rows, strict=True):
        assert row["rest"] is None
        printed = MessageToDict(flow, preserving_proto_field_name=True)
        if flow_json(row) != printed:
            differing.append((flow_json(row), printed))
    assert not differing, json.dumps(differing[0], indent=1, default=str)


def test_what_may_not_be_seen_is_not_in_it() -> None:
    assert flow_json({"time": None, "verdict": "DROPPED", "source_namespace": "shop"}) == {
        "verdict": "DROPPED",
        "source": {"namespace": "shop"},
    }


def test_an_empty_flow_is_an_empty_object() -> None:
    row = decode([flow_pb2.Flow().SerializeToString()], cluster="c1", recorded=dt.datetime(2026, 3, 2, tzinfo=dt.UTC)).rows.to_pylist()[0]
    assert set(flow_json(row)) <= {"time", "verdict"}
