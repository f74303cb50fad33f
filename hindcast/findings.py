"""`hindcast findings`: lists what audits found, accepts and reopens findings, and writes them into clusters as OpenReports."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hindcast.console import ConfigOption, LakeOption, lake_settings, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from hindcast.query_options import AsOption, GroupOption, open_door, principal
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from warehouse.access.principals import Principal
    from warehouse.questions.door import Door

findings = typer.Typer(no_args_is_help=True, add_completion=False, help="List findings; accept them for a time, and reopen them.")
_COLUMNS = ("state", "severity", "cluster", "namespace", "subject", "summary", "since", "by", "reason", "expires", "kind", "key", "time")


class State(StrEnum):
    """States of findings, as people call them."""

    OPEN = "open"
    ACCEPTED = "accepted"
    FIXED = "fixed"
    ALL = "all"


_STORED = {
    State.OPEN: ("open",),
    State.ACCEPTED: ("acknowledged",),
    State.FIXED: ("closed",),
    State.ALL: ("open", "acknowledged", "closed"),
}

KeyArgument = Annotated[str, typer.Argument(help="Key of the finding, as listed, or its beginning if only one finding begins so.")]
ClusterOption = Annotated[str | None, typer.Option("--cluster", help="Cluster of the finding, if the key is in several.")]


@findings.command("list", epilog="Example: hindcast findings list --state all --namespace shop --output csv --file findings.csv")
def list_(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    state: Annotated[State, typer.Option("--state", help="Which findings.")] = State.OPEN,
    clusters: Annotated[list[str] | None, typer.Option("--cluster", help="Cluster; repeatable.")] = None,
    namespaces: Annotated[list[str] | None, typer.Option("--namespace", help="Namespace; repeatable.")] = None,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Kind, e.g. unused_rule; repeatable.")] = None,
    severities: Annotated[list[str] | None, typer.Option("--severity", help="Severity; repeatable.")] = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """List findings with a life: open, accepted until a time, or fixed, which they are by themselves when audits no longer find them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from warehouse.questions.record_questions import Findings

    door, who = open_door(config_path, lake_url, "findings list"), principal(user, groups)
    rows = door.answer(who, Findings(states=_STORED[state], clusters=tuple(clusters or ()))).rows
    for name, wanted in (("namespace", namespaces), ("kind", kinds), ("severity", severities)):
        if wanted:
            rows = rows.filter(pc.is_in(rows[name], pa.array(wanted, pa.string())))
    write_rows(rows.select(_COLUMNS), output, file)
    messages.print(counted(rows.num_rows, "finding"), style="dim")


@findings.command(
    epilog='Example: hindcast findings accept allow_all/shop/CiliumNetworkPolicy/legacy --until 30d --reason "replaced in release 12"'
)
def accept(
    key: KeyArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why it is accepted; shown to everyone who sees the finding.")],
    until: Annotated[str, typer.Option("--until", help="End of the acceptance: a length such as 30d, or a time; a year at most.")],
    cluster: ClusterOption = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Accept a finding with a reason, for a time. Owners accept findings of their namespaces; auditors only read.

    When the time is over it is open again. It is fixed by itself when audits no longer find it, accepted or not.
    """
    from warehouse.lake.tables import Lake
    from warehouse.records import findings as stored

    door, who = open_door(config_path, lake_url, "findings accept"), principal(user, groups)
    expires = _end(until)
    found = _found(door, who, key, cluster)
    lake = Lake.open(lake_settings(config_path, lake_url))
    stored.accept(lake, who, door.scope(who), found, reason=reason, expires=expires, by=user or getpass.getuser())
    messages.print(f"accepted until {expires:%Y-%m-%d %H:%M} UTC: {found['cluster']}: {found['summary']}", markup=False)


@findings.command(
    epilog="Example: hindcast findings reopen allow_all/shop/CiliumNetworkPolicy/legacy --reason 'it is worse than we thought'"
)
def reopen(
    key: KeyArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why it is open again.")] = "",
    cluster: ClusterOption = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """End the acceptance of a finding, so that it is open again."""
    from warehouse.lake.tables import Lake
    from warehouse.records import findings as stored

    door, who = open_door(config_path, lake_url, "findings reopen"), principal(user, groups)
    found = _found(door, who, key, cluster)
    lake = Lake.open(lake_settings(config_path, lake_url))
    stored.reopen(lake, who, door.scope(who), found, reason=reason, by=user or getpass.getuser())
    messages.print(f"open again: {found['cluster']}: {found['summary']}", markup=False)


@findings.command(epilog="Example: hindcast findings history allow_all/shop/CiliumNetworkPolicy/legacy")
def history(
    key: KeyArgument,
    cluster: ClusterOption = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Show every change of a finding: when it opened, who accepted or reopened it and why, and when it was fixed."""
    from warehouse.questions.record_questions import FindingHistory

    door, who = open_door(config_path, lake_url, "findings history"), principal(user, groups)
    found = _found(door, who, key, cluster)
    rows: pa.Table = door.answer(who, FindingHistory(cluster=found["cluster"], key=found["key"])).rows
    write_rows(rows.select(["time", "state", "by", "reason", "expires", "severity", "summary", "source"]), output, file)


@findings.command(epilog="Example: hindcast findings publish --cluster prod-eu-1 --dry-run")
def publish(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    clusters: Annotated[list[str] | None, typer.Option("--cluster", help="Only this cluster; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask the API servers what would be done, and change nothing.")] = False,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """Write findings and drift into the clusters with `open_reports` as objects of openreports.io: a report for each namespace, and one
    for the whole cluster. Reports for which nothing is left are removed. Exit code 1 if a cluster could not be written to.
    """
    from dataclasses import asdict, fields

    import pyarrow as pa

    from pipelines.evidence.open_reports.publishing import Written, publish_fleet
    from warehouse.lake.tables import Lake

    settings = config.load_config(config_path)
    able = [one.name for one in settings.clusters if one.open_reports is not None]
    for name in clusters or ():
        if name not in able:
            listed = ", ".join(able) or "none"
            raise ConfigError(f"--cluster: no cluster with open_reports in the configuration is named {name!r}; there are: {listed}")
    if not able:
        raise ConfigError("no cluster of the configuration has `open_reports`, so reports are written nowhere: see docs/findings.md")
    lake = Lake.open(lake_settings(config_path, lake_url))
    with messages.status("publishing"):
        done = list(publish_fleet(settings, lake, clusters=clusters or (), dry_run=dry_run))
    types = {"results": pa.int64()}
    schema = pa.schema([(column.name, types.get(column.name, pa.string())) for column in fields(Written)])
    write_rows(pa.Table.from_pylist([asdict(one) for each in done for one in each.written], schema=schema), output, file)
    problems = [problem for one in done for problem in one.problems]
    for problem in problems:
        messages.print(problem, markup=False, style="red")
    if problems:
        raise typer.Exit(1)


def _end(text: str) -> datetime:
    """Parse the end of an acceptance: a length from now, or a time."""
    try:
        return datetime.now(UTC) + config.parse_duration(text)
    except ValueError:
        pass
    try:
        moment = config.parse_moment(text)
    except ValueError as error:
        raise ConfigError(f"--until: {text!r} is neither a length such as 30d nor a time like 2026-03-02T14:00Z") from error
    if moment is None:
        raise ConfigError("--until: give the end of the acceptance")
    return moment


def _found(door: Door, who: Principal, key: str, cluster: str | None) -> Mapping[str, Any]:
    """The one finding that a key names, among those that the principal sees."""
    from warehouse.questions.record_questions import Findings

    rows = door.answer(who, Findings(states=_STORED[State.ALL], clusters=(cluster,) if cluster else ())).rows.to_pylist()
    found = [row for row in rows if row["key"] == key] or [row for row in rows if row["key"] and row["key"].startswith(key)]
    if len(found) == 1:
        one: Mapping[str, Any] = found[0]
        return one
    if found:
        listed = ", ".join(f"{row['key']} in {row['cluster']}" for row in found[:5])
        raise ConfigError(f"several findings are meant by {key!r}: {listed}. Give the whole key, and --cluster")
    raise ConfigError(f"no finding that you may see has the key {key!r}: see hindcast findings list --state all --output json")
