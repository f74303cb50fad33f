"""Kubernetes label selectors in text form: `team=payments, tier in (web, api), !legacy`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?"
_VALUE = r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?"
_EQUAL = re.compile(rf"(?P<key>{_NAME})\s*(?P<operator>==|=|!=)\s*(?P<value>{_VALUE})")
_AMONG = re.compile(rf"(?P<key>{_NAME})\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EXISTS = re.compile(rf"(?P<operator>!?)\s*(?P<key>{_NAME})")


@dataclass(frozen=True)
class Requirement:
    """One condition on one label."""

    key: str
    values: frozenset[str] | None
    """None requires only that the label is present."""
    is_negated: bool
    """As in Kubernetes, a negated requirement matches if the label is absent."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet the requirement."""
        found = self.key in labels and (self.values is None or labels[self.key] in self.values)
        return found != self.is_negated


@dataclass(frozen=True)
class Selector:
    """A list of requirements that must all be met."""

    requirements: tuple[Requirement, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet all requirements."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Parse a selector. Raises ValueError naming the invalid part; an empty selector would match everything and is refused."""
        parts = [part.strip() for part in re.split(r",(?![^()]*\))", text)]
        return cls(tuple(_requirement(part) for part in parts))


def _requirement(part: str) -> Requirement:
    if match := _EQUAL.fullmatch(part):
        return Requirement(match["key"], frozenset({match["value"]}), match["operator"] == "!=")
    if match := _AMONG.fullmatch(part):
        values = frozenset(value.strip() for value in match["values"].split(","))
        if all(re.fullmatch(_VALUE, value) for value in values):
            return Requirement(match["key"], values, match["operator"] == "notin")
    if match := _EXISTS.fullmatch(part):
        return Requirement(match["key"], None, bool(match["operator"]))
    raise ValueError(
        f"{part!r} is not a label selector: write key=value, key!=value, key in (a, b), key notin (a, b), key or !key; a comma means AND"
    )
