"""Evaluates all rules once, keeps the state of their alerts in the table `alerts`, and sends them."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import structlog

from pipelines.evidence.rules import failing, reading, states
from pipelines.evidence.rules.asking import Asking
from pipelines.evidence.rules.evaluating import Evaluation, evaluate, not_evaluated
from pipelines.evidence.rules.model import Mistake, Rule
from pipelines.evidence.rules.reading import Loaded
from pipelines.evidence.rules.sending import Sender
from pipelines.evidence.rules.states import LIVE, AlertState, Moment
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.errors import CommitConflictError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.records.newest import newest
from warehouse.schema import ALERTS
from warehouse.schema.alerts import EVALUATED

log = structlog.stdlib.get_logger(__name__)
TURN = "alert-rules-turn"
"""App id in the log of `alerts`: how many evaluations there were. If two runs saw the same number, the lake accepts only one of them."""
_MINUTE = timedelta(minutes=1)
_GONE, _MENDED = "the rule is in no file any more", "what was wrong is not there any more"
MOST_SECONDS = 120.0
"""How long the rules of one subject may take in a run together, so that those of others are evaluated in time."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run found."""

    at: datetime
    """The end of the windows that were evaluated."""
    evaluations: Sequence[Evaluation] = ()
    changed: Sequence[AlertState] = ()
    live: Sequence[AlertState] = ()
    """Alerts that are pending or firing."""
    mistakes: Sequence[Mistake] = ()
    """What is wrong in rule files, for which some rules were not evaluated."""
    failures: Sequence[str] = field(default_factory=list)
    """What could not be sent, as sentences."""
    is_late: bool = False
    """Whether another run has evaluated the same or a later time, so that this one changed and sent nothing."""

    def problems(self, *, of_subjects: bool) -> list[str]:
        """Return what is wrong with rules, as sentences: with those of subjects, or with those of the operator."""
        failed = [f"{one.rule.name}: {one.failure}" for one in self.evaluations if one.failure and bool(one.rule.subject) is of_subjects]
        return [*(str(one) for one in self.mistakes if bool(one.subject) is of_subjects), *failed]


def run(settings: config.Config, lake: Lake, *, now: datetime, source: str, loaded: Loaded | None = None) -> Run:
    """Evaluate all rules of the configuration over windows that end `alerts.lag` before `now`, to the minute.

    State that changes is committed before anything is sent, so a run that is killed loses no alert: the next one sends it.
    A rule with a mistake is not evaluated, its alerts stay as they are, and its owner is told. Raises LakeError.
    """
    loaded = reading.load(settings) if loaded is None else loaded
    at = (now - settings.alerts.lag).replace(second=0, microsecond=0)
    turn = lake.transaction_version(ALERTS, TURN) or 0  # read before the states: a later run makes this one stale
    before = {one.alert: one for one in newest_states(lake)}
    last = lake.transaction_version(ALERTS, EVALUATED)
    if last is not None and last >= _version(at):
        return Run(at=at, is_late=True, live=[one for one in before.values() if one.state in LIVE], mistakes=loaded.mistakes)
    asking = Asking(Door(lake, settings.ownership, settings.rollups, purpose=source), settings, at)
    evaluations = list(_evaluated(loaded.rules, asking))
    when = Moment(at=at, last=None if last is None else datetime.fromtimestamp(last / 1_000_000, UTC))
    changed = changes(evaluations, before, when=when, loaded=loaded)
    for one in (one for one in changed if one.state != "evaluated"):
        log.info("alert", rule=one.rule, state=one.state, labels=dict(one.labels), detail=one.detail)
    try:
        files = lake.write_files(ALERTS, _rows(changed)) if changed else []
        lake.commit(ALERTS, files, transactions={EVALUATED: _version(at), TURN: turn + 1}, metadata={})
    except CommitConflictError:
        live = [one for one in before.values() if one.state in LIVE]
        return Run(at=at, evaluations=evaluations, mistakes=loaded.mistakes, is_late=True, live=live)
    known = {**before, **{one.alert: one for one in changed}}
    sender = Sender(settings=settings, lake=lake, rules={rule.name: rule for rule in loaded.rules}, source=source)
    failures = sender.send(list(known.values()), at=at)
    failures += failing.tell(settings, lake, list(known.values()), at=at, source=source)
    live = sorted((one for one in known.values() if one.state in LIVE), key=lambda one: (one.rule, one.alert))
    return Run(at=at, evaluations=evaluations, mistakes=loaded.mistakes, changed=changed, live=live, failures=failures)


def _evaluated(rules: Sequence[Rule], asking: Asking) -> Iterator[Evaluation]:
    """Yield the evaluation of each rule, those of the operator first. A subject whose rules take too long keeps nobody else waiting."""
    took: dict[str | None, float] = defaultdict(float)
    for rule in sorted(rules, key=lambda rule: rule.subject or ""):
        if rule.subject is not None and took[rule.subject] > MOST_SECONDS:
            yield not_evaluated(rule, asking, f"the rules of {rule.subject} before it took {MOST_SECONDS:g} s together")
            continue
        began = time.monotonic()
        yield evaluate(rule, asking)
        took[rule.subject] += time.monotonic() - began


def changes(
    evaluations: Sequence[Evaluation], before: Mapping[str, AlertState], *, when: Moment, loaded: Loaded | None = None
) -> list[AlertState]:
    """Return the states that change by evaluations, of all rules if `loaded` says which there are. Pure."""
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
    if loaded is None:
        return changed
    wrong: dict[str, list[Mistake]] = defaultdict(list)
    for mistake in loaded.mistakes:
        wrong[mistake.name].append(mistake)
    for name, mistakes in wrong.items():
        made_for = mistakes[0].subject or OPERATOR.user
        found = states.of_mistakes(name, map(str, mistakes), before.get(name), at=when.at, made_for=made_for)
        changed += [found] if found is not None else []
    return [*changed, *_of_gone([one for listed in of_rule.values() for one in listed.values()], loaded, when.at)]


def _of_gone(known: Sequence[AlertState], loaded: Loaded, at: datetime) -> Iterator[AlertState]:
    """Yield the end of alerts whose rule is in no file any more, and of what was wrong with rules and files."""
    wrong = {mistake.name for mistake in loaded.mistakes}
    for one in known:
        subject = None if one.made_for == OPERATOR.user else one.made_for
        if one.is_of_rule and one.state == "failed" and one.rule not in wrong:
            yield states.ended(one, at=at, why=_MENDED)
        elif (one.state in LIVE or (one.is_of_rule and one.state != "inactive")) and loaded.is_gone(one.rule, subject):
            yield states.ended(one, at=at, why=_GONE)


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
