"""Which flows a question is about, and the SQL condition that says so. Asking is warehouse.questions.door's."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from warehouse.lake.time_travel import AsOf
from warehouse.questions import conditions, time_buckets
from warehouse.schema import FLOWS


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


def bucket_width(wanted: FlowFilter, buckets: int = time_buckets.BUCKETS) -> timedelta:
    """How long each part of a timeline is: a round time, at least a second."""
    return time_buckets.width_of(wanted.since, wanted.until, buckets)


def column_refusal(names: Sequence[str]) -> str | None:
    """Why columns cannot be asked for, if one of them is no column of `flows`; None if all are."""
    for name in names:
        if name not in FLOWS.schema.names:
            close = difflib.get_close_matches(name, FLOWS.schema.names, n=1)
            return f"flows has no column {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    return None


def as_text(wanted: FlowFilter) -> str | None:
    """The conditions as JSON, for the access log; None without any."""
    named = {name: value for name, value in asdict(wanted).items() if value and name not in ("since", "until", "conditions")}
    if wanted.conditions:
        named["conditions"] = [str(condition) for condition in wanted.conditions]
    return json.dumps(named, default=str) if named else None


_PLAIN: dict[tuple[str, str], str] = {
    ("ns", "either"): "namespaces",
    ("ns", "source"): "source_namespaces",
    ("ns", "destination"): "destination_namespaces",
    ("cluster", "either"): "clusters",
    ("verdict", "either"): "verdicts",
    ("reason", "either"): "drop_reasons",
    ("node", "either"): "nodes",
}
"""Conditions that the filter has a place of its own for, by field and side."""


_COLUMNS = {"ips": "ip", "namespaces": "namespace"}
_WHOLE: Mapping[str, bool] = {"visible_flows": True}


def plain(wanted: FlowFilter) -> FlowFilter:
    """The same filter with as few `conditions` as it goes: a rollup knows what has a place of its own."""
    if wanted.both_ways or (wanted.match_any and len(wanted.conditions) > 1):
        return wanted
    moved: dict[str, tuple[str, ...]] = {}
    left = []
    for condition in wanted.conditions:
        place = _PLAIN.get((condition.field, condition.side)) if condition.operator == "=" else None
        if place is None or place in moved or getattr(wanted, place):
            left.append(condition)
        else:
            moved[place] = condition.values
    return replace(wanted, conditions=tuple(left), **moved)  # type: ignore[arg-type]


def has_sides(wanted: FlowFilter) -> bool:
    """Whether a filter tells the source of a flow from its destination."""
    sides = any(condition.side != "either" for condition in wanted.conditions) and not wanted.both_ways
    return bool(wanted.source_namespaces or wanted.destination_namespaces or sides)


def matching(wanted: FlowFilter, parts: Mapping[str, bool] = _WHOLE) -> tuple[str, list[Any]]:
    """The query for the flows that match, with placeholders, and their values.

    `parts` are the relations that `visible_flows` is made of, and whether row groups of each are left out for either end: then what
    either end may have is asked of one end after the other, since DuckDB leaves out none for an OR over two columns.
    """
    wanted = plain(wanted)
    scans: list[str] = []
    placed: list[Any] = []
    for relation, is_laid_out in parts.items():
        for where, values in _one_end_after_the_other(wanted, is_laid_out=is_laid_out):
            scans.append(f"SELECT * FROM {relation} WHERE {where}")
            placed += values
    return " UNION ALL ".join(scans), placed


def _one_end_after_the_other(wanted: FlowFilter, *, is_laid_out: bool) -> list[tuple[str, list[Any]]]:
    """The filter as conditions no flow meets two of."""
    # Bloom filters leave out row groups for an address anywhere.
    name = "ips" if wanted.ips else "namespaces" if wanted.namespaces and is_laid_out else None
    if name is None:
        return [flow_conditions(wanted)]
    given = getattr(wanted, name)
    where, values = flow_conditions(replace(wanted, **{name: ()}))  # type: ignore[arg-type]
    first, second = (_is_among(f"{side}_{_COLUMNS[name]}", len(given)) for side in ("source", "destination"))
    return [
        (f"{where} AND {first}", [*values, *given]),
        (f"{where} AND {second} AND NOT coalesce({first}, false)", [*values, *given, *given]),
    ]


def flow_conditions(wanted: FlowFilter) -> tuple[str, list[Any]]:
    """The filter as a condition on `visible_flows` with placeholders, and their values."""
    parts, values = ['"time" >= ?', '"time" < ?'], [wanted.since, wanted.until]

    def among(columns: Sequence[str], wanted_values: Sequence[Any], how: Callable[[str, int], str] = _is_among) -> None:
        if wanted_values:
            parts.append(_any([how(column, len(wanted_values)) for column in columns]))
            values.extend([*wanted_values] * len(columns))

    among(["cluster"], wanted.clusters)
    among(["source_namespace", "destination_namespace"], wanted.namespaces)
    among(["source_namespace"], wanted.source_namespaces)
    among(["destination_namespace"], wanted.destination_namespaces)
    among(["verdict"], wanted.verdicts)
    among(["drop_reason_desc"], wanted.drop_reasons)
    among(["source_pod_name", "destination_pod_name"], wanted.pods, _starts_with)
    among(["source_ip", "destination_ip"], wanted.ips)
    among(["source_port", "destination_port"], wanted.ports)
    among(["node_name"], wanted.nodes)
    written, given = conditions.sql(wanted.conditions, match_any=wanted.match_any, both_ways=wanted.both_ways)
    return " AND ".join([*parts, written]), [*values, *given]


def _is_among(column: str, count: int) -> str:
    return f'"{column}" IN ({", ".join("?" * count)})'


def _starts_with(column: str, count: int) -> str:
    return _any([f'starts_with("{column}", ?)'] * count)


def _any(parts: Sequence[str]) -> str:
    return "(" + (" OR ".join(parts) or "false") + ")"
