"""A change of policies that is tried: which policies would have been in force after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipelines.policy.policy_set import READERS, PolicySet
from pipelines.policy.reading import Document
from pipelines.replay.in_force import Period

Identity = tuple[str, str, str]
"""Kind, namespace and name of a policy; the namespace is empty for policies of a whole cluster."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The change that is tried."""

    documents: tuple[Document, ...] = ()
    """Policies that replace those of the same kind, namespace and name, and are added otherwise."""
    removed: frozenset[Identity] = frozenset()
    base: Mapping[str, tuple[Document, ...]] | None = None
    """By cluster, policies to start from in place of those that were in force; None for those in force."""
    only: bool = False
    """Whether nothing but `documents` is in force."""
    alone: bool = False
    """Whether no configuration history is known, so that nothing but `documents` can be judged."""

    def after(self, period: Period) -> PolicySet:
        """Return the policies that would have been in force in a period."""
        return period.compiler.compile(self._documents(period), period.settings, period.surroundings)

    def _documents(self, period: Period) -> Iterable[Document]:
        if self.only or self.alone:
            return self.documents
        start = period.documents if self.base is None else self.base.get(period.cluster, ())
        found = {identity(document): document for document in start if identity(document) not in self.removed}
        for number, document in enumerate(self.documents):
            there = found.get(identity(document))
            if there is None or not _says_the_same(there, document):
                found[identity(document) if document.identity[2] else ("", "", str(number))] = document
        return list(found.values())


def _says_the_same(one: Document, other: Document) -> bool:
    """Whether two policies of one name have the same content, so that one in place of the other is no change."""
    return all(one.manifest.get(key) == other.manifest.get(key) for key in ("spec", "specs"))


def identity(document: Document) -> Identity:
    """Return kind, namespace and name of a policy, with the namespace that it has when none is written."""
    kind, namespace, name = document.identity
    is_namespaced = kind in READERS and READERS[kind][1]
    return kind, (namespace or "default") if is_namespaced else "", name
