"""Fields that two messages do not share, found for many messages at once as for one by one."""

import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors.decoding import wire


def varint(value: int) -> bytes:
    written = b""
    while value >= 0x80:
        written += bytes([value & 0x7F | 0x80])
        value >>= 7
    return written + bytes([value])


def field(number: int, value: object) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3 | 3) + b"\x08\x01" + varint(number << 3 | 4)  # a group


FIELDS = st.builds(
    field,
    st.sampled_from([1, 2, 15, 16, 1000, 2**29 - 1]),
    st.one_of(st.sampled_from([0, 1, 300, 2**62, 2**64 - 1]), st.floats(), st.binary(max_size=200), st.none()),
)
MESSAGES = st.lists(FIELDS, max_size=6).map(b"".join)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two messages that share most of their fields."""
    shared, more = draw(st.lists(FIELDS, max_size=5)), draw(st.lists(FIELDS, max_size=2))
    at = draw(st.integers(0, len(shared)))
    return b"".join([*shared[:at], *more, *shared[at:]]), b"".join(draw(st.sampled_from([shared, shared[1:], shared[::-1]])))


def one_by_one(sent: bytes, held: bytes) -> bytes:
    other = wire.fields_of(held)
    return b"".join(part for number, part in wire.fields_of(sent).items() if other.get(number) != part)


def test_no_messages_have_no_differing_fields() -> None:
    assert wire.differing_fields(pa.array([], pa.binary()), pa.array([], pa.binary())) == []


@given(st.lists(st.one_of(pairs(), st.tuples(MESSAGES, MESSAGES)), max_size=5))
@example([(field(1, b"a") + field(2, b"b") + field(1, b"c"), field(1, b"ac") + field(2, b"x"))])
@example([(field(1, b"ab") + field(2, b"cd"), field(2, b"cd") + field(1, b"ab"))])
def test_fields_of_many_messages_differ_as_those_of_each(given_pairs: list[tuple[bytes, bytes]]) -> None:
    sent, held = (pa.array(list(some), pa.binary()) for some in (zip(*given_pairs, strict=True) if given_pairs else ([], [])))
    found = wire.differing_fields(sent, held)
    for (mine, other), rest in zip(given_pairs, found, strict=True):
        assert wire.fields_of(rest) == wire.fields_of(one_by_one(mine, other))


@pytest.mark.parametrize("place", ["behind", "before", "within"])
def test_a_field_that_no_version_knows_costs_no_look_at_each_message(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known, inner = field(2, b"known") + field(7, 9), field(1, b"inner")
    unknown = field(5000, b"new")
    sent = {
        "behind": field(1, inner) + known + unknown,
        "before": unknown + field(1, inner) + known,
        "within": field(1, inner + unknown) + known,
    }[place]
    looked = []
    monkeypatch.setattr(wire, "_differing", lambda *pair: looked.append(pair) or b"")
    found = wire.differing_fields(pa.array([sent] * 1000), pa.array([field(1, inner) + known] * 1000))
    assert looked == []
    assert found == [field(1, inner + unknown) if place == "within" else unknown] * 1000
    assert np.unique(found).size == 1
