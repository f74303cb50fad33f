"""Decodes Flow messages to rows of the `flows` table, and encodes rows again, losing nothing but secrets.

Every batch is decoded, flattened, encoded again from its columns and compared with the received bytes. Where they differ
(a field newer than our protos, a second workload, a number too large), the bytes of the differing fields go to `rest`.
A message that is not a Flow is set aside without affecting its batch. Receiving messages does not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from collectors.decoding import columns, secrets, wire
from warehouse import config, schema

AHEAD = timedelta(hours=1)
"""A flow further in the future than this is flagged `clock_skew`."""
BEHIND = timedelta(days=1)
"""A flow older than this is flagged, if it was received live."""

_USUAL = config.Redact()


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A message that could not be decoded: its position in the batch, its bytes and the reason."""

    position: int
    message: bytes
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Rows with the schema schema.FLOWS, in the order received, and the messages that were set aside."""

    rows: pa.Table
    rejected: tuple[Rejected, ...]


def decode(
    messages: Sequence[bytes] | pa.BinaryArray,
    *,
    cluster: str | pa.Array,
    recorded: datetime,
    live: bool = True,
    redact: config.Redact = _USUAL,
) -> Decoded:
    """Decode encoded Flow messages received for `cluster` at `recorded` (UTC); an array gives the cluster of each message.

    A flow without a time gets the recorded one, with `time_ns` null. Old times are flagged as clock skew only when
    `live`, since a file may well contain last month's flows. What `redact` selects is removed from the rows.
    """
    raw = messages if isinstance(messages, pa.BinaryArray) else pa.array(messages, pa.binary())
    batch, raw, rejected = _decode_or_split(raw)
    if isinstance(cluster, pa.Array) and rejected:
        cluster = cluster.filter(pa.array(np.isin(np.arange(len(cluster)), [one.position for one in rejected], invert=True)))
    flat = columns.flatten(batch)
    encoded = columns.encode(flat)
    flat["rest"] = _rest(raw, encoded)
    secrets.take_out(flat, redact)
    _add_ours(flat, cluster=cluster, recorded=recorded, live=live)
    table = schema.FLOWS.schema
    return Decoded(rows=pa.Table.from_arrays([flat[field.name] for field in table], schema=table), rejected=tuple(rejected))


def rebuild(rows: pa.Table) -> list[bytes]:
    """Return the Flow messages of rows of `flows`, equal in meaning to what Hubble sent."""
    rows = rows.combine_chunks()
    flat = {name: _one_chunk(rows.column(name)) for name in rows.column_names}
    encoded = columns.encode(flat).to_pylist()
    rests = flat["rest"].to_pylist()
    return [message if rest is None else wire.splice(message, rest) for message, rest in zip(encoded, rests, strict=True)]


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _decode_or_split(raw: pa.BinaryArray) -> tuple[pa.RecordBatch, pa.BinaryArray, list[Rejected]]:
    """Decode all at once; if that fails, one by one, so that only the malformed ones are set aside."""
    handler = columns.handler()
    try:
        return handler.array_to_record_batch(raw), raw, []
    except ValueError:
        valid: list[int] = []
        rejected = []
        for position in range(len(raw)):
            try:
                handler.array_to_record_batch(raw[position : position + 1])
            except ValueError as error:
                rejected.append(Rejected(position=position, message=raw[position].as_py(), reason=str(error)))
            else:
                valid.append(position)
        raw = raw.take(pa.array(valid, pa.int64()))
        return handler.array_to_record_batch(raw), raw, rejected


def _add_ours(flat: dict[str, pa.Array], *, cluster: str | pa.Array, recorded: datetime, live: bool) -> None:
    """Return Hindcast's own columns: cluster, date, flow_count, recorded_lag_ms, clock_skew."""
    rows = len(flat["verdict"])
    now = pa.scalar(recorded, schema.TIMESTAMP)
    flat["time"] = flat["time"].fill_null(now)
    lag = pc.subtract(now.cast(pa.int64()), flat["time"].cast(pa.int64()))
    flat["recorded_lag_ms"] = pc.divide(lag, 1000)
    skewed = pc.less(lag, -(AHEAD // timedelta(microseconds=1)))
    if live:
        skewed = pc.or_(skewed, pc.greater(lag, BEHIND // timedelta(microseconds=1)))
    flat["clock_skew"] = pc.if_else(skewed, True, None)
    flat["cluster"] = cluster if isinstance(cluster, pa.Array) else pa.repeat(pa.scalar(cluster), rows)
    flat["date"] = flat["time"].cast(pa.date32(), safe=False)
    counts = [flat[f"aggregate_{direction}_flow_count"].fill_null(0) for direction in ("ingress", "egress", "unknown")]
    flat["flow_count"] = pc.max_element_wise(pc.add(pc.add(counts[0], counts[1]), counts[2]), 1)


# What no column holds -------------------------------------------------------------------------------------


def _rest(raw: pa.Array, encoded: pa.Array) -> pa.Array:
    """Return, for each message, the fields whose bytes the columns do not reproduce; null if they reproduce all."""
    encoded = encoded.cast(pa.binary())
    differing = pc.indices_nonzero(pc.not_equal(raw, encoded))
    if not len(differing):
        return pa.nulls(len(raw), pa.binary())
    rests = wire.differing_fields(raw.take(differing), encoded.take(differing))
    found: list[bytes | None] = [None] * len(raw)
    for row, rest in zip(differing.to_pylist(), rests, strict=True):
        found[row] = rest or None
    return pa.array(found, pa.binary())
