"""`hindcast capacity`: what a fleet needs, by unit costs that were measured, and what it would run into first."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from hindcast.capacity_model import Capacity, Fleet, Limit, Need, Prices, measured
from hindcast.console import ConfigOption, LakeOption, lake_settings, messages
from hindcast.output import Format, write_rows
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.wording import counted


class CapacityFormat(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"


def _price(name: str, what: str) -> Any:
    return typer.Option(name, min=0.0, help=f"Your price of {what}; without it, its cost is not said.")


def capacity(
    flows: Annotated[
        float | None, typer.Option(min=0.0, help="Flows a second of the fleet, on average; by default, read from the lake.")
    ] = None,
    clusters: Annotated[int | None, typer.Option(min=1, help="Number of clusters; by default, those of the lake.")] = None,
    largest: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Share of the flows that the largest cluster has.")] = None,
    retention: Annotated[str | None, typer.Option(help="How long flows are kept, e.g. 30d; by default, as configured.")] = None,
    object_storage: Annotated[bool | None, typer.Option("--object-storage/--disk", help="Where the lake is.")] = None,
    core: Annotated[float | None, _price("--price-core", "a core for a month")] = None,
    memory_gb: Annotated[float | None, _price("--price-memory-gb", "a GB of memory for a month")] = None,
    disk_gb: Annotated[float | None, _price("--price-disk-gb", "a GB of disk or bucket for a month")] = None,
    million_writes: Annotated[float | None, _price("--price-million-writes", "a million PUT and LIST requests")] = None,
    million_reads: Annotated[float | None, _price("--price-million-reads", "a million GET and HEAD requests")] = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: Annotated[CapacityFormat, typer.Option("--output", "-o", help="Output format.")] = CapacityFormat.TABLE,
) -> None:
    """Print what a fleet needs (cores, memory, disk, requests, money) and what it would run into first, from measured unit costs.

    The fleet's figures are those given; what is not given is read from the lake: the flows of the last 24 hours.
    """
    fleet = _fleet(flows, clusters, largest, object_storage, config_path, lake_url)
    if retention is not None:
        try:
            fleet = replace(fleet, flows_days=config.parse_duration(retention) / timedelta(days=1))
        except ValueError as error:
            raise ConfigError(f"--retention: {error}") from error
    prices = Prices(core=core, memory_gb=memory_gb, disk_gb=disk_gb, million_writes=million_writes, million_reads=million_reads)
    costs = measured()
    found = Capacity(fleet, prices, costs)
    needs, limits = found.needs(), found.limits()
    if output is CapacityFormat.JSON:
        document: dict[str, Any] = {
            "fleet": asdict(fleet),
            "needs": [asdict(need) for need in needs],
            "limits": [asdict(limit) for limit in limits],
        }
        document |= {"first_bottleneck": limits[0].name if limits[0].used is not None else None}
        document["unit_costs"] = {name: asdict(cost) for name, cost in costs.items()}
        typer.echo(json.dumps(document, indent=1))
        return
    rate, largest_rate = fleet.flows_per_second, fleet.largest_flows_per_second
    typer.echo(f"{rate:,.0f} flows/s of {counted(fleet.clusters, 'cluster')}, the largest with {largest_rate:,.0f}\n")
    write_rows(_table(needs, limits=False), Format.TABLE)
    typer.echo()
    write_rows(_table(limits, limits=True), Format.TABLE)
    _conclude(needs, limits)


def _fleet(
    flows: float | None,
    clusters: int | None,
    largest: float | None,
    on_object_storage: bool | None,
    config_path: Path | None,
    url: str | None,
) -> Fleet:
    """Return the figures given, and the others as the configuration and the lake have them. Raises ConfigError, LakeError."""
    if flows is not None and clusters is not None and url is None and config_path is None:
        return Fleet(flows_per_second=flows, clusters=clusters, largest_share=largest or 0.0, on_object_storage=bool(on_object_storage))
    settings = lake_settings(config_path, url)
    rates = {} if flows is not None and clusters is not None else _rates(settings)
    total = sum(rates.values())
    if flows is None and not total:
        raise ConfigError("the lake has no flow of the last 24 hours: give --flows and --clusters")
    fleet = Fleet(
        flows_per_second=total if flows is None else flows,
        clusters=clusters or max(1, len(rates)),
        largest_share=largest if largest is not None else max(rates.values(), default=0.0) / total if total else 0.0,
        on_object_storage=not settings.is_local if on_object_storage is None else on_object_storage,
    )
    if url is not None:
        return fleet
    whole = config.load_config(config_path)
    return replace(
        fleet,
        flows_days=_days(whole.retention.flows),
        rollup_days=_days(whole.retention.edges_1h),
        flush_seconds=whole.collect.flush_every.total_seconds(),
        flush_clusters=whole.collect.flush_clusters,
    )


def _days(kept: timedelta | None) -> float:
    """Return the days for which rows are kept; a year stands for ever."""
    return 365.0 if kept is None else kept / timedelta(days=1)


def _rates(settings: config.Lake) -> dict[str, float]:
    """Return flows a second of each cluster in the last 24 hours, from the table's log alone. Raises LakeError."""
    from warehouse.lake.tables import Lake
    from warehouse.schema import FLOWS

    now, day = datetime.now(UTC), timedelta(days=1)
    rows: dict[str, float] = {}
    first = now
    for file in Lake.open(settings).contents(FLOWS, since=now - day, until=now):
        if file.first is None or file.last is None or file.last < now - day:
            continue
        # A file that begins before the day counts with the part of its time that is in it.
        span = max((file.last - file.first).total_seconds(), 1.0)
        part = min(1.0, (file.last - (now - day)).total_seconds() / span)
        cluster = file.partition["cluster"] or ""
        rows[cluster] = rows.get(cluster, 0.0) + file.rows * part
        first = min(first, max(file.first, now - day))
    seconds = max((now - first).total_seconds(), 1.0)
    return {cluster: count / seconds for cluster, count in rows.items()}


def _table(items: list[Need] | list[Limit], *, limits: bool) -> pa.Table:
    if limits:
        return pa.Table.from_pylist(
            [
                {
                    "limit": limit.name,
                    "used": "not known" if limit.used is None else f"{limit.used:.0%}",
                    "full at flows/s": "" if limit.breaks_at_flows_per_second is None else f"{limit.breaks_at_flows_per_second:,.0f}",
                    "then": limit.remedy,
                    "from": limit.basis,
                }
                for limit in items
                if isinstance(limit, Limit)
            ]
        )
    return pa.Table.from_pylist(
        [
            {
                "what": need.resource,
                "for": need.purpose,
                "amount": "not known" if need.amount is None else f"{need.amount:,.2f}" if need.amount < 10 else f"{need.amount:,.0f}",
                "unit": need.unit,
                "a month": "" if need.cost_a_month is None else f"{need.cost_a_month:,.2f}",
                "from": need.basis,
            }
            for need in items
            if isinstance(need, Need)
        ]
    )


def _conclude(needs: list[Need], limits: list[Limit]) -> None:
    first = limits[0]
    if first.used is not None:
        typer.echo(f"\nfirst bottleneck: {first.name}, {first.used:.0%} used" + (f"; {first.remedy}" if first.used > 1 else ""))
    priced = [need.cost_a_month for need in needs if need.cost_a_month is not None]
    if priced:
        rest = (
            ""
            if len(priced) == len(needs)
            else f", without {counted(len(needs) - len(priced), 'line')} for want of a price or a measured cost"
        )
        typer.echo(f"a month: {sum(priced):,.2f}{rest}")
    if any(need.amount is None for need in needs):
        messages.print("What is not known was not measured: nothing is estimated in its place.")
