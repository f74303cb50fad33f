"""`hindcast blueprint`: how the platform team wants the fleet to stand, from writing it down to keeping it so.

This module has what works on files; `hindcast.blueprint_fleet`, `hindcast.blueprint_plan` and `hindcast.blueprint_publish` have what
looks at clusters.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer

from hindcast.console import ConfigOption, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from warehouse import config
from warehouse.access.ownership import grants_of
from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.blueprints.model import BlueprintFile

blueprint = typer.Typer(no_args_is_help=True, help="Define how clusters should be configured, publish it, and find drift.")

FilesArgument = Annotated[
    list[Path] | None, typer.Argument(help="Blueprint files; those in the configuration by default.", show_default=False)
]


@blueprint.callback()
def _commands() -> None:
    """Define how clusters should be configured, publish it, and find drift."""


def load_files(files: list[Path] | None, settings: config.Config | None, *, needed: bool = True) -> list[BlueprintFile]:
    """Load the named blueprints, else those in the configuration. Raises ConfigError, also if there are none although `needed`."""
    from pipelines.blueprints import model

    patterns = files or (list(settings.blueprints) if settings else [])
    if not patterns and needed:
        raise ConfigError(
            "no blueprints: name files, or set `blueprints` in the configuration; `hindcast blueprint library` has some to start from"
        )
    return model.load(patterns)


@blueprint.command("validate", epilog="Example: hindcast blueprint validate blueprints/*.yaml")
def validate(files: FilesArgument = None, config_path: ConfigOption = None) -> None:
    """Check blueprints and report mistakes with file and line; with a configuration, also check clusters, owners and conflicts."""
    from pipelines.blueprints.checking import check

    settings = _settings(config_path, needed=not files)
    loaded = load_files(files, settings)
    if settings is None:
        messages.print("no configuration: clusters, owners and conflicts between blueprints are not checked", style="dim")
    else:
        grants = grants_of(settings.ownership)  # grants from the clusters are in the lake, which is not opened here
        found = check(loaded, settings.clusters, grants, grants_are_whole=not settings.ownership.sources, now=datetime.now(UTC))
        for warning in found.warnings:
            messages.print(f"warning: {warning}", markup=False, style="yellow")
        if found.mistakes:
            raise ConfigError("\n".join(found.mistakes))
    for one in loaded:
        typer.echo(f"{one.source}: {one.blueprint.name} {one.blueprint.version} is valid")


def _settings(config_path: Path | None, *, needed: bool) -> config.Config | None:
    try:
        return config.load_config(config_path)
    except ConfigError:
        if config_path is not None or needed or config.DEFAULT_PATH.exists():
            raise
        return None


@blueprint.command("templates", epilog="Example: hindcast blueprint templates --output json")
def templates(output: OutputOption = Format.TABLE, file: FileOption = None) -> None:
    """List the templates, with the purpose and the parameters of each."""
    from pipelines.blueprints.templates import all_templates

    rows = [
        {
            "template": name,
            "scope": template.scope,
            "kind": template.kind,
            "protects": " ".join((template.__doc__ or "").split()),
            "takes": ", ".join(key for key in template.model_fields if key != "template"),
        }
        for name, template in all_templates().items()
    ]
    if output is Format.TABLE and file is None:
        for row in rows:
            messages.print(f"[bold]{row['template']}[/bold] ({row['scope']}): {row['protects']}\n  takes {row['takes']}")
        return
    write_rows(pa.Table.from_pylist(rows), output, file)


@blueprint.command("library", epilog="Example: hindcast blueprint library baseline > blueprints/baseline.yaml")
def library(name: Annotated[str | None, typer.Argument(help="Blueprint to print; lists their names by default.")] = None) -> None:
    """Print predefined blueprints to start from; each states what it protects against, and what not."""
    from importlib.resources import files

    ready = {
        Path(entry.name).stem: entry
        for entry in files("pipelines.blueprints").joinpath("library").iterdir()
        if entry.name.endswith(".yaml")
    }
    if name is None:
        for each, entry in sorted(ready.items()):
            typer.echo(f"{each:12} {entry.read_text(encoding='utf-8').splitlines()[0].removeprefix('# ').partition(': ')[2]}")
        return
    if name not in ready:
        raise ConfigError(f"there is no blueprint {name!r} in the library; there are: {', '.join(sorted(ready))}")
    typer.echo(ready[name].read_text(encoding="utf-8"), nl=False)


@blueprint.command("schema", epilog="Example: hindcast blueprint schema > blueprint.schema.json")
def schema() -> None:
    """Print the JSON Schema of blueprints, for editors."""
    from pipelines.blueprints.model import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@blueprint.command("compare", epilog="Example: hindcast blueprint compare pairs.json --output json")
def compare(
    pairs: Annotated[
        Path, typer.Argument(help="JSON file of pairs: objects with id, applied, live, and drift if the expected verdict is known.")
    ],
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """Compare pairs of an applied manifest and the live object: drift, equal or order-only, and where they differ.

    Exit code 1 if a verdict is not the expected one or, for pairs without an expected verdict, if there is drift.
    """
    from pipelines.objects.compare import compare as judge

    rows, wrong, malformed = [], [], []
    for place, pair in _pairs(pairs):
        if (
            not isinstance(pair, dict)
            or "applied" not in pair
            or "live" not in pair
            or not all(isinstance(pair[side], dict | None) for side in ("applied", "live"))
        ):
            malformed.append(f"{pairs}: {place}: is not an object with applied and live, manifests or null")
            continue
        name = str(pair.get("id", place))
        found = judge(pair["applied"], pair["live"])
        rows.append({"id": name, "verdict": str(found.verdict), "paths": list(found.paths)})
        expected = {True: "drift", False: "equal", "order-only": "order-only"}.get(pair.get("drift"), "") if "drift" in pair else None
        if expected != str(found.verdict) and (expected is not None or str(found.verdict) == "drift"):
            wrong.append(f"{name}: {found.verdict}" + (f", expected {expected}" if expected else ""))
    columns = pa.schema([("id", pa.string()), ("verdict", pa.string()), ("paths", pa.list_(pa.string()))])
    write_rows(pa.Table.from_pylist(rows, schema=columns), output, file)
    for line in (*malformed, *wrong):
        messages.print(line, markup=False, style="red")
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("drift", "equal", "order-only")}
    messages.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()), style="dim")
    if wrong or malformed:
        raise typer.Exit(1)


def _pairs(file: Path) -> list[tuple[str, Any]]:
    """Return every pair in the file with its place: the file is a list, or an object with lists of pairs."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: is not JSON: {error}") from error
    if isinstance(document, list):
        return [(f"[{index}]", pair) for index, pair in enumerate(document)]
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: must be a list of pairs, or an object with lists of pairs, not {type(document).__name__}")
    lists = {name: value for name, value in document.items() if isinstance(value, list)}
    of_pairs = {name: value for name, value in lists.items() if any(isinstance(pair, dict) and "live" in pair for pair in value)}
    if not of_pairs:
        raise ConfigError(f"{file}: has no list of pairs with `applied` and `live`")
    return [(f"{name}[{index}]", pair) for name, value in of_pairs.items() for index, pair in enumerate(value)]
