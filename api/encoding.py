"""Encodes rows of `flows` as GetFlowsResponse messages with gRPC's prefixes, many at once, in the order of time.

The columns become messages in Rust, without a Python object per flow. Rows with a `rest` and masks that name a part of what a
column holds are finished one by one. What a principal may see was decided before: a hidden column is null here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import descriptor_pb2

from api import frames
from api.masks import Mask
from collectors.decoding import columns, wire
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from warehouse.schema import FLOWS

_FILE = "hindcast_response.proto"
BATCH_ROWS = 8_192
"""Rows that are encoded together at least: ptars holds the interpreter's lock while it encodes, and each call of it costs something."""


@functools.cache
def _handler() -> Any:
    """Return ptars' converter for GetFlowsResponse messages with a flow."""
    full: Any = observer_pb2.GetFlowsResponse.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package="hindcast", syntax="proto3")
    file.dependency.extend([flow_pb2.DESCRIPTOR.name, "google/protobuf/timestamp.proto"])
    response = file.message_type.add(name="Response")
    for name, type_, of in (
        ("flow", "TYPE_MESSAGE", ".flow.Flow"),
        ("node_name", "TYPE_STRING", None),
        ("time", "TYPE_MESSAGE", ".google.protobuf.Timestamp"),
    ):
        number = full.fields_by_name[name].number
        response.field.add(name=name, number=number, type=type_, type_name=of, label="LABEL_OPTIONAL")
    pool = columns.pool()
    pool.AddSerializedFile(file.SerializeToString())
    return columns.handler_of(pool.FindFileByName(_FILE), "Response")


@functools.cache
def _type() -> pa.Schema:
    return _handler().schema()


def responses(rows: pa.Table, mask: Mask) -> tuple[pa.BinaryArray, npt.NDArray[np.int64]]:
    """Return an encoded response with gRPC's prefix for each row, in the order of time, and their times in nanoseconds since 1970.

    The rows have the mask's columns at least.
    """
    hidden = mask.hidden.union(rows.column_names) - (frozenset(mask.columns) - mask.hidden)
    parts, times = list[pa.BinaryArray](), list[npt.NDArray[np.int64]]()
    for batch in _batches(rows):
        parts.append(_encoded(_flat(batch, hidden=hidden), mask))
        times.append(nanoseconds_of(batch))
    encoded, nanoseconds = pa.concat_arrays(parts) if len(parts) > 1 else parts[0], np.concatenate(times)
    places = order(encoded, nanoseconds)
    taken = encoded.take(pa.array(places))
    lengths = pc.binary_length(taken).to_numpy().astype(np.int64)
    return pc.binary_join_element_wise(frames.prefixes(lengths), taken, b""), nanoseconds[places]


def _batches(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches of a size that is good to encode, without copying those that have it already."""
    small, held = list[pa.RecordBatch](), 0
    for batch in rows.to_batches(max_chunksize=4 * BATCH_ROWS):
        small.append(batch)
        held += batch.num_rows
        if held >= BATCH_ROWS:
            yield _one(small)
            small, held = [], 0
    if held:
        yield _one(small)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _encoded(flat: dict[str, pa.Array], mask: Mask) -> pa.BinaryArray:
    """Return the responses of a batch, without prefixes, in the order of its rows."""
    type_, fields = _type(), columns.fields_of(flat)
    flows = pa.StructArray.from_arrays(fields, fields=list(type_.field("flow").type))
    ends = [columns.texts_of(flat, "node_name"), columns.times_of(flat, type_.field("time").type)]
    encoded = _handler().record_batch_to_array(pa.RecordBatch.from_arrays([flows, *ends], schema=type_)).cast(pa.binary())
    rests = flat["rest"]
    if mask.is_exact and rests.null_count == len(rests):
        return encoded
    made = []
    for message, rest in zip(encoded.to_pylist(), rests.to_pylist(), strict=True):
        if rest is None and mask.is_exact:
            made.append(message)
        else:
            response = observer_pb2.GetFlowsResponse.FromString(message)
            response.flow.CopyFrom(mask.apply(_whole(response.flow, rest)))
            made.append(response.SerializeToString())
    return pa.array(made, pa.binary())


def flows(rows: pa.Table) -> list[flow_pb2.Flow]:
    """Return the flow of each row; fields whose columns were not read are missing."""
    found = []
    for batch in _batches(rows):
        flat = _flat(batch, hidden=frozenset())
        encoded = columns.encode(flat).to_pylist()
        found += [_whole(flow_pb2.Flow.FromString(message), rest) for message, rest in zip(encoded, flat["rest"].to_pylist(), strict=True)]
    return found


def _whole(flow: flow_pb2.Flow, rest: bytes | None) -> flow_pb2.Flow:
    """Return a flow, whose fields in `rest` replace those of its columns."""
    if rest is not None:
        for name in _names_in(rest):
            flow.ClearField(name)
        flow.MergeFromString(rest)
    return flow


def _names_in(rest: bytes) -> list[str]:
    """Return the names of the top-level fields in `rest` that our protos know."""
    known = flow_pb2.Flow.DESCRIPTOR.fields_by_number
    return [known[number].name for number in wire.fields_of(rest) if number in known]


def order(encoded: pa.BinaryArray, nanoseconds: npt.NDArray[np.int64], *, after: int = 0) -> npt.NDArray[np.int64]:
    """Return the positions of the rows in the order of time, given their messages, which begin after so many bytes.

    Flows of the same time are in the order of their messages: the order in the files could reveal columns that are hidden.
    """
    places = np.argsort(nanoseconds, kind="stable")
    sorted_ = nanoseconds[places]
    same = np.flatnonzero(sorted_[1:] == sorted_[:-1])
    if same.size:
        for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1):
            begin, end = run[0], run[-1] + 2
            mine = places[begin:end].tolist()
            places[begin:end] = sorted(mine, key=lambda place: encoded[place].as_py()[after:])
    return places


def nanoseconds_of(rows: pa.Table | pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Return the time of each row in nanoseconds since 1970."""
    microseconds = rows["time"].cast(pa.int64()).to_numpy()
    more: npt.NDArray[np.int64] = microseconds * 1000 + rows["time_ns"].fill_null(0).cast(pa.int64()).to_numpy()
    return more


def _flat(rows: pa.RecordBatch, *, hidden: frozenset[str]) -> dict[str, pa.Array]:
    """Return every column of a flow; those that were not read, or are hidden, are null."""
    present = {name: rows[name] for name in rows.schema.names if name not in hidden}
    missing = {column.name: pa.nulls(rows.num_rows, column.type) for column in FLOWS.columns if column.name not in present}
    return missing | present
