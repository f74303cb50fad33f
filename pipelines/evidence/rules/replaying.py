"""Replays a rule over recorded history: when it would have been pending, fired and ended. Nothing is stored and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.evidence.rules import running
from pipelines.evidence.rules.asking import Asking
from pipelines.evidence.rules.evaluating import evaluate
from pipelines.evidence.rules.model import Rule
from pipelines.evidence.rules.states import AlertState, Moment
from warehouse import config
from warehouse.questions.door import Door


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a rule would have done."""

    changed: list[AlertState]
    """Every change of state, oldest first, of its alerts and of the rule itself."""
    evaluations: int
    silent: int
    """Evaluations in which nothing, or not everything, was covered."""


def replay(
    settings: config.Config,
    door: Door,
    rule: Rule,
    *,
    since: datetime,
    until: datetime,
    step: timedelta,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Replayed:
    """Evaluate a rule at every `step` from `since` to `until`, as the runs would have. Raises LakeError."""
    at = since.replace(second=0, microsecond=0)
    steps = max(int((until - at) / step) + 1, 0)
    before: dict[str, AlertState] = {}
    changed: list[AlertState] = []
    silent = 0
    for number in range(steps):
        when = Moment(at=at + number * step, last=at + (number - 1) * step if number else None, step=step)
        evaluation = evaluate(rule, Asking(door, settings, when.at))
        silent += bool(evaluation.not_covered or evaluation.failure)
        new = running.changes([evaluation], before, when=when)
        before.update({one.alert: one for one in new})
        changed += [one for one in new if not (one.is_of_rule and one.state == "evaluated" and number == 0)]
        progress(number + 1, steps)
    return Replayed(changed=changed, evaluations=steps, silent=silent)
