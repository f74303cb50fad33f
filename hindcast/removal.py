"""`hindcast maintain retain` and `erase`: delete rows from the lake, by age or on request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import pyarrow as pa
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hindcast.console import ConfigOption, LakeOption, lake_settings, messages
from hindcast.output import Format, OutputOption, write_rows
from hindcast.query_options import moment
from warehouse import config
from warehouse.errors import ConfigError, HindcastError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.maintenance.removal import Removal

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be deleted; change nothing.")]
ClusterOption = Annotated[list[str] | None, typer.Option("--cluster", help="Only this cluster; may be given again.")]


class OnHoldError(HindcastError):
    """A legal hold prevented the deletion of some rows."""


def retain(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    cluster: ClusterOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Delete rows that are older than the configuration's `retention` allows. Running it again changes nothing."""
    from pipelines.maintenance import retention
    from warehouse.engines.opening import usable
    from warehouse.lake.tables import Lake

    # Retention is set in the configuration: without one nothing is deleted, even if --lake is given.
    whole = config.load_config(config_path)
    settings, on = whole.retention, usable(whole.engine)
    lake, now = Lake.open(lake_settings(config_path, lake_url)), datetime.now(UTC)
    clusters = frozenset(cluster) if cluster else None
    with _progress("days") as progress:
        bar = progress.add_task("retaining", total=len(retention.due(lake, settings, now=now, clusters=clusters)))
        done = retention.retain(lake, settings, now=now, clusters=clusters, dry_run=dry_run, progress=lambda: progress.advance(bar), on=on)
    _print(done, output, dry_run=dry_run)


def erase(
    cluster: Annotated[str, typer.Option("--cluster", help="The cluster.")],
    namespace: Annotated[str, typer.Option("--namespace", help="The namespace whose history is erased.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, e.g. the number of the request; recorded in the finding.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    since: Annotated[str | None, typer.Option("--since", help="Only from this whole hour on, e.g. 2026-03-02T14:00Z.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only before this whole hour; now by default.")] = None,
    asked_by: Annotated[str, typer.Option("--asked-by", help="Who requested it; the current user by default.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    dry_run: DryRunOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Erase a namespace's flows and rollups, including those with other namespaces, and record a finding. Cannot be undone."""
    from pipelines.maintenance import erasure
    from warehouse.engines.opening import usable
    from warehouse.lake.tables import Lake

    whole, now = config.load_config(config_path), datetime.now(UTC)
    settings, on = whole.retention, usable(whole.engine)
    config.check_cluster_name(cluster)
    if not namespace or not reason.strip():
        raise ConfigError("--namespace and --reason must not be empty")
    request = erasure.Request(
        cluster=cluster,
        namespace=namespace,
        since=_whole_hour(since, "--since", now),
        until=_whole_hour(until, "--until", now),
        reason=reason.strip(),
        asked_by=asked_by,
    )
    lake = Lake.open(lake_settings(config_path, lake_url))
    planned = erasure.erase(lake, request, settings.holds, now=now, dry_run=True, on=on)
    if not dry_run and any(one.rows for one in planned):
        rows = sum(one.rows for one in planned)
        if not yes and not typer.confirm(f"Permanently erase {counted(rows, 'row')} naming {namespace} in {cluster}?", err=True):
            raise typer.Exit(1)
        with _progress("days") as progress:
            bar = progress.add_task("erasing", total=len(planned))
            done = erasure.erase(
                lake,
                request,
                settings.holds,
                now=now,
                progress=lambda number, of: progress.update(bar, completed=number, total=of),
                on=on,
            )
    else:
        done = planned
    _print(done, output, dry_run=dry_run)
    if output is Format.TABLE and not dry_run and any(one.rows for one in done):
        typer.echo(f"files that held them leave the disk with the first vacuum after {now + settings.vacuum_after:%Y-%m-%d %H:%M} UTC")
    held = sum(one.held for one in planned)
    if held:
        raise OnHoldError(f"{counted(held, 'row')} naming {namespace} cannot be erased: a hold of retention.holds is on it")


def _print(done: list[Removal], output: Format, *, dry_run: bool) -> None:
    rows = [
        {
            "table": one.table.name,
            "cluster": one.cluster,
            "date": one.day,
            "rows": one.rows,
            "files_dropped": len(one.whole),
            "files_rewritten": len(one.partly),
            "bytes": one.size,
            "held": one.held,
        }
        for one in done
    ]
    numbers = ("rows", "files_dropped", "files_rewritten", "bytes", "held")
    types = [("table", pa.string()), ("cluster", pa.string()), ("date", pa.date32()), *((name, pa.int64()) for name in numbers)]
    write_rows(pa.Table.from_pylist(rows, schema=pa.schema(types)), output)
    if output is Format.TABLE:
        verb = "would go" if dry_run else "went"
        held = sum(one.held for one in done)
        typer.echo(f"{counted(sum(one.rows for one in done), 'row')} {verb}" + (f"; {held:,} more are held" if held else ""))


def _whole_hour(text: str | None, option: str, now: datetime) -> datetime | None:
    if text is None:
        return None
    given = moment(text, option, now=now).astimezone(UTC)
    if (given.minute, given.second, given.microsecond) != (0, 0, 0):
        raise ConfigError(f"{option}: {text!r} is not a whole hour, e.g. 2026-03-02T14:00Z; rollups cannot be divided further")
    return given


def _progress(of_what: str) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(of_what), console=messages)
