"""The dashboard: how users sign in, and its predefined filters."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from warehouse.config.values import Section


class QuickFilter(Section):
    """A set of filters that is applied with one click."""

    name: str = Field(min_length=1)
    filters: tuple[str, ...] = Field(min_length=1)
    """Filters as typed by users, e.g. `verdict=DROPPED` or `src.ns!=kube-system`."""
    match: Literal["all", "any"] = "all"


QUICK_FILTERS = (
    QuickFilter(name="Applications", filters=("ns!=kube-system", "port!=53")),
    QuickFilter(
        name="Infrastructure", filters=("ns=kube-system", "label~^reserved:(host|remote-node|kube-apiserver|health)$"), match="any"
    ),
    QuickFilter(name="Services", filters=("service~.",)),
    QuickFilter(name="External", filters=("label=reserved:world",)),
    QuickFilter(name="DNS", filters=("port=53",)),
    QuickFilter(name="Dropped", filters=("verdict=DROPPED",)),
)


class Oidc(Section):
    """Sign-in through an OpenID Connect provider."""

    metadata_url: str
    """The provider's discovery document: https://.../.well-known/openid-configuration."""
    client_id: str
    client_secret_file: Path | None = None
    client_secret_env: str | None = None
    redirect_uri: str
    """Where the provider redirects users after sign-in: the dashboard's address as seen by browsers, with /oauth2callback."""
    cookie_secret_file: Path | None = None
    """File with a long random text that signs session cookies; must be the same on all replicas."""
    cookie_secret_env: str | None = None
    user_claim: str = "email"
    """The claim with the user name that ownership refers to."""
    groups_claim: str = "groups"
    scope: str = "openid email profile"

    @model_validator(mode="after")
    def _safe(self) -> Self:
        for what in ("client_secret", "cookie_secret"):
            if (getattr(self, f"{what}_file") is None) == (getattr(self, f"{what}_env") is None):
                raise ValueError(f"give either {what}_file or {what}_env")
        for key in ("metadata_url", "redirect_uri"):
            url = urlsplit(getattr(self, key))
            if url.scheme != "https" and not (url.scheme == "http" and url.hostname in ("localhost", "127.0.0.1", "::1")):
                raise ValueError(f"{key} must be https, or http on this machine, because codes and tokens are sent to it")
        if not urlsplit(self.redirect_uri).path.endswith("/oauth2callback"):
            raise ValueError("redirect_uri must end in /oauth2callback")
        return self


class Proxy(Section):
    """Sign-in through a proxy, which names the user in headers and authenticates itself with a secret."""

    secret_file: Path | None = None
    secret_env: str | None = None
    secret_header: str = "X-Hindcast-Proxy-Secret"  # noqa: S105 - a name
    user_header: str = "X-Forwarded-User"
    groups_header: str = "X-Forwarded-Groups"
    """Header with the user's groups, separated by commas."""

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.secret_file is None) == (self.secret_env is None):
            raise ValueError("give either secret_file or secret_env")
        if len({self.secret_header.lower(), self.user_header.lower(), self.groups_header.lower()}) < 3:
            raise ValueError("secret_header, user_header and groups_header must differ")
        return self


class DashboardAuth(Section):
    """How users are authenticated."""

    mode: Literal["local", "oidc", "proxy"] = "local"
    """local: no sign-in, users of the machine choose who to look as; available on loopback only."""
    decide_without_sign_in: tuple[str, ...] = ()
    """For demonstrations, in mode local: users as whom everyone who reaches the dashboard may propose, approve, apply and accept.
    As others only the person who started the dashboard may, with the code that it prints at its terminal."""
    oidc: Oidc | None = None
    proxy: Proxy | None = None

    @model_validator(mode="after")
    def _settings_of_the_mode(self) -> Self:
        if self.decide_without_sign_in and self.mode != "local":
            raise ValueError("decide_without_sign_in is for mode: local; with sign-in everyone decides as herself")
        for mode in ("oidc", "proxy"):
            if (self.mode == mode) != (getattr(self, mode) is not None):
                raise ValueError(
                    f"mode {self.mode} and the section {mode} do not match: the section {mode} is required with mode: {mode}, and only then"
                )
        return self


class Dashboard(Section):
    """The dashboard's address, its sign-in, and its predefined filters."""

    listen: str = "127.0.0.1:8501"
    auth: DashboardAuth = DashboardAuth()
    quick_filters: tuple[QuickFilter, ...] = QUICK_FILTERS
