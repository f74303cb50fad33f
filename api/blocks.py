"""Blocks: the flows of several spans that are read with one scan, encoded as they come, and held compressed until each span is sent.

A merged day is sorted by namespace, so that each span of it lies in all of its rows: reading span by span would scan them every time.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from api import encoding, frames

Span = tuple[int, int]
"""[begin, end) in microseconds since 1970."""
Encoded = tuple[pa.BinaryArray, npt.NDArray[np.int64]]
"""Responses with gRPC's prefixes in the order of time, and their times in nanoseconds since 1970."""
_CODEC = pa.Codec("zstd", compression_level=1)


class StoppedError(Exception):
    """Nobody wants the block any more."""


class Block:
    """The encoded flows of consecutive spans, compressed."""

    def __init__(self, spans: Sequence[Span], encode: Callable[[pa.Table], Encoded], stopped: threading.Event) -> None:
        """`encode` returns the responses of those of some rows that match; once `stopped` is set, `add` raises StoppedError."""
        self._starts = np.array([begin for begin, _ in spans[1:]], np.int64) * 1_000
        self._encode = encode
        self._stopped = stopped
        self._parts: list[list[tuple[bytes, int, npt.NDArray[np.int32], npt.NDArray[np.int64]]]] = [[] for _ in spans]

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows of any of the spans. Raises StoppedError."""
        if self._stopped.is_set():
            raise StoppedError
        messages, nanoseconds = self._encode(pa.Table.from_batches([batch]))
        if not len(messages):
            return
        _, offsets, data = messages.buffers()
        ends = np.frombuffer(offsets, np.int32, len(messages) + 1, messages.offset * 4)
        bounds = [0, *np.searchsorted(nanoseconds, self._starts).tolist(), len(messages)]
        for number, (first, last) in enumerate(itertools.pairwise(bounds)):
            if first < last:
                body = data.slice(int(ends[first]), int(ends[last] - ends[first]))
                packed = _CODEC.compress(body, asbytes=True)  # a buffer would keep the room that it could have needed
                self._parts[number].append((packed, body.size, ends[first : last + 1] - ends[first], nanoseconds[first:last].copy()))

    def take(self, number: int) -> Encoded | None:
        """Return the responses of a span in the order of time and forget them; None if it has none."""
        parts, self._parts[number] = self._parts[number], []
        if not parts:
            return None
        arrays = [
            pa.BinaryArray.from_buffers(pa.binary(), len(ends) - 1, [None, pa.py_buffer(ends.tobytes()), _CODEC.decompress(packed, size)])
            for packed, size, ends, _ in parts
        ]
        messages, nanoseconds = pa.concat_arrays(arrays), np.concatenate([times for *_, times in parts])
        if len(parts) == 1:
            return messages, nanoseconds
        places = encoding.order(messages, nanoseconds, after=frames.PREFIX_BYTES)
        return messages.take(pa.array(places)), nanoseconds[places]
