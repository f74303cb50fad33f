"""Alerts about pipelines: one that failed or is late becomes a finding and a message to the targets of the configuration's `alerts`.

A failure of the lake or of a target does not prevent the others from being used; whatever fails is logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from pipelines.evidence import findings
from pipelines.evidence.delivery import delivering
from pipelines.evidence.delivery.message import Audience, Message
from pipelines.evidence.findings import Severity
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.errors import HindcastError
from warehouse.lake.tables import Lake

log = structlog.stdlib.get_logger(__name__)

FAILED, LATE = "pipeline_failed", "pipeline_late"
"""Kinds of the findings."""
REMEMBERED = timedelta(days=7)
"""How far back deliveries of the same message are looked for."""


def send(
    settings: config.Config, *, kind: str, severity: Severity, subject: str, summary: str, source: str, detail: Mapping[str, Any]
) -> list[str]:
    """Write the finding and deliver the message; return failures as sentences. Failures of either are not raised."""
    failures: list[str] = []
    lake: Lake | None = None
    try:
        lake = Lake.open(settings.lake)
        findings.record(lake, kind=kind, severity=severity, subject=subject, summary=summary, source=source, detail=detail)
    except HindcastError as error:
        failures.append(f"the finding was not written: {error}")
    facts = {"kind": kind, "severity": severity, "subject": subject, "source": source}
    message = Message(title=summary, text=f"Hindcast: {summary}", audience=Audience(made_for=OPERATOR), facts=facts)
    failures += tell(settings, message, lake=lake, source=source)
    for failure in failures:
        log.error("alert incomplete", kind=kind, subject=subject, problem=failure)
    return failures


def told(settings: config.Config) -> list[config.Delivery]:
    """Return the targets that are told about pipelines and drift. Raises ConfigError if the configuration names an unknown one."""
    webhook = settings.alerts.webhook
    return [*([webhook] if webhook else []), *delivering.targets(settings, settings.alerts.deliver_to)]


def tell(settings: config.Config, message: Message, *, lake: Lake | None, source: str) -> list[str]:
    """Deliver a message about pipelines or drift to `told`, where it has not arrived yet; return failures as sentences."""
    try:
        before = None if lake is None else delivering.recorded(lake, since=datetime.now(UTC) - REMEMBERED)
        outcomes = delivering.deliver(settings, message, told(settings), lake=lake, source=source, once=before)
    except HindcastError as error:
        return [f"nobody was notified: {error}"]
    return [f"not notified: {outcome.failure}" for outcome in outcomes if outcome.failure]
