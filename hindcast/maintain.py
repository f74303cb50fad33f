"""`hindcast maintain`: manual maintenance of the lake; Airflow's DAGs call the same functions."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hindcast import removal, upkeep
from hindcast.console import ConfigOption, LakeOption, engine_settings, lake_settings, messages
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.maintenance.compaction import Done, Task

maintain = typer.Typer(no_args_is_help=True, help="Keep the lake small and fast.")


@maintain.callback()
def _commands() -> None:
    """Keep the lake small and fast."""


maintain.command("retain", epilog="Example: hindcast maintain retain --dry-run")(removal.retain)
maintain.command(
    "erase", epilog="Example: hindcast maintain erase --cluster prod-eu-1 --namespace payments --reason 'request 4711' --dry-run"
)(removal.erase)
maintain.command("vacuum", epilog="Example: hindcast maintain vacuum --dry-run")(upkeep.vacuum)
maintain.command("checkpoint", epilog="Example: hindcast maintain checkpoint")(upkeep.checkpoint)
maintain.command("statistics", epilog="Example: hindcast maintain statistics --output json")(upkeep.statistics)


@maintain.command("compact", epilog="Example: hindcast maintain compact --cluster prod-eu-1 --dry-run")
def compact(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    cluster: Annotated[list[str] | None, typer.Option("--cluster", help="Only this cluster; may be given again.")] = None,
    hour: Annotated[str | None, typer.Option("--hour", help="Only this hour, e.g. 2026-03-02T14 (UTC).")] = None,
    day: Annotated[str | None, typer.Option("--day", help="Only this day, e.g. 2026-03-02 (UTC).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
) -> None:
    """Compact closed hours into a few sorted files and closed days into their final layout, removing duplicate flows.

    Small files of all other tables, and of hours still open, are merged. Running it again changes nothing.
    """
    from pipelines.maintenance import merging
    from pipelines.maintenance.compaction import compact_closed_hours, plan, plan_days
    from warehouse.engines.opening import usable
    from warehouse.lake.tables import Lake
    from warehouse.schema import COVERAGE, FLOWS

    if hour and day:
        raise ConfigError("give --hour or --day, not both")
    lake, now = Lake.open(lake_settings(config_path, lake_url)), datetime.now(UTC)
    on = None if dry_run else usable(engine_settings(config_path, lake_url))
    clusters = frozenset(cluster) if cluster else None
    start, midnight = _hour(hour) if hour else None, _day(day) if day else None
    tasks = [task for table in (FLOWS, COVERAGE) for task in plan(lake, now=now, clusters=clusters, hour=start, day=midnight, table=table)]
    if not hour:
        tasks += [task for table in (FLOWS, COVERAGE) for task in plan_days(lake, now=now, clusters=clusters, day=midnight, table=table)]
    if dry_run:
        for task in tasks:
            typer.echo(f"{task}: {counted(len(task.files), 'file')}, {counted(task.rows, 'row')}, {task.size:,} bytes")
        typer.echo(f"{_counted(tasks)} would be compacted")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}% of rows"), TimeRemainingColumn())
    finished: list[Task] = []
    with Progress(*columns, console=messages) as progress:
        bar = progress.add_task("compacting", total=sum(task.rows for task in tasks))

        def show_progress(task: Task, result: Done | None) -> None:
            progress.update(bar, advance=task.rows, description=str(task))
            finished.extend([task] if result else [])

        done = compact_closed_hours(lake, now=now, clusters=clusters, hour=start, day=midnight, progress=show_progress, on=on)
    merged = [] if start or midnight else merging.merge(lake, now=now, clusters=clusters)
    before, after = (sum(getattr(one, name) for one in done) for name in ("bytes_before", "bytes_after"))
    files = [sum(getattr(one, name) for one in done) for name in ("files_before", "files_after")]
    typer.echo(
        f"{_counted(finished)} compacted: {counted(files[0], 'file')} became {files[1]}, {before:,} bytes {after:,}, "
        f"{sum(one.duplicates for one in done)} duplicates dropped"
    )
    for one in merged:
        typer.echo(str(one))


@maintain.command("rollup", epilog="Example: hindcast maintain rollup --cluster prod-eu-1 --dry-run")
def rollup(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    cluster: Annotated[list[str] | None, typer.Option("--cluster", help="Only this cluster; may be given again.")] = None,
    hour: Annotated[str | None, typer.Option("--hour", help="Only this hour, e.g. 2026-03-02T14 (UTC).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
) -> None:
    """Roll up closed hours into edges_1h, timeline_1m, label_sets and dns_names. Running it again changes nothing."""
    from pipelines.maintenance import rollup as rollups
    from warehouse.config import Config, load_config
    from warehouse.engines.opening import usable
    from warehouse.lake.tables import Lake

    settings = Config() if lake_url and not config_path else load_config(config_path)
    lake, now = Lake.open(lake_settings(config_path, lake_url)), datetime.now(UTC)
    clusters = frozenset(cluster) if cluster else None
    start = _hour(hour) if hour else None
    tasks = rollups.plan(lake, now=now, clusters=clusters, hour=start)
    if dry_run:
        for task in tasks:
            typer.echo(f"{task.cluster} {task.day:%Y-%m-%d}: hours {', '.join(f'{begin:%H}' for begin, _ in task.hours)}")
        typer.echo(f"{counted(sum(len(task.hours) for task in tasks), 'hour')} would be rolled up")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("days of clusters"))
    with Progress(*columns, console=messages) as progress:
        bar = progress.add_task("rolling up", total=len(tasks))
        done = rollups.roll_up_closed_hours(
            lake,
            settings.rollups,
            now=now,
            clusters=clusters,
            hour=start,
            progress=lambda _task, _done: progress.advance(bar),
            on=usable(settings.engine),
        )
    rows = {table.name: sum(one.rows[table.name] for one in done) for table in rollups.ORDER}
    typer.echo(
        f"{counted(sum(one.hours for one in done), 'hour')} rolled up: {counted(sum(one.flows for one in done), 'flow')} became "
        + ", ".join(f"{counted(count, 'row')} of {name}" for name, count in rows.items())
    )


def _counted(tasks: list[Task]) -> str:
    hours, days = sum(len(task.hours) for task in tasks), sum(not task.hours for task in tasks)
    return f"{counted(hours, 'hour')} and {counted(days, 'day')}"


def _day(text: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError as error:
        raise ConfigError(f"--day: {text!r} is not a day like 2026-03-02") from error


def _hour(text: str) -> datetime:
    try:
        given = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--hour: {text!r} is not an hour like 2026-03-02T14") from error
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
