"""Messages cut out of a stream's bytes, however the network deals these out."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.streaming.messages import LOOK_AHEAD, Cutter, Messages


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def listed(messages: Messages) -> list[bytes]:
    assert len(messages.data) >= max(messages.ends, default=0) + len(LOOK_AHEAD)
    return [messages[number] for number in range(len(messages))]


def test_a_compressed_message_is_refused_after_those_before_it_were_handed_on() -> None:
    cutter = Cutter()
    first = cutter.cut([framed(b"good") + b"\1" + framed(b"packed")[1:]])
    assert first is not None
    assert listed(first) == [b"good"]
    with pytest.raises(ValueError, match="compressed"):
        cutter.cut([])


def test_part_of_a_message_is_none() -> None:
    cutter = Cutter()
    assert cutter.cut([b"\0\0\0"]) is None
    assert cutter.cut([b"\0\2a"]) is None
    whole = cutter.cut([b"b"])
    assert whole is not None
    assert listed(whole) == [b"ab"]


_CASES = st.lists(st.binary(max_size=30), max_size=20)


@given(_CASES, st.lists(st.integers(1, 40), max_size=40), st.integers(1, 4))
def test_messages_are_the_same_wherever_the_stream_is_torn(messages: list[bytes], sizes: list[int], together: int) -> None:
    stream = b"".join(map(framed, messages))
    bounds = [0, *itertools.takewhile(lambda place: place < len(stream), itertools.accumulate(sizes)), len(stream)]
    chunks = [stream[begin:end] for begin, end in itertools.pairwise(bounds)]
    cutter = Cutter()
    cut = [cutter.cut(chunks[place : place + together]) for place in range(0, len(chunks), together)]
    parts = [part for part in cut if part is not None]
    assert [message for part in parts for message in listed(part)] == messages
    if parts:
        assert listed(Messages.joined(parts)) == messages
    assert listed(Messages.of(messages)) == messages
