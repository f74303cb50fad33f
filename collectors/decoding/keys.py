"""What tells one flow from another: its uuid, or its whole content where the agent gave it none (before Cilium 1.12)."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from collectors.decoding import decode
from collectors.hubble_api.flow import flow_pb2

CONTENT = "content:"
"""Begins the key of a flow without uuid."""


def flow_keys(rows: pa.Table) -> pa.Array:
    """The key (string) of each row of `flows`: equal for two rows only if they are the same flow, or equal in every field.

    Needs `uuid` alone where every row has one, else all columns.
    """
    uuids = rows.column("uuid").combine_chunks()
    if isinstance(uuids, pa.ChunkedArray):
        uuids = pa.concat_arrays(uuids.chunks) if uuids.num_chunks else pa.array([], pa.string())
    if not uuids.null_count:
        return uuids
    keys: list[Any] = uuids.to_pylist()
    without = [row for row, key in enumerate(keys) if key is None]
    for row, message in zip(without, decode.rebuild(rows.take(without)), strict=True):
        content = flow_pb2.Flow.FromString(message).SerializeToString(deterministic=True)
        keys[row] = CONTENT + hashlib.sha256(content).hexdigest()
    return pa.array(keys, pa.string())
