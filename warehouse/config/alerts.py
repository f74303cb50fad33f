"""Alerts: who is told when a pipeline fails, when drift opens, and when a rule fires."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from warehouse.config.delivery import Delivery, Hook
from warehouse.config.values import Duration, LabelSelector, Moment, Section, read_secret


class AlertRules(Section):
    """Files with alert rules, and with whose rights they are evaluated."""

    files: Path
    """Rule files; the name may contain * and ?."""
    subject: str | None = None
    """A user or group:NAME: the rules see what this subject may see. The operator by default, who sees everything."""
    severities: tuple[str, ...] = ("info", "low", "medium", "warning")
    """The severities that alerts of these rules may have, if the rules have a subject: routes may lead others by them."""

    @property
    def allowed_severities(self) -> tuple[str, ...] | None:
        """The severities that alerts of these rules may have; None for all."""
        return None if self.subject is None else self.severities


class Alertmanager(Section):
    """An Alertmanager that is sent all alerts over its API v2. It speaks for the platform."""

    url: str = Field(pattern=r"^https?://[^@\s]+$")
    """https://, or http:// on loopback; without a user name and password."""
    bearer_file: Path | None = None
    """File with a token that is sent in the header Authorization."""
    bearer_env: str | None = None
    """Environment variable with the token, instead of a file."""
    ca: Path | None = None
    """Certificates of the authorities that sign the server's; the system's by default."""
    timeout: Duration = timedelta(seconds=10)

    def bearer(self) -> str | None:
        """Return the token; None if there is none. Raises ConfigError if it cannot be read."""
        if self.bearer_file is None and self.bearer_env is None:
            return None
        return read_secret(self.bearer_file, self.bearer_env)


class Route(Section):
    """Which alerts go to which deliveries. Every route that matches applies."""

    match: LabelSelector | None = None
    """Selector over the alert's labels; all alerts by default."""
    to: tuple[str, ...] = ()
    """Names of deliveries."""
    owners: bool = False
    """Whether it goes to every delivery whose readers own the alert's namespace, too."""

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not self.to and not self.owners:
            raise ValueError("the route leads nowhere: name deliveries with to, or give owners: true")
        return self


class Silence(Section):
    """Alerts that are not sent for a time. Their state is kept, and those that still fire afterwards are sent then."""

    match: LabelSelector
    """Selector over the alert's labels."""
    since: Moment
    until: Moment
    reason: str = Field(min_length=1)
    """Why, in words for users."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.since >= self.until:
            raise ValueError(f"since {self.since.isoformat()} is not before until {self.until.isoformat()}")
        return self


class Alerts(Section):
    """Alert rules and where alerts are sent; and who is told when a pipeline fails or is late and when drift opens."""

    rules: tuple[AlertRules, ...] = ()
    lag: Duration = timedelta(minutes=1)
    """How long before now the window of an evaluation ends, so that collectors have stored its flows."""
    alertmanager: Alertmanager | None = None
    dashboard_url: str | None = Field(default=None, pattern=r"^https?://[^?#\s]+$")
    """Address of the dashboard, for links to the view that shows an alert."""
    routes: tuple[Route, ...] = ()
    silences: tuple[Silence, ...] = ()

    webhook_file: Path | None = None
    """File with the URL to which messages are posted as JSON with a `text`; the URL is a secret."""
    webhook_env: str | None = None
    """Environment variable with the URL."""
    timeout: Duration = timedelta(seconds=10)
    """Time limit of each step of posting to the webhook."""
    deliver_to: tuple[str, ...] = ()
    """Names of deliveries that are told besides the webhook."""

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.webhook_file is not None and self.webhook_env is not None:
            raise ValueError("give webhook_file or webhook_env, not both")
        return self

    @property
    def webhook(self) -> Delivery | None:
        """The webhook as a target, which speaks for the platform; None if there is none."""
        if self.webhook_file is None and self.webhook_env is None:
            return None
        hook = Hook(url_file=self.webhook_file, url_env=self.webhook_env)
        return Delivery(name="alerts-webhook", role="platform-admin", webhook=hook, timeout=self.timeout)
