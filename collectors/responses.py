"""Streamed GetFlowsResponse messages, as bytes -> the flows in them, still encoded, and the few that are something else."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError

from collectors.decode import Rejected
from collectors.hubble_api.observer import observer_pb2

_FLOW_NUMBER = observer_pb2.GetFlowsResponse.DESCRIPTOR.fields_by_name["flow"].number


@dataclass(frozen=True, kw_only=True)
class Responses:
    """A batch taken apart. Positions count in the batch given."""

    flows: pa.BinaryArray
    """Encoded Flow messages in the order received."""
    others: tuple[tuple[int, observer_pb2.GetFlowsResponse], ...]
    """Lost events and node states, each with the number of flows that came before it."""
    rejected: tuple[Rejected, ...]
    """Messages that are no GetFlowsResponse."""


@functools.cache
def _handler() -> Any:
    """ptars' reader of a response whose flow is left as it is: bytes."""
    file = descriptor_pb2.FileDescriptorProto(name="hindcast/envelope.proto", package="hindcast", syntax="proto3")
    envelope = file.message_type.add(name="Envelope")
    envelope.field.add(name="flow", number=_FLOW_NUMBER, type="TYPE_BYTES", label="LABEL_OPTIONAL")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    compiled = pool.FindFileByName(file.name)
    return ptars.HandlerPool([compiled], config=ptars.PtarsConfig()).get_for_message(compiled.message_types_by_name["Envelope"])


def split(messages: Sequence[bytes]) -> Responses:
    """Take responses apart; what cannot be read is set aside and stops nothing."""
    rejected: list[Rejected] = []
    handler = _handler()
    try:
        flows = handler.list_to_record_batch(list(messages)).column("flow")
        kept = list(range(len(messages)))
    except ValueError:
        kept, parts = [], []
        for position, message in enumerate(messages):
            try:
                parts.append(handler.list_to_record_batch([message]).column("flow"))
                kept.append(position)
            except ValueError as error:
                rejected.append(Rejected(position=position, message=message, reason=f"no GetFlowsResponse: {error}"))
        flows = pa.concat_arrays(parts) if parts else pa.array([], pa.binary())
    is_flow = pc.greater(pc.binary_length(flows), 0).fill_null(False)
    others: list[tuple[int, observer_pb2.GetFlowsResponse]] = []
    before = np.cumsum(is_flow.to_numpy(zero_copy_only=False))
    for row in pc.indices_nonzero(pc.invert(is_flow)).to_pylist():
        message = messages[kept[row]]
        try:
            response = observer_pb2.GetFlowsResponse.FromString(message)
        except DecodeError as error:
            rejected.append(Rejected(position=kept[row], message=message, reason=f"no GetFlowsResponse: {error}"))
            continue
        if response.WhichOneof("response_types") in ("lost_events", "node_status"):
            others.append((int(before[row]), response))
        else:
            rejected.append(Rejected(position=kept[row], message=message, reason="a GetFlowsResponse without anything this version knows"))
    return Responses(flows=flows.filter(is_flow), others=tuple(others), rejected=tuple(rejected))
