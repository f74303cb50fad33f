"""`hindcast dashboard`: serves the web pages; on loopback only, unless users sign in."""

from __future__ import annotations

import ipaddress
import os
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from hindcast.console import ConfigOption
from warehouse import config
from warehouse.errors import ConfigError


def dashboard(
    config_path: ConfigOption = None,
    listen: Annotated[str | None, typer.Option("--listen", help="host:port, instead of dashboard.listen in the configuration.")] = None,
) -> None:
    """Serve the dashboard, e.g. `hindcast dashboard --config hindcast.yaml`.

    `dashboard.auth` sets how users are authenticated. In mode local there is no sign-in: users choose who to look as, and
    deciding about proposals and findings takes a code that is printed here if this is a terminal.
    In that mode, and behind a proxy that names the user, the dashboard listens on loopback only.
    """
    settings = config.load_config(config_path)
    source = (config_path or Path(config.environment().get(config.ENVIRONMENT_VARIABLE) or config.DEFAULT_PATH)).absolute()
    address = listen or settings.dashboard.listen
    host, _, port = address.rpartition(":")
    mode = settings.dashboard.auth.mode
    if not host or not port.isdigit():
        raise ConfigError(f"dashboard.listen: {address!r} is not host:port, e.g. 127.0.0.1:8501")
    if mode != "oidc" and not _is_loopback(host):
        why = "there is no sign-in" if mode == "local" else "clients that bypass the proxy could impersonate it"
        raise ConfigError(f"dashboard.listen: {address!r} must be a loopback address, e.g. 127.0.0.1:8501: {why}")
    # The server replaces this process so that it receives signals; -P keeps modules in the working directory from being imported.
    command = [sys.executable, "-P", "-m", "dashboards.server", "--host", host.strip("[]"), "--port", port]
    typer.echo(f"http://{address}")
    more = {config.ENVIRONMENT_VARIABLE: str(source), config.DASHBOARD_CODE_VARIABLE: ""}
    if mode == "local" and sys.stdout.isatty():  # a file or a log is not the person who started it
        more[config.DASHBOARD_CODE_VARIABLE] = code = secrets.token_hex(8)
        typer.echo(f"code for deciding about proposals and findings, until it is stopped: {code}")
    sys.stdout.flush()
    os.execve(sys.executable, command, config.environment(**more))  # noqa: S606


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
