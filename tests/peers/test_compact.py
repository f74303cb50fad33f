"""Our lines beside those of the real `hubble observe`, for the same flows."""

import datetime as dt
import itertools
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import json_format

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from hindcast import compact

pytestmark = pytest.mark.peers

REAL_FLOWS = Path(__file__).parents[1] / "data" / "hubble" / "real_2021_gke.jsonl"
START = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)


def exported(flow: flow_pb2.Flow) -> str:
    event = observer_pb2.ExportEvent(flow=flow, node_name=flow.node_name, time=flow.time)
    return json_format.MessageToJson(event, indent=None, preserving_proto_field_name=True) + "\n"


@pytest.mark.parametrize("kind", ["real", "simulated"])
def test_the_compact_form_is_that_of_hubble(kind: str, running: ModuleType, tmp_path: Path) -> None:
    if kind == "real":
        lines = REAL_FLOWS.read_text().splitlines(keepends=True)
        flows = [json_format.Parse(line, observer_pb2.ExportEvent()).flow for line in lines]
    else:
        flows = list(itertools.islice(Traffic(build_fleet(1), 1, START, 1000.0).flows(), 3000))
        lines = [exported(flow) for flow in flows]
    (tmp_path / "flows.jsonl").write_text("".join(lines))
    printed = running.run_hubble(
        ["observe", "--input-file", str(tmp_path / "flows.jsonl"), "-o", "compact", "--time-format", "StampMilli", "--color", "never"]
    )
    assert printed.returncode == 0, printed.stderr
    rows = decode([flow.SerializeToString() for flow in flows], cluster="c", recorded=START, live=False).rows
    ours = [compact.line(row) for row in rows.select(compact.COLUMNS).to_pylist()]
    assert ours == printed.stdout.splitlines()


def test_every_drop_reason_has_the_words_of_hubble(running: ModuleType, tmp_path: Path) -> None:
    reasons = {name: number for name, number in flow_pb2.DropReason.items() if number <= 255}
    flows = []
    for number in reasons.values():
        flow = flow_pb2.Flow(verdict=flow_pb2.DROPPED, drop_reason=number, drop_reason_desc=number, node_name="c/n1", uuid=str(number))
        flow.time.FromDatetime(START)
        flow.event_type.type, flow.event_type.sub_type = 1, number
        flow.IP.source, flow.IP.destination, flow.IP.ipVersion = "10.0.0.1", "10.0.0.2", flow_pb2.IPv4
        flows.append(flow)
    (tmp_path / "flows.jsonl").write_text("".join(exported(flow) for flow in flows))
    printed = running.run_hubble(
        ["observe", "--input-file", str(tmp_path / "flows.jsonl"), "-o", "compact", "--time-format", "StampMilli", "--color", "never"]
    )
    assert printed.returncode == 0, printed.stderr
    rows = decode([flow.SerializeToString() for flow in flows], cluster="c", recorded=START, live=False).rows
    ours = [compact.line(row) for row in rows.select(compact.COLUMNS).to_pylist()]
    assert dict(zip(reasons, ours, strict=True)) == dict(zip(reasons, printed.stdout.splitlines(), strict=True))
