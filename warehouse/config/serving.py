"""How `hindcast serve` listens, who its callers are, and what one caller may use."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from warehouse.config.values import Duration, Section


class ServeTls(Section):
    """The server's certificate, and the authority of its clients' certificates. Files are read again when they change."""

    cert: Path
    """File with the server's certificate and those between it and its authority."""
    key: Path
    client_ca: Path | None = None
    """File of the authorities that sign client certificates. If given, every client must present a certificate."""


class ServeCertificates(Section):
    """What a client certificate says about its owner."""

    user: Literal["common_name", "email", "dns", "uri"] = "common_name"
    """The part of the certificate with the user name: the subject's common name, or the first alternative name of a kind."""
    groups: Literal["organization", "organizational_unit", "none"] = "organization"
    """The parts of the subject with the user's groups."""


class ServeOidc(Section):
    """Bearer tokens of an OpenID Connect provider."""

    metadata_url: str
    """The provider's discovery document: https://.../.well-known/openid-configuration."""
    audience: str = Field(min_length=1)
    """The `aud` that a token must have."""
    user_claim: str = "email"
    groups_claim: str = "groups"

    @model_validator(mode="after")
    def _safe(self) -> Self:
        url = urlsplit(self.metadata_url)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in ("localhost", "127.0.0.1", "::1")):
            raise ValueError("metadata_url must be https, or http on this machine, because the provider's keys are read from it")
        return self


class ServeLimits(Section):
    """What one caller may use."""

    seconds: float = Field(default=600.0, gt=0)
    """The longest time that the lake is read for one call; waiting for the client or for new flows does not count."""
    rows: int = Field(default=20_000_000, gt=0)
    """The most recorded flows that one call gets; those that follow as they are recorded do not count."""
    streams: int = Field(default=32, gt=0)
    """The most calls that one user may have open."""
    stalled_after: Duration = timedelta(seconds=30)
    """A client that does not read for this long is cut off."""


class Serve(Section):
    """The APIs that other tools speak."""

    listen: str = "127.0.0.1:4245"
    """host:port of Hubble's Observer API."""
    flight_listen: str = ""
    """host:port of Arrow Flight SQL; empty to disable."""
    tls: ServeTls | None = None
    """Without it only --plaintext works, on loopback."""
    certificates: ServeCertificates = ServeCertificates()
    oidc: ServeOidc | None = None
    limits: ServeLimits = ServeLimits()
