"""Evaluates one rule over one window: which alerts are true, and about which clusters it can say nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from pipelines.evidence.delivery.readers import principal_of
from pipelines.evidence.rules import expressions, reserved, templates
from pipelines.evidence.rules.asking import Asking, Found
from pipelines.evidence.rules.model import Rule
from pipelines.evidence.rules.reserved import Owns
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Limits, Window
from warehouse.errors import HindcastError
from warehouse.questions.sql_question import OwnSql

log = structlog.stdlib.get_logger(__name__)
MOST_ALERTS = 1000
"""A rule that returns more rows fails: nobody reads as many alerts, and it is most likely a mistake."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """An alert that is true."""

    alert: str
    """What identifies it: a digest of the rule's name and the labels that its row gives."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    value: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of a rule at a time."""

    rule: Rule
    window: Window
    instances: Mapping[str, Instance] = field(default_factory=dict)
    """By `alert`."""
    not_covered: Mapping[str, str] = field(default_factory=dict)
    """Clusters about which it says nothing, with the reason; the cluster * if it says nothing at all."""
    failure: str | None = None
    """Why the rule could not be evaluated; None if it could."""

    def says_nothing_of(self, cluster: str | None) -> bool:
        """Whether it says nothing about alerts of a cluster, or about alerts without one if any cluster was not covered."""
        if self.failure is not None or "*" in self.not_covered:
            return True
        return cluster in self.not_covered if cluster is not None else bool(self.not_covered)


def principal(rule: Rule) -> Principal:
    """Return the principal with whose rights a rule is evaluated."""
    return OPERATOR if rule.subject is None else principal_of(rule.subject)


def evaluate(rule: Rule, asking: Asking) -> Evaluation:
    """Evaluate a rule at the time of `asking`. Failures are part of the result, so that other rules go on."""
    window = Window(since=asking.at - rule.text.window, until=asking.at)
    try:
        found = _found(rule, asking, window)
        not_covered = dict(found.unknown)
        if rule.call is None or rule.call.needs_coverage:
            not_covered |= _not_covered(rule, asking, found, window)
        instances: dict[str, Instance] = {}
        owns = asking.owns(principal(rule))
        for row in found.rows:
            one = _instance(rule, row, owns)
            if row.get("cluster") in not_covered or ("cluster" not in row and not_covered):
                continue
            if one.alert in instances:
                raise HindcastError(
                    f"two rows have the same labels, {json.dumps(dict(one.labels))}: group them, or return one more text column"
                )
            instances[one.alert] = one
    except HindcastError as error:
        return Evaluation(rule=rule, window=window, failure=str(error))
    except Exception as error:  # a fault of ours that one rule brings to light must not stop the others
        log.exception("rule cannot be evaluated", rule=rule.name)
        return Evaluation(rule=rule, window=window, failure=f"it cannot be evaluated: {type(error).__name__}: {error}")
    return Evaluation(rule=rule, window=window, instances=instances, not_covered=not_covered)


def not_evaluated(rule: Rule, asking: Asking, why: str) -> Evaluation:
    """Return the evaluation of a rule that was left out."""
    return Evaluation(rule=rule, window=Window(since=asking.at - rule.text.window, until=asking.at), failure=why)


def _found(rule: Rule, asking: Asking, window: Window) -> Found:
    if rule.call is not None:
        return expressions.evaluated(rule.call, asking, principal(rule), window)
    question = OwnSql(name="alert rule", text=rule.text.expr, window=window, limits=Limits(rows=MOST_ALERTS), confined=True)
    answer = asking.ask(principal(rule), question)
    if answer.cut:
        raise HindcastError(f"the rule returns more than {MOST_ALERTS:,} rows, each of which would be an alert")
    return Found(rows=answer.rows.to_pylist(), shares=answer.shares)


def _not_covered(rule: Rule, asking: Asking, found: Found, window: Window) -> dict[str, str]:
    """Clusters of which too little was observed in the window: those of the ledger, and those that should be in it."""
    shares = {**dict.fromkeys(asking.clusters(principal(rule)), 0.0), **found.shares}
    span = f"{window.since:%Y-%m-%d %H:%M} to {window.until:%H:%M} UTC"
    missing = {
        cluster: f"{share:.0%} of {span} was observed, less than {rule.text.min_coverage:.0%}"
        for cluster, share in sorted(shares.items())
        if share < rule.text.min_coverage
    }
    return missing if shares else {"*": f"nothing was observed from {span}"}


def _instance(rule: Rule, row: Mapping[str, Any], owns: Owns) -> Instance:
    own = {name: str(row[name]) for name in rule.label_columns if row.get(name) is not None}
    labels = {**{name: templates.filled(text, row) for name, text in rule.text.labels.items()}, **own}
    value = row.get("value", 1)
    row = {"value": value, **row}
    identity = json.dumps([rule.name, sorted(own.items())], ensure_ascii=False)
    return Instance(
        alert=hashlib.sha256(identity.encode()).hexdigest()[:16],
        labels=reserved.settled(rule, {name: text for name, text in labels.items() if text}, owns),
        annotations={name: templates.filled(text, row) for name, text in rule.text.annotations.items()},
        value=float(value) if value is not None else 0.0,
    )
