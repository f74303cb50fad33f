"""Label selectors, compiled once and matched against label sets. Pure.

A selector knows nothing of rules. That keeps matching apart from walking rules: the bulk judge matches every selector of
a policy set against every distinct label set once and works on the resulting bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.policy.labels import ANY_SOURCE, LabelSet, split_key

EXISTS = "Exists"
DOES_NOT_EXIST = "DoesNotExist"
IN = "In"
NOT_IN = "NotIn"
OPERATORS = (IN, NOT_IN, EXISTS, DOES_NOT_EXIST)


@dataclass(frozen=True, order=True)
class Requirement:
    """One condition on one label."""

    source: str
    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: LabelSet) -> bool:
        """Whether the condition certainly holds; NotIn and DoesNotExist hold for an absent label."""
        if labels.may_have(self.source, self.key):
            return False
        value = labels.get(self.source, self.key)
        if self.operator == IN:
            return value is not None and value in self.values
        if self.operator == NOT_IN:
            return value is None or value not in self.values
        return (value is not None) == (self.operator == EXISTS)

    def may_match(self, labels: LabelSet) -> bool:
        """Whether the condition holds, or may hold because the label set is not complete."""
        return labels.may_have(self.source, self.key) or self.matches(labels)


@dataclass(frozen=True)
class Selector:
    """Conditions that must all hold; without conditions it matches every label set."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: LabelSet) -> bool:
        """Whether every condition certainly holds for these labels."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def may_match(self, labels: LabelSet) -> bool:
        """Whether every condition holds, or may hold because the label set is not complete."""
        return all(requirement.may_match(labels) for requirement in self.requirements)

    @property
    def is_wildcard(self) -> bool:
        """Whether the selector matches everything, also what has unknown labels."""
        return not self.requirements


EVERYTHING = Selector()


@dataclass
class SelectorDraft:
    """A selector while a policy is translated: labels may still be replaced and conditions added."""

    labels: dict[tuple[str, str], str] = field(default_factory=dict)
    expressions: list[Requirement] = field(default_factory=list)

    @classmethod
    def read(cls, raw: Mapping[str, Any] | None, default_source: str = ANY_SOURCE, prefix: str = "") -> SelectorDraft:
        """A selector as a manifest writes it (matchLabels, matchExpressions), already checked for form.

        Args:
            raw: the selector; None is an empty one.
            default_source: the source of keys that name none.
            prefix: written before each key, for labels of namespaces.
        """
        draft = cls()
        for key, value in ((raw or {}).get("matchLabels") or {}).items():
            source, name = split_key(key, default_source)
            draft.labels[source, prefix + name] = value
        for one in (raw or {}).get("matchExpressions") or []:
            source, name = split_key(one["key"], default_source)
            draft.expressions.append(Requirement(source, prefix + name, one["operator"], tuple(sorted(one.get("values") or ()))))
        return draft

    def keys(self) -> Iterable[tuple[str, str]]:
        """Source and key of every condition."""
        yield from self.labels
        for one in self.expressions:
            yield one.source, one.key

    def names_key(self, key: str, *sources: str) -> bool:
        """Whether a condition is on this key, in one of these sources."""
        return any(found == key and source in sources for source, found in self.keys())

    def names_prefix(self, prefix: str, *sources: str) -> bool:
        """Whether a condition is on a key that begins with this, in one of these sources."""
        return any(found.startswith(prefix) and source in sources for source, found in self.keys())

    def must_equal(self, source: str, key: str, value: str) -> None:
        """Add the condition that the label has this value, in place of another value for the same key."""
        self.labels[source, key] = value

    def must_exist(self, source: str, key: str) -> None:
        """Add the condition that the label is there."""
        self.expressions.append(Requirement(source, key, EXISTS))

    def join(self, other: SelectorDraft) -> SelectorDraft:
        """Both selectors' conditions; for the same key in matchLabels, the other's value counts."""
        return SelectorDraft(self.labels | other.labels, self.expressions + other.expressions)

    def build(self) -> Selector:
        """The finished selector."""
        equal = [Requirement(source, key, IN, (value,)) for (source, key), value in self.labels.items()]
        return Selector(tuple(sorted({*equal, *self.expressions})))


def has_label(source: str, key: str) -> Selector:
    """The selector of everything that has this label, whatever its value."""
    return Selector((Requirement(source, key, EXISTS),))
