"""How far a simulation is to be trusted, by what is known of the traffic that the change concerns. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pipelines.replay.outcomes import CHANGES, Change, Outcomes


class Level(StrEnum):
    """How far."""

    HIGH = "high"
    FAIR = "fair"
    LOW = "low"


@dataclass(frozen=True, kw_only=True)
class Concerned:
    """The recorded flows at the ends of which a policy changes, whose verdict the change can therefore be about."""

    flows: int
    uncertain: int
    """Those of them of which it cannot be told what would become of them."""

    @property
    def uncertain_share(self) -> float:
        """Share of them of which it cannot be told; 0 if there are none."""
        return self.uncertain / self.flows if self.flows else 0.0


def concerned(outcomes: Iterable[Outcomes]) -> Concerned:
    """Return how many flows a change concerns, and of how many of them it cannot be told what it does."""
    flows = uncertain = 0
    for one in outcomes:
        is_uncertain = one.change == CHANGES.index(Change.UNCERTAIN)
        flows += int(one.flows[one.touched.any(axis=1) | is_uncertain].sum())
        uncertain += int(one.flows[is_uncertain].sum())
    return Concerned(flows=flows, uncertain=uncertain)


def level(*, observed: float, reproduced: float | None, unknown: float, uncertain: float, alone: bool) -> Level:
    """Return how far a simulation is to be trusted.

    Args:
        observed: share of the nodes' time that was observed.
        reproduced: share of recorded verdicts that the policies in force then reproduce, of those that are known; None if none is.
        unknown: share of recorded verdicts of which it is not known what the policies in force then say.
        uncertain: share of the flows that the change concerns of which it cannot be told what it does to them.
        alone: whether the candidates were judged alone, since it is not known what else was in force.
    """
    if alone or reproduced is None:
        return Level.LOW
    if observed > 0.95 and reproduced > 0.99 and unknown < 0.02 and uncertain < 0.02:
        return Level.HIGH
    return Level.FAIR if observed > 0.8 and reproduced > 0.95 and unknown < 0.2 and uncertain < 0.2 else Level.LOW
