"""Encodes rows of `flows` as GetFlowsResponse messages with gRPC's prefixes, many at once, in the order of time.

The columns become messages in Rust, without a Python object per flow. Rows with a `rest` and masks that name a part of what a
column holds are finished one by one. What a principal may see was decided before: a hidden column is null here.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import descriptor_pb2, descriptor_pool, timestamp_pb2

from api import frames
from api.masks import Mask
from collectors.decoding import columns, wire
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from warehouse.schema import FLOWS

_FILE = "hindcast_response.proto"
_FLOW_TAG = b"\x0a"
"""The tag of the field `flow` in GetFlowsResponse: number 1, length-delimited."""


@functools.cache
def _tails() -> Any:
    """Return ptars' converter for what a response holds besides its flow."""
    full: Any = observer_pb2.GetFlowsResponse.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package="hindcast", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    response = file.message_type.add(name="Response")
    for name, type_, of in (("node_name", "TYPE_STRING", None), ("time", "TYPE_MESSAGE", ".google.protobuf.Timestamp")):
        number = full.fields_by_name[name].number
        response.field.add(name=name, number=number, type=type_, type_name=of, label="LABEL_OPTIONAL")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    compiled = pool.FindFileByName(_FILE)
    return ptars.HandlerPool([compiled], config=ptars.PtarsConfig()).get_for_message(compiled.message_types_by_name["Response"])


def responses(rows: pa.Table, mask: Mask) -> pa.BinaryArray:
    """Return an encoded response with its prefix for each row, in the order of the rows, which have the mask's columns at least."""
    flat = _flat(rows, hidden=mask.hidden.union(rows.column_names) - (frozenset(mask.columns) - mask.hidden))
    encoded = _finished(columns.encode(flat).cast(pa.binary()), flat["rest"], mask)
    type_ = _tails().schema()
    fields = [columns.texts_of(flat, "node_name"), columns.times_of(flat, type_.field("time").type)]
    tails = _tails().record_batch_to_array(pa.RecordBatch.from_arrays(fields, schema=type_)).cast(pa.binary())
    heads = _heads(encoded)
    lengths = sum(pc.binary_length(part).to_numpy().astype(np.int64) for part in (heads, encoded, tails))
    return pc.binary_join_element_wise(frames.prefixes(lengths), heads, encoded, tails, b"")


def _heads(flows: pa.BinaryArray) -> pa.BinaryArray:
    """Return the tag of the field `flow` and the length of each flow."""
    lengths = pc.binary_length(flows).dictionary_encode()
    return pa.array([_FLOW_TAG + _varint(length) for length in lengths.dictionary.to_pylist()], pa.binary()).take(lengths.indices)


def _varint(number: int) -> bytes:
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def _finished(encoded: pa.BinaryArray, rests: pa.BinaryArray, mask: Mask) -> pa.BinaryArray:
    """Return the flows with the fields in `rest`, and without fields that the mask does not name."""
    if mask.is_exact and rests.null_count == len(rests):
        return encoded
    made = []
    for message, rest in zip(encoded.to_pylist(), rests.to_pylist(), strict=True):
        if rest is None and mask.is_exact:
            made.append(message)
        else:
            made.append(mask.apply(_whole(message, rest)).SerializeToString())
    return pa.array(made, pa.binary())


def flows(rows: pa.Table) -> list[flow_pb2.Flow]:
    """Return the flow of each row; fields whose columns were not read are missing."""
    flat = _flat(rows, hidden=frozenset())
    encoded = columns.encode(flat).to_pylist()
    return [_whole(message, rest) for message, rest in zip(encoded, flat["rest"].to_pylist(), strict=True)]


def _whole(message: bytes, rest: bytes | None) -> flow_pb2.Flow:
    """Return a flow, whose fields in `rest` replace those of its columns."""
    flow = flow_pb2.Flow.FromString(message)
    if rest is not None:
        for name in _names_in(rest):
            flow.ClearField(name)
        flow.MergeFromString(rest)
    return flow


def _names_in(rest: bytes) -> list[str]:
    """Return the names of the top-level fields in `rest` that our protos know."""
    known = flow_pb2.Flow.DESCRIPTOR.fields_by_number
    return [known[number].name for number in wire.fields_of(rest) if number in known]


def order(encoded: pa.BinaryArray, nanoseconds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the positions of the rows in the order of time.

    Flows of the same time are in the order of their messages: the order in the files could reveal columns that are hidden.
    """
    places = np.argsort(nanoseconds, kind="stable")
    sorted_ = nanoseconds[places]
    same = np.flatnonzero(sorted_[1:] == sorted_[:-1])
    if same.size:
        for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1):
            begin, end = run[0], run[-1] + 2
            mine = places[begin:end].tolist()
            places[begin:end] = sorted(mine, key=lambda place: encoded[place].as_py())
    return places


def nanoseconds_of(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Return the time of each row in nanoseconds since 1970."""
    microseconds = rows["time"].cast(pa.int64()).to_numpy()
    more: npt.NDArray[np.int64] = microseconds * 1000 + rows["time_ns"].fill_null(0).cast(pa.int64()).to_numpy()
    return more


def _flat(rows: pa.Table, *, hidden: frozenset[str]) -> dict[str, pa.Array]:
    """Return every column of a flow; those that were not read, or are hidden, are null."""
    present = {name: _one(rows[name]) for name in rows.column_names if name not in hidden}
    return {column.name: present.get(column.name, pa.nulls(rows.num_rows, column.type)) for column in FLOWS.columns}


def _one(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else combined.chunk(0) if combined.num_chunks else pa.array([], column.type)
