"""How flows are collected and rolled up, and which parts of them are not stored."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from warehouse.config.leases import Leases
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
    """Secrets that are removed from flows before they are stored."""

    headers: tuple[str, ...] = SECRET_HEADERS
    """HTTP headers whose values are not stored; case-insensitive."""
    url_user_info: bool = True
    """Whether the user name and password in URLs are removed."""
    url_parameters: tuple[str, ...] = SECRET_PARAMETERS
    """URL parameters whose values are not stored; case-insensitive."""
    url_query: bool = False
    """Whether all URL parameters are removed."""


class Collect(Section):
    """How collectors batch, spool and report."""

    flush_every: Duration = timedelta(seconds=10)
    """The longest time before a flow is written."""
    flush_rows: int = Field(default=500_000, gt=0)
    """Number of flows that triggers an early flush."""
    spool: Path | None = None
    """Folder for batches that are not in the lake yet; by default beside a local lake, else below the working directory."""
    spool_max_bytes: int = Field(default=2 * 1024**3, gt=0)
    """While the lake is unavailable, batches wait in the spool up to this size; then the streams are paused."""
    listen: str = "127.0.0.1:9965"
    """Address of /metrics, /healthz and /readyz; loopback by default, empty to disable."""
    redact: Redact = Redact()
    """Secrets that are not stored; also applied by `hindcast import`."""
    leases: Leases = Leases()
    """How several collectors share the clusters."""
    flush_clusters: int = Field(default=200, gt=0)
    """The most clusters that one flush writes, those that have waited longest first; each makes a file, however few its flows."""


class Rollups(Section):
    """How finely rollups distinguish peers and ports. A change applies to hours that are rolled up afterwards."""

    world_prefix_ipv4: int = Field(default=24, ge=0, le=32)
    """Prefix length of the address ranges by which outside peers without a DNS name are grouped."""
    world_prefix_ipv6: int = Field(default=48, ge=0, le=128)
    ports_per_edge: int = Field(default=50, ge=1)
    """How many of the busiest ports between two ends are recorded per hour; all other ports become one row without a port."""
