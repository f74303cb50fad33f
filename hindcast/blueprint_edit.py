"""`hindcast blueprint edit`, and `publish --canary`: a policy becomes a change of a blueprint, which is published to canaries first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.blueprint import load_files
from hindcast.blueprint_fleet import BlueprintOption
from hindcast.blueprint_publish import blueprint as blueprint
from hindcast.console import ConfigOption, messages
from hindcast.output import FileOption
from warehouse import config
from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.central.previewing import Preview


@blueprint.command(
    "edit", epilog="Example: hindcast blueprint edit web.yaml --name shop --cluster lab --cluster prod --file blueprints/shop.yaml"
)
def edit(
    policy: Annotated[Path, typer.Argument(help="File with a policy, or with an entry of a blueprint; - reads standard input.")],
    name: Annotated[str, typer.Option("--name", help="Name of the blueprint; one that does not exist yet is made.")],
    clusters: Annotated[list[str], typer.Option("--cluster", help="Cluster that it is to change in; repeatable.")],
    canary: Annotated[list[str] | None, typer.Option("--canary", help="Canary cluster of a new blueprint; repeatable.")] = None,
    blueprints: BlueprintOption = None,
    config_path: ConfigOption = None,
    file: FileOption = None,
) -> None:
    """Write a policy into a blueprint's file: the entry of its name is replaced, else one is added, and the version is raised.

    The rest of the file stays as it is written. Nothing is published: see `hindcast blueprint publish --canary`.
    """
    from hindcast.policy_files import text_of, write_text
    from pipelines.central import editing, previewing

    settings = config.load_config(config_path)
    text = sys.stdin.read() if str(policy) == "-" else text_of(policy)
    wanted = editing.Edit(text=text, blueprint=name, clusters=tuple(clusters), canary=tuple(canary or ()))
    files = load_files(blueprints, settings, needed=False)
    for cluster in clusters:
        if cluster not in [one.name for one in settings.clusters]:
            listed = ", ".join(one.name for one in settings.clusters) or "none"
            raise ConfigError(f"--cluster: the configuration has no cluster {cluster!r}; there are: {listed}")
    edited = editing.edited(wanted, files, settings.clusters, folder=previewing.folder_of(settings))
    write_text(edited.text, file)
    messages.print(f"blueprint {edited.name} {edited.file.blueprint.version}", markup=False, style="dim")
    if edited.left:
        messages.print(f"it is also for {', '.join(edited.left)}", markup=False, style="yellow")


def publish_to_canaries(
    config_path: Path | None,
    lake_url: str | None,
    files: list[Path] | None,
    clusters: list[str] | None,
    canary: list[str],
    *,
    reason: str,
    is_agreed: bool,
) -> None:
    """Plan a blueprint for clusters, and publish it to the canaries among them, as a change that can go on or be rolled back."""
    from hindcast.blueprint_changes import COMMAND, say
    from hindcast.policy_propose import open_desk
    from pipelines.blueprints.fleet import published_clusters
    from pipelines.central import acting, previewing
    from warehouse.access.principals import OPERATOR

    desk = open_desk(config_path, lake_url, OPERATOR, COMMAND)
    loaded = load_files(files, desk.settings)
    if len(loaded) != 1:
        named = ", ".join(one.blueprint.name for one in loaded)
        raise ConfigError(
            f"--canary publishes one blueprint as a change, and these are {len(loaded)} ({named}): name its file by --blueprint"
        )
    able = [one for one in published_clusters(desk.settings.clusters) if loaded[0].blueprint.clusters.selects(one.name, one.labels)]
    chosen = clusters or [one.name for one in able]
    if foreign := [name for name in (*chosen, *canary) if name not in [one.name for one in able]]:
        listed = ", ".join(one.name for one in able) or "none"
        raise ConfigError(f"blueprint {loaded[0].blueprint.name} cannot be published to {', '.join(foreign)}; it can be to: {listed}")
    with messages.status("planning"):
        found = previewing.preview(desk, previewing.whole(desk.settings, loaded[0], chosen), chosen)
    _say_preview(found)
    if found.refusals:
        raise typer.Exit(1)
    if not is_agreed:
        typer.confirm(f"Publish this to {', '.join(canary)}?", abort=True)
    with messages.status("publishing"):
        change = acting.begin(desk, found, canary, reason=reason)
    say(change)
    if change.rest:
        typer.echo(
            f"hindcast blueprint changes watch {change.id} says what it drops; go-on {change.id} publishes it to {', '.join(change.rest)}"
        )


def _say_preview(found: Preview) -> None:
    for warning in found.warnings:
        messages.print(f"warning: {warning}", markup=False, style="yellow")
    for mistake in found.mistakes:
        messages.print(mistake, markup=False, style="red")
    for one in found.clusters:
        counts = {name: sum(change.action == name for change in one.plan.changes) for name in ("create", "update", "delete")}
        typer.echo(f"{one.cluster}: " + (", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to do"))
        together = one.foreseen.together
        if together is not None:
            told = f"{together.newly_denied:,} newly denied, {together.newly_allowed:,} newly allowed, {together.uncertain:,} uncertain"
            typer.echo(f"{one.cluster}: of the flows of 7 days: {told}")
        if one.foreseen.unknown:
            messages.print(
                f"{one.cluster}: what would be denied or allowed is not known: {one.foreseen.unknown}", markup=False, style="yellow"
            )
        for text in one.against_rails:
            messages.print(f"{one.cluster}: {text}", markup=False, style="yellow")
        for problem in one.problems:
            messages.print(problem, markup=False, style="red")
