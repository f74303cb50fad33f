"""`hindcast flows`: prints recorded flows in the formats of `hubble observe`, once or as they arrive."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pyarrow as pa
import typer

from hindcast import compact, flow_export
from hindcast.console import ConfigOption, LakeOption
from hindcast.output import FileOption, Format, write_rows, write_stream
from hindcast.query_options import AsOfOption, AsOption, GroupOption, footer, known_at, moment, open_door, principal
from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from warehouse.access.principals import Principal
    from warehouse.questions.door import Door
    from warehouse.questions.flow_filter import FlowFilter

SHOWN = 200
"""How many of the newest flows are shown to people by default."""
POLL_SECONDS = 1.0
LATE = timedelta(minutes=2)
"""How much older than the newest flow a newly arriving flow may be (batches of other clusters, slow nodes)."""
MOST = 100_000
"""Maximum number of new flows read in one poll."""
Seen = dict[str, datetime]
"""The times of flows that were already printed, by uuid."""


class FlowFormat(StrEnum):
    """How flows are printed."""

    COMPACT = "compact"
    TABLE = "table"
    JSONL = "jsonl"
    JSON = "json"
    JSONPB = "jsonpb"
    CSV = "csv"
    PARQUET = "parquet"


Names = list[str] | None


def flows(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    since: Annotated[str, typer.Option("--since", help="Age (90m, 2d) or time.")] = "1h",
    until: Annotated[str | None, typer.Option("--until", help="Age or time; now by default.")] = None,
    last: Annotated[
        int | None,
        typer.Option("--last", "-n", min=1, help="Only the newest flows; 200 by default for compact and table, and with --follow."),
    ] = None,
    cluster: Annotated[Names, typer.Option("--cluster", help="Cluster; this and the following options are repeatable.")] = None,
    namespace: Annotated[Names, typer.Option("--namespace", help="Namespace of the source or the destination.")] = None,
    from_namespace: Annotated[Names, typer.Option("--from-namespace", help="Namespace of the source.")] = None,
    to_namespace: Annotated[Names, typer.Option("--to-namespace", help="Namespace of the destination.")] = None,
    verdict: Annotated[Names, typer.Option("--verdict", help="FORWARDED, DROPPED, AUDIT, ERROR, REDIRECTED, ...")] = None,
    drop_reason: Annotated[Names, typer.Option("--drop-reason", help="E.g. POLICY_DENIED.")] = None,
    pod: Annotated[Names, typer.Option("--pod", help="Prefix of either pod's name.")] = None,
    ip: Annotated[Names, typer.Option("--ip", help="Either address.")] = None,
    port: Annotated[list[int] | None, typer.Option("--port", help="Either port.")] = None,
    node: Annotated[Names, typer.Option("--node", help="Node that saw the flow.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing flows as they arrive, until Ctrl-C.")] = False,
    output: Annotated[
        FlowFormat, typer.Option("--output", "-o", help="Output format. jsonl is one JSON object a line, and json is another name for it.")
    ] = FlowFormat.COMPACT,
    file: FileOption = None,
    as_of: AsOfOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Print recorded flows, oldest first. A flow must match every condition, with any one of its values.

    For people (compact, table) the newest flows are shown; every other format has all of them, whatever their number, unless
    --last limits it: hindcast flows --since 30d --namespace shop -o parquet --file shop.parquet
    """
    from warehouse.questions.flow_filter import FlowFilter

    now = datetime.now(UTC)
    if follow and as_of:
        raise ConfigError("--follow and --as-of cannot be used together: nothing arrives in the past")
    door, who = open_door(config_path, lake_url, "flows"), principal(user, groups)
    wanted = FlowFilter(
        since=moment(since, "--since", now=now),
        until=moment(until, "--until", now=now) if until else now + timedelta(hours=1),
        clusters=tuple(cluster or ()),
        namespaces=tuple(namespace or ()),
        source_namespaces=tuple(from_namespace or ()),
        destination_namespaces=tuple(to_namespace or ()),
        verdicts=tuple(name.upper() for name in verdict or ()),
        drop_reasons=tuple(name.upper() for name in drop_reason or ()),
        pods=tuple(pod or ()),
        ips=tuple(ip or ()),
        ports=tuple(port or ()),
        nodes=tuple(node or ()),
        as_of=known_at(door, who, "flows", as_of, now=now),
    )
    if file and (follow or output in (FlowFormat.COMPACT, FlowFormat.JSONPB)):
        raise ConfigError("--file takes --output jsonl, csv, parquet or table, without --follow")
    if last is None and not follow and output not in (FlowFormat.COMPACT, FlowFormat.TABLE):
        _print_every(door, who, wanted, output, file)
        return
    seen = _recent(door, who, wanted) if follow else {}
    seen |= _print_once(door, who, wanted, last or SHOWN, output, file, say=not follow)
    while follow:
        time.sleep(POLL_SECONDS)
        seen = _print_new(door, who, wanted, output, seen)


def _recent(door: Door, who: Principal, wanted: FlowFilter) -> Seen:
    """Return the flows already in the lake from the time in which flows may still arrive, so that following does not print them."""
    from warehouse.engine import Limits
    from warehouse.questions import flow_questions

    found = door.answer(who, flow_questions.newest(wanted, columns=["time"], limits=Limits(rows=1))).rows["time"].to_pylist()
    newest = max(found, default=wanted.since)
    recent = replace(wanted, since=max(wanted.since, newest - LATE))
    return _keys(door.answer(who, flow_questions.newest(recent, columns=["uuid", "time"], limits=Limits(rows=MOST))).rows)


def _keys(rows: pa.Table) -> Seen:
    return {row["uuid"] or str(row): row["time"] for row in rows.select(["uuid", "time"]).to_pylist()}


def _print_every(door: Door, who: Principal, wanted: FlowFilter, output: FlowFormat, file: Path | None) -> None:
    """Print every flow, however many there are."""
    from warehouse.engine import Limits
    from warehouse.questions import flow_questions

    began = time.monotonic()
    with flow_export.every(door, who, wanted) as flows:
        if output is FlowFormat.JSONPB:
            count = 0
            for batch in flows:
                _print(pa.Table.from_batches([batch]), output)
                count += batch.num_rows
        else:
            count, _ = write_stream(flows, Format(output.value), file)
    # One flow is enough to learn what of the window was observed.
    observed = door.answer(who, flow_questions.newest(wanted, columns=["time"], limits=Limits(rows=1)))
    footer(replace(observed, cut=False, seconds=time.monotonic() - began), rows=count)


def _print_once(door: Door, who: Principal, wanted: FlowFilter, last: int, output: FlowFormat, file: Path | None, *, say: bool) -> Seen:
    """Print the newest flows and return them."""
    from warehouse.engine import Limits
    from warehouse.questions import flow_questions

    columns = compact.COLUMNS if output is FlowFormat.COMPACT else None
    answer = door.answer(who, flow_questions.newest(wanted, columns=columns, limits=Limits(rows=last)))
    rows = answer.rows.take(pa.array(range(answer.rows.num_rows - 1, -1, -1), pa.int64()))
    _print(rows, output, file)
    if say:
        footer(answer)
    return _keys(rows)


def _print_new(door: Door, who: Principal, wanted: FlowFilter, output: FlowFormat, seen: Seen) -> Seen:
    """Print newly arrived flows once, including late ones; return all flows that must not be printed again."""
    from warehouse.engine import Limits
    from warehouse.questions import flow_questions

    newest = max(seen.values(), default=wanted.since)
    again = replace(wanted, since=max(wanted.since, newest - LATE), until=datetime.now(UTC) + timedelta(hours=1))
    columns = compact.COLUMNS if output is FlowFormat.COMPACT else None
    rows = door.answer(who, flow_questions.newest(again, columns=columns, limits=Limits(rows=MOST))).rows
    keys = [row["uuid"] or str(row) for row in rows.select(["uuid", "time"]).to_pylist()]
    fresh = [number for number in range(rows.num_rows - 1, -1, -1) if keys[number] not in seen]
    _print(rows.take(pa.array(fresh, pa.int64())), output)
    times = rows["time"].to_pylist()
    seen |= {keys[number]: times[number] for number in fresh}
    edge = max(seen.values(), default=newest) - LATE - LATE
    return {key: time_ for key, time_ in seen.items() if time_ >= edge}


def _print(rows: pa.Table, output: FlowFormat, file: Path | None = None) -> None:
    if output is FlowFormat.COMPACT:
        sys.stdout.writelines(compact.line(row) + "\n" for row in rows.to_pylist())
    elif output is FlowFormat.JSONPB:
        from google.protobuf import json_format

        from collectors.decoding.decode import rebuild
        from collectors.hubble_api.flow import flow_pb2
        from collectors.hubble_api.observer import observer_pb2

        for message in rebuild(rows) if rows.num_rows else ():
            flow = flow_pb2.Flow.FromString(message)
            response = observer_pb2.GetFlowsResponse(flow=flow, node_name=flow.node_name, time=flow.time)
            sys.stdout.write(json_format.MessageToJson(response, indent=None, preserving_proto_field_name=True) + "\n")
    else:
        write_rows(rows, Format(output.value), file)
    sys.stdout.flush()
