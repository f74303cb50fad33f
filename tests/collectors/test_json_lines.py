"""Exporter lines read in bulk: never differently from protobuf's own reader, and refused where that would be in doubt."""

from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.importing import json_lines

REAL = Path(__file__).parents[1] / "data" / "hubble" / "real_2021_gke.jsonl"
PLAIN = b'{"flow":{"uuid":"a","verdict":"DROPPED"},"node_name":"n","time":"2026-03-02T12:00:00Z"}\n'


def flows(lines: list[bytes]) -> list[flow_pb2.Flow] | None:
    encoded = json_lines.Reader().encode([line.removesuffix(b"\n") for line in lines])
    return None if encoded is None or encoded.left else [flow_pb2.Flow.FromString(message) for message in encoded.messages.to_pylist()]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"not json\n",
        b'{"flow":null}\n',
        b'{"flow":{"uuid":"a"}\n',
        b'{"flow":{"uuid":"a"}} {"flow":{"uuid":"b"}}\n',
        b'{"flow":{"uuid":7}}\n',
        b'{"flow":{"verdict":"NEWER_THAN_US"}}\n',
        b'{"flow":{"verdict":2}}\n',
        b'{"flow":{"uuid":"a"}}\n',
        b'{"flow":{"podName":"a"},"nodeName":"n"}\n',
        b'{"flow":{"time":"2026-03-02"}}\n',
        b'{"flow":{"time":"2026-03-02 12:00:00"}}\n',
        b'{"flow":{"socket_cookie":-1}}\n',
        b'{"flow":{"time":"yesterday"}}\n',
        b'{"flow":{"uuid":"\xff"}}\n',
        b'{"flow":{"extensions":{"@type":"x"}}}\n',
        b'{"lost_events":{"num_events_lost":"3"}}\n',
        b'{"flow":{"l4":{"TCP":{"source_port":-1}}}}\n',
    ],
)
def test_a_batch_with_an_unusual_line_is_refused(line: bytes) -> None:
    assert flows([PLAIN, line, PLAIN]) is None


def test_real_lines_are_read_as_protobuf_reads_them() -> None:
    lines = REAL.read_bytes().splitlines(keepends=True)
    assert flows(lines) == [json_format.Parse(line, observer_pb2.ExportEvent()).flow for line in lines]


_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
_FLOWS = st.builds(
    flow_pb2.Flow,
    uuid=_TEXT,
    verdict=st.sampled_from([0, 1, 2, 4]),
    drop_reason=st.integers(0, 2**32 - 1),
    socket_cookie=st.integers(0, 2**64 - 1),
    Summary=_TEXT,
    source_names=st.lists(_TEXT, max_size=3),
    source=st.builds(flow_pb2.Endpoint, namespace=_TEXT, labels=st.lists(_TEXT, max_size=2), identity=st.integers(0, 2**32 - 1)),
    l4=st.sampled_from(
        [None, {}, {"TCP": {}}, {"TCP": {"source_port": 1, "flags": {}}}, {"TCP": {"flags": {"SYN": True}}}, {"ICMPv4": {"type": 8}}]
    ),
    is_reply=st.sampled_from([None, {}, {"value": True}]),
    egress_allowed_by=st.lists(st.builds(flow_pb2.Policy, name=_TEXT, revision=st.integers(0, 2**64 - 1)), max_size=2),
    time=st.builds(dict, seconds=st.integers(0, 2**32), nanos=st.sampled_from([0, 1, 120_000_000, 999_999_999])),
    node_name=st.sampled_from(["n", "m"]),
)


@given(st.lists(_FLOWS, min_size=1, max_size=6))
def test_generated_flows_are_read_as_protobuf_reads_them(made: list[flow_pb2.Flow]) -> None:
    lines = []
    for flow in made:
        event = observer_pb2.ExportEvent(flow=flow, node_name="n")
        lines.append(
            json_format.MessageToJson(event, indent=None, preserving_proto_field_name=True).replace('{"flow": ', '{"flow":').encode()
            + b"\n"
        )
    assert flows(lines) == [json_format.Parse(line, observer_pb2.ExportEvent()).flow for line in lines]
