"""A recorded incident for tests: a lake with weeks of history of two clusters, and what happened in the newest minutes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS, Table

MINUTE = timedelta(minutes=1)


def append(lake: Lake, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    """Store rows; columns that are not named are null."""
    made = pa.Table.from_pylist(list(rows), schema=table.schema)
    lake.commit(table, lake.write_files(table, made), transactions={}, metadata={})


def flows(
    begin: datetime, count: int, *, cluster: str = "c1", source: str | None = "web", destination: str | None = "shop", **more: Any
) -> Iterator[dict[str, Any]]:
    """Flows between two namespaces, a second apart, from a time on."""
    for number in range(count):
        at = begin + number * timedelta(seconds=1)
        yield {
            "cluster": cluster,
            "date": at.date(),
            "time": at,
            "uuid": str(uuid.uuid4()),
            "verdict": "FORWARDED",
            "flow_count": 1,
            "node_name": f"{cluster}/n1",
            "is_reply": False,
            "traffic_direction": "EGRESS",
            "l4_protocol": "TCP",
            "destination_port": 443,
            "event_type": 4,
            "source_namespace": source,
            "source_workload_name": source,
            "destination_namespace": destination,
            "destination_workload_name": destination,
            **more,
        }


def drops(begin: datetime, count: int, **more: Any) -> Iterator[dict[str, Any]]:
    """Flows that were dropped by policy."""
    return flows(begin, count, verdict="DROPPED", drop_reason_desc="POLICY_DENIED", **more)


def observed(since: datetime, until: datetime, cluster: str = "c1", state: str = "connected") -> Iterator[dict[str, Any]]:
    """Rows of the ledger, a day long at most."""
    begin = since
    while begin < until:
        end = min(until, begin + timedelta(days=1))
        named = {"cluster": cluster, "date": begin.date(), "node_name": f"{cluster}/n1", "state": state, "source": "stream"}
        yield {**named, "from": begin, "to": end, "recorded": end}
        begin = end


def lake_in(folder: Path) -> Lake:
    """An empty lake in a folder."""
    return Lake.open(config.Lake(url=str(folder / "lake")))


def stored(lake: Lake, *parts: Iterable[dict[str, Any]]) -> None:
    """Store flows."""
    append(lake, FLOWS, [row for part in parts for row in part])


def covered(lake: Lake, *parts: Iterable[dict[str, Any]]) -> None:
    """Store rows of the ledger."""
    append(lake, COVERAGE, [row for part in parts for row in part])
