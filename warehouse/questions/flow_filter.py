"""The filter that selects which flows a question is about, and its SQL condition. Running questions belongs to warehouse.questions.door."""

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
    """Selects flows: every condition must hold, each for any one of its values. An empty condition matches everything."""

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
    """Prefixes of the name of either pod."""
    ips: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    as_of: AsOf | None = None
    """Restricts the answer to what was known at that moment; None means everything known now."""
    conditions: tuple[conditions.Condition, ...] = ()
    """Further conditions, as users write them."""
    match_any: bool = False
    """True if it is enough that one of `conditions` holds."""
    both_ways: bool = False
    """True to include flows that match `conditions` with source and destination exchanged."""


def bucket_width(wanted: FlowFilter, buckets: int = time_buckets.BUCKETS) -> timedelta:
    """Return the length of each time bucket: a round duration of at least a second."""
    return time_buckets.width_of(wanted.since, wanted.until, buckets)


def column_refusal(names: Sequence[str]) -> str | None:
    """Return why the question is refused if one of the names is not a column of `flows`; None if all are."""
    for name in names:
        if name not in FLOWS.schema.names:
            close = difflib.get_close_matches(name, FLOWS.schema.names, n=1)
            return f"flows has no column {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    return None


def as_text(wanted: FlowFilter) -> str | None:
    """Return the conditions as JSON for the access log; None if there are none."""
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
"""The attribute of FlowFilter that expresses a condition, by field and side."""


_COLUMNS = {"ips": "ip", "namespaces": "namespace"}
_WHOLE: Mapping[str, bool] = {"visible_flows": True}


def plain(wanted: FlowFilter) -> FlowFilter:
    """Return the same filter with as many `conditions` as possible moved to its own attributes, which rollups can apply."""
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
    """Whether a filter distinguishes the source of a flow from its destination."""
    sides = any(condition.side != "either" for condition in wanted.conditions) and not wanted.both_ways
    return bool(wanted.source_namespaces or wanted.destination_namespaces or sides)


def matching(wanted: FlowFilter, parts: Mapping[str, bool] = _WHOLE) -> tuple[str, list[Any]]:
    """Return the query for the matching flows, with placeholders, and their values.

    `parts` maps each relation that makes up `visible_flows` to whether its row groups can be pruned by either end. If so, a
    condition on either end becomes one scan per end, because DuckDB prunes nothing for an OR over two columns.
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
    """Return the filter as mutually exclusive conditions."""
    # Bloom filters prune row groups by address in every file.
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
    """Return the filter as a condition on `visible_flows`, with placeholders, and their values."""
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
