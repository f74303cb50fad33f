"""A number and the word for what it counts agree."""

from __future__ import annotations

import pytest

from warehouse.wording import counted


@pytest.mark.parametrize(
    ("number", "words", "written"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (2_000, ("new edge",), "2,000 new edges"),
        (1, ("policy", "policies"), "1 policy"),
        (3, ("policy", "policies"), "3 policies"),
    ],
)
def test_one_is_singular_and_everything_else_is_plural(number: int, words: tuple[str, ...], written: str) -> None:
    assert counted(number, *words) == written
