"""Selects clusters and namespaces: names with wildcards, and Kubernetes' label selectors. It does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator


class Part(BaseModel):
    """A part of a blueprint: immutable, without unknown keys. Keys that Kubernetes defines are spelled as in Kubernetes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


Pattern = Annotated[str, StringConstraints(min_length=1, pattern=r"^[A-Za-z0-9*?._-]+$")]
"""A name that may hold * and ?."""


class Requirement(Part):
    """One entry of matchExpressions."""

    key: Annotated[str, StringConstraints(min_length=1)]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if (self.operator in {"In", "NotIn"}) != bool(self.values):
            raise ValueError("In and NotIn need values, Exists and DoesNotExist have none")
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels match. As in Kubernetes, NotIn and DoesNotExist match an absent label."""
        return _holds({"key": self.key, "operator": self.operator, "values": list(self.values)}, labels)


class LabelSelector(Part):
    """A Kubernetes label selector; an empty one selects everything."""

    match_labels: dict[str, str] = Field(default={}, alias="matchLabels", description="labels that must have these values")
    match_expressions: tuple[Requirement, ...] = Field(default=(), alias="matchExpressions", description="requirements that must all hold")

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )


class Selection(LabelSelector):
    """A selection by name and by label; both must match, and an omitted part matches everything."""

    names: tuple[Pattern, ...] = Field(default=(), description="names, which may hold * and ?; any when absent")
    exclude: tuple[Pattern, ...] = Field(default=(), description="names left out, which may hold * and ?")

    def selects(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether a name and labels match."""
        return not matches_any(name, self.exclude) and (not self.names or matches_any(name, self.names)) and self.matches(labels)


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def selector_matches(selector: object, labels: Mapping[str, str]) -> bool:
    """Return whether the selector of a stored manifest matches; a malformed selector matches nothing."""
    if not isinstance(selector, Mapping):
        return False
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    if not isinstance(wanted, Mapping) or not isinstance(expressions, list):
        return False
    return all(labels.get(key) == value for key, value in wanted.items()) and all(_holds(one, labels) for one in expressions)


def _holds(expression: object, labels: Mapping[str, str]) -> bool:
    if not isinstance(expression, Mapping):
        return False
    key, operator, values = expression.get("key"), expression.get("operator"), expression.get("values") or []
    if not isinstance(key, str) or not isinstance(values, list):
        return False
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return operator in {"Exists", "DoesNotExist"} and (key in labels) == (operator == "Exists")
