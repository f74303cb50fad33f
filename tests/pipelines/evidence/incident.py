"""A recorded incident for tests: a lake with weeks of history of two clusters, and what happened in the newest minutes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import ALERTS, COVERAGE, DRIFT, FLOWS, Table

T = datetime(2026, 11, 2, 12, tzinfo=UTC)
MINUTE, DAY, WEEK = timedelta(minutes=1), timedelta(days=1), timedelta(weeks=1)
DENIED = "SELECT cluster, destination_namespace AS namespace, count(*) AS value FROM flows WHERE verdict = 'DROPPED' GROUP BY ALL"
DROPS = f"{DENIED} HAVING count(*) > 100"
GRANTS = [
    {"subject": "group:shop", "role": "namespace-owner", "namespaces": ["shop"]},
    {"subject": "group:pay", "role": "namespace-owner", "namespaces": ["pay"]},
]


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


def recorded_in(folder: Path) -> Lake:
    """Four weeks of two clusters. In c1: 300 drops at 12:20, a new edge and a new name at 12:30. c2: not observed from 12:30 to 12:50."""
    made = lake_in(folder)
    end = T + timedelta(hours=2)
    covered(
        made,
        observed(T - 29 * DAY, end),
        observed(T - 29 * DAY, T + 30 * MINUTE, "c2"),
        observed(T + 50 * MINUTE, end, "c2"),
    )
    stored(
        made,
        *(drops(T - weeks * WEEK, 60) for weeks in range(1, 5)),
        flows(T - 3 * DAY, 20),
        drops(T + 20 * MINUTE, 300),
        flows(T + 30 * MINUTE, 20, source="dev", destination="pci-db"),
        flows(
            T + 31 * MINUTE, 20, source="dev", destination=None, destination_names=["new.example"], destination_labels=["reserved:world"]
        ),
        drops(T + 32 * MINUTE, 300, cluster="c2", destination="pay"),
    )
    drift = {"cluster": "c1", "date": T.date(), "drift": "modified", "kind": "NetworkPolicy", "namespace": "shop", "name": "web"}
    drift |= {"severity": "high", "since": T, "summary": "spec differs"}
    for blueprint, opened, closed in (("base", 10, 40), ("strict", 20, 50)):  # of the same object
        states = [{"time": T + opened * MINUTE, "state": "open"}, {"time": T + closed * MINUTE, "state": "closed"}]
        append(made, DRIFT, [drift | {"blueprint": blueprint} | state for state in states])
    return made


def settings_of(folder: Path, rules: list[dict[str, Any]], *, lake: Lake | None = None, **sections: Any) -> config.Config:
    """A configuration whose only rule file has these rules."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    alerts = {"rules": [{"files": "rules.yaml", **sections.pop("rights", {})}], "lag": "0s", **sections.pop("alerts", {})}
    url = str(folder / "lake") if lake is None else lake.address(ALERTS).rpartition("/")[0]
    document = {"lake": {"url": url}, "ownership": {"grants": GRANTS}, "alerts": alerts, **sections}
    (folder / "hindcast.yaml").write_text(json.dumps(document))
    return config.load_config(folder / "hindcast.yaml")


def always(*values: str, **more: Any) -> dict[str, Any]:
    """A rule with an alert about shop in c1 for each value of the label x."""
    wanted = ", ".join(f"'{value}'" for value in ("none", *values))
    rows = "SELECT 'c1' AS cluster, 'shop' AS namespace, x, 1 AS value FROM (VALUES ('a'), ('b')) AS known(x)"
    return {"alert": "Always", "expr": f"{rows} WHERE x IN ({wanted})", **more}
