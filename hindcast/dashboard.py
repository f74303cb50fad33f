"""`hindcast dashboard`: the web pages; on loopback unless people sign in."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hindcast.console import ConfigOption
from warehouse import config
from warehouse.errors import ConfigError


def dashboard(
    config_path: ConfigOption = None,
    listen: Annotated[str | None, typer.Option("--listen", help="host:port instead of the configuration's dashboard.listen.")] = None,
) -> None:
    """Serve the dashboard, e.g. `hindcast dashboard --config hindcast.yaml`.

    Who looks is told by `dashboard.auth`. In its mode local there is no sign-in: whoever reaches the dashboard chooses who to be.
    In that mode, and behind a proxy that names the user, it answers on loopback only.
    """
    settings = config.load_config(config_path)
    source = (config_path or Path(config.environment().get(config.ENVIRONMENT_VARIABLE) or config.DEFAULT_PATH)).absolute()
    address = listen or settings.dashboard.listen
    host, _, port = address.rpartition(":")
    mode = settings.dashboard.auth.mode
    if not host or not port.isdigit():
        raise ConfigError(f"dashboard.listen: {address!r} is not host:port, e.g. 127.0.0.1:8501")
    if mode != "oidc" and not _is_loopback(host):
        why = "there is no sign-in" if mode == "local" else "whoever reaches it past the proxy could pretend to be it"
        raise ConfigError(f"dashboard.listen: {address!r} must be a loopback address, e.g. 127.0.0.1:8501: {why}")
    # This process's place is taken, so that signals reach it; -P: no module of the working directory stands in for another.
    command = [sys.executable, "-P", "-m", "dashboards.server", "--host", host.strip("[]"), "--port", port]
    typer.echo(f"http://{address}")
    sys.stdout.flush()
    os.execve(sys.executable, command, config.environment(**{config.ENVIRONMENT_VARIABLE: str(source)}))  # noqa: S606


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
