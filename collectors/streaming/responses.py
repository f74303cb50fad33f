"""Extracts the flows, still encoded, from streamed GetFlowsResponse messages, and the few messages of other kinds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf.message import DecodeError

from collectors.decoding.decode import Rejected
from collectors.hubble_api.observer import observer_pb2
from collectors.streaming.messages import LOOK_AHEAD, Messages, Places

# Tags on the wire: the field's number and "of this many bytes" (2) in one varint.
_FLOW_TAG = 0x0A  # 1
_NODE_NAME_TAG = (0xC2, 0x3E)  # 1000
_TIME_TAG = (0xCA, 0x3E)  # 1001
_MORE = 0x80  # a byte of a varint with this bit is not its last


@dataclass(frozen=True, kw_only=True)
class Responses:
    """A batch taken apart. Positions are those of messages in the batch."""

    flows: pa.BinaryArray
    """Encoded Flow messages in the order received."""
    positions: Places
    """The position of the message that holds each flow."""
    others: tuple[tuple[int, observer_pb2.GetFlowsResponse], ...]
    """Lost events and node states, each with its position."""
    rejected: tuple[Rejected, ...]
    """Messages that are not a GetFlowsResponse."""


def split(messages: Messages) -> Responses:
    """Take responses apart. Messages that cannot be read are returned as rejected; they do not affect the others."""
    first, last, usual = _flow_spans(np.frombuffer(messages.data, np.uint8), messages.begins, messages.ends)
    cut = _cut(messages, first, last)
    unusual = np.flatnonzero(~usual)
    if not unusual.size:
        return Responses(flows=cut, positions=np.arange(len(messages)), others=(), rejected=())
    others: list[tuple[int, observer_pb2.GetFlowsResponse]] = []
    rejected: list[Rejected] = []
    parsed: dict[int, bytes] = {}
    for position in unusual.tolist():
        message = messages[position]
        try:
            response = observer_pb2.GetFlowsResponse.FromString(message)
        except DecodeError as error:
            # It may be the flow inside that cannot be read; the reason is the same for whoever looks at the rejected messages.
            rejected.append(Rejected(position=position, message=message, reason=f"not a GetFlowsResponse: {error}"))
            continue
        kind = response.WhichOneof("response_types")
        if kind == "flow":
            parsed[position] = response.flow.SerializeToString()
        elif kind in ("lost_events", "node_status"):
            others.append((position, response))
        else:
            rejected.append(Rejected(position=position, message=message, reason="a GetFlowsResponse without anything this version knows"))
    return Responses(flows=_with(cut, usual, parsed), positions=_positions(usual, parsed), others=tuple(others), rejected=tuple(rejected))


def node_name(message: bytes) -> str | None:
    """The node that sent a response, as its flows name it; None if the message cannot be read or names none."""
    try:
        response = observer_pb2.GetFlowsResponse.FromString(message)
    except DecodeError:
        return None
    return response.flow.node_name or response.node_name or None


def _positions(usual: npt.NDArray[np.bool_], parsed: dict[int, bytes]) -> Places:
    holds_flow = usual.copy()
    holds_flow[list(parsed)] = True
    return np.flatnonzero(holds_flow)


def _flow_spans(data: npt.NDArray[np.uint8], begins: Places, ends: Places) -> tuple[Places, Places, npt.NDArray[np.bool_]]:
    """Where each message's flow begins and ends, and whether that is sure: it is if the message has one of the two common forms.

    Go writes a oneof last (node name, time, flow), most others in order of numbers (flow, node name, time). Parsing
    every response only to serialize its flow again would cost more than all the rest.
    """
    farthest = len(data) - len(LOOK_AHEAD)

    def tagged(places: Places, tag: tuple[int, int]) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = (data[places] == tag[0]) & (data[places + 1] == tag[1]) & (data[places + 2] < _MORE)
        return found

    place = begins
    for tag in (_NODE_NAME_TAG, _TIME_TAG):
        behind = np.minimum(place + 3 + data[place + 2], farthest)
        place = np.where(tagged(place, tag), behind, place)
    sizes = [data[place + byte].astype(np.int64) for byte in (1, 2, 3)]
    short, middling = sizes[0] < _MORE, sizes[1] < _MORE
    low = sizes[0] & 0x7F
    length = np.where(short, low, np.where(middling, low | sizes[1] << 7, low | (sizes[1] & 0x7F) << 7 | sizes[2] << 14))
    first = place + 2 + ~short + (~short & ~middling)
    last = first + length
    usual = (data[place] == _FLOW_TAG) & (short | middling | (sizes[2] < _MORE)) & (last <= ends)
    last = np.where(usual, last, begins)
    goes_on = (place == begins) & (tagged(last, _NODE_NAME_TAG) | tagged(last, _TIME_TAG))
    usual &= (last == ends) | goes_on
    return np.where(usual, first, begins), np.where(usual, last, begins), usual


def _cut(messages: Messages, first: Places, last: Places) -> pa.BinaryArray:
    """The bytes from `first` to `last` of each message."""
    count = len(messages)
    offsets = np.zeros(3 * count + 1, np.int32)  # what stands before the flow, the flow, what stands behind it
    offsets[0:-1:3], offsets[1::3], offsets[2::3] = messages.begins, first, last
    offsets[-1] = last[-1] if count else 0
    parts = pa.Array.from_buffers(pa.binary(), 3 * count, [None, pa.py_buffer(offsets), pa.py_buffer(messages.data)])
    return parts.take(pa.array(np.arange(1, 3 * count, 3)))


def _with(cut: pa.BinaryArray, usual: npt.NDArray[np.bool_], parsed: dict[int, bytes]) -> pa.BinaryArray:
    """The flows that were cut out where that is `usual`, and the parsed ones at their positions."""
    if not parsed:
        return cut.filter(pa.array(usual))
    parts, done = [], 0
    for position, flow in parsed.items():
        parts += [cut[done:position].filter(pa.array(usual[done:position])), pa.array([flow], pa.binary())]
        done = position
    return pa.concat_arrays([*parts, cut[done:].filter(pa.array(usual[done:]))])
