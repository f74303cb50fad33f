"""Alerts: a pipeline that failed or is late becomes a finding and, if the configuration names one, a message to a webhook.

A failure of the lake or of the webhook does not prevent the other from being used; whatever fails is logged.
"""

from __future__ import annotations

import ipaddress
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from pipelines.evidence import findings
from pipelines.evidence.findings import Severity
from warehouse import config
from warehouse.errors import ConfigError, HindcastError
from warehouse.lake.tables import Lake

log = structlog.stdlib.get_logger(__name__)

FAILED, LATE = "pipeline_failed", "pipeline_late"
"""Kinds of the findings."""


def send(
    settings: config.Config, *, kind: str, severity: Severity, subject: str, summary: str, source: str, detail: Mapping[str, Any]
) -> list[str]:
    """Write the finding and post the message; return failures as sentences. Failures of either are not raised."""
    failures: list[str] = []
    try:
        lake = Lake.open(settings.lake)
        findings.record(lake, kind=kind, severity=severity, subject=subject, summary=summary, source=source, detail=detail)
    except HindcastError as error:
        failures.append(f"the finding was not written: {error}")
    try:
        url = settings.alerts.webhook_url()
        if url:
            post(url, {"text": f"Hindcast: {summary}", "kind": kind, "severity": severity, "subject": subject, "source": source}, settings)
    except HindcastError as error:
        failures.append(f"the webhook was not notified: {error}")
    for failure in failures:
        log.error("alert incomplete", kind=kind, subject=subject, problem=failure)
    return failures


def post(url: str, message: Mapping[str, Any], settings: config.Config) -> None:
    """Post a message as JSON. The address is a secret: errors name only its host. Raises ConfigError, HindcastError."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ConfigError("alerts: the webhook's address must begin with https://; http:// is allowed for loopback only")
    body = json.dumps({**message, "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}, ensure_ascii=False).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=settings.alerts.timeout.total_seconds()):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        raise HindcastError(f"{parts.hostname} answered {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else type(error).__name__
        raise HindcastError(f"{parts.hostname} cannot be reached: {reason}") from None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
