"""`hindcast maintain vacuum`, `checkpoint` and `statistics`: maintenance that changes no rows, and table statistics."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hindcast.console import ConfigOption, LakeOption, lake_settings, messages
from hindcast.output import Format, OutputOption, write_rows
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.wording import counted


def vacuum(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    after: Annotated[
        str | None, typer.Option("--after", help="Minimum time since a file left its table; retention.vacuum_after by default.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be deleted.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Delete files that left the tables, or were never in them, so long ago that no reader needs them."""
    from pipelines.maintenance import upkeep
    from warehouse.lake.tables import Lake
    from warehouse.schema import TABLES

    try:
        older_than = config.parse_duration(after) if after else _settings(config_path, lake_url).vacuum_after
        lake = Lake.open(lake_settings(config_path, lake_url))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("tables"))
        with Progress(*columns, console=messages) as progress:
            bar = progress.add_task("vacuuming", total=len(TABLES))
            done = upkeep.vacuum(lake, older_than=older_than, dry_run=dry_run, progress=lambda _table: progress.advance(bar))
    except ValueError as error:
        raise ConfigError(f"--after: {error}") from error
    write_rows(pa.Table.from_pylist([asdict(one) for one in done]), output)
    if output is Format.TABLE:
        files, size = sum(one.files for one in done), sum(one.bytes for one in done)
        typer.echo(f"{counted(files, 'file')}, {size:,} bytes " + ("would be deleted" if dry_run else "deleted"))


def checkpoint(config_path: ConfigOption = None, lake_url: LakeOption = None) -> None:
    """Write a checkpoint of each table's log, so that the table opens fast."""
    from pipelines.maintenance import upkeep
    from warehouse.lake.tables import Lake

    for table, version in upkeep.checkpoint(Lake.open(lake_settings(config_path, lake_url))).items():
        typer.echo(f"{table}: version {version}")


def statistics(config_path: ConfigOption = None, lake_url: LakeOption = None, output: OutputOption = Format.TABLE) -> None:
    """Print the files, rows, bytes and time span of each table, from its log alone."""
    from pipelines.maintenance import upkeep
    from warehouse.lake.tables import Lake

    told = upkeep.statistics(Lake.open(lake_settings(config_path, lake_url)))
    rows = [asdict(one) | {"bytes_per_row": None if one.bytes_per_row is None else round(one.bytes_per_row, 1)} for one in told]
    write_rows(pa.Table.from_pylist(rows), output)


def _settings(config_path: Path | None, lake_url: str | None) -> config.Retention:
    """Return the retention settings of the configuration, or the defaults if only a lake is given, since a vacuum deletes no rows."""
    if lake_url and not config_path:
        return config.Retention()
    return config.load_config(config_path).retention
