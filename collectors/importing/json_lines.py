"""Converts lines of one flow each to encoded Flow messages, thousands at a time.

pyarrow parses the JSON into columns of a schema derived from Hubble's own descriptors, which are then encoded as protobuf. Foreign
keys beside the flow, and fields of newer agents within it, are learned from a sample of the lines and then cost almost nothing.
Lines that are unusual in any other way are returned to the caller, to be read one by one with a reason for each.
"""

from __future__ import annotations

import collections
import functools
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson
from google.protobuf.descriptor import FieldDescriptor

from collectors.decoding import columns
from collectors.hubble_api.observer import observer_pb2

_BLOCK_BYTES = 256 * 1024**2
_SAMPLE = 100
_MOST_BRACKETS = 300
_MOST_FOREIGN = 300
_ANY = "google.protobuf.Any"
_TIMESTAMP = "google.protobuf.Timestamp"
_WRAPPER = "google.protobuf.BoolValue"
_TEXT_NUMBERS = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_OTHER_NAMES = {one.json_name for one in observer_pb2.ExportEvent.DESCRIPTOR.fields} - {"flow", "time"}
_KINDS = tuple(one.name for one in observer_pb2.ExportEvent.DESCRIPTOR.oneofs_by_name["response_types"].fields if one.name != "flow")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The result of reading some lines."""

    messages: pa.BinaryArray
    """The encoded Flow message of each line that was read, in order."""
    places: Sequence[int]
    """The positions of those lines."""
    left: Sequence[int]
    """The positions of lines that have to be read one by one."""
    unknown: collections.Counter[str]
    """Unknown fields, with the number of flows that had them."""


class Reader:
    """Reads the lines of one file; it remembers the foreign keys that it has seen."""

    def __init__(self) -> None:
        self._schema = _schema()

    def encode(self, lines: Sequence[bytes]) -> Encoded | None:
        """Return the flows of lines, each an object on one line; None if any line has to be read by itself."""
        joined = b"\n".join(lines)
        try:
            joined.decode("utf-8")
            read = _read(joined, self._schema, "error")
        except UnicodeDecodeError:
            return None
        except pa.ArrowException:
            if not self._learn(lines):
                return None
            try:
                read = _read(joined, self._schema, "error")
            except pa.ArrowException:
                return None
        return _encode(read) if read.num_rows == len(lines) else None

    def _learn(self, lines: Sequence[bytes]) -> bool:
        """Add the foreign keys of a sample of lines to the expected ones; return whether any were found."""
        sample = [line for line in lines[:_SAMPLE] if line.count(b"{") + line.count(b"[") <= _MOST_BRACKETS]
        try:
            met = _read(b"\n".join(sample), self._schema, "infer").schema
        except pa.ArrowException:
            return False
        learned = _merged(pa.struct(list(self._schema)), pa.struct(list(met)))
        if learned == pa.struct(list(self._schema)) or _size(learned) - _size(pa.struct(list(_schema()))) > _MOST_FOREIGN:
            return False
        self._schema = pa.schema(list(learned))
        return True


def _read(text: bytes, schema: pa.Schema, unexpected: str) -> pa.Table:
    return pajson.read_json(
        io.BytesIO(text),
        read_options=pajson.ReadOptions(use_threads=False, block_size=max(_BLOCK_BYTES, len(text) + 1)),
        parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
    ).combine_chunks()


def _encode(read: pa.Table) -> Encoded | None:
    flows = read.column("flow").chunk(0)
    unknown = collections.Counter(dict(_unknown(flows, columns.FLOW, "flow")))
    if _is_named_otherwise(read.schema, flows.type):
        return None
    try:
        fitting = flows.is_valid()
        for name in (*_KINDS, "extensions"):
            others = read.column(name).chunk(0) if name in read.schema.names else None
            if name == "extensions" and name in (field.name for field in flows.type):
                others = flows.field(name)
            if others is not None:
                fitting = pc.and_(fitting, others.is_null())
        handler = columns.handler()
        arrays = {
            field.name: pa.nulls(len(flows), field.type)
            if _is_any(columns.FLOW.fields_by_name[field.name])
            else _convert(flows.field(field.name), field, columns.FLOW.fields_by_name[field.name])
            for field in handler.schema()
        }
        if arrays["time"].null_count:
            arrays["time"] = pc.coalesce(arrays["time"], read.column("time").chunk(0).cast(arrays["time"].type))
            fitting = pc.and_(fitting, arrays["time"].is_valid())
        nameless = pc.equal(pc.binary_length(arrays["node_name"]), 0)
        if pc.any(nameless).as_py():
            arrays["node_name"] = pc.if_else(nameless, read.column("node_name").chunk(0).fill_null(""), arrays["node_name"])
        batch = pa.RecordBatch.from_arrays(list(arrays.values()), schema=handler.schema())
        if pc.all(fitting).as_py():
            return Encoded(handler.record_batch_to_array(batch), range(len(flows)), (), unknown)
        places = pc.indices_nonzero(fitting)
        left = pc.indices_nonzero(pc.invert(fitting)).to_pylist()
        # Fields of lines that are read one by one are counted by the caller.
        unknown = collections.Counter(dict(_unknown(flows.take(places), columns.FLOW, "flow")))
        return Encoded(handler.record_batch_to_array(batch.take(places)), places.to_pylist(), left, unknown)
    except (pa.ArrowException, KeyError):
        return None


def _is_named_otherwise(outer: pa.Schema, flow: pa.StructType) -> bool:
    """Return whether fields appear under their alternative name in protobuf's JSON form."""
    return bool(_OTHER_NAMES & set(outer.names)) or _has_other_names(flow, columns.FLOW)


def _has_other_names(met: pa.StructType, message: Any) -> bool:
    others = {one.json_name for one in message.fields} - set(message.fields_by_name)
    for one in met:
        known = message.fields_by_name.get(one.name)
        if one.name in others:
            return True
        inner = one.type.value_type if pa.types.is_list(one.type) else one.type
        has_fields = known is not None and known.message_type is not None and pa.types.is_struct(inner) and not _is_any(known)
        if has_fields and _has_other_names(inner, known.message_type):
            return True
    return False


def _unknown(values: pa.StructArray, message: Any, path: str) -> Iterator[tuple[str, int]]:
    """Return the paths of fields that `message` does not have, with the number of their values."""
    for place, one in enumerate(values.type):
        known = message.fields_by_name.get(one.name)
        child = values.field(place)
        if known is None:
            if child.null_count < len(child):
                yield f"{path}.{one.name}", len(child) - child.null_count
        elif known.message_type is not None and not _is_any(known):
            inner = child.values if pa.types.is_list(child.type) else child
            if pa.types.is_struct(inner.type):
                yield from _unknown(inner, known.message_type, f"{path}.{one.name}")


def _merged(known: pa.DataType, met: pa.DataType) -> pa.DataType:
    """Return a type for the known fields and the unknown ones seen so far, as permissive as possible."""
    if pa.types.is_struct(known) and pa.types.is_struct(met):
        fields = [pa.field(one.name, _merged(one.type, met.field(one.name).type) if one.name in met.names else one.type) for one in known]
        return pa.struct(fields + [pa.field(one.name, _loose(one.type)) for one in met if one.name not in known.names])
    if pa.types.is_list(known) and pa.types.is_list(met):
        return pa.list_(_merged(known.value_type, met.value_type))
    return known


def _loose(met: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(met):
        return pa.struct([pa.field(one.name, _loose(one.type)) for one in met])
    if pa.types.is_list(met):
        return pa.list_(_loose(met.value_type))
    if pa.types.is_integer(met):
        return pa.float64()
    return pa.string() if pa.types.is_timestamp(met) else met


def _size(one: pa.DataType) -> int:
    if pa.types.is_struct(one):
        return 1 + sum(_size(child.type) for child in one)
    return _size(one.value_type) if pa.types.is_list(one) else 1


@functools.cache
def _schema() -> pa.Schema:
    """Return the type of a line as exporters write it."""
    return pa.schema([pa.field("flow", _type(columns.FLOW)), pa.field("node_name", pa.string()), pa.field("time", pa.string())])


def _type(message: Any) -> pa.DataType:
    """Return the type of a message in protobuf's JSON form: 64-bit numbers and enums are strings."""
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
                return pa.string()  # pyarrow's JSON reader accepts more time formats than protobuf does
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
    """Convert a JSON column to protobuf's Arrow form. Raises KeyError, pyarrow.ArrowException for unusual values."""
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
