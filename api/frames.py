"""Messages of gRPC as they go over the wire: each with a prefix of its length, many in one buffer. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

PREFIX_BYTES = 5
"""A byte that says whether the message is compressed, which none of ours is, and the length in four."""


@dataclass(frozen=True)
class Batch:
    """Messages with their prefixes, one after the other."""

    content: memoryview
    count: int


def prefixes(lengths: npt.NDArray[np.int64]) -> pa.BinaryArray:
    """Return the prefix of a message of each of these lengths."""
    made = np.zeros((len(lengths), PREFIX_BYTES), np.uint8)
    made[:, 1:] = lengths.astype(">u4").view(np.uint8).reshape(-1, 4)
    kind = pa.binary(PREFIX_BYTES)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(lengths), [None, pa.py_buffer(made)]).cast(pa.binary())


def framed(message: bytes) -> bytes:
    """Return one message with its prefix."""
    return b"\0" + len(message).to_bytes(4) + message


def length(prefix: bytes) -> int:
    """Return the length of the message that a prefix announces. Raises ValueError if it is compressed."""
    if prefix[0]:
        raise ValueError("compressed messages are not understood: send them uncompressed")
    return int.from_bytes(prefix[1:])


def of_one(message: bytes) -> Batch:
    """Return a batch of one message that has its prefix."""
    return Batch(memoryview(message), 1)


def of_many(messages: pa.BinaryArray) -> Batch:
    """Return the batch of messages that have their prefixes, without copying them. None of them may be null."""
    _, offsets, data = messages.buffers()
    if not len(messages) or data is None:
        return Batch(memoryview(b""), 0)
    bounds = np.frombuffer(offsets, np.int32, len(messages) + 1, messages.offset * 4)
    return Batch(memoryview(data)[bounds[0] : bounds[-1]], len(messages))
