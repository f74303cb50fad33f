"""`hindcast blueprint drift, matrix`: how the fleet stands against its blueprints. Publishing them is in hindcast.blueprint_publish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hindcast.blueprint import blueprint as blueprint
from hindcast.blueprint import load_files
from hindcast.blueprint_output import print_drift
from hindcast.console import ConfigOption, LakeOption, lake_settings, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from hindcast.query_options import AsOption, GroupOption, moment, open_door, principal
from warehouse import config
from warehouse.errors import AccessDeniedError, ConfigError
from warehouse.schema import DRIFT
from warehouse.wording import counted

if TYPE_CHECKING:
    from warehouse.lake.tables import Lake

BlueprintOption = Annotated[
    list[Path] | None, typer.Option("--blueprint", help="Blueprint file, instead of those in the configuration; repeatable.")
]
ClusterOption = Annotated[list[str] | None, typer.Option("--cluster", help="Only this cluster; repeatable.")]
AtOption = Annotated[str | None, typer.Option("--at", help="As recorded at a time, e.g. 2026-03-02T14:00Z, or an age such as 7d.")]
SHORT = {"pass": "ok", "fail": "FAIL", "unknown": "?", "not_evaluated": "-"}


@blueprint.command("drift", epilog="Example: hindcast blueprint drift --cluster prod-eu-1 --output json")
def drift(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    blueprints: BlueprintOption = None,
    cluster: ClusterOption = None,
    at: AtOption = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="With --at: evaluate the history of that time against today's blueprints.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Record nothing.")] = False,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Find where clusters differ from their blueprints, using configuration history, and record it.

    With --at: show the drift recorded as open then. With --as: show recorded drift in the user's namespaces. Exit code 1 if there is drift.
    """
    from pipelines.blueprints import evaluation, notifying
    from warehouse.questions.record_questions import Drift, Evaluations

    now = datetime.now(UTC)
    settings = config.load_config(config_path)
    clusters = clusters_of(settings, cluster)
    door, who = open_door(config_path, lake_url, "blueprint drift"), principal(user, groups)
    instant = moment(at, "--at", now=now) if at else None
    if not who.is_operator and recompute:
        raise AccessDeniedError("--recompute evaluates whole clusters, so it cannot be used with --as: leave it out to see recorded drift")
    if who.is_operator and (recompute or instant is None):
        lake, files = lake_of(config_path, lake_url), load_files(blueprints, settings, needed=False)  # many controls need no blueprints
        with _bar("judging", len(clusters)) as advance:
            found = evaluation.evaluate_fleet(lake, files, clusters, at=instant or now, progress=lambda _name: advance())
        if instant is not None or dry_run:
            rows = pa.Table.from_pylist(evaluation.changes(found, [], now=instant or now), schema=DRIFT.schema)
            print_drift(rows, output, file, never=[])
            return
        kept = evaluation.store(lake, found, now=now, configured={one.name for one in settings.clusters})
        messages.print(f"{counted(kept.rows, 'row')} of drift recorded", style="dim")
        for failure in notifying.notify_opened(settings, lake, now=now, source="hindcast blueprint drift"):
            messages.print(failure, markup=False, style="yellow")
    names = tuple(one.name for one in clusters)
    evaluated = {row["cluster"]: row["evaluated"] for row in door.answer(who, Evaluations(at=instant, clusters=names)).rows.to_pylist()}
    never = [name for name in names if name not in evaluated and door.scope(who).sees_cluster(name)]
    print_drift(door.answer(who, Drift(at=instant, clusters=names)).rows, output, file, never=never)
    if instant is not None and evaluated:
        oldest = min(evaluated, key=lambda name: evaluated[name])
        messages.print(
            f"as of the last evaluations by then; the oldest is that of {oldest}, at {evaluated[oldest]:%Y-%m-%dT%H:%M:%SZ}", style="dim"
        )


@blueprint.command("matrix", epilog="Example: hindcast blueprint matrix --at 30d")
def matrix(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    cluster: ClusterOption = None,
    at: AtOption = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Show the fleet's controls, one row per cluster, as last recorded by `hindcast blueprint drift`, or as recorded at a time."""
    from pipelines.blueprints.controls import CONTROLS
    from warehouse.questions.record_questions import Controls

    names = [one.name for one in clusters_of(config.load_config(config_path), cluster)]
    instant = moment(at, "--at", now=datetime.now(UTC)) if at else None
    door = open_door(config_path, lake_url, "blueprint matrix")
    rows = door.answer(principal(user, groups), Controls(at=instant, clusters=tuple(names))).rows
    if output is not Format.TABLE or file is not None:
        write_rows(rows, output, file)
        return
    by_cluster: dict[str, dict[str, Any]] = {}
    for row in rows.to_pylist():
        failed = f" {row['failed']}" if row["status"] == "fail" else ""
        by_cluster.setdefault(row["cluster"], {})[row["control"]] = SHORT.get(row["status"], row["status"]) + failed
        by_cluster[row["cluster"]]["evaluated"] = row["time"]
    columns = [control.id for control in CONTROLS]
    table = [
        {"cluster": name, **{id_: cells.get(id_, "") for id_ in columns}, "evaluated": cells["evaluated"]}
        for name, cells in by_cluster.items()
    ]
    write_rows(pa.Table.from_pylist(table) if table else pa.table({"cluster": pa.array([], pa.string())}), output)
    for name in names:
        if name not in by_cluster:
            messages.print(
                f"{name}: nothing recorded" + (" by then" if at else "; run `hindcast blueprint drift`"), markup=False, style="dim"
            )


def clusters_of(settings: config.Config, names: list[str] | None) -> list[config.Cluster]:
    """Return the named clusters of the configuration, or all of them. Raises ConfigError for a name that it does not have."""
    known = {one.name: one for one in settings.clusters}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"--cluster: the configuration has no cluster {name!r}; there are: {', '.join(known) or 'none'}")
    return [known[name] for name in names] if names else list(settings.clusters)


def lake_of(config_path: Path | None, lake_url: str | None) -> Lake:
    """Return the lake of the options or the configuration. Raises LakeError."""
    from warehouse.lake.tables import Lake

    return Lake.open(lake_settings(config_path, lake_url))


@contextmanager
def _bar(what: str, total: int) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("clusters"))
    with Progress(*columns, console=messages, transient=True) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda: progress.advance(bar)
