"""Numbers with what they count, as people read them everywhere: in messages, on pages, in reports."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with the word for what it counts: `1 row`, `2,000 rows`, `2 policies` (where `many` is `policies`)."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
