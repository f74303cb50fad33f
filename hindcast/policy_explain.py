"""`hindcast policy explain`: why a recorded flow, or a connection at a time, was allowed or denied."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import ConfigOption, LakeOption
from hindcast.output import FileOption
from hindcast.policy_files import write_text
from hindcast.query_options import AsOption, GroupOption, moment, open_door, principal
from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from warehouse.engine import Window

_AROUND = timedelta(minutes=5)


class TextFormat(StrEnum):
    """How an explanation is printed."""

    TEXT = "text"
    JSON = "json"


def explain(
    uuid: Annotated[str | None, typer.Argument(help="uuid of a recorded flow.")] = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Instead of a uuid: the client, as NAMESPACE/WORKLOAD, address, DNS name or entity.")
    ] = None,
    destination: Annotated[str | None, typer.Option("--destination", help="The server, written like the client.")] = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535, help="The server's port.")] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="TCP, UDP, SCTP, ICMPv4 or ICMPv6.")] = "TCP",
    at: Annotated[str | None, typer.Option("--at", help="Age or time of the flow or connection; now by default.")] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="The cluster that saw it; needed where several did.")] = None,
    since: Annotated[str, typer.Option("--since", help="Age or time from which flows are looked for.")] = "24h",
    everything: Annotated[bool, typer.Option("--all", help="Also list the rules that select neither end.")] = False,
    output: Annotated[TextFormat, typer.Option("--output", "-o", help="Output format.")] = TextFormat.TEXT,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Explain why a flow was allowed or dropped, by the policies that were in force then.

    Shows the walk through the rules at both ends, the rules that decided, whether Hubble says the same, and for a denial the
    smallest change that would allow it. Exit code 1 if the engine and what was recorded disagree.
    """
    from hindcast import policy_walks
    from pipelines.replay import explaining
    from pipelines.replay.asked_connection import AskedConnection, explain_connection
    from pipelines.replay.in_force import History

    now = datetime.now(UTC)
    moment_of_it = moment(at, "--at", now=now) if at else now
    history = History(open_door(config_path, lake_url, "policy explain"), principal(user, groups))
    clusters = (cluster,) if cluster else ()
    window = _window(moment(since, "--since", now=now), moment_of_it, is_exact=at is not None)
    if uuid is not None:
        if source or destination:
            raise ConfigError("name either a uuid or --source and --destination")
        found = explaining.explain_flow(history, uuid, window, clusters)
    elif source and destination:
        asked = AskedConnection(source=source, destination=destination, protocol=protocol, port=port, at=moment_of_it, clusters=clusters)
        found = explain_connection(history, asked)
    else:
        raise ConfigError("name a flow by its uuid, or a connection by --source, --destination and --port")
    if output is TextFormat.JSON:
        write_text(json.dumps(policy_walks.as_data(found), indent=2, ensure_ascii=False) + "\n", file)
    else:
        write_text(policy_walks.as_text(found, everything=everything), file)
    if found.disagrees:
        raise typer.Exit(1)


def _window(since: datetime, at: datetime, *, is_exact: bool) -> Window:
    """Where a flow is looked for: around the named time, or from --since until now."""
    from warehouse.engine import Window

    if is_exact:
        return Window(since=at - _AROUND, until=at + _AROUND)
    return Window(since=since, until=at)
