"""`hindcast blueprint plan`: what publishing would do, and what publishing needs too: checks, clusters, progress."""

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
from hindcast.blueprint_fleet import BlueprintOption, ClusterOption, clusters_of, lake_of
from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from hindcast.query_options import open_door
from warehouse import config
from warehouse.errors import ConfigError, LakeError, QueryError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.blueprints.model import BlueprintFile
    from pipelines.blueprints.planning import Plan
    from pipelines.objects.names import Key
    from warehouse.lake.tables import Lake
    from warehouse.questions.door import Door

RetireOption = Annotated[list[str] | None, typer.Option("--retire", help="Name of a deleted blueprint whose objects are removed.")]


@blueprint.command("plan", epilog="Example: hindcast blueprint plan --cluster lab --all")
def plan(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    blueprints: BlueprintOption = None,
    cluster: ClusterOption = None,
    retire: RetireOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Include objects that would not change.")] = False,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """Show what publishing would do, by a dry run on each API server, and what it would have denied and allowed in the last 7 days.

    Each change of a policy is judged alone; what all of them do together is said below. Exit code 1 if an API server would refuse
    something.
    """
    from pipelines.blueprints import fleet

    settings = config.load_config(config_path)
    files, clusters, now = load_files(blueprints, settings), to_publish(settings, cluster), datetime.now(UTC)
    door = open_door(config_path, lake_url, "blueprint")
    refuse_mistakes(files, settings, door)
    with shown_progress() as progress:
        plans = list(fleet.plan_fleet(files, clusters, now=now, retired=retire or (), progress=progress))
    lake = _lake_if_there(config_path, lake_url)
    rows = [row for one in plans for row in _plan_rows(one, lake, door, now, everything)]
    numbers = [(name, pa.int64()) for name in ("flows_7d", *_EFFECTS)]
    schema = pa.schema([*((name, pa.string()) for name in _PLAN_TEXTS), ("paths", pa.list_(pa.string())), *numbers])
    write_rows(pa.Table.from_pylist(rows, schema=schema), output, file)
    for one in plans:
        print_plan(one)
    if any(one.problems for one in plans):
        raise typer.Exit(1)


_PLAN_TEXTS = ("cluster", "action", "kind", "namespace", "name", "blueprint", "note", "problem")


_EFFECTS = ("newly_denied_7d", "newly_allowed_7d", "uncertain_7d")


def _plan_rows(plan: Plan, lake: Lake | None, door: Door, now: datetime, everything: bool) -> Iterator[dict[str, Any]]:
    from pipelines.blueprints.volume import flows_by_namespace

    counts: dict[str, int] = {}
    effects: dict[Key, dict[str, int]] = {}
    if lake is not None:
        effects = say_effects(plan, door, now)
        try:
            counts = flows_by_namespace(lake, plan.cluster, plan.touched_namespaces, until=now)
        except (LakeError, QueryError) as error:
            messages.print(f"{plan.cluster}: flows cannot be counted: {error}", markup=False, style="yellow")
    if plan.release is not None:
        release = plan.release
        note = f"{release.chart}, {counted(len(release.changed), 'object')}"
        yield {
            "cluster": plan.cluster,
            "action": release.action,
            "kind": "HelmRelease",
            "namespace": release.namespace,
            "name": release.name,
            "note": note,
        }
    for change in plan.changes:
        if change.action != "unchanged" or change.problem or everything:
            yield {
                "cluster": plan.cluster,
                "action": change.action,
                "kind": change.key.kind,
                "namespace": change.key.namespace,
                "name": change.key.name,
                "blueprint": change.blueprint,
                "note": change.note,
                "problem": change.problem,
                "paths": [difference.path for difference in change.differences],
                "flows_7d": counts.get(change.key.namespace or ""),
                **effects.get(change.key, {}),
            }


def say_effects(plan: Plan, door: Door, now: datetime) -> dict[Key, dict[str, int]]:
    """Return what each change of a policy would have done to recorded flows, and say what all of them would have done together."""
    from pipelines.blueprints.foreseeing import Effect, foresee
    from pipelines.blueprints.volume import LOOK_BACK
    from pipelines.replay.in_force import History
    from warehouse.access.principals import OPERATOR
    from warehouse.engine import Window

    def of_each(effect: Effect) -> dict[str, int]:
        return dict(zip(_EFFECTS, (effect.newly_denied, effect.newly_allowed, effect.uncertain), strict=True))

    try:
        found = foresee(History(door, OPERATOR), plan, Window(since=now - LOOK_BACK, until=now))
    except (LakeError, QueryError) as error:
        messages.print(f"{plan.cluster}: recorded traffic cannot be replayed: {error}", markup=False, style="yellow")
        return {}
    if found.unknown:
        messages.print(f"{plan.cluster}: what would be denied or allowed is not known: {found.unknown}", markup=False, style="yellow")
    if found.together is not None:
        texts = (f"{flows:,} {name.removesuffix('_7d').replace('_', ' ')}" for name, flows in of_each(found.together).items())
        messages.print(f"{plan.cluster}: all changes of policies together, of the flows of 7 days: {', '.join(texts)}", markup=False)
    return {key: of_each(effect) for key, effect in found.each.items()}


def print_plan(plan: Plan) -> None:
    """Print a cluster's plan in a few lines."""
    counts = {name: sum(change.action == name for change in plan.changes) for name in ("create", "update", "delete", "unchanged")}
    summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to do"
    messages.print(f"{plan.cluster}: {summary}", markup=False, style="dim")
    if plan.left:
        messages.print(
            f"{plan.cluster}: {counted(len(plan.left), 'object')} of other blueprints remain; --retire removes them", style="dim"
        )
    for problem in plan.problems:
        messages.print(problem, markup=False, style="red")


def refuse_mistakes(files: list[BlueprintFile], settings: config.Config, door: Door) -> None:
    """Raise ConfigError if the blueprints have mistakes, so that they are not published; print warnings."""
    from pipelines.blueprints.checking import check

    found = check(files, settings.clusters, door.grants(), now=datetime.now(UTC))
    for warning in found.warnings:
        messages.print(f"warning: {warning}", markup=False, style="yellow")
    if found.mistakes:
        raise ConfigError("\n".join(found.mistakes))


def to_publish(settings: config.Config, names: list[str] | None) -> list[config.Cluster]:
    """Return the clusters that can be published to: those of these names, or all. Raises ConfigError for a name that cannot."""
    from pipelines.blueprints.fleet import published_clusters

    chosen = clusters_of(settings, names)
    able = published_clusters(chosen)
    missing = [one.name for one in chosen if one not in able]
    if names and missing:
        raise ConfigError(f"--cluster: {', '.join(missing)} has no API server in the configuration, so nothing can be published to it")
    if missing:
        messages.print(f"skipped, because the configuration has no API server for them: {', '.join(missing)}", markup=False, style="yellow")
    return able


def _lake_if_there(config_path: Path | None, lake_url: str | None) -> Lake | None:
    try:
        return lake_of(config_path, lake_url)
    except LakeError as error:
        messages.print(f"flows are not counted: {error}", markup=False, style="yellow")
        return None


@contextmanager
def shown_progress() -> Iterator[Any]:
    """Context that shows a bar for each cluster; it yields what is called with the progress."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("objects"))
    with Progress(*columns, console=messages, transient=True) as progress:
        bars: dict[str, Any] = {}

        def show_progress(cluster: str, done: int, total: int) -> None:
            if cluster not in bars:
                bars[cluster] = progress.add_task(cluster, total=total)
            progress.update(bars[cluster], completed=done, total=total)

        yield show_progress
