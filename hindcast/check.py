"""`hindcast check`: checks the configuration and whether everything it names can be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Annotated

import pyarrow as pa
import typer

from hindcast.console import ConfigOption
from hindcast.output import Format, OutputOption, write_rows
from warehouse import config
from warehouse.errors import ClusterForbiddenError, ClusterRefusedError, ClusterUnreachableError, ConfigError, HindcastError, StreamError
from warehouse.wording import counted

_COLUMNS = ("what", "where", "state", "found", "advice")
_SIGNS = {"ok": "✓", "failed": "✕", "left out": "-"}
_DAY_NS = timedelta(days=1) // timedelta(microseconds=1) * 1000
_Row = tuple[str, str, str, str, str]


class Part(StrEnum):
    """What the configuration names."""

    LAKE = "lake"
    HUBBLE = "hubble"
    KUBERNETES = "kubernetes"
    ALERTS = "alerts"
    DELIVERIES = "deliveries"
    LEASES = "leases"


def check(
    config_path: ConfigOption = None,
    only: Annotated[
        list[Part] | None, typer.Option("--only", help="Check only this; repeatable. In a pod: what the pod may reach.")
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Check the configuration, connect to everything it names, and say what was found and what to do where something does not answer.
    Creates the lake if it does not exist.

    Ends with 1 if something does not answer as it should.
    """
    settings, parts = config.load_config(config_path), set(only or Part)
    rows = []
    others = {Part.LEASES: _leases, Part.ALERTS: _alerts, Part.DELIVERIES: _deliveries}
    further = (row for part, find in others.items() if part in parts for row in find(settings))
    for row in (*(_lake(settings) if Part.LAKE in parts else ()), *_clusters(settings, parts), *further):
        rows.append(row)
        if output is Format.TABLE:  # printed at once, since connections that fail take time
            what, where, state, found, advice = row
            typer.echo(f"{_SIGNS[state]} {what} {where}: {found}" + (f"\n    {advice}" if advice else ""))
    if output is not Format.TABLE:
        write_rows(pa.table({name: [row[place] for row in rows] for place, name in enumerate(_COLUMNS)}), output)
    if any(row[2] == "failed" for row in rows):
        raise typer.Exit(1)


def _lake(settings: config.Config) -> Iterator[_Row]:
    from warehouse.lake.tables import Lake
    from warehouse.schema import TABLES

    def find() -> str:
        lake = Lake.open(settings.lake)
        return ", ".join(f"{name} {counted(lake.rows(table), 'row')}" for name, table in TABLES.items())

    yield _tried("lake", settings.lake.url, find)


def _clusters(settings: config.Config, parts: set[Part]) -> Iterator[_Row]:
    from pipelines.configuration.looking import describe

    for cluster in settings.clusters:
        what = f"cluster {cluster.name}"
        if cluster.kubernetes is not None and Part.KUBERNETES in parts:
            where = cluster.kubernetes.manifests or cluster.kubernetes.kubeconfig or cluster.kubernetes.context or "in cluster"
            yield _tried(what, str(where), partial(describe, cluster), partial(_kubernetes_advice, cluster.kubernetes))
        if Part.HUBBLE not in parts:
            continue
        if cluster.hubble is None:
            yield what, "", "left out", "no hubble address: nothing is collected", ""
            continue
        for address in cluster.hubble.addresses:
            yield _tried(what, address, partial(_hubble, cluster.hubble, address), partial(_hubble_advice, cluster.hubble, address))


def _leases(settings: config.Config) -> Iterator[_Row]:
    leases = settings.collect.leases.kubernetes
    if leases is not None:

        def find() -> str:
            from pipelines.leases import LeaseBoard

            return counted(len(LeaseBoard(leases).read()), "collector")

        yield _tried("leases", leases.namespace or "the pod's namespace", find, _leases_advice)


def _leases_advice(error: HindcastError) -> str:
    if isinstance(error, ClusterForbiddenError):
        return "let this account list, create, patch and delete leases in the namespace; in the chart, collector.leases: kubernetes does"
    return ""


def _alerts(settings: config.Config) -> Iterator[_Row]:
    from pipelines.evidence.rules import reading

    if settings.alerts.rules:
        where = ", ".join(str(section.files) for section in settings.alerts.rules)
        yield _tried("alert rules", where, lambda: counted(len(reading.load(settings).checked()), "rule"))


def _deliveries(settings: config.Config) -> Iterator[_Row]:
    """Secrets are read and mail servers signed in to; nothing is sent, so webhooks and folders are not tried."""
    from pipelines.evidence.delivery import looking

    for target in settings.deliveries:
        yield _tried(f"delivery {target.name}", looking.where(target), partial(looking.describe, target))


def _hubble(hubble: config.Hubble, address: str) -> str:
    from collectors.streaming.client import Client, flows_request

    flows_request(hubble, 0)  # raises an error for filters that Hubble does not know
    client = Client(hubble, address)
    try:
        status, nodes = client.status(), client.nodes()
    finally:
        client.close()
    connected, lacking = status.num_connected_nodes.value, list(status.unavailable_nodes)
    if status.HasField("num_connected_nodes") and not connected:
        raise StreamError(
            f"{address}: relay answers, but is connected to none of its {counted(status.num_unavailable_nodes.value, 'node')}"
        )
    days = f", up {status.uptime_ns / _DAY_NS:.1f} days" if status.uptime_ns else ""
    held = f"{status.num_flows:,} of {counted(status.max_flows, 'flow')} held"
    away = f"; relay is not connected to {', '.join(lacking)}" if lacking else ""
    return f"Hubble {status.version or 'of unknown version'}{days}, {counted(len(nodes), 'node')}, {held}{away}"


def _hubble_advice(hubble: config.Hubble, address: str, error: HindcastError) -> str:
    """Return what to do about an error."""
    from hindcast import reaching

    if isinstance(error, ConfigError):
        return ""  # the error says it
    if "connected to none" in str(error):
        log = "kubectl -n kube-system logs deploy/hubble-relay"
        return f"its log says why ({log}): agents need hubble.enabled=true and certificates that relay trusts"
    return reaching.advice(hubble, address)


def _kubernetes_advice(settings: config.Kubernetes, error: HindcastError) -> str:
    """Return what to do about an error; empty if the error says it."""
    if isinstance(error, ClusterForbiddenError):
        return "bind the rights to this account: the chart's rbac.reader does, and so does kubectl apply -f with that file"
    if isinstance(error, ClusterRefusedError):
        return "the token is not valid here, or no longer: make a new one (kubectl -n NAMESPACE create token ACCOUNT)"
    if isinstance(error, ClusterUnreachableError):
        return "is the address right from here, and do firewalls and NetworkPolicies let it through (port 443 or 6443)?"
    if isinstance(error, ConfigError) and settings.in_cluster:
        return "there is no token of a service account here: of the chart's pods only history has one, so check --only kubernetes there"
    return ""


def _tried(what: str, where: str, find: Callable[[], str], advise: Callable[[HindcastError], str] = lambda _error: "") -> _Row:
    try:
        return what, where, "ok", find(), ""
    except HindcastError as error:
        return what, where, "failed", str(error), advise(error)
