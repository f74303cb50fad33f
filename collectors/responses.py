"""Streamed GetFlowsResponse messages, as bytes -> the flows in them, still encoded, and the few that are something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from collectors.decode import Rejected
from collectors.hubble_api.observer import observer_pb2

# Tags on the wire: the field's number and "of this many bytes" (2) in one varint.
_FLOW_TAG = 0x0A  # 1
_NODE_NAME_TAG = b"\xc2\x3e"  # 1000
_TIME_TAG = b"\xca\x3e"  # 1001
_MORE = 0x80  # a byte of a varint with this bit is not its last


@dataclass(frozen=True, kw_only=True)
class Responses:
    """A batch taken apart. Positions count in the batch given."""

    flows: pa.BinaryArray
    """Encoded Flow messages in the order received."""
    others: tuple[tuple[int, observer_pb2.GetFlowsResponse], ...]
    """Lost events and node states, each with the number of flows that came before it."""
    rejected: tuple[Rejected, ...]
    """Messages that are no GetFlowsResponse."""


def split(messages: Sequence[bytes]) -> Responses:
    """Take responses apart; what cannot be read is set aside and stops nothing."""
    flows: list[bytes | memoryview] = []
    others: list[tuple[int, observer_pb2.GetFlowsResponse]] = []
    rejected: list[Rejected] = []
    add = flows.append
    for position, message in enumerate(messages):
        span = _flow_span(message)
        if span is not None:
            add(memoryview(message)[span[0] : span[1]])
            continue
        try:
            response = observer_pb2.GetFlowsResponse.FromString(message)
        except DecodeError as error:
            # The flow itself may be what cannot be read: that is for who decodes flows to say.
            rejected.append(Rejected(position=position, message=message, reason=f"no GetFlowsResponse: {error}"))
            continue
        kind = response.WhichOneof("response_types")
        if kind == "flow":
            add(response.flow.SerializeToString())
        elif kind in ("lost_events", "node_status"):
            others.append((len(flows), response))
        else:
            rejected.append(Rejected(position=position, message=message, reason="a GetFlowsResponse without anything this version knows"))
    return Responses(flows=_joined(flows), others=tuple(others), rejected=tuple(rejected))


def _flow_span(message: bytes) -> tuple[int, int] | None:
    """Where in a response its flow stands; None unless it has one of the two common forms.

    Go writes a oneof last (node name, time, flow), most others in order of numbers (flow, node name, time). Parsing
    every response only to serialize its flow again would cost more than all the rest.
    """
    size = len(message)
    try:
        begin = 0
        if message[0] == _FLOW_TAG:
            begin, end = _delimited(message, 1)
            return (begin, end) if end == size or message.startswith((_NODE_NAME_TAG, _TIME_TAG), end) else None
        if message.startswith(_NODE_NAME_TAG):
            begin = 3 + message[2]
        if message.startswith(_TIME_TAG, begin):
            begin += 3 + message[begin + 2]
        if message[begin] != _FLOW_TAG:
            return None
        begin, end = _delimited(message, begin + 1)
    except IndexError:
        return None
    return (begin, end) if end == size else None


def _delimited(message: bytes, position: int) -> tuple[int, int]:
    """Begin and end of a value whose length stands at `position`, in at most three bytes; raises IndexError if it is longer."""
    first = message[position]
    if first < _MORE:
        return position + 1, position + 1 + first
    second = message[position + 1]
    if second < _MORE:
        return position + 2, position + 2 + (first & 0x7F | second << 7)
    third = message[position + 2]
    if third >= _MORE:
        raise IndexError(position)
    return position + 3, position + 3 + (first & 0x7F | (second & 0x7F) << 7 | third << 14)


def _joined(parts: list[bytes | memoryview]) -> pa.BinaryArray:
    """One array of them all, each byte copied once."""
    offsets = np.zeros(len(parts) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, parts), np.int32, len(parts)), out=offsets[1:])
    return pa.Array.from_buffers(pa.binary(), len(parts), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(parts))])
