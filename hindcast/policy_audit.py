"""`hindcast policy audit`: policies that nothing needs, that are too wide, or that select nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import ConfigOption, LakeOption, lake_settings, messages
from hindcast.output import FileOption
from hindcast.policy_files import write_text
from hindcast.query_options import AsOption, GroupOption, moment, open_door, principal
from pipelines.audits.finding import Kind
from warehouse.errors import CommitConflictError, ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.replay.auditing import Report
    from warehouse.engine import Window

_WINDOW = "30d"


class AuditFormat(StrEnum):
    """How findings are printed."""

    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"


def audit(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    clusters: Annotated[list[str] | None, typer.Option("--cluster", help="Cluster; repeatable. All of them by default.")] = None,
    window: Annotated[str | None, typer.Option("--window", help=f"Length of the window that is looked at; {_WINDOW} by default.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Age or time, instead of --window.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Age or time; now by default.")] = None,
    kinds: Annotated[list[Kind] | None, typer.Option("--kind", help="Kind of finding; repeatable. All of them by default.")] = None,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Whether findings open and close in the table findings. Never with --as.")
    ] = True,
    output: Annotated[AuditFormat, typer.Option("--output", "-o", help="Output format.")] = AuditFormat.TABLE,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Audit the policies in force: what nothing needs, is too wide, or selects nothing. Exit code 1 if anything is found.

    They are judged against the workloads that exist and the traffic of the window. Findings are recorded in the table findings: each
    opens once, stays, and closes when it is no longer found.
    """
    from hindcast import policy_findings
    from hindcast.policy_places import places_of
    from pipelines.replay.auditing import AuditOf
    from pipelines.replay.auditing import audit as audit_of
    from pipelines.replay.in_force import History
    from warehouse.config import load_config

    if Kind.RECOMMENDED_POLICY in (kinds or ()):
        raise ConfigError(f"--kind {Kind.RECOMMENDED_POLICY} is no audit: see hindcast policy recommend, and the DAG policy_daily")
    asked = _window(window, since, until)
    history = History(open_door(config_path, lake_url, "policy audit"), principal(user, groups))
    wanted = AuditOf(window=asked, clusters=tuple(clusters or ()), **({"kinds": frozenset(kinds)} if kinds else {}))
    report = audit_of(history, wanted)
    if output is AuditFormat.SARIF:
        known = [] if lake_url and not config_path else load_config(config_path).clusters
        text = policy_findings.as_sarif(report, places_of(history, asked, known))
    else:
        text = policy_findings.as_table(report) if output is AuditFormat.TABLE else policy_findings.as_json(report)
    write_text(text, file)
    _say(report)
    if record and user is None:
        _record(report, asked, config_path, lake_url)
    if report.findings:
        raise typer.Exit(1)
    if all(result.not_evaluated for result in report.results):
        raise ConfigError("nothing could be evaluated, so that nothing was found says nothing")


def _window(length: str | None, since: str | None, until: str | None) -> Window:
    from warehouse import config
    from warehouse.engine import Window

    if length is not None and since is not None:
        raise ConfigError("--window and --since: name one of them")
    now = datetime.now(UTC)
    end = moment(until, "--until", now=now) if until else now
    if since is not None:
        begin = moment(since, "--since", now=now)
    else:
        try:
            begin = end - config.parse_duration(length or _WINDOW)
        except ValueError as error:
            raise ConfigError(f"--window: {length!r} is not a length of time such as 7d or 12h") from error
    if begin >= end:
        raise ConfigError(f"--since: {since!r} is not before the end of the window, {end:%Y-%m-%dT%H:%MZ}")
    return Window(since=begin, until=end)


def _say(report: Report) -> None:
    for note in report.notes:
        messages.print(note, markup=False, style="yellow")
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in report.results:
        if result.not_evaluated:
            reasons.setdefault((result.cluster, result.not_evaluated), []).append(result.kind.value)
        elif result.undecided:
            why = ", ".join(sorted(set(result.undecided.values())))
            messages.print(f"{result.cluster}: {result.kind}: {len(result.undecided)} not decided: {why}", markup=False, style="yellow")
    for (cluster, why), kinds in reasons.items():
        messages.print(f"{cluster}: not evaluated: {', '.join(kinds)}: {why}", markup=False, style="yellow")
    evaluated = sum(not result.not_evaluated for result in report.results)
    clusters = counted(len({one.cluster for one in report.results}), "cluster")
    messages.print(f"{counted(len(report.findings), 'finding')} of {counted(evaluated, 'audit')} in {clusters}")


def _record(report: Report, window: Window, config_path: Path | None, lake_url: str | None) -> None:
    from pipelines.evidence import findings
    from warehouse.lake.tables import Lake

    lake = Lake.open(lake_settings(config_path, lake_url))
    try:
        kept = findings.keep(lake, report.recordable, now=window.until or datetime.now(UTC), source="hindcast policy audit")
    except CommitConflictError:
        messages.print("not recorded: an audit of a later time is recorded already", style="yellow")
        return
    messages.print(f"table findings: {kept.opened} opened, {kept.changed} changed, {kept.closed} closed")
