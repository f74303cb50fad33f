"""`hindcast blueprint publish, revert`: blueprints applied to the fleet."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.blueprint import load_files
from hindcast.blueprint_fleet import BlueprintOption, ClusterOption, lake_of
from hindcast.blueprint_plan import RetireOption, print_plan, refuse_mistakes, say_effects, shown_progress, to_publish
from hindcast.blueprint_plan import blueprint as blueprint
from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.policy_propose import open_desk
from hindcast.query_options import open_door, principal
from warehouse import config
from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.blueprints.planning import Plan
    from pipelines.blueprints.publishing import Publication


@blueprint.command("publish", epilog="Example: hindcast blueprint publish --cluster lab --yes")
def publish(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    blueprints: BlueprintOption = None,
    cluster: ClusterOption = None,
    retire: RetireOption = None,
    canary: Annotated[
        list[str] | None,
        typer.Option("--canary", help="Publish one blueprint to this cluster alone, as a change that waits to go on; repeatable."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded with the change.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    wait: Annotated[bool, typer.Option(help="Let helm wait until Cilium is ready.")] = True,
) -> None:
    """Apply the blueprints to the clusters, canaries first; stops at the first failure. It is recorded as one change, with every step.

    `hindcast blueprint changes` says what a change drops, for an hour (`proposals.watch`), and rolls it back. With --canary only these
    clusters are published to; `changes` then goes on to the others (all by default, or those of --cluster), or stops.
    """
    from pipelines.blueprints import fleet
    from pipelines.central.at_once import AtOnce

    if canary:
        from hindcast.blueprint_edit import publish_to_canaries

        if retire:
            raise ConfigError("--retire cannot be used with --canary: retire a blueprint by itself")
        publish_to_canaries(config_path, lake_url, blueprints, cluster, canary, reason=reason, is_agreed=yes)
        return
    settings = config.load_config(config_path)
    files, clusters, now = load_files(blueprints, settings), to_publish(settings, cluster), datetime.now(UTC)
    desk = open_desk(config_path, lake_url, principal(None, None), "blueprint publish")
    refuse_mistakes(files, settings, desk.door)
    if not yes:
        with shown_progress() as progress:
            plans = list(fleet.plan_fleet(files, clusters, now=now, retired=retire or (), progress=progress))
        for one in plans:
            print_plan(one)
            say_effects(one, desk.door, now)
        typer.confirm("Publish this?", abort=True)
    reached, failed = [], False
    publication = AtOnce(desk, files, clusters, reason=reason)
    with shown_progress() as progress:
        for one, done in publication.publish(retired=retire or (), wait=wait, progress=progress):
            reached.append(one.cluster)
            failed = _print_result(one, done) or failed
    missed = [one.name for one in fleet.canary_order(files, clusters) if one.name not in reached]
    if missed:
        messages.print(f"not reached: {', '.join(missed)}", markup=False, style="red")
    if publication.change is not None:
        said = "to see what it drops: hindcast blueprint changes watch"
        messages.print(f"change {publication.change.id}; {said} {publication.change.id}", markup=False)
    if failed or missed:
        raise typer.Exit(1)


def _print_result(plan: Plan, done: Publication | None) -> bool:
    """Print the result for a cluster; return whether it failed."""
    if done is not None:
        counts = {name: done.count(name) for name in ("done", "failed", "skipped", "limited")}
        summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to do"
        typer.echo(f"{plan.cluster}: {summary}")
        for step in done.steps:
            if step.result not in {"done"} and step.detail:
                messages.print(f"{plan.cluster}: {step.detail}", markup=False, style="red" if step.result == "failed" else "yellow")
    for problem in plan.problems:
        messages.print(problem, markup=False, style="red")
    return bool(plan.problems) or (done is not None and done.failure is not None)


@blueprint.command("revert", epilog="Example: hindcast blueprint revert --cluster prod-eu-1")
def revert(
    config_path: ConfigOption = None, lake_url: LakeOption = None, blueprints: BlueprintOption = None, cluster: ClusterOption = None
) -> None:
    """Restore objects that drifted from blueprints with `drift: revert`, within their hourly limits. Each change is recorded."""
    from pipelines.blueprints import fleet

    settings = config.load_config(config_path)
    files, clusters = load_files(blueprints, settings), to_publish(settings, cluster)
    refuse_mistakes(files, settings, open_door(config_path, lake_url, "blueprint"))
    failed = False
    for one, done in fleet.revert_fleet(lake_of(config_path, lake_url), files, clusters, now=datetime.now(UTC), actor=getpass.getuser()):
        failed = _print_result(one, done) or failed
    if failed:
        raise typer.Exit(1)
