"""Alerts: who is told when a pipeline fails, when drift opens, and when a rule fires."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import model_validator

from warehouse.config.delivery import Delivery, Hook
from warehouse.config.values import Duration, Section


class Alerts(Section):
    """Where alerts are sent, besides the table `findings`, when a pipeline fails or is late and when drift opens."""

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
