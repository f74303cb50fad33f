"""What the subcommands share: where messages go, and the options that name configuration and lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from warehouse import config

messages = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress, warnings and errors; standard output is for results."""

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Configuration file; $HINDCAST_CONFIG or ./hindcast.yaml when absent.")]
LakeOption = Annotated[str | None, typer.Option("--lake", help="Folder or URL of the lake, instead of the configuration's.")]


def lake_settings(config_path: Path | None, lake_url: str | None) -> config.Lake:
    """The lake that the options name. Raises ConfigError."""
    if lake_url:
        return config.Lake(url=lake_url if "://" in lake_url else str(Path(lake_url).absolute()))
    return config.load_config(config_path).lake
