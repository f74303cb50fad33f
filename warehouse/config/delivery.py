"""Deliveries: the named targets to which reports and alerts are sent, and for whom each of them speaks."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from warehouse.config.values import Duration, Section, read_secret

DeliveryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$")]


class Folder(Section):
    """Files in a folder or in object storage: one subfolder for each message."""

    url: str
    """A folder (relative to the configuration file), or s3://, gs://, az:// with a prefix."""
    options: dict[str, str] = Field(default_factory=dict)
    """Options of the object store, as in `lake.options`."""

    @property
    def is_local(self) -> bool:
        return "://" not in self.url


class Smtp(Section):
    """E-mail through a server, always over TLS with a verified certificate."""

    server: str
    """host:port"""
    tls: Literal["starttls", "implicit"] = "starttls"
    """starttls (usually port 587), or implicit: TLS from the first byte (usually port 465)."""
    ca: Path | None = None
    """Certificates of the authorities that sign the server's; the system's by default."""
    sender: str = Field(min_length=3)
    to: tuple[str, ...] = Field(min_length=1)
    username: str | None = None
    password_file: Path | None = None
    password_env: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        host, colon, port = self.server.rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"server {self.server!r} is not host:port, with a port from 1 to 65535")
        passwords = [value for value in (self.password_file, self.password_env) if value is not None]
        if len(passwords) > 1 or (self.username is None) == bool(passwords):
            raise ValueError("username goes with password_file or password_env: give both, or neither")
        for address in (self.sender, *self.to):
            if "@" not in address or address != "".join(address.split()):
                raise ValueError(f"{address!r} is not an e-mail address")
        return self

    def password(self) -> str:
        """Return the password. Raises ConfigError if it cannot be read."""
        return read_secret(self.password_file, self.password_env)


class Hook(Section):
    """A webhook. Its URL is a secret: whoever knows it may post."""

    url_file: Path | None = None
    """File with the URL: https://, or http:// on loopback."""
    url_env: str | None = None
    """Environment variable with the URL, instead of a file."""
    bearer_file: Path | None = None
    """File with a token that is sent in the header Authorization."""
    bearer_env: str | None = None
    """Environment variable with the token, instead of a file."""
    ca: Path | None = None
    """Certificates of the authorities that sign the server's; the system's by default."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.url_file is None) == (self.url_env is None):
            raise ValueError("give url_file or url_env: the URL of a webhook is a secret and is not in this file")
        if self.bearer_file is not None and self.bearer_env is not None:
            raise ValueError("give bearer_file or bearer_env, not both")
        return self

    def url(self) -> str:
        """Return the URL. Raises ConfigError if it cannot be read."""
        return read_secret(self.url_file, self.url_env)

    def bearer(self) -> str | None:
        """Return the token; None if there is none. Raises ConfigError if it cannot be read."""
        if self.bearer_file is None and self.bearer_env is None:
            return None
        return read_secret(self.bearer_file, self.bearer_env)


class Delivery(Section):
    """One target: where messages go, and who reads them there."""

    name: DeliveryName
    subjects: tuple[str, ...] = ()
    """The users and groups (`group:NAME`) who read what arrives there, as in grants: a message goes there if each of them may see it."""
    role: Literal["platform-admin", "auditor"] | None = None
    """The role of everyone who reads there, instead of subjects."""
    folder: Folder | None = None
    smtp: Smtp | None = None
    slack: Hook | None = None
    """A webhook that takes Slack's messages: JSON with a `text`."""
    webhook: Hook | None = None
    """A webhook that takes all of a message as JSON; see docs/delivery.md."""
    timeout: Duration = timedelta(seconds=20)
    """How long each step of a delivery may take: to connect, to send, to be answered."""
    tries: int = Field(default=4, ge=1, le=10)
    """How often a delivery is tried if the target is away or overloaded."""

    @model_validator(mode="after")
    def _one_kind_and_readers(self) -> Self:
        if sum(part is not None for part in (self.folder, self.smtp, self.slack, self.webhook)) != 1:
            raise ValueError("give one of: folder, smtp, slack, webhook")
        if bool(self.subjects) == (self.role is not None):
            raise ValueError("say who reads there: subjects (users and group:NAME), or role: platform-admin or auditor")
        if any(not subject.strip() for subject in self.subjects):
            raise ValueError("an empty subject is nobody: name a user or group:NAME")
        return self

    @property
    def kind(self) -> str:
        """Where messages go: folder, smtp, slack or webhook."""
        return next(name for name in ("folder", "smtp", "slack", "webhook") if getattr(self, name) is not None)
