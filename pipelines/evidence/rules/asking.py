"""Asks the questions of rules through the door, each once in an evaluation however many rules need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from pipelines.evidence.rules.reserved import Owns
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.engine import Window
from warehouse.questions.answers import Answer
from warehouse.questions.door import Door
from warehouse.questions.question import Question
from warehouse.questions.record_questions import Ledger

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an expression returned: its rows, and the share of each cluster that was observed of what it read, from 0 to 1."""

    rows: Sequence[Mapping[str, Any]]
    shares: Mapping[str, float]
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Clusters about which it can say nothing, with the reason."""


class Asking:
    """The questions of one evaluation, at one time."""

    def __init__(self, door: Door, settings: config.Config, at: datetime) -> None:
        self.door, self.settings, self.at = door, settings, at
        self._answers: dict[tuple[Principal, Question[Any]], Any] = {}

    def ask(self, principal: Principal, question: Question[T]) -> T:
        """Return the answer to a question. Raises what the door raises; a failure is not asked again either."""
        key = (principal, question)
        if key not in self._answers:
            try:
                self._answers[key] = self.door.answer(principal, question)
            except Exception as error:
                self._answers[key] = error
        answer = self._answers[key]
        if isinstance(answer, Exception):
            raise answer
        found: T = answer
        return found

    def ledger(self, principal: Principal, window: Window) -> Answer:
        """Return the ledger of a window."""
        return self.ask(principal, Ledger(window=window))

    def owns(self, principal: Principal) -> Owns:
        """Return what tells what a principal owns at the time of the evaluation. A namespace of no cluster is nobody's."""
        scope = self.door.scope(principal)

        def owned(cluster: str | None, namespace: str | None) -> bool:
            if cluster is None:
                return False
            return scope.sees_cluster(cluster) if namespace is None else scope.owns(cluster, namespace, self.at)

        return owned

    def clusters(self, principal: Principal) -> tuple[str, ...]:
        """Return the clusters that should be observed, as far as the principal may know of them."""
        scope = self.door.scope(principal)
        return tuple(cluster.name for cluster in self.settings.clusters if cluster.hubble is not None and scope.sees_cluster(cluster.name))
