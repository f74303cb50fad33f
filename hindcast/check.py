"""`hindcast check`: checks the configuration and whether everything it names can be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pyarrow as pa
import typer

from hindcast.console import ConfigOption
from hindcast.output import Format, OutputOption, write_rows
from warehouse import config
from warehouse.errors import HindcastError

_COLUMNS = ("what", "where", "state", "found")
_SIGNS = {"ok": "✓", "failed": "✕", "left out": "-"}
_DAY_NS = timedelta(days=1) // timedelta(microseconds=1) * 1000


def check(config_path: ConfigOption = None, output: OutputOption = Format.TABLE) -> None:
    """Check the configuration, connect to everything it names and report the results. Creates the lake if it does not exist.

    Ends with 1 if something does not answer as it should.
    """
    settings = config.load_config(config_path)
    rows = []
    for row in (*_lake(settings), *_clusters(settings)):
        rows.append(row)
        if output is Format.TABLE:  # printed at once, since connections that fail take time
            what, where, state, found = row
            typer.echo(f"{_SIGNS[state]} {what} {where}: {found}")
    if output is not Format.TABLE:
        write_rows(pa.table({name: [row[place] for row in rows] for place, name in enumerate(_COLUMNS)}), output)
    if any(row[2] == "failed" for row in rows):
        raise typer.Exit(1)


def _lake(settings: config.Config) -> Iterator[tuple[str, str, str, str]]:
    from warehouse.lake.tables import Lake
    from warehouse.schema import TABLES

    def find() -> str:
        lake = Lake.open(settings.lake)
        return ", ".join(f"{name} {lake.rows(table):,} rows" for name, table in TABLES.items())

    yield _tried("lake", settings.lake.url, find)


def _clusters(settings: config.Config) -> Iterator[tuple[str, str, str, str]]:
    from pipelines.configuration.looking import describe

    for cluster in settings.clusters:
        if cluster.kubernetes is not None:
            where = cluster.kubernetes.manifests or cluster.kubernetes.kubeconfig or cluster.kubernetes.context or "in cluster"
            yield _tried(f"cluster {cluster.name}", str(where), lambda cluster=cluster: describe(cluster))  # type: ignore[misc]
        if cluster.hubble is None:
            yield f"cluster {cluster.name}", "", "left out", "no hubble address: nothing is collected"
            continue
        for address in cluster.hubble.addresses:
            yield _tried(f"cluster {cluster.name}", address, lambda hubble=cluster.hubble, address=address: _hubble(hubble, address))  # type: ignore[misc]


def _hubble(hubble: config.Hubble, address: str) -> str:
    from collectors.streaming.client import Client, flows_request

    flows_request(hubble, 0)  # raises an error for filters that Hubble does not know
    client = Client(hubble, address)
    try:
        status, nodes = client.status(), client.nodes()
    finally:
        client.close()
    days = f", up {status.uptime_ns / _DAY_NS:.1f} days" if status.uptime_ns else ""
    held = f"{status.num_flows:,} of {status.max_flows:,} flows held"
    return f"Hubble {status.version or 'of unknown version'}{days}, {len(nodes)} nodes, {held}"


def _tried(what: str, where: str, find: Callable[[], str]) -> tuple[str, str, str, str]:
    try:
        return what, where, "ok", find()
    except HindcastError as error:
        return what, where, "failed", str(error)
