"""The key that identifies a flow: its uuid, or its whole content where the agent sent no uuid (before Cilium 1.12)."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from collectors.decoding import decode
from collectors.hubble_api.flow import flow_pb2

CONTENT = "content:"
"""The prefix of the key of a flow without uuid."""


def flow_keys(rows: pa.Table) -> pa.Array:
    """Return the key (string) of each row of `flows`: equal only for the same flow, or for rows equal in every field.

    Needs only `uuid` where every row has one, else all columns.
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
