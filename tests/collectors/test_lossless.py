"""From a stored row the flow that Hubble sent can be rebuilt, whatever it held."""

import collections
import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.decoding import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from warehouse import schema

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
REAL_FLOWS = Path(__file__).parents[1] / "data" / "hubble" / "real_2021_gke.jsonl"

TEXT = st.one_of(st.sampled_from(["", "shop", "k8s:app=web", "10.0.0.1"]), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
NUMBERS = {
    FieldDescriptor.TYPE_UINT32: st.sampled_from([0, 1, 443, 2**31 - 1, 2**31, 2**32 - 1]),
    FieldDescriptor.TYPE_UINT64: st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]),
    FieldDescriptor.TYPE_INT32: st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**62), 2**62),
    FieldDescriptor.TYPE_ENUM: st.integers(-1, 9),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: TEXT,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=4),
}


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    """Any message of the type: each field present or not, known and unknown enum values, all members of a oneof."""
    message = draw(st.just(descriptor._concrete_class))()
    if descriptor.full_name == "google.protobuf.Timestamp":
        message.seconds = draw(st.integers(-62135596800, 253402300799))
        message.nanos = draw(st.integers(0, 999_999_999))
        return message
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(messages(field.message_type), max_size=3)))
            else:
                getattr(message, field.name).CopyFrom(draw(messages(field.message_type)))
                getattr(message, field.name).SetInParent()
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(NUMBERS[field.type], max_size=3)))
        else:
            setattr(message, field.name, draw(NUMBERS[field.type]))
    return message


# A field no version has yet: as varint, as text, and as a deprecated group.
UNKNOWN = st.sampled_from([b"", b"\xc0\xbb\x01\x07", b"\xc2\xbb\x01\x02hi", b"\xc3\xbb\x01\x08\x01\xc4\xbb\x01"])


@st.composite
def encoded_flows(draw: st.DrawFn) -> bytes:
    message = draw(messages(flow_pb2.Flow.DESCRIPTOR))
    message.source.MergeFromString(draw(UNKNOWN))
    encoded: bytes = message.SerializeToString()
    return encoded + draw(UNKNOWN)


def test_no_flows_give_a_table_with_every_column_and_no_row() -> None:
    rows = decode.decode([], cluster="c", recorded=NOW).rows
    assert rows.schema.equals(schema.FLOWS.schema)
    assert rows.num_rows == 0
    assert decode.rebuild(rows) == []


def test_a_message_that_is_no_flow_is_set_aside_with_its_position_and_the_others_are_kept() -> None:
    good = flow_pb2.Flow(uuid="a", verdict=flow_pb2.DROPPED).SerializeToString()
    decoded = decode.decode([good, b"\x0a\xff", good], cluster="c", recorded=NOW)
    assert decoded.rows.column("uuid").to_pylist() == ["a", "a"]
    assert [(bad.position, bad.message) for bad in decoded.rejected] == [(1, b"\x0a\xff")]
    assert decoded.rejected[0].reason


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(st.lists(encoded_flows(), min_size=1, max_size=3))
def test_any_flow_is_rebuilt_from_its_row(sent: list[bytes]) -> None:
    decoded = decode.decode(sent, cluster="c", recorded=NOW)
    assert not decoded.rejected
    for original, rebuilt in zip(sent, decode.rebuild(decoded.rows), strict=True):
        assert flow_pb2.Flow.FromString(rebuilt) == flow_pb2.Flow.FromString(original)


def test_a_field_newer_than_this_version_goes_to_rest_and_nothing_else_does() -> None:
    plain = flow_pb2.Flow(uuid="a").SerializeToString()
    rows = decode.decode([plain, plain + b"\xc0\xbb\x01\x07"], cluster="c", recorded=NOW).rows
    assert rows.column("rest").to_pylist() == [None, b"\xc0\xbb\x01\x07"]


def test_an_enum_value_newer_than_this_version_is_written_as_its_number() -> None:
    flow = flow_pb2.Flow(verdict=99, drop_reason_desc=9999)
    rows = decode.decode([flow.SerializeToString()], cluster="c", recorded=NOW).rows
    assert rows.column("verdict").to_pylist() == ["99"]
    assert rows.column("drop_reason_desc").to_pylist() == ["9999"]
    assert rows.column("rest").to_pylist() == [None]


@pytest.mark.parametrize(("value", "stored"), [(None, None), (False, False), (True, True)])
def test_is_reply_keeps_unknown_apart_from_false(value: bool | None, stored: bool | None) -> None:
    flow = flow_pb2.Flow()
    if value is not None:
        flow.is_reply.value = value
    rows = decode.decode([flow.SerializeToString()], cluster="c", recorded=NOW).rows
    assert rows.column("is_reply").to_pylist() == [stored]
    assert rows.column("rest").to_pylist() == [None]


@pytest.mark.parametrize(
    ("time", "live", "flagged"),
    [
        (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), True, True),
        (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), False, None),
        (NOW + dt.timedelta(hours=5), True, True),
        (NOW - dt.timedelta(seconds=1), True, None),
    ],
)
def test_a_clock_that_is_hours_off_is_flagged_and_its_time_kept(time: dt.datetime, live: bool, flagged: bool | None) -> None:
    flow = flow_pb2.Flow(uuid="a")
    flow.time.FromDatetime(time)
    rows = decode.decode([flow.SerializeToString()], cluster="c", recorded=NOW, live=live).rows
    assert rows.column("time").to_pylist() == [time]
    assert rows.column("date").to_pylist() == [time.date()]
    assert rows.column("clock_skew").to_pylist() == [flagged]


def test_a_flow_without_a_time_gets_the_recorded_one_and_is_rebuilt_without() -> None:
    rows = decode.decode([b""], cluster="c", recorded=NOW).rows
    assert rows.column("time").to_pylist() == [NOW]
    assert decode.rebuild(rows) == [b""]


def test_an_aggregate_counts_as_its_flows() -> None:
    flow = flow_pb2.Flow()
    flow.aggregate.ingress_flow_count = 40
    flow.aggregate.egress_flow_count = 2
    rows = decode.decode([flow.SerializeToString(), b""], cluster="c", recorded=NOW).rows
    assert rows.column("flow_count").to_pylist() == [42, 1]


def test_flows_of_a_real_cluster_fit_the_columns_whole() -> None:
    lines = REAL_FLOWS.read_text().splitlines()
    flows = [json_format.Parse(line, observer_pb2.ExportEvent()).flow for line in lines]
    rows = decode.decode([flow.SerializeToString() for flow in flows], cluster="gke", recorded=NOW, live=False).rows
    assert rows.column("rest").null_count == len(lines) == 1916
    assert [flow_pb2.Flow.FromString(message) for message in decode.rebuild(rows)] == flows
    plain = [json.loads(line)["flow"] for line in lines]
    for column, truth in (
        ("verdict", [flow["verdict"] for flow in plain]),
        ("source_namespace", [flow["source"].get("namespace") for flow in plain]),
        ("destination_namespace", [flow["destination"].get("namespace") for flow in plain]),
        ("l7_type", [flow.get("l7", {}).get("type") for flow in plain]),
    ):
        assert collections.Counter(rows.column(column).to_pylist()) == collections.Counter(truth)
    assert pa.compute.sum(rows.column("flow_count")).as_py() == 1916
