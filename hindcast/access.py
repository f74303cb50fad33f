"""`hindcast access`: who may see what and why, tests of ownership, and the access log."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from hindcast.query_options import AsOption, GroupOption, moment, open_door, principal, refuse_silence
from warehouse.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from warehouse.access.principals import Grant

access = typer.Typer(no_args_is_help=True, help="Show who may see what and why, test it, and read the access log.")
AtOption = Annotated[str | None, typer.Option("--at", help="Age (90m, 2d) or time; now by default.")]


@access.callback()
def _commands() -> None:
    """Show who may see what and why, test it, and read the access log."""


@access.command("explain", epilog="Example: hindcast access explain paula --group payments --namespace payments --at 2d")
def explain(
    user: Annotated[str, typer.Argument(help="The user.")],
    groups: GroupOption = None,
    namespace: Annotated[str | None, typer.Option("--namespace", help="Only grants and denials for this namespace.")] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Only grants and denials for this cluster.")] = None,
    at: AtOption = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what a user may see: each grant and denial with its reason. Exit code 1 if the user may see nothing."""
    now = datetime.now(UTC)
    when = moment(at, "--at", now=now) if at else None
    door, who = open_door(config_path, lake_url, "access explain"), principal(user, groups)
    scope = door.scope(who)
    decided = [
        grant
        for grant in (*scope.denials, *scope.grants)
        if (when is None or grant.holds(when)) and _is_about(grant, cluster, namespace, when)
    ]
    write_rows(_grants(decided), output)
    if namespace is None:
        sees = bool(scope.grants)
    else:
        known = [cluster] if cluster else door.clusters(who) or ["*"]
        sees = any(scope.owns(name, namespace, when or now) for name in known)
        if output is Format.TABLE:
            messages.print(
                f"{user} {'owns' if sees else 'does not own'} {namespace} at {(when or now):%Y-%m-%d %H:%M:%S} UTC", markup=False
            )
    if not sees:
        raise typer.Exit(1)


@access.command("who", epilog="Example: hindcast access who --namespace payments --cluster prod-eu-1 --at 2026-03-02T14:00Z")
def who_sees(
    namespace: Annotated[str, typer.Option("--namespace", help="The namespace.")],
    cluster: Annotated[str | None, typer.Option("--cluster", help="Cluster of the namespace; any by default.")] = None,
    at: AtOption = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List every subject that a grant allows to see a namespace, or a denial prevents from seeing it, at a time."""
    now = datetime.now(UTC)
    when = moment(at, "--at", now=now) if at else now
    grants = open_door(config_path, lake_url, "access who").grants()
    found = [grant for grant in grants if grant.holds(when) and _is_about(grant, cluster, namespace, when)]
    write_rows(_grants(sorted(found, key=lambda grant: (not grant.is_denial, grant.subject))), output)


@access.command("test", epilog="Example: hindcast access test ownership-tests.yaml")
def test(
    file: Annotated[Path, typer.Argument(help="Test cases in YAML; docs/ownership.md describes the format.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Test ownership against cases that state who sees which flow, and how. Exit code 1 if a case fails."""
    import pyarrow as pa

    from hindcast import access_cases

    door = open_door(config_path, lake_url, "access test")
    results = access_cases.run(access_cases.load(file), door.grants(), door.peer_detail)
    write_rows(pa.Table.from_pylist([result.row() for result in results], schema=access_cases.SCHEMA), output)
    failed = sum(not result.passed for result in results)
    if output is Format.TABLE:
        messages.print(
            f"{counted(len(results), 'case')}, {failed} failed" if failed else f"{counted(len(results), 'case')}, all passed", markup=False
        )
    if failed:
        raise typer.Exit(1)


@access.command("log", epilog="Example: hindcast access log --as paula --group payments --since 7d --output json")
def log(
    since: Annotated[str, typer.Option("--since", help="Age (90m, 2d) or time.")] = "24h",
    until: Annotated[str | None, typer.Option("--until", help="Age or time; now by default.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Maximum number of rows; 1,000 by default for a table, otherwise all.")
    ] = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Print who asked what, newest first: everything for operators and auditors, questions about their namespaces for owners."""
    from warehouse.engine import EVERY_ROW, Limits, Window
    from warehouse.questions.record_questions import AccessLog

    now = datetime.now(UTC)
    window = Window(since=moment(since, "--since", now=now), until=moment(until, "--until", now=now) if until else None)
    door = open_door(config_path, lake_url, "access log")
    limits = Limits(rows=limit or (1_000 if output is Format.TABLE and file is None else EVERY_ROW))
    answer = door.answer(principal(user, groups), AccessLog(window=window, limits=limits))
    write_rows(answer.rows.drop_columns(["date"]), output, file)
    messages.print(counted(answer.rows.num_rows, "row") + (" (limit reached; there are more)" if answer.cut else ""), style="dim")
    refuse_silence(output, cut=answer.cut, limit=limit)


def _is_about(grant: Grant, cluster: str | None, namespace: str | None, at: datetime | None) -> bool:
    """Whether a grant covers the cluster and namespace; None stands for any."""
    from dataclasses import replace

    wide = grant if namespace is not None else replace(grant, namespace=None)
    return wide.covers(cluster, namespace, at) if cluster else replace(wide, cluster="*").covers("", namespace, at)


def _grants(grants: list[Grant]) -> pa.Table:
    import pyarrow as pa

    def row(grant: Grant) -> dict[str, Any]:
        return {
            "subject": grant.subject,
            "effect": "deny" if grant.is_denial else grant.role,
            "cluster": grant.cluster,
            "namespace": grant.namespace or "*",
            "since": grant.since,
            "until": grant.until,
            "reason": grant.reason,
            "not_before": "; ".join(f"{c}/{n} since {at:%Y-%m-%d %H:%M} UTC, when it was recreated" for c, n, at in grant.not_before)
            or None,
        }

    time = pa.timestamp("us", tz="UTC")
    names = ("subject", "effect", "cluster", "namespace", "since", "until", "reason", "not_before")
    schema = pa.schema([pa.field(name, time if name in ("since", "until") else pa.string()) for name in names])
    return pa.Table.from_pylist([row(grant) for grant in grants], schema=schema)
