"""`hindcast dashboard`: the web page of flows, on loopback."""

from __future__ import annotations

import importlib.resources
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
    """Serve the dashboard in local mode: no sign-in, whoever reaches it chooses who to be; so on loopback only."""
    settings = config.load_config(config_path)
    source = (config_path or Path(config.environment().get(config.ENVIRONMENT_VARIABLE) or config.DEFAULT_PATH)).absolute()
    address = listen or settings.dashboard.listen
    host, _, port = address.rpartition(":")
    if not _is_loopback(host) or not port.isdigit():
        raise ConfigError(f"dashboard.listen: {address!r} must be a loopback address and a port, e.g. 127.0.0.1:8501: there is no sign-in")
    folder = Path(str(importlib.resources.files("dashboards")))
    # Started in its folder, where its settings are; its place is taken, so that signals reach it.
    os.chdir(folder)
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(folder / "app.py"),
        "--server.port",
        port,
        "--server.address",
        host.strip("[]"),
    ]
    typer.echo(f"http://{address}")
    sys.stdout.flush()
    os.execve(sys.executable, command, config.environment(**{config.ENVIRONMENT_VARIABLE: str(source)}))  # noqa: S606


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
