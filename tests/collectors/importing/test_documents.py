"""Consecutive JSON values whose text arrives in pieces that end anywhere."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.importing.documents import BadText, Document, Text

VALUE = {"flow": {"Summary": 'blü "😀\\', "is_reply": False, "ports": [-1.5e-3, None, True]}}


def fed(pieces: list[str]) -> list[Text | BadText]:
    document = Document(1)
    found = [value for piece in pieces for value in document.feed(piece)]
    return [*found, *document.feed("", final=True)]


def test_text_that_is_malformed_in_the_middle_is_set_aside_however_it_arrives() -> None:
    text = json.dumps(VALUE, indent=1) + '\n{\n "flow": nonsense, "more": "' + "x" * 40 + '"\n}\n' + json.dumps(VALUE, indent=1)
    for pieces in ([text], list(text)):
        kinds = [type(value) for value in fed(pieces)]
        assert kinds == [Text, BadText, Text]


def test_a_value_that_the_text_ends_in_is_bad() -> None:
    (bad,) = fed([json.dumps(VALUE, indent=1)[:-12]])
    assert isinstance(bad, BadText)


@pytest.mark.parametrize("is_ascii", [True, False])
def test_a_value_cut_at_any_character_is_the_same_value(is_ascii: bool) -> None:
    text = json.dumps(VALUE, indent=1, ensure_ascii=is_ascii)
    for cut in range(1, len(text)):
        values = fed([text[:cut], text[cut:]])
        assert [json.loads(value.content) for value in values] == [VALUE], text[:cut]


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)
)


@given(values=st.lists(st.dictionaries(st.text(max_size=4), _JSON, max_size=3), max_size=4), size=st.integers(1, 9), is_ascii=st.booleans())
def test_values_are_the_same_whatever_the_size_of_pieces(values: list[dict[str, Any]], size: int, is_ascii: bool) -> None:
    text = "\n".join(json.dumps(value, indent=2, ensure_ascii=is_ascii) for value in values)
    found = fed([text[start : start + size] for start in range(0, len(text), size)])
    assert [json.loads(value.content) for value in found] == values
