"""Fits one parsed event to Hubble's schema: unknown parts are removed and named, malformed events are refused.

Reasons name the field and the kind of value, never the value itself, which may be a secret. A flow without time or node gets
those of its event; a flow without any time is refused, since a time must not be invented.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2

EXPORT_EVENT: Any = observer_pb2.ExportEvent.DESCRIPTOR
FLOW: Any = flow_pb2.Flow.DESCRIPTOR
_KINDS = EXPORT_EVENT.oneofs_by_name["response_types"].fields
_AGGREGATE = "aggregate.Aggregate"
_WRAPPED = {"google.protobuf.BoolValue": FieldDescriptor.CPPTYPE_BOOL, "google.protobuf.Int32Value": FieldDescriptor.CPPTYPE_INT32}
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_LONG = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_PLAIN_NAME = re.compile(r"[A-Za-z_@][\w.@/-]{0,63}")
_DEEPEST_EXTENSION = 50
_FIRST_YEAR, _LAST_YEAR = 1678, 2261
"""The years that nanoseconds since 1970 can represent."""


class MalformedError(Exception):
    """A value that does not fit the schema; the message names the field and the problem."""


@dataclass(slots=True)
class CleanEvent:
    """An event that fits the schema."""

    kind: str
    """flow, lost_events, node_status, agent_event or debug_event."""
    content: dict[str, Any]
    """The flow, or the loss, in protobuf's JSON form; empty for other kinds."""
    node_name: str = ""
    time: str | None = None
    extensions: bytes = b""
    """The flow's encoded field `extensions`, to be appended to the encoded flow."""
    unknown: list[str] = field(default_factory=list)
    """Unknown field paths, enum value names and extension types."""


def clean_event(event: dict[str, Any], redact: Callable[[Any], Any]) -> CleanEvent:
    """Fit an event of Hubble's exporters, parsed from JSON, to the schema.

    `redact` removes secrets from a JSON value. Raises MalformedError.
    """
    given = [one for one in _KINDS if _get(event, one) is not None]
    if len(given) != 1:
        names = ", ".join(one.name for one in _KINDS)
        raise MalformedError(f"contains {'several' if given else 'none'} of {names}")
    kind = given[0].name
    clean = CleanEvent(kind=kind, content={})
    clean.time = _clean_time(_get(event, EXPORT_EVENT.fields_by_name["time"]), "time")
    node_name = _get(event, EXPORT_EVENT.fields_by_name["node_name"])
    clean.node_name = "" if node_name is None else _clean_text(node_name, "node_name")
    value = _get(event, given[0])
    if kind == "flow":
        _check_object(value, "flow")
        value = dict(value)
        for name in ("nodeName", "node_name"):
            if name in value and not value[name]:
                del value[name]
        extension = value.pop("extensions", None)
        clean.content = _clean(value, FLOW, "flow", clean.unknown)
        if extension is not None:
            _add_extension(clean, extension, redact)
        _fill(clean)
    elif kind == "lost_events":
        clean.content = _clean(value, flow_pb2.LostEvent.DESCRIPTOR, kind, clean.unknown)
    else:
        _check_object(value, kind)
    return clean


def encode_flow(clean: CleanEvent) -> bytes:
    """Return the encoded flow of a clean event. Raises MalformedError."""
    try:
        flow = json_format.ParseDict(clean.content, flow_pb2.Flow())
    except (json_format.ParseError, ValueError, TypeError, AttributeError) as error:
        raise MalformedError("flow: does not fit Hubble's schema") from error
    encoded: bytes = flow.SerializeToString(deterministic=True)
    return encoded + clean.extensions


def _fill(clean: CleanEvent) -> None:
    """Set the time and node of a flow to those of its event where it has none of its own."""
    if "time" not in clean.content:
        if clean.time is None:
            raise MalformedError("flow: has no time, nor does the event around it; export the field `time` too")
        clean.content["time"] = clean.time
    if clean.node_name:
        clean.content.setdefault("node_name", clean.node_name)


# Fields ---------------------------------------------------------------------------------------------------


@functools.cache
def _fields(message: Any) -> dict[str, Any]:
    """Return the fields of a message by both of their names in protobuf's JSON form."""
    return {name: one for one in message.fields for name in (one.name, one.json_name)}


def _get(event: dict[str, Any], wanted: Any) -> Any:
    value = event.get(wanted.name)
    return event.get(wanted.json_name) if value is None else value


def _clean(value: Any, message: Any, path: str, unknown: list[str]) -> dict[str, Any]:
    _check_object(value, path)
    fields = _fields(message)
    cleaned: dict[str, Any] = {}
    for name, one in value.items():
        known = fields.get(name)
        if known is None:
            unknown.append(f"{path}.{name}" if _PLAIN_NAME.fullmatch(name) else f"{path}.(an unusual name)")
        elif one is not None:
            made = _clean_field(one, known, f"{path}.{known.name}", unknown)
            if made is not None:
                cleaned[known.name] = made
    return cleaned


def _clean_field(value: Any, known: Any, path: str, unknown: list[str]) -> Any:
    if not known.is_repeated:
        return _clean_one(value, known, path, unknown)
    if not isinstance(value, list):
        raise MalformedError(f"{path}: expected a list, found {_kind(value)}")
    return [made for one in value if (made := _clean_one(one, known, path, unknown)) is not None]


def _clean_one(value: Any, known: Any, path: str, unknown: list[str]) -> Any:
    if known.message_type is not None:
        name = known.message_type.full_name
        if name == "google.protobuf.Timestamp":
            return _clean_time(value, path)
        if name in _WRAPPED:
            inner = value["value"] if isinstance(value, dict) and value.keys() == {"value"} else value
            return _clean_scalar(inner, _WRAPPED[name], path)
        return _clean(value, known.message_type, path, unknown)
    if known.enum_type is not None:
        return _clean_enum(value, known, path, unknown)
    return _clean_scalar(value, known.cpp_type, path)


def _clean_enum(value: Any, known: Any, path: str, unknown: list[str]) -> Any:
    enum = known.enum_type
    if isinstance(value, str):
        if value in enum.values_by_name:
            return value
        unknown.append(f"{path}={value}" if re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", value) else f"{path}=(an unusual value)")
        return None
    number = _clean_scalar(value, FieldDescriptor.CPPTYPE_INT32, path)
    return enum.values_by_number[number].name if number in enum.values_by_number else number


def _clean_scalar(value: Any, cpp_type: int, path: str) -> Any:
    if cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _clean_text(value, path)
    if cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise MalformedError(f"{path}: expected true or false, found {_kind(value)}")
        return value
    if cpp_type in _RANGES:
        low, high = _RANGES[cpp_type]
        number = _whole_number(value, path)
        if not low <= number <= high:
            raise MalformedError(f"{path}: the number is out of range")
        return str(number) if cpp_type in _LONG else number
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MalformedError(f"{path}: expected a number, found {_kind(value)}")
    return value


def _whole_number(value: Any, path: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedError(f"{path}: expected a whole number, found {_kind(value)}")
    return value


def _clean_text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{path}: expected text, found {_kind(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise MalformedError(f"{path}: the text is not valid Unicode") from error
    return value


def _clean_time(value: Any, path: str) -> str | None:
    """Convert a time to RFC 3339, also from the form {seconds, nanos} of Go's own JSON. Null means no time."""
    if value is None:
        return None
    moment = timestamp_pb2.Timestamp()
    try:
        if isinstance(value, dict):
            moment.seconds, moment.nanos = _whole_number(value.get("seconds", 0), path), _whole_number(value.get("nanos", 0), path)
            value = moment.ToJsonString()
        moment.FromJsonString(value)
    except (ValueError, TypeError, AttributeError) as error:
        raise MalformedError(f"{path}: expected a time such as 2026-10-01T10:00:00.000000001Z, found {_kind(value)}") from error
    year = datetime.fromtimestamp(moment.seconds, UTC).year
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        raise MalformedError(f"{path}: the year {year} cannot be stored")
    return str(value)


def _check_object(value: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise MalformedError(f"{path}: expected an object, found {_kind(value)}")


def _kind(value: Any) -> str:
    for types, name in ((bool, "true or false"), (str, "text"), (dict, "an object"), (list, "a list"), ((int, float), "a number")):
        if isinstance(value, types):
            return name
    return "null"


# Extensions -----------------------------------------------------------------------------------------------


def _add_extension(clean: CleanEvent, extension: Any, redact: Callable[[Any], Any]) -> None:
    """Store an extension: encoded if its type is known, else its JSON as a google.protobuf.Struct."""
    _check_object(extension, "flow.extensions")
    type_url = _clean_text(extension.get("@type", ""), "flow.extensions.@type")
    name = type_url.rpartition("/")[2]
    flow = flow_pb2.Flow()
    if name == _AGGREGATE and "aggregate" not in clean.content:
        counts = {key: one for key, one in extension.items() if key != "@type"}
        clean.content["aggregate"] = _clean(counts, flow_pb2.Aggregate.DESCRIPTOR, "flow.extensions", clean.unknown)
        return
    clean.unknown.append(f"extension {name}" if _PLAIN_NAME.fullmatch(name) else "extension of an unusual name")
    try:
        _check_depth(extension, _DEEPEST_EXTENSION)
        stored = struct_pb2.Struct()
        json_format.ParseDict(redact(extension), stored)
        flow.extensions.type_url = "type.googleapis.com/google.protobuf.Struct"
        flow.extensions.value = stored.SerializeToString(deterministic=True)
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise MalformedError("flow.extensions: cannot be stored") from error
    clean.extensions = flow.SerializeToString()


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise ValueError("nested too deeply")
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(one, left - 1)


def to_line(clean: CleanEvent) -> bytes:
    """Write a clean event with a flow as the line that an exporter would write, to be read in bulk."""
    return json.dumps({"flow": clean.content}, separators=(",", ":")).encode()
