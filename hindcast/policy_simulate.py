"""`hindcast policy simulate`: what a change of policies would have done to recorded traffic."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from typer.core import TyperCommand

from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption, Format, write_rows
from hindcast.query_options import AsOption, GroupOption, footer, moment, open_door, principal
from pipelines.policy.settings import Semantics
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.policy.reading import Document
    from pipelines.replay.candidates import Identity
    from pipelines.replay.whatif import Result

_SHOWN = ("change", "cluster", "source", "destination", "port", "flows_of_change", "flows", "first_seen", "last_seen", "owners", "reason")
"""Columns of the table format, which leaves out unchanged edges; the other formats have every column and edge."""
_SHOWN_DISAGREEMENTS = 5


class SimulationFormat(StrEnum):
    """How the result of a simulation is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class TakesPairs(TyperCommand):
    """A command whose option --remove takes two words, `--remove KIND NAMESPACE/NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two words of each --remove into one value."""
        joined: list[str] = []
        rest = list(args)
        while rest:
            word = rest.pop(0)
            if word == "--remove" and len(rest) >= 2 and "/" not in rest[0] and " " not in rest[0]:
                word = f"--remove={rest.pop(0)} {rest.pop(0)}"
            joined.append(word)
        return super().parse_args(ctx, joined)


def simulate(
    files: Annotated[list[str] | None, typer.Argument(help="Files or folders of candidate policies; - reads standard input.")] = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove", metavar="KIND NS/NAME", help="Policy to take away; repeatable. Without NS/ for the kinds of a whole cluster."
        ),
    ] = None,
    policies_of: Annotated[
        str | None,
        typer.Option(
            "--policies-of",
            metavar="TIME",
            help="Start from the policies in force at this age or time, instead of those at the time of each flow.",
        ),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="The candidates alone, without any policy that was in force.")] = False,
    since: Annotated[str, typer.Option("--since", help="Age (90m, 2d) or time.")] = "7d",
    until: Annotated[str | None, typer.Option("--until", help="Age or time; now by default.")] = None,
    cluster: Annotated[list[str] | None, typer.Option("--cluster", help="Cluster; repeatable. All by default.")] = None,
    namespace: Annotated[list[str] | None, typer.Option("--namespace", help="Namespace of either end; repeatable. All by default.")] = None,
    semantics: Annotated[
        Semantics, typer.Option(help="How to interpret a NetworkPolicy: as Cilium enforces it, or as Kubernetes specifies it.")
    ] = Semantics.CILIUM,
    disagreements: Annotated[
        bool,
        typer.Option("--disagreements", help="Print where the policies in force give another verdict than was recorded, instead of edges."),
    ] = False,
    output: Annotated[SimulationFormat, typer.Option("--output", "-o", help="Output format.")] = SimulationFormat.TABLE,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Replay recorded traffic against changed policies: what is newly denied, newly allowed or uncertain.

    Exit code 1 if anything is newly denied.
    """
    from pipelines.replay import changed_edges, whatif
    from pipelines.replay.in_force import History
    from pipelines.replay.outcomes import Change
    from warehouse.engine import Window

    now = datetime.now(UTC)
    begin, end = moment(since, "--since", now=now), moment(until, "--until", now=now) if until else now
    if begin >= end:
        raise ConfigError(f"--since {since!r} is not before --until {until or 'now'!r}")
    asked = whatif.WhatIf(
        window=Window(since=begin, until=end),
        clusters=tuple(cluster or ()),
        namespaces=tuple(namespace or ()),
        documents=tuple(_read(files or [])),
        removed=tuple(identity_of(text) for text in remove or ()),
        policies_of=moment(policies_of, "--policies-of", now=now) if policies_of else None,
        only=only,
        semantics=semantics,
    )
    history = History(open_door(config_path, lake_url, "policy simulate"), principal(user, groups))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("replaying", total=None)
        result = whatif.simulate(
            history, asked, progress=lambda what, done, steps: bar.update(task, description=what, completed=done, total=steps)
        )
    _say_first(result)
    rows = _rows(result.disagreements if disagreements else changed_edges.rows_of(result.edges), disagreements=disagreements)
    how = Format(output.value)
    write_rows(_for_people(rows) if how is Format.TABLE and file is None and not disagreements else rows, how, file)
    _say_last(result, listed=disagreements)
    if result.count(Change.NEWLY_DENIED)[1]:
        raise typer.Exit(1)


command = typer.Typer(add_completion=False)
"""The command itself, which reads the two words of --remove."""
command.command("simulate", cls=TakesPairs, epilog="Example: hindcast policy simulate candidate.yaml --since 30d --namespace shop")(
    simulate
)


def _read(files: list[str]) -> list[Document]:
    """Read the candidates, and count what is no policy. Raises ConfigError."""
    from hindcast.policy_files import read_policies
    from pipelines.policy.documents import read_documents
    from pipelines.policy.policy_set import READERS
    from pipelines.policy.surroundings import CONTEXT_KINDS

    found: list[Document] = []
    for name in files:
        found.extend(read_documents(sys.stdin.read(), "standard input") if name == "-" else read_policies(Path(name)))
    known = [document for document in found if document.kind in READERS or document.kind in CONTEXT_KINDS]
    others = Counter(document.kind or "without a kind" for document in found if document not in known)
    for kind, count in sorted(others.items()):
        messages.print(f"{counted(count, 'document')} passed over, not a policy: {kind}", markup=False, style="dim")
    if files and not any(document.kind in READERS for document in known):
        raise ConfigError(f"{', '.join(files)}: there is no network policy")
    return known


def identity_of(text: str) -> Identity:
    """Parse the value of --remove. Raises ConfigError."""
    from pipelines.policy.policy_set import READERS

    kind, _, name = text.strip().partition(" ")
    namespace, slash, last = name.strip().partition("/")
    if kind not in READERS:
        raise ConfigError(f"--remove {text!r}: {kind!r} is not a kind of policy; there are {', '.join(READERS)}")
    if READERS[kind][1] != bool(slash) or not (last if slash else namespace):
        form = "NAMESPACE/NAME" if READERS[kind][1] else "NAME"
        raise ConfigError(f"--remove {text!r}: write it as --remove {kind} {form}")
    return (kind, namespace, last) if slash else (kind, "", namespace)


def _say_first(result: Result) -> None:
    """Print what limits the answer, before the answer."""
    if result.alone:
        messages.print(
            "No configuration history covers this window: the candidates are judged alone, and other policies that may have been in "
            "force are not known. Record it with `hindcast config snapshot`.",
            markup=False,
            style="yellow",
        )
    for refusal in result.refusals:
        messages.print(str(refusal), markup=False, style="red")
    for note in result.notes:
        messages.print(note, markup=False, style="yellow")


def _say_last(result: Result, *, listed: bool) -> None:
    """Print the sums, the confidence and the coverage."""
    from pipelines.replay.outcomes import Change

    counts = {change: result.count(change) for change in Change}
    texts = (
        f"{change.value.replace('_', ' ')} {counted(flows, 'flow')} on {counted(edges, 'edge')}"
        for change, (flows, edges) in counts.items()
    )
    messages.print(" · ".join(texts), markup=False)
    if result.hours_read or result.hours_left:
        left = f", and those of {counted(result.hours_left, 'hour')} are needed but not stored or too many" if result.hours_left else ""
        messages.print(f"flows of {counted(result.hours_read, 'hour')} were read where edges say too little{left}", markup=False)
    agreement = result.agreement
    if not result.alone:
        share = agreement.share
        known = "no flow can be compared" if share is None else f"{share:.2%} of the flows that can be compared have the recorded verdict"
        classes = " · ".join(f"{kind.value}: {flows:,}" for kind, flows in agreement.disagreed.items())
        if result.concerned.uncertain:
            known += f"; {result.concerned.uncertain_share:.2%} of the flows that the change concerns are uncertain"
        messages.print(
            f"{result.confidence.value} confidence: {known} · {classes} · flows that say nothing about policies: {agreement.not_judged:,}",
            markup=False,
        )
        if not listed:
            for row in result.disagreements[:_SHOWN_DISAGREEMENTS]:
                ends = f"{_end(row, 'source')} to {_end(row, 'destination')} {_port(row)}".strip()
                messages.print(
                    f"  {row['disagreement']}: {row['cluster']} {ends}, {counted(row['flows'], 'flow')}: {row['reason']}",
                    markup=False,
                    style="dim",
                )
    footer(result.answer)


def _rows(rows: list[dict[str, Any]], *, disagreements: bool) -> pa.Table:
    import pyarrow as pa

    from warehouse.schema.model import STRINGS, TIMESTAMP

    text, number = pa.string(), pa.int64()
    ends = [
        (f"{side}_{name}", text)
        for side in ("source", "destination")
        for name in ("cluster_name", "namespace", "workload_name", "entity", "dns_name", "cidr")
    ]
    start = [("cluster", text), *ends, ("destination_port", pa.int32()), ("l4_protocol", text)]
    if disagreements:
        columns = [*start, ("traffic_direction", text), ("disagreement", text), ("flows", number), ("rules", STRINGS), ("reason", text)]
    else:
        columns = [
            *start, ("before", text), ("after", text), ("change", text), ("flows", number), ("flows_of_change", number),
            ("first_seen", TIMESTAMP), ("last_seen", TIMESTAMP), ("rules", STRINGS), ("reason", text),
            ("uuids", STRINGS), ("owners", STRINGS), ("coverage", pa.float64()),
        ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def _for_people(rows: pa.Table) -> pa.Table:
    import pyarrow as pa

    changed = [row for row in rows.to_pylist() if row["change"] != "unchanged"]
    for row in changed:
        row |= {"source": _end(row, "source"), "destination": _end(row, "destination"), "port": _port(row)}
        row |= {name: f"{row[name]:%Y-%m-%dT%H:%M:%SZ}" for name in ("first_seen", "last_seen")}
        row["owners"] = ", ".join(row["owners"])
    kinds = {name: pa.int64() if name.startswith("flows") else pa.string() for name in _SHOWN}
    return pa.Table.from_pylist([{name: row[name] for name in _SHOWN} for row in changed], schema=pa.schema(list(kinds.items())))


def _end(row: dict[str, Any], side: str) -> str:
    inside = "/".join(part for part in (row[f"{side}_namespace"], row[f"{side}_workload_name"]) if part)
    cluster = row[f"{side}_cluster_name"]
    parts = (cluster and f"{cluster}:", row[f"{side}_entity"], inside, row[f"{side}_dns_name"] or row[f"{side}_cidr"])
    return " ".join(part for part in parts if part) or "?"


def _port(row: dict[str, Any]) -> str:
    return "/".join(str(part) for part in (row["destination_port"], row["l4_protocol"]) if part is not None)
