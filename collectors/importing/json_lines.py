"""Exporter lines -> encoded Flow messages, thousands at a time, for lines of the usual kind.

pyarrow reads the JSON into columns of a schema made from Hubble's own descriptors, and they are encoded as protobuf.
A batch in which anything is unusual (a field not known here, a number where a name is usual, JSON that is none) is
refused whole: the importer reads such lines one by one, with a reason for each.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson
from google.protobuf.descriptor import FieldDescriptor

from collectors.decoding import columns

_USUAL_START = b'{"flow":'
_BLOCK_BYTES = 256 * 1024**2
_ANY = "google.protobuf.Any"
_TIMESTAMP = "google.protobuf.Timestamp"
_WRAPPER = "google.protobuf.BoolValue"
_TEXT_NUMBERS = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


def is_usual(line: bytes) -> bool:
    """Whether a line may be given to `encode`."""
    return line.startswith(_USUAL_START)


def encode(lines: Sequence[bytes]) -> pa.BinaryArray | None:
    """The encoded Flow message of each line, in order; None if any of them is not of the usual kind."""
    joined = b"".join(lines)
    try:
        joined.decode("utf-8")
        read = pajson.read_json(
            io.BytesIO(joined),
            read_options=pajson.ReadOptions(use_threads=False, block_size=max(_BLOCK_BYTES, len(joined) + 1)),
            parse_options=pajson.ParseOptions(explicit_schema=_schema(), unexpected_field_behavior="error"),
        ).combine_chunks()
        if read.num_rows != len(lines):
            return None
        flows = read.column("flow").chunk(0)
        if flows.null_count:
            return None
        handler = columns.handler()
        arrays = [
            pa.nulls(len(flows), field.type)
            if _is_any(columns.FLOW.fields_by_name[field.name])
            else _convert(flows.field(field.name), field, columns.FLOW.fields_by_name[field.name])
            for field in handler.schema()
        ]
        return handler.record_batch_to_array(pa.RecordBatch.from_arrays(arrays, schema=handler.schema()))
    except (pa.ArrowException, UnicodeDecodeError, KeyError):
        return None


@functools.cache
def _schema() -> pa.Schema:
    """What a line of the usual kind looks like."""
    return pa.schema([pa.field("flow", _type(columns.FLOW)), pa.field("node_name", pa.string()), pa.field("time", pa.string())])


def _type(message: Any) -> pa.DataType:
    """The JSON form of a message, by protobuf's rules: 64-bit numbers and enums are text."""
    fields = []
    for field in message.fields:
        if _is_any(field):
            continue  # has no fixed form
        kind = _field_type(field)
        fields.append(pa.field(field.name, pa.list_(kind) if field.is_repeated else kind))
    return pa.struct(fields)


def _is_any(field: Any) -> bool:
    return field.message_type is not None and field.message_type.full_name == _ANY


def _field_type(field: Any) -> pa.DataType:
    if field.message_type is not None:
        match field.message_type.full_name:
            case name if name == _TIMESTAMP:
                return pa.timestamp("ns", "UTC")
            case name if name == _WRAPPER:
                return pa.bool_()
            case _:
                return _type(field.message_type)
    if field.enum_type is not None or field.cpp_type in _TEXT_NUMBERS:
        return pa.string()
    return {
        FieldDescriptor.CPPTYPE_STRING: pa.string(),
        FieldDescriptor.CPPTYPE_BOOL: pa.bool_(),
        FieldDescriptor.CPPTYPE_INT32: pa.int32(),
        FieldDescriptor.CPPTYPE_UINT32: pa.uint32(),
        FieldDescriptor.CPPTYPE_DOUBLE: pa.float64(),
    }[field.cpp_type]


def _convert(values: pa.Array, wanted: pa.Field, field: Any) -> pa.Array:
    """A JSON column in the form of protobuf's Arrow column. Raises KeyError, pyarrow.ArrowException for what is unusual."""
    if field.is_repeated:
        element = wanted.type.value_field
        inner = _convert_one(values.values, element, field)
        return pa.ListArray.from_arrays(values.offsets, inner, type=wanted.type)
    return _convert_one(values, wanted, field)


def _convert_one(values: pa.Array, wanted: pa.Field, field: Any) -> pa.Array:
    message = field.message_type
    if message is not None and message.full_name == _WRAPPER:
        return pa.StructArray.from_arrays([values.fill_null(False)], fields=list(wanted.type), mask=values.is_null())
    if message is not None and message.full_name == _TIMESTAMP:
        return values.cast(wanted.type)
    if message is not None:
        children = [_convert(values.field(child.name), child, message.fields_by_name[child.name]) for child in wanted.type]
        return pa.StructArray.from_arrays(children, fields=list(wanted.type), mask=values.is_null())
    if field.enum_type is not None:
        encoded = values.dictionary_encode()
        known = field.enum_type.values_by_name
        numbers = pa.array([known[name].number for name in encoded.dictionary.to_pylist()], pa.int32())
        return numbers.take(encoded.indices).fill_null(0).cast(wanted.type)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return values.fill_null("")
    return pc.fill_null(values.cast(wanted.type), False if pa.types.is_boolean(wanted.type) else 0)
