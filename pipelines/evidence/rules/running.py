"""Evaluates all rules once, keeps the state of their alerts in the table `alerts`, and sends them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import structlog

from pipelines.evidence.rules import model, states
from pipelines.evidence.rules.asking import Asking
from pipelines.evidence.rules.evaluating import Evaluation, evaluate
from pipelines.evidence.rules.model import Rule
from pipelines.evidence.rules.sending import Sender
from pipelines.evidence.rules.states import LIVE, AlertState, Moment
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.errors import CommitConflictError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.records.newest import newest
from warehouse.schema import ALERTS

log = structlog.stdlib.get_logger(__name__)
EVALUATED, TURN = "alert-rules", "alert-rules-turn"
"""App ids in the log of `alerts`: the time of the newest evaluation, in microseconds since 1970, and how many there were. If two runs saw
the same number, the lake accepts only one of them."""
_MINUTE = timedelta(minutes=1)
_GONE = "the rule is in no file any more"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run found."""

    at: datetime
    """The end of the windows that were evaluated."""
    evaluations: Sequence[Evaluation] = ()
    changed: Sequence[AlertState] = ()
    live: Sequence[AlertState] = ()
    """Alerts that are pending or firing."""
    failures: Sequence[str] = field(default_factory=list)
    """What could not be sent, as sentences."""
    is_late: bool = False
    """Whether another run has evaluated the same or a later time, so that this one changed and sent nothing."""


def run(settings: config.Config, lake: Lake, *, now: datetime, source: str, rules: Sequence[Rule] | None = None) -> Run:
    """Evaluate all rules of the configuration over windows that end `alerts.lag` before `now`, to the minute.

    State that changes is committed before anything is sent, so a run that is killed loses no alert: the next one sends it.
    Raises ConfigError for mistakes in rule files, LakeError.
    """
    rules = model.load(settings) if rules is None else rules
    at = (now - settings.alerts.lag).replace(second=0, microsecond=0)
    turn = lake.transaction_version(ALERTS, TURN) or 0  # read before the states: a later run makes this one stale
    before = {one.alert: one for one in newest_states(lake)}
    last = lake.transaction_version(ALERTS, EVALUATED)
    if last is not None and last >= _version(at):
        return Run(at=at, is_late=True, live=[one for one in before.values() if one.state in LIVE])
    asking = Asking(Door(lake, settings.ownership, settings.rollups, purpose=source), settings, at)
    evaluations = [evaluate(rule, asking) for rule in rules]
    when = Moment(at=at, last=None if last is None else datetime.fromtimestamp(last / 1_000_000, UTC))
    changed = changes(evaluations, before, when=when)
    for one in changed:
        log.info("alert", rule=one.rule, state=one.state, labels=dict(one.labels), detail=one.detail)
    try:
        files = lake.write_files(ALERTS, _rows(changed)) if changed else []
        lake.commit(ALERTS, files, transactions={EVALUATED: _version(at), TURN: turn + 1}, metadata={})
    except CommitConflictError:
        return Run(at=at, evaluations=evaluations, is_late=True, live=[one for one in before.values() if one.state in LIVE])
    known = {**before, **{one.alert: one for one in changed}}
    sender = Sender(settings=settings, lake=lake, rules={rule.name: rule for rule in rules}, source=source)
    failures = sender.send(list(known.values()), at=at)
    live = sorted((one for one in known.values() if one.state in LIVE), key=lambda one: (one.rule, one.alert))
    return Run(at=at, evaluations=evaluations, changed=changed, live=live, failures=failures)


def changes(evaluations: Sequence[Evaluation], before: dict[str, AlertState], *, when: Moment) -> list[AlertState]:
    """Return the states that change by evaluations of all rules. Pure."""
    of_rule: dict[str, dict[str, AlertState]] = {}
    for one in before.values():
        of_rule.setdefault(one.rule, {})[one.alert] = one
    changed: list[AlertState] = []
    for evaluation in evaluations:
        mine = of_rule.pop(evaluation.rule.name, {})
        made_for = evaluation.rule.subject or OPERATOR.user
        changed += states.after(evaluation, mine, when=when, made_for=made_for)
        itself = states.of_rule(evaluation, mine.get(evaluation.rule.name), at=when.at, made_for=made_for)
        changed += [itself] if itself is not None else []
    for gone in of_rule.values():
        changed += [states.ended(one, at=when.at, why=_GONE) for one in gone.values() if one.state in LIVE]
    return changed


def newest_states(lake: Lake, *, at: datetime | None = None) -> list[AlertState]:
    """Return the newest state of each alert and rule, now or at a time. Raises LakeError."""
    return [_state(row) for row in newest(lake, ALERTS, ("alert",), at=at).to_pylist()]


def _state(row: dict[str, object]) -> AlertState:
    fields = {name: value for name, value in row.items() if name not in ("date", "labels", "annotations")}
    return AlertState(labels=json.loads(str(row["labels"] or "{}")), annotations=json.loads(str(row["annotations"] or "{}")), **fields)  # type: ignore[arg-type]


def _rows(changed: Sequence[AlertState]) -> pa.Table:
    rows = []
    for one in changed:
        texts = {name: json.dumps(dict(getattr(one, name)), ensure_ascii=False, sort_keys=True) for name in ("labels", "annotations")}
        rows.append({**asdict(one), **texts, "date": one.time.date()})
    return pa.Table.from_pylist(rows, schema=ALERTS.schema)


def _version(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
