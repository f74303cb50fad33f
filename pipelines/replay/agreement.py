"""How well the replay reproduces what was recorded: the policies that were in force, judged over the recorded traffic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from pipelines.policy.bulk import ALLOWED, DENIED, UNCERTAIN, BulkJudge
from pipelines.policy.model import Direction
from pipelines.policy.side_vectors import Mask
from pipelines.policy.verdict import Decision, decide
from pipelines.replay import traffic as recorded
from pipelines.replay.grouping import Ints
from pipelines.replay.traffic import EGRESS, INGRESS, Traffic


class Disagreement(StrEnum):
    """How a replayed verdict differs from the recorded one."""

    DROPPED = "policy says allow and the datapath dropped"
    FORWARDED = "policy says deny and it was forwarded"
    NOT_KNOWN = "not known"


CLASSES = tuple(Disagreement)
AGREES, NOT_JUDGED = len(CLASSES), len(CLASSES) + 1


@dataclass(frozen=True, kw_only=True)
class Disagreeing:
    """The disagreements of one cluster: arrays of one length."""

    traffic: Traffic
    connection: Ints
    direction: Ints
    """EGRESS or INGRESS: the end at which it was recorded."""
    kind: Ints
    """Index in CLASSES."""
    flows: Ints


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many flows the replay agrees on."""

    agreed: int
    disagreed: dict[Disagreement, int]
    """Flows by class."""
    not_judged: int
    """Flows that say nothing about policies, such as drops for other reasons, and those seen at an end where no policy is enforced."""
    cases: tuple[Disagreeing, ...]

    @property
    def share(self) -> float | None:
        """Share of flows with the recorded verdict, among those whose verdict is known; None if there are none."""
        wrong = self.disagreed[Disagreement.DROPPED] + self.disagreed[Disagreement.FORWARDED]
        return self.agreed / (self.agreed + wrong) if self.agreed + wrong else None

    @property
    def unknown_share(self) -> float:
        """Share of flows whose verdict is not known."""
        unknown = self.disagreed[Disagreement.NOT_KNOWN]
        judged = self.agreed + sum(self.disagreed.values())
        return unknown / judged if judged else 0.0


def of_cluster(traffic: Traffic, judge: BulkJudge) -> tuple[int, int, Disagreeing]:
    """Return the flows that agree, those not judged, and the disagreements.

    `judge` must have the policies of the periods, in their order, as its first sets.
    """
    everything = np.arange(len(traffic))
    period = traffic.first_period
    known = np.array([not one.not_covered for one in traffic.periods], bool)[period]
    verdicts = judge.judge(traffic.connections(everything, period))
    straddles = traffic.first_period != traffic.last_period
    last = judge.judge(traffic.connections(everything, traffic.last_period)) if straddles.any() else verdicts
    # Of an end that is not the principal's, neither labels nor policies are visible.
    foreign = np.array([end.is_hidden and side.subject is None for end, side in zip(traffic.ends, traffic.sides, strict=True)], bool)
    agreed, not_judged = 0, traffic.not_judged
    found: list[tuple[Ints, Ints, Ints, Ints]] = []
    for direction in (EGRESS, INGRESS):
        ingress = direction == INGRESS
        codes = (verdicts.ingress if ingress else verdicts.egress).astype(np.int64)
        other = (last.ingress if ingress else last.egress).astype(np.int64)
        undecided = verdicts.ingress_undecided if ingress else verdicts.egress_undecided
        subject = traffic.destination if ingress else traffic.source
        unknown = ~known | (straddles & (codes != other)) | (codes == UNCERTAIN)
        for kind in (recorded.ALLOWED, recorded.DENIED, recorded.DENIED_REQUEST):
            flows = traffic.flows[:, direction, kind]
            verdict = _compared(codes, unknown, undecided, kind)
            verdict[foreign[subject]] = NOT_JUDGED
            agreed += int(flows[verdict == AGREES].sum())
            not_judged += int(flows[verdict == NOT_JUDGED].sum())
            places = np.flatnonzero((verdict < AGREES) & (flows > 0))
            found.append((places, np.full(len(places), direction), verdict[places], flows[places]))
    columns = [np.concatenate([part[column] for part in found]) for column in range(4)]
    lost = int(traffic.flows[:, recorded.UNKNOWN, :].sum())  # nobody knows at which end these were seen
    return (
        agreed,
        not_judged + lost,
        Disagreeing(traffic=traffic, connection=columns[0], direction=columns[1], kind=columns[2], flows=columns[3]),
    )


def _compared(codes: Ints, unknown: Mask, undecided: Mask, kind: int) -> Ints:
    """The class of each connection for what was recorded."""
    found = np.full(len(codes), AGREES, np.int64)
    if kind == recorded.ALLOWED:
        found[codes == DENIED] = CLASSES.index(Disagreement.FORWARDED)
    elif kind == recorded.DENIED:
        found[(codes == ALLOWED)] = CLASSES.index(Disagreement.DROPPED)
    else:
        found[(codes == ALLOWED) & ~undecided] = CLASSES.index(Disagreement.DROPPED)
    found[unknown] = CLASSES.index(Disagreement.NOT_KNOWN)
    found[codes > UNCERTAIN] = NOT_JUDGED
    return found


def together(parts: Iterable[tuple[int, int, Disagreeing]]) -> Agreement:
    """Return the agreement over several clusters."""
    agreed = not_judged = 0
    disagreed = dict.fromkeys(CLASSES, 0)
    cases = []
    for right, without, case in parts:
        agreed, not_judged = agreed + right, not_judged + without
        for place, kind in enumerate(CLASSES):
            disagreed[kind] += int(case.flows[case.kind == place].sum())
        cases.append(case)
    return Agreement(agreed=agreed, disagreed=disagreed, not_judged=not_judged, cases=tuple(cases))


def explained(case: Disagreeing, place: int) -> Decision:
    """Return the replayed decision of one disagreement, with its rules and reason."""
    traffic, connection = case.traffic, int(case.connection[place])
    direction = Direction.INGRESS if case.direction[place] == INGRESS else Direction.EGRESS
    policies = traffic.periods[int(traffic.first_period[connection])].policies
    return decide(policies, direction, traffic.connection(connection))
