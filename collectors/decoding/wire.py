"""Protobuf's wire format: reads top-level fields, of one message or of many at once. It knows no message types."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Places = npt.NDArray[np.int64]
MOST_FIELDS = 512
"""Messages with more top-level fields than this are left to the caller to read one by one."""
_MORE = 0x80  # a varint byte with this bit is not the last
_LONGEST_VARINT = 10
_MOST_NUMBERS = 256
"""Messages with more differing fields than this are compared one by one."""


def fields_of(message: bytes) -> dict[int, bytes]:
    """Return the bytes of all occurrences of each top-level field number, tags included, in order."""
    fields: dict[int, bytes] = {}
    position = 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        position = _skip(message, position, tag & 7)
        fields[tag >> 3] = fields.get(tag >> 3, b"") + message[start:position]
    return fields


def splice(message: bytes, rest: bytes) -> bytes:
    """Return a message whose fields present in `rest` are replaced by those of `rest`."""
    replaced = fields_of(rest)
    return b"".join(part for number, part in fields_of(message).items() if number not in replaced) + rest


def differing_fields(sent: pa.BinaryArray, encoded: pa.BinaryArray) -> list[bytes]:
    """Return, for each pair of messages, the top-level fields of `sent` whose bytes `encoded` does not have.

    Usually only the lengths of a few fields differ; that is found for all pairs at once. Pairs for which it
    does not explain every difference are compared one by one.
    """
    found, is_sure = _by_length(sent, encoded)
    return [
        rest if sure else _differing(sent[pair].as_py(), encoded[pair].as_py())
        for pair, (rest, sure) in enumerate(zip(found, is_sure.tolist(), strict=True))
    ]


def _differing(sent: bytes, encoded: bytes) -> bytes:
    other = fields_of(encoded)
    return b"".join(part for number, part in fields_of(sent).items() if other.get(number) != part)


def _by_length(sent: pa.BinaryArray, encoded: pa.BinaryArray) -> tuple[list[bytes], npt.NDArray[np.bool_]]:
    """Return the fields that have another length in the other message, and whether everything else is equal."""
    count = len(sent)
    ours, theirs = _Segments.of(sent), _Segments.of(encoded)
    numbers = np.unique(np.concatenate((ours.numbers, theirs.numbers)))
    if not count or len(numbers) > _MOST_NUMBERS:
        return [b""] * count, np.zeros(count, bool)
    lengths = [some.lengths(numbers, count) for some in (ours, theirs)]
    differs = lengths[0] != lengths[1]
    others = [some.without(differs, numbers) for some in (ours, theirs)]
    is_sure = ours.is_whole & theirs.is_whole & ~_are_different(others[0], others[1], count)
    return ours.of_numbers(differs, numbers), is_sure


@dataclass(frozen=True, kw_only=True)
class _Segments:
    """The top-level fields of many messages: one per row, by message and position in it."""

    data: npt.NDArray[np.uint8]
    messages: Places
    """The message that each field belongs to."""
    numbers: Places
    begins: Places
    ends: Places
    is_whole: npt.NDArray[np.bool_]
    """For each message, whether it was read completely."""

    @classmethod
    def of(cls, messages: pa.BinaryArray) -> _Segments:
        """Read all messages in parallel, one field of each at a time."""
        _, offsets, buffer = messages.buffers()
        bounds = np.frombuffer(offsets, np.int32, len(messages) + 1, messages.offset * 4).astype(np.int64)
        data = np.frombuffer(buffer, np.uint8) if buffer is not None else np.zeros(0, np.uint8)
        data = np.concatenate((data[bounds[0] : bounds[-1]], np.zeros(2 * _LONGEST_VARINT, np.uint8)))
        bounds -= bounds[0]
        place, ends = bounds[:-1].copy(), bounds[1:]
        reading = np.flatnonzero(place < ends)
        is_whole = np.ones(len(messages), bool)
        found: list[tuple[Places, Places, Places, Places]] = []
        while reading.size:
            begin = place[reading]
            tags, after, is_good = _varints(data, begin)
            after, is_skipped = _skipped(data, after, tags & 7)
            is_good &= is_skipped & (after <= ends[reading])
            is_whole[reading[~is_good]] = False
            reading, begin, tags, after = reading[is_good], begin[is_good], tags[is_good], after[is_good]
            found.append((reading, tags >> 3, begin, after))
            place[reading] = after
            reading = reading[after < ends[reading]]
            if len(found) == MOST_FIELDS:
                is_whole[reading] = False
                break
        empty = np.zeros(0, np.int64)
        parts = [np.concatenate([empty, *(step[column] for step in found)]) for column in range(4)]
        order = np.argsort(parts[2], kind="stable")
        of_message, numbers, begins, after = (part[order] for part in parts)
        return cls(data=data, messages=of_message, numbers=numbers, begins=begins, ends=after, is_whole=is_whole)

    def lengths(self, numbers: Places, count: int) -> Places:
        """Return the total length of the fields of each number, for each message."""
        keys = self.messages * len(numbers) + np.searchsorted(numbers, self.numbers)
        sums = np.bincount(keys, self.ends - self.begins, count * len(numbers))
        return sums.astype(np.int64).reshape(count, len(numbers))

    def without(self, differs: npt.NDArray[np.bool_], numbers: Places) -> _Segments:
        """Return the fields of all numbers that do not differ in their message."""
        stays = ~differs[self.messages, np.searchsorted(numbers, self.numbers)]
        parts = (part[stays] for part in (self.messages, self.numbers, self.begins, self.ends))
        messages, others, begins, ends = parts
        return _Segments(data=self.data, messages=messages, numbers=others, begins=begins, ends=ends, is_whole=self.is_whole)

    def of_numbers(self, differs: npt.NDArray[np.bool_], numbers: Places) -> list[bytes]:
        """Return the bytes of each message's differing fields, in the order of the message."""
        rests = [b""] * len(self.is_whole)
        data = self.data.tobytes()
        for place in np.flatnonzero(differs[self.messages, np.searchsorted(numbers, self.numbers)]).tolist():
            rests[self.messages[place]] += data[self.begins[place] : self.ends[place]]
        return rests

    def content(self) -> npt.NDArray[np.uint8]:
        """Return the bytes of all fields, concatenated."""
        changes = np.zeros(len(self.data), np.int8)
        changes[self.begins] += 1  # fields begin, and end, at different places
        changes[self.ends] -= 1
        data: npt.NDArray[np.uint8] = self.data[np.cumsum(changes, dtype=np.int8).view(bool)]
        return data


def _are_different(some: _Segments, others: _Segments, count: int) -> npt.NDArray[np.bool_]:
    """Return whether the fields of two messages differ in their bytes or in the order of their numbers."""
    different = np.bincount(some.messages, minlength=count) != np.bincount(others.messages, minlength=count)
    some, others = (_of_messages(segments, ~different) for segments in (some, others))
    unequal = (some.numbers != others.numbers) | (some.ends - some.begins != others.ends - others.begins)
    different[some.messages[unequal]] = True
    some, others = (_of_messages(segments, ~different) for segments in (some, others))
    unequal = some.content() != others.content()
    if unequal.any():
        different[np.repeat(some.messages, some.ends - some.begins)[unequal]] = True
    result: npt.NDArray[np.bool_] = different
    return result


def _of_messages(segments: _Segments, wanted: npt.NDArray[np.bool_]) -> _Segments:
    if wanted.all():
        return segments
    stays = wanted[segments.messages]
    messages, numbers, begins, ends = (part[stays] for part in (segments.messages, segments.numbers, segments.begins, segments.ends))
    return _Segments(data=segments.data, messages=messages, numbers=numbers, begins=begins, ends=ends, is_whole=segments.is_whole)


def _varints(data: npt.NDArray[np.uint8], places: Places) -> tuple[Places, Places, npt.NDArray[np.bool_]]:
    """Return the varints below 2^63 at these positions, the positions after them, and whether they are valid."""
    values, after = np.zeros(len(places), np.int64), places.copy()
    going = np.arange(len(places))
    for number in range(_LONGEST_VARINT - 1):
        byte = data[np.minimum(after[going], len(data) - 1)].astype(np.int64)
        values[going] |= (byte & 0x7F) << (7 * number)
        after[going] += 1
        going = going[byte >= _MORE]
        if not going.size:
            break
    is_good = np.ones(len(places), bool)
    is_good[going] = False
    return values, after, is_good


def _skipped(data: npt.NDArray[np.uint8], places: Places, kinds: Places) -> tuple[Places, npt.NDArray[np.bool_]]:
    """Return the positions after values of these wire types; groups, which are deprecated, are not skipped."""
    after, is_good = places.copy(), np.isin(kinds, (0, 1, 2, 5))
    for kind, size in ((1, 8), (5, 4)):
        after[kinds == kind] += size
    for kind in (0, 2):
        mine = np.flatnonzero(kinds == kind)
        values, behind, is_varint = _varints(data, places[mine])
        after[mine] = behind + values if kind == 2 else behind
        is_good[mine] &= is_varint & (after[mine] >= places[mine])
    return after, is_good


def _skip(message: bytes, position: int, wire_type: int) -> int:
    """Return the position after a value: 0 varint, 1 eight bytes, 2 length-delimited, 3 group (deprecated but allowed), 5 four bytes."""
    match wire_type:
        case 0:
            return _varint(message, position)[1]
        case 1:
            return position + 8
        case 2:
            length, position = _varint(message, position)
            return position + length
        case 3:
            tag, position = _varint(message, position)
            while tag & 7 != 4:  # the end of the group
                tag, position = _varint(message, _skip(message, position, tag & 7))
            return position
        case _:
            return position + 4


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, position
        shift += 7
