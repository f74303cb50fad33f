"""Values for the placeholders of a prepared statement, written into its text as literals. Pure.

The text runs where its author may run any text, so this is about correctness, not about safety.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Sequence
from typing import Any

_PARTS = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | (?P<tag>\$\w*\$).*?(?P=tag)
    | \$(?P<number>\d+) | (?P<mark>\?)(?P<place>\d*)""",
    re.VERBOSE | re.DOTALL,
)
"""What may contain a question mark without being a placeholder, and placeholders: ?, ?1 and $1."""


def count(text: str) -> int:
    """Return how many values a statement takes."""
    places, unnumbered = [0], 0
    for found in _PARTS.finditer(text):
        number = found["number"] or found["place"]
        if number:
            places.append(int(number))
        elif found["mark"]:
            unnumbered += 1
    return max(unnumbered, *places)


def filled(text: str, values: Sequence[Any]) -> str:
    """Return the statement with its values. Raises ValueError if there are too few, or one cannot be written."""
    wanted = count(text)
    if len(values) != wanted:
        raise ValueError(f"the statement takes {wanted} values, but {len(values)} were given")
    following = iter(values)

    def write(found: re.Match[str]) -> str:
        number = found["number"] or found["place"]
        if number:
            return literal(values[int(number) - 1])
        return literal(next(following)) if found["mark"] else found[0]

    return _PARTS.sub(write, text)


def literal(value: Any) -> str:
    """Return a value as an SQL literal. Raises ValueError for a type that has none."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case int() | decimal.Decimal():
            return f"({value})"
        case float():
            return f"({value!r})" if math.isfinite(value) else f"'{value}'::DOUBLE"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case bytes():
            return "'" + "".join(f"\\x{byte:02X}" for byte in value) + "'::BLOB"
        case dt.datetime():
            return f"'{value.isoformat()}'::{'TIMESTAMPTZ' if value.tzinfo else 'TIMESTAMP'}"
        case dt.date():
            return f"'{value.isoformat()}'::DATE"
        case dt.time():
            return f"'{value.isoformat()}'::TIME"
        case dt.timedelta():
            return f"to_microseconds({value // dt.timedelta(microseconds=1)})"
        case list() | tuple():
            return "[" + ", ".join(map(literal, value)) + "]"
        case _:
            raise ValueError(f"a value of type {type(value).__name__} cannot be a parameter")
