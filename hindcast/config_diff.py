"""`hindcast config diff`: shows the differences in the configuration between two times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer

from hindcast.config_at import coverage_notes
from hindcast.config_history import ClustersOption, KindsOption, NamespacesOption
from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from hindcast.query_options import AsOption, GroupOption, moment, open_door, principal

if TYPE_CHECKING:
    from pipelines.configuration.differences import ObjectChange

_TIME = pa.timestamp("us", tz="UTC")
_CHANGES = pa.schema(
    [
        ("how", pa.string()),
        ("cluster", pa.string()),
        ("kind", pa.string()),
        ("namespace", pa.string()),
        ("name", pa.string()),
        ("recreated", pa.bool_()),
        ("at", _TIME),
        ("by", pa.string()),
        (
            "paths",
            pa.list_(pa.struct([("path", pa.string()), ("before", pa.string()), ("after", pa.string())])),
        ),
    ]
)


def diff(
    time1: Annotated[str, typer.Argument(metavar="T1", help="The earlier time: a time, a date, or an age such as 7d.")],
    time2: Annotated[str, typer.Argument(metavar="T2", help="The later time, e.g. 0s for now.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    cluster: ClustersOption = None,
    namespace: NamespacesOption = None,
    kind: KindsOption = None,
    full: Annotated[bool, typer.Option("--full", help="Show added and removed objects in full.")] = False,
    user: AsOption = None,
    group: GroupOption = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """Show semantic differences in the configuration between two times; the order of rules, peers and ports does not matter.

    Exit code 1 if there are differences.
    """
    from pipelines.configuration import kinds
    from pipelines.configuration.differences import compare_states
    from warehouse.engine import Window
    from warehouse.questions.record_questions import Configuration, ConfigurationCoverage

    now = datetime.now(UTC)
    door, who = open_door(config_path, lake_url, "config diff"), principal(user, group)
    times = [moment(text, option, now=now) for text, option in ((time1, "T1"), (time2, "T2"))]
    wanted = [kinds.named(each) for each in kind or ()] or None
    states = [
        door.answer(
            who,
            Configuration(
                window=Window(since=instant, until=instant + timedelta.resolution),
                tables=tuple(kinds.tables_of(wanted or kinds.TABLE_OF)),
                clusters=tuple(cluster or ()),
                kinds=tuple(wanted or ()),
                namespaces=tuple(namespace or ()),
            ),
        ).rows.to_pylist()
        for instant in times
    ]
    changes = compare_states(*states)
    for instant in times:
        known = door.answer(who, ConfigurationCoverage(at=instant, clusters=tuple(cluster or ())))
        for name in sorted({each.cluster for each in known}):
            covered = [each for each in known if each.cluster == name and (wanted is None or each.kind in wanted)]
            for line in coverage_notes(name, instant, covered):
                if line.startswith("not covered"):
                    messages.print(f"{name} at {instant:%Y-%m-%dT%H:%M:%SZ}: {line}", markup=False, style="yellow")
    if output is Format.TABLE and file is None:
        _print_changes(changes, full=full)
    else:
        write_rows(pa.Table.from_pylist([_change_row(change) for change in changes], schema=_CHANGES), output, file)
    if changes:
        raise typer.Exit(1)


def _change_row(change: ObjectChange) -> dict[str, Any]:
    paths = [{"path": each.path, "before": each.before, "after": each.after} for each in change.paths]
    return {**{name: getattr(change, name) for name in _CHANGES.names if name != "paths"}, "paths": paths}


def _print_changes(changes: Sequence[ObjectChange], *, full: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    signs = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
    for change in changes:
        sign, colour = signs[change.how]
        place = f"{change.namespace}/{change.name}" if change.namespace and change.kind != "Namespace" else change.name
        how = "deleted and recreated" if change.recreated else change.how
        when = f" {change.at:%Y-%m-%dT%H:%M:%SZ}" if change.at is not None else ""
        who = f" by {change.by}" if change.by else ""
        console.print(
            Text(f"{sign} {change.kind} {place}", style=f"bold {colour}") + Text(f"  {change.cluster}: {how}{when}{who}", style="dim")
        )
        for each in change.paths:
            line = Text(f"    {each.path}: ")
            if each.before is not None:
                line.append(each.before, style="red")
            if each.before is not None and each.after is not None:
                line.append(" → ")
            elif each.after is None:
                line.append(" (gone)", style="dim")
            if each.after is not None:
                line.append(each.after, style="green")
            console.print(line)
        if full and change.how != "changed":
            _print_whole(console, change, sign, colour)
    counts = ", ".join(f"{sum(each.how == how for each in changes)} {how}" for how in signs)
    messages.print(counts if changes else "nothing differs", style="dim")


def _print_whole(console: Any, change: ObjectChange, sign: str, colour: str) -> None:
    import yaml
    from rich.text import Text

    from pipelines.configuration.manifest_yaml import applicable

    manifest = applicable(json.loads(change.after or change.before or "{}"))
    for line in yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True).splitlines():
        console.print(Text(f"    {sign} {line}", style=colour))
