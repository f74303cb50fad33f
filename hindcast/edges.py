"""`hindcast edges`: prints who talks to whom, from rollups where they can answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer

from hindcast.console import ConfigOption, LakeOption
from hindcast.output import FileOption, Format, OutputOption, write_rows
from hindcast.query_options import AsOption, GroupOption, footer, moment, open_door, principal, refuse_silence
from warehouse.errors import ConfigError
from warehouse.questions.edge_questions import EdgeScope

if TYPE_CHECKING:
    from warehouse.questions.answers import Answer

Names = list[str] | None
TABLE_COLUMNS = ("cluster", "source", "destination", "ports", "forwarded", "dropped", "audited", "drop_reasons", "observers", "last_seen")
"""The columns of the table format; the other formats have every column."""


def edges(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    since: Annotated[str, typer.Option("--since", help="Age (90m, 2d) or time.")] = "24h",
    until: Annotated[str | None, typer.Option("--until", help="Age or time; now by default.")] = None,
    scope: Annotated[EdgeScope, typer.Option("--scope", help="What the ends are.")] = EdgeScope.WORKLOAD,
    new_since: Annotated[
        str | None, typer.Option("--new-since", help="Only edges that appeared at this age or time: not seen between --since and then.")
    ] = None,
    last: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Only the busiest edges; 200 by default for a table, otherwise all.")
    ] = None,
    cluster: Annotated[Names, typer.Option("--cluster", help="Cluster; this and the following options are repeatable.")] = None,
    namespace: Annotated[Names, typer.Option("--namespace", help="Namespace of the client or the server.")] = None,
    from_namespace: Annotated[Names, typer.Option("--from-namespace", help="Namespace of the client.")] = None,
    to_namespace: Annotated[Names, typer.Option("--to-namespace", help="Namespace of the server.")] = None,
    verdict: Annotated[Names, typer.Option("--verdict", help="FORWARDED, DROPPED, AUDIT, ...")] = None,
    drop_reason: Annotated[Names, typer.Option("--drop-reason", help="E.g. POLICY_DENIED.")] = None,
    port: Annotated[list[int] | None, typer.Option("--port", help="Port of the server.")] = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Print who talks to whom, busiest first. Each connection counts once, even if several nodes reported it (docs/counting.md)."""
    from warehouse.engine import EVERY_ROW, Limits, Window
    from warehouse.questions import edge_questions
    from warehouse.questions.flow_filter import FlowFilter

    now = datetime.now(UTC)
    begin, end = moment(since, "--since", now=now), moment(until, "--until", now=now) if until else now
    cut = moment(new_since, "--new-since", now=now) if new_since else None
    if cut is not None and not begin < cut < end:
        raise ConfigError(f"--new-since: {new_since!r} is not within --since and --until")
    door, who = open_door(config_path, lake_url, "edges"), principal(user, groups)
    wanted = FlowFilter(
        since=cut or begin,
        until=end,
        clusters=tuple(cluster or ()),
        namespaces=tuple(namespace or ()),
        source_namespaces=tuple(from_namespace or ()),
        destination_namespaces=tuple(to_namespace or ()),
        verdicts=tuple(name.upper() for name in verdict or ()),
        drop_reasons=tuple(name.upper() for name in drop_reason or ()),
        ports=tuple(port or ()),
    )
    limits = Limits(rows=last or (200 if output is Format.TABLE and file is None else EVERY_ROW))
    question = (
        edge_questions.edges(wanted, scope=scope, limits=limits)
        if cut is None
        else edge_questions.new_edges(wanted, Window(since=begin, until=cut), scope=scope, limits=limits)
    )
    answer = door.answer(who, question)
    write_rows(_for_people(answer) if output is Format.TABLE and file is None else answer.rows, output, file)
    footer(answer)
    refuse_silence(output, cut=answer.cut, limit=last)


def _for_people(answer: Answer) -> pa.Table:
    """Return the rows for the table format, with each end in one column."""
    rows = answer.rows.append_column("source", _end(answer.rows, "source")).append_column("destination", _end(answer.rows, "destination"))
    for name in ("ports", "drop_reasons"):
        listed = [", ".join(values or ()) for values in rows[name].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(listed, pa.string()))
    seconds = pc.strftime(rows["last_seen"], "%Y-%m-%dT%H:%M:%SZ")
    return rows.set_column(rows.schema.get_field_index("last_seen"), "last_seen", seconds.cast(pa.string())).select(TABLE_COLUMNS)


def _end(rows: pa.Table, side: str) -> pa.Array:
    """Return each end as text: namespace/workload, entity, DNS name or range; `~name` if the name is inferred."""
    words = []
    for row in rows.to_pylist():
        inferred = row.get(f"{side}_names_inferred")
        outside = row.get(f"{side}_dns_name") or ("~" + ",".join(inferred) if inferred else row.get(f"{side}_cidr"))
        inside = "/".join(part for part in (row.get(f"{side}_namespace"), row.get(f"{side}_workload_name")) if part)
        parts = (row[f"{side}_cluster_name"] and f"{row[f'{side}_cluster_name']}:", row[f"{side}_entity"], inside, outside)
        words.append(" ".join(part for part in parts if part) or "?")
    return pa.array(words, pa.string())
