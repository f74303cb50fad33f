"""Questions about alerts and deliveries: which rules there are, what fires or has ended, and what was sent where.

Who administers everything gets all of them. An auditor gets all, too, without what may quote labels. Anyone else gets the rules and alerts
that were made with rights of hers, and of the operator's rules those alerts about a namespace that hold nothing its owner could not ask, if
she owned the namespace all the time that they look back to; and the deliveries of what was made with rights of hers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from warehouse.access.sight import Sight
from warehouse.engine import Limits, Window
from warehouse.lake.tables import Lake
from warehouse.questions.answers import Answer
from warehouse.questions.question import ALL_TIME, Question, Request, Subject
from warehouse.records.newest import newest
from warehouse.schema import ALERTS, DELIVERIES
from warehouse.schema.alerts import EVALUATED

LISTED = Limits(rows=2_000)
_PUBLIC_LABELS = ("alertname", "cluster", "namespace", "severity", "owner")
"""Labels of alerts that are shown to auditors: none of them comes from the labels of pods."""


@dataclass(frozen=True, kw_only=True)
class AlertStates(Question[Answer]):
    """The newest state of each rule and alert at a time: rows of `alerts`, the newest first."""

    name: str = "alerts"
    limits: Limits = LISTED
    at: datetime | None = None
    """When; now by default."""

    @property
    def subject(self) -> Subject:
        """The time."""
        return Subject(window=Window(until=self.at))

    def answer(self, request: Request) -> Answer:
        """Return the states, at most `limits.rows`."""
        sight, now = request.sight, datetime.now(UTC)
        rows = newest(sight.lake, ALERTS, ("alert",), at=self.at).to_pylist()
        shown = [_without_quotes(sight, row) for row in rows if _is_shown(sight, row, now)]
        shown.sort(key=lambda row: (-row["time"].timestamp(), row["rule"], row["alert"]))
        found = pa.Table.from_pylist(shown[: self.limits.rows], schema=ALERTS.schema)
        return Answer(rows=found, cut=len(shown) > self.limits.rows, window=self.subject.window, source=ALERTS.name)


@dataclass(frozen=True, kw_only=True)
class Deliveries(Question[Answer]):
    """Messages that were sent, and whether they arrived: rows of `deliveries` of a window, the newest first."""

    name: str = "deliveries"
    limits: Limits = LISTED
    window: Window = ALL_TIME

    @property
    def subject(self) -> Subject:
        """The window."""
        return Subject(window=self.window)

    def answer(self, request: Request) -> Answer:
        """Return the deliveries, at most `limits.rows`."""
        sight = request.sight
        rows = sight.lake.read(DELIVERIES, since=self.window.since, until=self.window.until).to_pylist()
        everything = sight.scope.everything
        shown = [row for row in rows if everything or row["made_for"] in sight.principal.subjects]
        if not sight.scope.reads_every_label:
            mine = sight.principal.subjects
            shown = [row if row["made_for"] in mine else {**row, "title": None, "detail": None, "files": None} for row in shown]
        shown.sort(key=lambda row: (-row["time"].timestamp(), row["message"], row["target"]))
        found = pa.Table.from_pylist(shown[: self.limits.rows], schema=DELIVERIES.schema)
        return Answer(rows=found, cut=len(shown) > self.limits.rows, window=self.window, source=DELIVERIES.name)


def last_evaluation(lake: Lake) -> datetime | None:
    """Return when rules were evaluated last; None if never. Raises LakeError."""
    last = lake.transaction_version(ALERTS, EVALUATED)
    return None if last is None else datetime.fromtimestamp(last / 1_000_000, UTC)


def _is_shown(sight: Sight, row: Mapping[str, Any], now: datetime) -> bool:
    """Whether a principal may see the state of a rule or an alert."""
    if sight.scope.everything or row["made_for"] in sight.principal.subjects:
        return True
    labels = json.loads(row["labels"] or "{}")
    cluster, namespace, back = labels.get("cluster"), labels.get("namespace"), row["owners_from"]
    if back is None or cluster is None or namespace is None:
        return False
    return all(sight.scope.owns(cluster, namespace, at) for at in (back, row["time"], now))


def _without_quotes(sight: Sight, row: dict[str, Any]) -> dict[str, Any]:
    """The row without what may quote labels of pods, for who sees it only as an auditor."""
    if sight.scope.reads_every_label or row["made_for"] in sight.principal.subjects:
        return row
    labels = {name: text for name, text in json.loads(row["labels"] or "{}").items() if name in _PUBLIC_LABELS}
    return {**row, "labels": json.dumps(labels, sort_keys=True), "annotations": None, "detail": None, "link": None}
