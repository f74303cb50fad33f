"""The life of an alert: pending, firing, resolved. Pure: evaluations and the state before give the state after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from pipelines.evidence.rules import links
from pipelines.evidence.rules.evaluating import Evaluation, Instance

State = Literal["pending", "firing", "resolved", "inactive", "evaluated", "not_covered", "failed"]
LIVE: tuple[State, ...] = ("pending", "firing")
STEP = timedelta(minutes=5)
"""The time between two evaluations, as the DAG `alert_rules` runs them."""


@dataclass(frozen=True, kw_only=True)
class AlertState:
    """An alert, or a rule itself, since its last change; the fields are the columns of `alerts`."""

    alert: str
    rule: str
    state: State
    time: datetime
    since: datetime | None = None
    fired: datetime | None = None
    absent: datetime | None = None
    value: float | None = None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    made_for: str
    detail: str | None = None
    owners_from: datetime | None = None
    link: str | None = None

    @property
    def is_of_rule(self) -> bool:
        """Whether it is the state of a rule, or rule file, and not of an alert."""
        return self.alert == self.rule

    @property
    def cluster(self) -> str | None:
        """The cluster that it is about."""
        return self.labels.get("cluster")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When rules are evaluated."""

    at: datetime
    last: datetime | None
    """The evaluation before; None if there was none."""
    step: timedelta = STEP
    """The time between two evaluations when none is missed."""


def after(evaluation: Evaluation, before: Mapping[str, AlertState], *, when: Moment, made_for: str) -> list[AlertState]:
    """Return the states that change by an evaluation. `before` are the newest states of the rule's alerts, by `alert`.

    What the evaluation says nothing about stays as it is; of a pending alert it is kept when it was last known to be true.
    """
    at = when.at
    changed = []
    for key in sorted({*evaluation.instances, *(key for key, one in before.items() if one.state in LIVE)}):
        known, instance = before.get(key), evaluation.instances.get(key)
        cluster = instance.labels.get("cluster") if instance is not None else known.cluster if known is not None else None
        if evaluation.says_nothing_of(cluster):
            if known is not None and known.state == "pending" and known.absent is None:
                changed.append(replace(known, absent=when.last or known.time, time=at))
            continue
        now = _true(evaluation, instance, known, when, made_for) if instance is not None else _gone(evaluation, known, at)
        if now is not None and now != known:
            changed.append(now)
    return changed


def _true(evaluation: Evaluation, instance: Instance, known: AlertState | None, when: Moment, made_for: str) -> AlertState:
    """The state of an alert that is true."""
    text, at = evaluation.rule.text, when.at
    if known is not None and known.state == "firing":
        # Value and text are those of when it began to fire; what changed since is not worth a row at each evaluation.
        return known if known.absent is None else replace(known, absent=None, time=at)
    since = at if known is None else _true_since(known, when, text.window)
    fires = at - since >= text.for_
    if known is not None and known.state == "pending" and not fires and known.since == since and known.absent is None:
        return known
    back = evaluation.rule.call.looks_back if evaluation.rule.call is not None else None
    shows_owners = back is not None and {"cluster", "namespace"} <= instance.labels.keys()
    return AlertState(
        alert=instance.alert,
        rule=evaluation.rule.name,
        state="firing" if fires else "pending",
        time=at,
        since=since,
        fired=at if fires else None,
        value=instance.value,
        labels=instance.labels,
        annotations=instance.annotations,
        made_for=made_for,
        owners_from=since - text.window - back if back is not None and shows_owners else None,
        link=links.view("", evaluation.rule, instance.labels, since, at),
    )


def _true_since(known: AlertState, when: Moment, window: timedelta) -> datetime:
    """Since when an alert that is true has been true, as far as evaluations have seen it without too long a gap."""
    if known.state != "pending" or known.since is None:
        return when.at
    seen = known.absent or when.last or known.time
    return known.since if when.at - seen <= 2 * when.step + window else when.at


def _gone(evaluation: Evaluation, known: AlertState | None, at: datetime) -> AlertState | None:
    """The state of an alert that is no longer true."""
    if known is None:
        return None
    if known.state == "pending":
        return replace(known, state="inactive", absent=None, time=at)
    keep = evaluation.rule.text.keep_firing_for
    absent = known.absent or at
    if at - absent < keep:
        return replace(known, absent=absent, time=at if known.absent is None else known.time)
    return replace(known, state="resolved", absent=absent, time=at)


def ended(known: AlertState, *, at: datetime, why: str) -> AlertState:
    """Return the state of an alert whose rule is gone, or of that rule."""
    return replace(known, state="resolved" if known.state == "firing" else "inactive", time=at, detail=why)


def of_mistakes(name: str, texts: Iterable[str], before: AlertState | None, *, at: datetime, made_for: str) -> AlertState | None:
    """Return the state of a rule, or rule file, that is not evaluated because of mistakes in it, if that changes."""
    detail = "\n".join(texts)
    if before is not None and (before.state, before.detail) == ("failed", detail):
        return None
    return AlertState(alert=name, rule=name, state="failed", time=at, labels={}, annotations={}, made_for=made_for, detail=detail)


def of_rule(evaluation: Evaluation, before: AlertState | None, *, at: datetime, made_for: str) -> AlertState | None:
    """Return the state of the rule itself if it changes: whether it can be evaluated."""
    reasons = "; ".join(reason if name == "*" else f"{name}: {reason}" for name, reason in sorted(evaluation.not_covered.items()))
    state: State = "failed" if evaluation.failure else "not_covered" if reasons else "evaluated"
    detail = evaluation.failure or reasons or None
    if before is not None and before.state == state and (state != "not_covered" or _clusters(before.detail) == _clusters(detail)):
        return None
    name = evaluation.rule.name
    return AlertState(alert=name, rule=name, state=state, time=at, labels={}, annotations={}, made_for=made_for, detail=detail)


def _clusters(detail: str | None) -> set[str]:
    """The clusters that a reason names, since the shares in it differ at each evaluation."""
    return {part.partition(":")[0] for part in (detail or "").split("; ")}
