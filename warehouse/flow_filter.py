"""Which flows a question is about, and the SQL condition that says so. Asking is warehouse.query's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from warehouse import conditions, questions
from warehouse.time_travel import AsOf

BUCKETS = 60
"""Parts of a timeline, unless another number is asked for."""


@dataclass(frozen=True, kw_only=True)
class FlowFilter:
    """Which flows are asked for: all conditions hold, each by any of its values. Empty means any."""

    since: datetime
    until: datetime
    clusters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    """Of the source or the destination."""
    source_namespaces: tuple[str, ...] = ()
    destination_namespaces: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    drop_reasons: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    """Beginnings of the name of either pod."""
    ips: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    as_of: AsOf | None = None
    """What was known then; all that is known for None."""
    conditions: tuple[conditions.Condition, ...] = ()
    """More of them, as people write them."""
    match_any: bool = False
    """One of `conditions` is enough."""
    both_ways: bool = False
    """Also what matches `conditions` with source and destination exchanged."""


def bucket_width(wanted: FlowFilter, buckets: int = BUCKETS) -> timedelta:
    """How long each part of a timeline is: a round time, at least a second."""
    return questions.bucket_width(wanted.since, wanted.until, buckets)


def as_text(wanted: FlowFilter) -> str | None:
    """The conditions as JSON, for the access log; None without any."""
    told = {name: value for name, value in asdict(wanted).items() if value and name not in ("since", "until", "conditions")}
    if wanted.conditions:
        told["conditions"] = [str(condition) for condition in wanted.conditions]
    return json.dumps(told, default=str) if told else None


def flow_conditions(wanted: FlowFilter) -> tuple[str, list[Any]]:
    """The filter as a condition on `visible_flows` with placeholders, and their values."""
    parts, values = ['"time" >= ?', '"time" < ?'], [wanted.since, wanted.until]

    def among(columns: Sequence[str], wanted_values: Sequence[Any], how: str = "IN") -> None:
        if not wanted_values:
            return
        marks = ", ".join("?" * len(wanted_values))
        either = []
        for column in columns:
            either.append(f'"{column}" IN ({marks})' if how == "IN" else _any([f'starts_with("{column}", ?)'] * len(wanted_values)))
            values.extend(wanted_values)
        parts.append(_any(either))

    among(["cluster"], wanted.clusters)
    among(["source_namespace", "destination_namespace"], wanted.namespaces)
    among(["source_namespace"], wanted.source_namespaces)
    among(["destination_namespace"], wanted.destination_namespaces)
    among(["verdict"], wanted.verdicts)
    among(["drop_reason_desc"], wanted.drop_reasons)
    among(["source_pod_name", "destination_pod_name"], wanted.pods, "starts")
    among(["source_ip", "destination_ip"], wanted.ips)
    among(["source_port", "destination_port"], wanted.ports)
    among(["node_name"], wanted.nodes)
    written, given = conditions.sql(wanted.conditions, match_any=wanted.match_any, both_ways=wanted.both_ways)
    return " AND ".join([*parts, written]), [*values, *given]


def _any(parts: Sequence[str]) -> str:
    return "(" + (" OR ".join(parts) or "false") + ")"
