"""`hindcast report`: makes reports from the lake, and verifies them."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hindcast.console import ConfigOption, LakeOption, lake_settings, messages
from hindcast.query_options import GroupOption, moment
from warehouse import config
from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.evidence.reports.making import Made
    from warehouse.lake.tables import Lake

REPORTS = {
    "fleet": "Report on the fleet: coverage, volume, drops, posture, drift and findings.",
    "owner": "Report for an owner: who talked to her, whom she talked to, drops, what is new, vanished, unused, recommended and changed.",
    "segmentation": "Report what is allowed between the configuration's zones against what was observed between them.",
    "access": "Report who may see what and why, and who looked at what.",
    "changes": "Report configuration changes, with the traffic before and after each.",
}
"""The reports that are ready, with the first sentence of their help."""


class _Group(TyperGroup):
    """A command for each report; any other name is that of a report of one's own."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a report."""
        found = super().get_command(ctx, cmd_name)
        return found or _command(cmd_name, "Report on one's own queries, from a file of the configuration's reports.files.")


report = typer.Typer(cls=_Group, no_args_is_help=True, help="Make reports that can be verified: HTML with data files beside it.")
SinceOption = Annotated[str | None, typer.Option("--since", help="Age (90m, 2d) or time; instead of --window.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="Age or time; by default the last full hour.")]
WindowOption = Annotated[str, typer.Option("--window", help="Length of the window, e.g. 24h or 7d.")]
ForOption = Annotated[
    str | None, typer.Option("--for", help="Make it for this user, or group:NAME: it holds nothing that this subject may not see.")
]
FormatOption = Annotated[str, typer.Option("--format", help="Formats, separated by commas: html, csv, json, parquet, oscal.")]
DeliverOption = Annotated[
    list[str] | None, typer.Option("--deliver-to", help="Name of a target in the configuration's deliveries; repeatable.")
]
ReportFileOption = Annotated[
    Path | None, typer.Option("--file", help="Page to write; data files lie beside it. By default REPORT-DATE.html here.")
]


@report.callback()
def _commands() -> None:
    """Make reports that can be verified: HTML with data files beside it."""


@report.command("verify", epilog="Example: hindcast report verify fleet.html")
def verify(
    file: Annotated[Path, typer.Argument(help="The page of a report, or its .manifest.json.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
) -> None:
    """Make a report again as the lake was known when it was made. Exit code 0 if it is identical, 1 with what differs."""
    from pipelines.evidence.reports import records, verifying
    from pipelines.evidence.reports.asked import asked_again
    from warehouse.errors import LakeError

    settings, lake = _opened(config_path, lake_url)
    verdict = verifying.verify(settings, lake, file)
    for note in verdict.notes:
        messages.print(f"note: {note}", markup=False, style="dim")
    typer.echo(verifying.summary(verdict, asked_again(verdict.manifest["asked"])))
    for difference in verdict.differences:
        typer.echo(f"- {difference}")
    try:
        if verdict.is_recorded:
            records.record_verified(lake, verdict.manifest, verdict.differences, by=getpass.getuser())
    except LakeError as error:
        messages.print(f"note: the result was not recorded: {error}", markup=False, style="yellow")
    if not verdict.is_identical:
        raise typer.Exit(1)


def _command(name: str, text: str) -> Any:
    """Return the command that makes one report."""
    alone = typer.Typer(add_completion=False)
    who = " --for group:shop" if name == "owner" else ""
    alone.command(name, help=text, epilog=f"Example: hindcast report {name}{who} --window 7d --file {name}.html")(_maker(name))
    return typer.main.get_command(alone)


def _maker(name: str) -> Callable[..., None]:
    def make(
        since: SinceOption = None,
        until: UntilOption = None,
        window: WindowOption = "7d",
        made_for: ForOption = None,
        groups: GroupOption = None,
        formats: FormatOption = "html,csv,json",
        file: ReportFileOption = None,
        deliver_to: DeliverOption = None,
        config_path: ConfigOption = None,
        lake_url: LakeOption = None,
    ) -> None:
        from pipelines.evidence.delivery import delivering
        from pipelines.evidence.reports import making, subjects
        from pipelines.evidence.reports.asked import SETTLED, ReportOf

        now = datetime.now(UTC)
        known = now - SETTLED
        begin, end = _window(since, until, window, now=now, known=known)
        wanted = _formats(formats, making.FORMATS)
        target = file or Path(f"{name}-{end:%Y-%m-%d}.html")
        if target.suffix != ".html":
            raise ConfigError(f"--file {target}: give a name that ends in .html; the other files get the same stem")
        settings, lake = _opened(config_path, lake_url)
        if name == "owner" and made_for is None:
            raise ConfigError("report owner: say for whom with --for USER or --for group:NAME")
        delivering.targets(settings, deliver_to or ())
        more, source = making.settings_of(settings, name)
        subject = subjects.subject_of(settings, lake, made_for, groups or ())
        request = ReportOf(name=name, since=begin, until=end, known=known, subject=subject, settings=more, source=source)
        with messages.status(f"making the report {name}"):
            made = making.make(settings, lake, request, formats=wanted, stem=target.stem, by=getpass.getuser())
            written = making.write(made, target.parent)
            making.record(lake, made)
        for path in written:
            typer.echo(str(path))
        if deliver_to:
            _deliver(settings, lake, made, deliver_to)

    return make


def _deliver(settings: config.Config, lake: Lake, made: Made, names: list[str]) -> None:
    """Deliver a report. Exit code 1 if it did not arrive everywhere."""
    from pipelines.evidence.reports import sending

    failures = sending.send(settings, lake, made, names, source=f"hindcast report {made.manifest['asked']['report']}")
    for failure in failures:
        messages.print(f"not delivered: {failure}", markup=False, style="red")
    if failures:
        raise typer.Exit(1)


def _opened(config_path: Path | None, lake_url: str | None) -> tuple[config.Config, Lake]:
    from warehouse.lake.tables import Lake

    settings = config.Config() if lake_url and not config_path else config.load_config(config_path)
    return settings, Lake.open(lake_settings(config_path, lake_url))


def _window(since: str | None, until: str | None, window: str, *, now: datetime, known: datetime) -> tuple[datetime, datetime]:
    """Return the window: its end is the last full hour unless given, and never later than the moment of knowledge."""
    end = moment(until, "--until", now=now) if until else known.replace(minute=0, second=0, microsecond=0)
    end = min(end, known)
    try:
        begin = moment(since, "--since", now=now) if since else end - config.parse_duration(window)
    except ValueError as error:
        raise ConfigError(f"--window: {error}") from error
    if end - begin < timedelta(seconds=1):
        raise ConfigError(f"the window from {begin:%Y-%m-%d %H:%M} until {end:%Y-%m-%d %H:%M} UTC is empty: --since must be before --until")
    return begin, end


def _formats(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    asked = [part.strip().lower() for part in text.split(",") if part.strip()]
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        raise ConfigError(f"--format: {', '.join(unknown) or 'nothing'} is not a format; formats are {', '.join(known)}")
    return tuple(name for name in known if name in asked)


for _name, _text in REPORTS.items():
    report.command(_name, help=_text, epilog=f"Example: hindcast report {_name} --window 7d --file {_name}.html")(_maker(_name))
