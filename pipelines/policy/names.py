"""DNS names and the patterns of `toFQDNs`, DNS rules and `domainNames`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

NAME_CHARACTERS = re.compile(r"[-a-zA-Z0-9_.]+")
PATTERN_CHARACTERS = re.compile(r"[-a-zA-Z0-9_.*]+")
NAME_FORM = re.compile(r"([-a-zA-Z0-9_]+[.]?)+")
PATTERN_FORM = re.compile(r"([-a-zA-Z0-9_*]+[.]?)+")
LONGEST_NAME = 255

_CHARACTER = "[-a-zA-Z0-9_]"
_EVERY_NAME = re.compile(r"\*+\.?")
_MANY_LABELS = re.compile(r"\*{2,}\.")


@dataclass(frozen=True)
class NamePattern:
    """A name or pattern, compiled. Case does not matter, nor does a dot at the end."""

    text: str
    expression: re.Pattern[str]

    def matches(self, name: str) -> bool:
        """Whether a DNS name fits."""
        return self.expression.fullmatch(name.lower().rstrip(".")) is not None


@lru_cache(maxsize=4096)
def name_pattern(text: str, multi_label: bool = True) -> NamePattern:
    """Compile a name or pattern.

    `*` stands for any characters within one label. `*` alone is every name. `**.` at the beginning stands for one or more
    labels where `multi_label` is true (since Cilium 1.19); before, it was the same as `*.`.
    """
    pattern = text.strip().lower()
    if _EVERY_NAME.fullmatch(pattern):
        return NamePattern(text, re.compile(rf"({_CHARACTER}+(\.{_CHARACTER}+)*)?"))
    pattern = pattern.removesuffix(".")
    prefix = ""
    many = _MANY_LABELS.match(pattern)
    if many and multi_label:
        prefix = rf"{_CHARACTER}+(\.{_CHARACTER}+)*\."
        pattern = pattern[many.end() :]
    parts = (re.escape(part) for part in re.split(r"\*+", pattern))
    return NamePattern(text, re.compile(prefix + f"{_CHARACTER}*".join(parts)))
