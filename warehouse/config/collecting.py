"""How flows are collected and summed up, and what of them is not stored."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from warehouse.config.values import Duration, Section

SECRET_HEADERS = (
    "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-auth-token", "x-access-token",
    "x-csrf-token", "x-xsrf-token", "x-amz-security-token", "x-goog-iam-authorization-token", "x-vault-token", "x-gitlab-token",
    "x-hub-signature", "x-hub-signature-256", "x-forwarded-client-cert", "x-ms-token-aad-access-token", "private-token",
)  # fmt: skip
SECRET_PARAMETERS = (
    "access_token", "refresh_token", "id_token", "token", "api_key", "apikey", "password", "passwd", "pwd", "secret",
    "client_secret", "session", "sessionid", "sig", "signature", "X-Amz-Signature", "X-Amz-Credential",
    "X-Amz-Security-Token", "X-Goog-Signature", "X-Goog-Credential",
)  # fmt: skip


class Redact(Section):
    """Secrets that are taken out of flows before they are stored."""

    headers: tuple[str, ...] = SECRET_HEADERS
    """HTTP headers whose values are not stored, whatever their case."""
    url_user_info: bool = True
    """Whether user and password of URLs are left out."""
    url_parameters: tuple[str, ...] = SECRET_PARAMETERS
    """Parameters of URLs whose values are not stored, whatever their case."""
    url_query: bool = False
    """Whether all parameters of URLs are left out."""


class Collect(Section):
    """How collectors batch, spool and report."""

    flush_every: Duration = timedelta(seconds=10)
    """The longest a flow waits before it is written."""
    flush_rows: int = Field(default=500_000, gt=0)
    """Flows after which a flush comes early."""
    spool: Path | None = None
    """Folder for batches on their way to the lake; beside a local lake, else below the working directory, when absent."""
    spool_max_bytes: int = Field(default=2 * 1024**3, gt=0)
    """When the lake is away, batches wait here up to this size; then the streams are held."""
    listen: str = "127.0.0.1:9965"
    """Address of /metrics, /healthz and /readyz; empty for none. Loopback unless told otherwise."""
    redact: Redact = Redact()
    """Secrets that are not stored; `hindcast import` leaves them out too."""


class Rollups(Section):
    """How finely rollups tell peers and ports apart. A change holds for hours rolled up from then on."""

    world_prefix_ipv4: int = Field(default=24, ge=0, le=32)
    """Peers outside that have no DNS name count together by ranges of so many leading bits."""
    world_prefix_ipv6: int = Field(default=48, ge=0, le=128)
    ports_per_edge: int = Field(default=50, ge=1)
    """Of the ports between two ends in an hour, so many, the busiest, are told apart; the rest count as one without port."""
