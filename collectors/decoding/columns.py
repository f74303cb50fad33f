"""Converts Flow messages to the columns of the `flows` table and back, a batch at a time.

The schema says which field each column stores; this module derives both directions from it, with special handling of the few
fields that need it (time, the first workload, the layer 4 protocol, enums). It ignores what no column can store:
collectors.decoding.decode compares the bytes and puts what is missing into `rest`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import EnumDescriptor

from collectors.hubble_api.flow import flow_pb2
from warehouse import schema

Columns = Mapping[str, pa.Array]

FLOW = flow_pb2.Flow.DESCRIPTOR
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS")
_PORT_PROTOCOLS = ("TCP", "UDP", "SCTP")
_ICMP_PROTOCOLS = ("ICMPv4", "ICMPv6")
_PROTOCOLS = (*_PORT_PROTOCOLS, *_ICMP_PROTOCOLS)


def pool() -> descriptor_pool.DescriptorPool:
    """Return a new pool of Hubble's flow messages, whose Flow ptars decodes and encodes without a difference.

    `is_reply` is declared as a plain message of one bool: for a wrapper type ptars would write an explicit false, which
    no agent sends, so that every such flow would look as if something had been lost.
    """
    file = descriptor_pb2.FileDescriptorProto.FromString(flow_pb2.DESCRIPTOR.serialized_pb)
    file.message_type.add(name="IsReply").field.add(name="value", number=1, type="TYPE_BOOL", label="LABEL_OPTIONAL")
    flow = next(message for message in file.message_type if message.name == "Flow")
    next(field for field in flow.field if field.name == "is_reply").type_name = ".flow.IsReply"
    made = descriptor_pool.DescriptorPool()
    for imported in flow_pb2.DESCRIPTOR.dependencies:
        made.AddSerializedFile(imported.serialized_pb)
    made.AddSerializedFile(file.SerializeToString())
    return made


@functools.cache
def handler() -> Any:
    """Return ptars' converter between encoded Flow messages and Arrow."""
    return handler_of(pool().FindFileByName(flow_pb2.DESCRIPTOR.name), "Flow")


def handler_of(file: Any, message: str) -> Any:
    """Return ptars' converter between encoded messages of one type of a file and Arrow."""
    return ptars.HandlerPool([file], config=ptars.PtarsConfig()).get_for_message(file.message_types_by_name[message])


@functools.cache
def _messages() -> pa.Schema:
    """Return the Arrow type of decoded Flow messages; building it for each batch would cost a millisecond."""
    return handler().schema()


@functools.cache
def _plain_columns() -> dict[str, schema.Column]:
    """Return the column that stores each field alone, by dotted field path."""
    special = ("time", "l4", "l4.TCP.flags")
    return {
        column.field: column
        for column in schema.FLOWS.columns
        if column.field and not set("*[") & set(column.field) and column.field not in special
    }


@functools.cache
def _columns_under(path: str) -> tuple[str, ...]:
    """Return the columns that store fields of the message at a path, except those of `l4`."""
    names = [column.name for other, column in _plain_columns().items() if other.startswith(path + ".")]
    if path in ("source", "destination"):
        names += [f"{path}_workload_name", f"{path}_workload_kind"]
    return tuple(names)


@functools.cache
def _enum(path: str) -> EnumDescriptor | None:
    """Return the enum type of a field path, or None for other types."""
    message, _, leaf = path.rpartition(".")
    descriptor: Any = FLOW
    for part in filter(None, message.split(".")):
        descriptor = descriptor.fields_by_name[part].message_type
    enum: EnumDescriptor | None = descriptor.fields_by_name[leaf].enum_type
    return enum


# From messages to columns ---------------------------------------------------------------------------------


def flatten(flows: pa.RecordBatch) -> dict[str, pa.Array]:
    """Return the columns of `flows` for decoded Flow messages (with the type handler().schema()).

    Returns every column that stores a field; `time` is null where the message has none. Values that are too large for
    a column's type (numbers of 2^31 and more) become null.
    """
    fields = _Fields(flows)
    columns = {}
    for path, column in _plain_columns().items():
        values = fields[path]
        enum = _enum(path)
        if enum is not None:
            columns[column.name] = _names(values, enum, keep_zero=path == "verdict")
        elif path == "is_reply":  # three-valued: an explicit false differs from null
            columns[column.name] = pc.struct_field(values, "value")
        else:
            columns[column.name] = _to_column(values, column.type)
    columns["time"], columns["time_ns"] = _split_time(flows.column("time"))
    for side in ("source", "destination"):
        first = _first(fields[f"{side}.workloads"])
        for part in ("name", "kind"):
            columns[f"{side}_workload_{part}"] = _to_column(pc.struct_field(first, part), pa.string())
    columns.update(_flatten_l4(fields["l4"]))
    return columns


class _Fields(dict[str, pa.Array]):
    """Return fields of a batch of messages by dotted path, null where an enclosing message is null. Opens each message once."""

    def __init__(self, flows: pa.RecordBatch) -> None:
        super().__init__(zip(flows.schema.names, flows.columns, strict=True))

    def __missing__(self, path: str) -> pa.Array:
        parent = path.rpartition(".")[0]
        message = self[parent]
        self.update((f"{parent}.{field.name}", values) for field, values in zip(message.type, message.flatten(), strict=True))
        return self[path]


def _to_column(values: pa.Array, type_: pa.DataType) -> pa.Array:
    """Return null for the values that proto3 does not send: zero, empty, false."""
    if values.null_count == len(values):
        return pa.nulls(len(values), type_)
    if pa.types.is_list(type_):
        empty = pc.fill_null(pc.equal(pc.list_value_length(values), 0), True)
        lists = pa.ListArray.from_arrays(values.offsets, values.values, mask=empty)
        return lists.cast(type_, safe=False)
    if pa.types.is_string(type_):
        return _null_where_empty(values)
    if values.type == pa.bool_():
        return pc.if_else(values, True, None)
    limit = 2 ** (type_.bit_width - 1) - 1
    fits = pc.not_equal(values, pa.scalar(0, values.type))
    if pa.types.is_unsigned_integer(values.type) and values.type.bit_width >= type_.bit_width:
        fits = pc.and_(fits, pc.less_equal(values, pa.scalar(limit, values.type)))
    return pc.if_else(fits, values, None).cast(type_)


def _null_where_empty(texts: pa.StringArray) -> pa.StringArray:
    """Return the strings with null for each empty one, without copying the bytes."""
    is_filled = pc.greater(pc.binary_length(texts), 0)
    if is_filled.null_count or texts.offset or is_filled.offset:  # has nulls of its own, or is part of another: copied
        return pc.if_else(is_filled, texts, None)
    _, offsets, data = texts.buffers()
    return pa.StringArray.from_buffers(len(texts), offsets, data, is_filled.buffers()[1])


def _empty_where_null(texts: pa.StringArray) -> pa.StringArray:
    """The inverse of _null_where_empty."""
    if not texts.null_count:
        return texts
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4)
    if np.diff(bounds)[texts.is_null().to_numpy(zero_copy_only=False)].any():  # null entries have bytes
        return texts.fill_null("")
    return pa.StringArray.from_buffers(len(texts), offsets, data, None, 0, texts.offset)


def _names(numbers: pa.Array, enum: EnumDescriptor, *, keep_zero: bool) -> pa.Array:
    """Return the names of enum values; an unknown number becomes its digits. Zero becomes null unless it is to be stored."""
    encoded = numbers.dictionary_encode()
    known = enum.values_by_number
    texts = []
    for number in encoded.dictionary.to_pylist():
        text = known[number].name if number in known else str(number)
        texts.append(None if number == 0 and not keep_zero else text)
    return pa.array(texts, pa.string()).take(encoded.indices)


def _split_time(times: pa.Array) -> tuple[pa.Array, pa.Array]:
    nanoseconds = times.cast(pa.int64())
    values = nanoseconds.fill_null(0).to_numpy(zero_copy_only=False)
    missing = times.is_null().to_numpy(zero_copy_only=False)
    microseconds = pa.array(np.floor_divide(values, 1000), pa.int64(), mask=missing).cast(schema.TIMESTAMP)
    return microseconds, pa.array(np.mod(values, 1000).astype(np.int16), mask=missing)


def _first(lists: pa.Array) -> pa.Array:
    """Return the first element of each list, null where the list is empty."""
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    offsets = lists.offsets.to_numpy()[:-1]
    return lists.values.take(pa.array(offsets, pa.int64(), mask=lengths == 0))


def _flatten_l4(l4: pa.StructArray) -> dict[str, pa.Array]:
    rows = len(l4)
    parts = {name: pc.struct_field(l4, name) for name in _PROTOCOLS}
    protocol = pa.nulls(rows, pa.string())
    for name, part in parts.items():
        protocol = pc.if_else(part.is_valid(), name, protocol)

    def pick(field: str, names: tuple[str, ...]) -> pa.Array:
        return _to_column(pc.coalesce(*(pc.struct_field(parts[name], field) for name in names)), pa.int32())

    return {
        "l4_protocol": protocol,
        "source_port": pick("source_port", _PORT_PROTOCOLS),
        "destination_port": pick("destination_port", _PORT_PROTOCOLS),
        "icmp_type": pick("type", _ICMP_PROTOCOLS),
        "icmp_code": pick("code", _ICMP_PROTOCOLS),
        "tcp_flags": _flag_names(pc.struct_field(parts["TCP"], "flags")),
    }


@functools.cache
def _flag_texts() -> pa.Array:
    sets = range(2 ** len(TCP_FLAGS))
    return pa.array([", ".join(name for bit, name in enumerate(TCP_FLAGS) if number >> bit & 1) for number in sets])


def _flag_names(flags: pa.StructArray) -> pa.Array:
    """Return text such as 'SYN, ACK'; empty for a flags message without flags, null without the message."""
    bits = np.zeros(len(flags), np.int32)
    for bit, name in enumerate(TCP_FLAGS):
        bits |= pc.struct_field(flags, name).fill_null(False).to_numpy(zero_copy_only=False).astype(np.int32) << bit
    return _flag_texts().take(pa.array(bits, mask=flags.is_null().to_numpy(zero_copy_only=False)))


# From columns to messages ---------------------------------------------------------------------------------


def encode(columns: Columns) -> pa.Array:
    """Return encoded Flow messages (binary) for columns, without `rest`: one per row, in canonical byte order."""
    return handler().record_batch_to_array(pa.RecordBatch.from_arrays(fields_of(columns), schema=_messages()))


def fields_of(columns: Columns) -> list[pa.Array]:
    """Return the fields of the Flow messages that `encode` encodes."""
    builder = _Builder(columns)
    return [builder.field(field, "") for field in _messages()]


def times_of(columns: Columns, type_: pa.DataType) -> pa.Array:
    """Return the times of flows in nanoseconds as a field of the given type; null for a flow that came without a time."""
    return _Builder(columns).field(pa.field("time", type_), "")


def texts_of(columns: Columns, name: str) -> pa.Array:
    """Return a column of texts as a field of a message, empty where null."""
    return _empty_where_null(columns[name])


class _Builder:
    """Builds the nested arrays of Flow messages from flat columns."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.rows = len(columns["verdict"])
        self.special: dict[str, Callable[[pa.Field], pa.Array]] = {"time": self._time, "l4": self._l4, "is_reply": self._is_reply}
        for side in ("source", "destination"):
            self.special[f"{side}.workloads"] = functools.partial(self._workloads, side)

    def field(self, field: pa.Field, parent: str) -> pa.Array:
        path = f"{parent}.{field.name}" if parent else field.name
        if path in self.special:
            return self.special[path](field)
        column = _plain_columns().get(path)
        if column is not None:
            return self._leaf(self.columns[column.name], field, _enum(path))
        if pa.types.is_struct(field.type) and _columns_under(path):
            present = [values.is_valid() for name in _columns_under(path) if (values := self.columns[name]).null_count < self.rows]
            if not present:  # the usual case: most batches lack most kinds of flows
                return pa.nulls(self.rows, field.type)
            return _struct([self.field(child, path) for child in field.type], field.type, functools.reduce(pc.or_, present))
        return self._absent(field)

    def _absent(self, field: pa.Field) -> pa.Array:
        if field.nullable:
            return pa.nulls(self.rows, field.type)
        if pa.types.is_list(field.type):
            offsets = pa.array(np.zeros(self.rows + 1, np.int32))
            return pa.ListArray.from_arrays(offsets, pa.array([], field.type.value_type), type=field.type)
        zero = "" if pa.types.is_string(field.type) else b"" if pa.types.is_binary(field.type) else 0
        return pa.repeat(pa.scalar(zero).cast(field.type), self.rows)

    def _leaf(self, values: pa.Array, field: pa.Field, enum: EnumDescriptor | None) -> pa.Array:
        if values.null_count == self.rows:
            return self._absent(field)
        if enum is not None:
            return _numbers(values, enum).cast(field.type)
        if pa.types.is_list(field.type):
            lists = pa.ListArray.from_arrays(values.offsets, values.values)
            return lists.cast(field.type, safe=False)
        if field.nullable:
            return values.cast(field.type)
        if pa.types.is_string(field.type):
            return _empty_where_null(values)
        return values.cast(field.type).fill_null(False if field.type == pa.bool_() else 0)

    def _time(self, field: pa.Field) -> pa.Array:
        microseconds = self.columns["time"].cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        remainder = self.columns["time_ns"]
        missing = remainder.is_null().to_numpy(zero_copy_only=False)
        nanoseconds = microseconds * 1000 + remainder.fill_null(0).to_numpy(zero_copy_only=False)
        return pa.array(nanoseconds, pa.int64(), mask=missing).cast(field.type)

    def _is_reply(self, field: pa.Field) -> pa.Array:
        values = self.columns["is_reply"]
        return _struct([values.fill_null(False)], field.type, values.is_valid())

    def _workloads(self, side: str, field: pa.Field) -> pa.Array:
        kind, name = (self.columns[f"{side}_workload_{part}"] for part in ("kind", "name"))
        present = pc.or_(kind.is_valid(), name.is_valid())
        parts = {"name": name, "kind": kind}
        type_ = field.type.value_type
        elements = pa.StructArray.from_arrays([parts[child.name].fill_null("").filter(present) for child in type_], fields=list(type_))
        offsets = np.concatenate(([0], np.cumsum(present.to_numpy(zero_copy_only=False)))).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), elements, type=field.type)

    def _l4(self, field: pa.Field) -> pa.Array:
        protocol = self.columns["l4_protocol"]
        children = []
        for child in field.type:
            if child.name not in _PROTOCOLS:
                children.append(pa.nulls(self.rows, child.type))
                continue
            leaves = [self._l4_leaf(child.name, leaf) for leaf in child.type]
            children.append(_struct(leaves, child.type, pc.equal(protocol, child.name).fill_null(False)))
        return _struct(children, field.type, protocol.is_valid())

    def _l4_leaf(self, protocol: str, leaf: pa.Field) -> pa.Array:
        if leaf.name == "flags":
            return _flag_struct(self.columns["tcp_flags"], leaf.type)
        prefix = "icmp_" if protocol in _ICMP_PROTOCOLS else ""
        values = self.columns.get(prefix + leaf.name)
        return self._absent(leaf) if values is None else self._leaf(values, leaf, None)


def _struct(children: list[pa.Array], type_: pa.StructType, present: pa.Array) -> pa.StructArray:
    return pa.StructArray.from_arrays(children, fields=list(type_), mask=pc.invert(present))


def _numbers(names: pa.Array, enum: EnumDescriptor) -> pa.Array:
    """The inverse of _names; null becomes zero."""
    encoded = names.dictionary_encode()
    known = enum.values_by_name
    numbers = [known[text].number if text in known else int(text) for text in encoded.dictionary.to_pylist()]
    return pa.array(numbers, pa.int32()).take(encoded.indices).fill_null(0)


def _flag_struct(texts: pa.Array, type_: pa.StructType) -> pa.StructArray:
    bits = pc.index_in(texts, _flag_texts()).fill_null(0).to_numpy(zero_copy_only=False)
    children = [pa.array((bits >> TCP_FLAGS.index(child.name) & 1).astype(bool)) for child in type_]
    return _struct(children, type_, texts.is_valid())
