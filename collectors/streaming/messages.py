"""Splits the bytes of a gRPC stream into messages, many in one buffer, without copying each of them.

Connections belong to the transport, the contents of messages to `responses`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LOOK_AHEAD = bytes(8)
"""Every buffer ends with this many bytes after the last message, so that reading ahead needs no bounds check."""
Places = npt.NDArray[np.int64]
_PREFIX = struct.Struct(">BI")  # whether it is compressed, its length


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages in the order received: message n is `data[begins[n]:ends[n]]`."""

    data: bytes
    begins: Places
    ends: Places

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, number: int) -> bytes:
        return self.data[self.begins[number] : self.ends[number]]

    @classmethod
    def of(cls, messages: Sequence[bytes]) -> Messages:
        """Return messages that are given one by one."""
        ends = np.cumsum(np.fromiter(map(len, messages), np.int64, len(messages)))
        begins = np.concatenate((np.zeros(1, np.int64), ends))[:-1]
        return cls(b"".join([*messages, LOOK_AHEAD]), begins, ends)

    @classmethod
    def joined(cls, parts: Sequence[Messages]) -> Messages:
        """Return the messages of all parts in order; a single part is returned as it is, without a copy."""
        if len(parts) == 1:
            return parts[0]
        shifts = np.cumsum([0, *(len(part.data) for part in parts)])[:-1].tolist()
        begins, ends = (
            np.concatenate([getattr(part, name) + shift for part, shift in zip(parts, shifts, strict=True)]) for name in ("begins", "ends")
        )
        return cls(b"".join(part.data for part in parts), begins, ends)


class Cutter:
    """Cuts a stream's bytes into messages, wherever the pieces in which they arrive begin and end."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = _PREFIX.size  # below this size no message is complete, so the pieces are not joined yet

    def cut(self, pieces: Sequence[bytes]) -> Messages | None:
        """Return the messages that these bytes complete; None if they complete none. Raises ValueError for a compressed message."""
        self._pieces += pieces
        self._size += sum(map(len, pieces))
        if self._size < self._wanted:
            return None
        data, size, prefix = b"".join([*self._pieces, LOOK_AHEAD]), self._size, _PREFIX.size
        begins: list[int] = []
        place, self._wanted = 0, prefix
        while place + prefix <= size:
            compressed, length = _PREFIX.unpack_from(data, place)
            if compressed:
                if begins:
                    break  # the messages before it are returned first
                raise ValueError("a compressed message, although compression was not requested")
            begin = place + prefix
            if begin + length > size:
                self._wanted = prefix + length
                break
            begins.append(begin)
            place = begin + length
        rest = data[place:size]
        self._pieces, self._size = [rest], len(rest)
        if not begins:
            return None
        starts = np.array(begins, np.int64)
        return Messages(data, starts, np.append(starts[1:] - prefix, place))
