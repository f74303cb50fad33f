"""`hindcast blueprint changes`: what became of publications and of changes with canaries; going on, stopping, rolling back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer

from hindcast.blueprint_edit import blueprint as blueprint
from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from hindcast.policy_propose import open_desk
from hindcast.query_options import AsOption, GroupOption, principal
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.central.model import Change
    from pipelines.proposals.desk import Desk
    from pipelines.proposals.watching import Watched

COMMAND = "blueprint changes"
"""The purpose that the access log gets."""
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The change's id.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; recorded with it.")]
changes = typer.Typer(no_args_is_help=True, add_completion=False, help="Look at changes of blueprints, go on, stop them, and roll back.")
blueprint.add_typer(changes, name="changes")


@changes.command("list", epilog="Example: hindcast blueprint changes list --output json")
def list_changes(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """List changes of blueprints, the newest first: those for clusters that the user sees whole."""
    from pipelines.central import store

    found = store.visible(open_desk(config_path, lake_url, principal(user, groups), COMMAND))
    rows = [
        {
            "id": one.id,
            "status": one.status.value,
            "blueprint": f"{one.blueprint} {one.version}",
            "published": ", ".join(one.published),
            "rest": ", ".join(one.rest),
            "by": one.author,
            "begun": f"{one.time:%Y-%m-%dT%H:%M:%SZ}",
            "reason": one.reason,
        }
        for one in found
    ]
    columns = pa.schema([(name, pa.string()) for name in ("id", "status", "blueprint", "published", "rest", "by", "begun", "reason")])
    write_rows(pa.Table.from_pylist(rows, schema=columns), output, file)


@changes.command("show", epilog="Example: hindcast blueprint changes show 3f2a9c0d --file blueprints/base.yaml")
def show(
    change: IdArgument,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    file: Annotated[Path | None, typer.Option("--file", help="Write the changed blueprint to this file instead.")] = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Show a change: what was planned and published in each cluster, how the blueprint's file changes, and who did what."""
    import difflib

    from hindcast.policy_files import write_text

    _, one = _opened(change, user, groups, config_path, lake_url)
    if file is not None:
        write_text(one.text, file)
        return
    say(one)
    for cluster in one.clusters:
        plan = one.plan(cluster)
        counts = ", ".join(f"{plan[name]} {name}" for name in ("create", "update", "delete") if plan.get(name)) or "nothing to do"
        typer.echo(f"  {cluster}: {counts}" + (" (canary)" if cluster in one.canary else ""))
    names = (f"a/{one.source.name}", f"b/{one.source.name}")
    typer.echo("".join(difflib.unified_diff(one.text_before.splitlines(True), one.text.splitlines(True), *names)))
    for entry in one.entries:
        typer.echo(
            f"{entry.time:%Y-%m-%d %H:%M:%S} UTC  {entry.event.value} by {entry.actor}" + (f": {entry.detail}" if entry.detail else "")
        )


@changes.command("watch", epilog="Example: hindcast blueprint changes watch 3f2a9c0d")
def watch(
    change: Annotated[str | None, typer.Argument(metavar="ID", help="One change; all that are being watched if absent.")] = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """List the flows that a change drops in each cluster that it was published to. Exit code 1 if there are any, or it cannot be told.

    Without ID, look at all that are being watched, as the operator, and roll back where `proposals.roll_back_at` says so; drops that the
    plan of a change had announced do not count.
    """
    from pipelines.central import aftermath, watching_all

    if change is None and user is not None:
        raise ConfigError("--as: name the change that is looked at; all of them are looked at by the operator")
    if change is not None:
        desk, one = _opened(change, user, groups, config_path, lake_url)
        found = aftermath.seen(desk, one)
        for cluster, watched in found.items():
            _say_drops(cluster, watched)
        if any(watched.drops or not watched.is_judged for watched in found.values()):
            raise typer.Exit(1)
        return
    is_well = True
    for looked in watching_all.look_at_all(open_desk(config_path, lake_url, principal(None, None), COMMAND)):
        say(looked.change)
        for cluster, watched in looked.clusters.items():
            _say_drops(cluster, watched)
        if looked.failure:
            messages.print(f"{looked.change.id}: cannot be rolled back: {looked.failure}", markup=False, style="red")
        is_well = is_well and looked.is_judged and not looked.unannounced_flows
    if not is_well:
        raise typer.Exit(1)


@changes.command("go-on", epilog="Example: hindcast blueprint changes go-on 3f2a9c0d")
def go_on(
    change: IdArgument,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    even_if_drops: Annotated[bool, typer.Option("--even-if-drops", help="Also if it drops flows where it was published.")] = False,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Publish a change to the clusters that wait for it, unless it drops flows in those that have it."""
    from pipelines.central import acting, aftermath

    desk, one = _opened(change, user, groups, config_path, lake_url)
    drops = {cluster: watched.in_words for cluster, watched in aftermath.seen(desk, one).items() if watched.drops}
    if drops and not even_if_drops:
        told = "; ".join(f"{cluster}: {words}" for cluster, words in drops.items())
        raise ConfigError(f"flows are dropped because of it ({told}): roll it back, or go on with --even-if-drops")
    with messages.status("publishing"):
        one = acting.go_on(desk, one)
    say(one)


@changes.command("stop", epilog="Example: hindcast blueprint changes stop 3f2a9c0d --reason 'the canary drops DNS'")
def stop(
    change: IdArgument,
    reason: ReasonOption,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Keep a change from going on to further clusters. Those that have it keep it: see roll-back."""
    from pipelines.central import acting

    desk, one = _opened(change, user, groups, config_path, lake_url)
    say(acting.stop(desk, one, reason))


@changes.command("roll-back", epilog="Example: hindcast blueprint changes roll-back 3f2a9c0d")
def roll_back(
    change: IdArgument,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    reason: ReasonOption = "",
    even_if_changed: Annotated[bool, typer.Option("--even-if-changed", help="Also if somebody has changed an object since.")] = False,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Put back what a change did, in every cluster that it was published to."""
    from pipelines.central import acting

    desk, one = _opened(change, user, groups, config_path, lake_url)
    with messages.status("rolling back"):
        one = acting.roll_back(desk, one, even_if_changed=even_if_changed, reason=reason)
    say(one)


@changes.command("hand-over", epilog="Example: hindcast blueprint changes hand-over 3f2a9c0d")
def hand_over(
    change: IdArgument, config_path: ConfigOption = None, lake_url: LakeOption = None, user: AsOption = None, groups: GroupOption = None
) -> None:
    """Push the changed blueprint as a commit on a new branch of `proposals.git.repository`."""
    from pipelines.central import handing_over

    desk, one = _opened(change, user, groups, config_path, lake_url)
    done = handing_over.commit(desk, one)
    typer.echo(done.entries[-1].detail)


def _opened(change: str, user: str | None, groups: list[str] | None, config_path: Path | None, lake_url: str | None) -> tuple[Desk, Change]:
    from pipelines.central import store

    desk = open_desk(config_path, lake_url, principal(user, groups), COMMAND)
    return desk, store.visible_one(desk, change)


def _say_drops(cluster: str, found: Watched) -> None:
    if not found.is_judged:
        messages.print(f"{cluster}: not judged: {'; '.join(found.notes)}", markup=False, style="red")
        return
    typer.echo(f"{cluster}: {found.in_words} dropped because of it until {found.until:%H:%M:%S} UTC")
    for edge in found.drops:
        row = edge.row()
        ends = (row[f"{side}_workload_name"] or row[f"{side}_namespace"] or "?" for side in ("source", "destination"))
        typer.echo(f"  {' to '.join(ends)}, {counted(edge.flows, 'flow')}")


def say(one: Change) -> None:
    """Print a change in one line."""
    parts: list[Any] = [one.id, one.status.value, f"{one.blueprint} {one.version}", f"published to {', '.join(one.published) or 'none'}"]
    typer.echo("  ".join(parts))
