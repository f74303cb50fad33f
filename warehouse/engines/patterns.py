"""Regular expressions that mean the same in DuckDB (RE2), Apache Spark (Java) and Sail (Rust). Pure.

Only patterns written by us are translated; whoever wrote another one meant it for the embedded engine.
"""

from __future__ import annotations

import re

from warehouse.errors import QueryError

_PARTS = re.compile(r"\\(?P<escaped>.)|(?P<set>\[\^?\]?(?:[^\]\\]|\\.)*\])|(?P<flags>\(\?(?!:)i?)|(?P<any>\.)|(?P<end>\$)", re.DOTALL)
_ESCAPED = {"d": "[0-9]"}
_SAME = frozenset(".nz+*?()[]{}|^$-/\\")
"""What may follow a backslash and then means the same everywhere: not word boundaries or spaces, of which each engine knows others."""


def portable(pattern: str, *, boundaries: bool = False) -> str:
    """Return a pattern that matches the same texts in all engines. Raises QueryError if none is known.

    With `boundaries`, word boundaries are let through: next to letters outside ASCII, other engines see fewer of them than DuckDB.
    """

    def replaced(found: re.Match[str]) -> str:
        escaped, text = found["escaped"], found[0]
        if escaped in _ESCAPED:
            return _ESCAPED[escaped]
        if text == "(?i" and not found.start():
            return "(?iu"  # Java folds the case of ASCII letters only unless it is told otherwise
        if boundaries and escaped == "b":
            return text
        if found["flags"] or (escaped and escaped not in _SAME) or (found["set"] and re.search(r"\\[^.n\]\\-]|\[:|&&", text)):
            raise QueryError(f"the engine cannot answer this: it may read the pattern {pattern} in another way")
        if found["any"]:
            return r"[^\n]"
        return r"\z" if found["end"] else text

    return _PARTS.sub(replaced, pattern)
