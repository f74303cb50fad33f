"""Shared by the subcommands: the console for messages, and the options for configuration and lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from warehouse import config

messages = Console(stderr=True, highlight=False, soft_wrap=True)
"""Console for progress, warnings and errors (standard error); standard output is for results."""

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Configuration file; $HINDCAST_CONFIG or ./hindcast.yaml by default.")]
LakeOption = Annotated[str | None, typer.Option("--lake", help="Folder or URL of the lake, instead of the one in the configuration.")]


def lake_settings(config_path: Path | None, lake_url: str | None) -> config.Lake:
    """Return the settings of the lake that the options select. Raises ConfigError."""
    if lake_url:
        return config.Lake(url=lake_url if "://" in lake_url else str(Path(lake_url).absolute()))
    return config.load_config(config_path).lake


def engine_settings(config_path: Path | None, lake_url: str | None) -> config.Engine:
    """Return the settings of the engine of the configuration; none where --lake is given without one. Raises ConfigError."""
    return config.Engine() if lake_url and not config_path else config.load_config(config_path).engine
