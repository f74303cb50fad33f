"""Flows that stand for an edge of a simulation: up to three uuids each, looked up in the hour in which the edge was last seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from pipelines.replay import traffic as recorded
from pipelines.replay.changed_edges import ChangedEdge, Shown
from pipelines.replay.ends import is_within
from pipelines.replay.in_force import History
from pipelines.replay.outcomes import Change
from pipelines.replay.traffic import Asked, recorded_of
from warehouse.engine import Limits
from warehouse.errors import QueryLimitError
from warehouse.questions import replay_questions

MOST_LOOKUPS = 24
"""Hours of clusters that are looked up, those with the most edges first."""
EACH = 3
_LIMITS = Limits(rows=200_000, seconds=30)
_HOUR = timedelta(hours=1)


def add(history: History, asked: Asked, edges: Sequence[ChangedEdge]) -> None:
    """Set `uuids` of the edges that change or are uncertain, as far as their flows are still stored. Raises QueryError, LakeError."""
    wanted = [edge for edge in edges if edge.change is not Change.UNCHANGED]
    places = Counter((edge.cluster, _hour(edge.last_seen)) for edge in wanted)
    for (cluster, hour), _ in places.most_common(MOST_LOOKUPS):
        of_hour = [edge for edge in wanted if (edge.cluster, _hour(edge.last_seen)) == (cluster, hour)]
        _look_up(history, asked, cluster, hour, of_hour)


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _look_up(history: History, asked: Asked, cluster: str, hour: datetime, edges: Sequence[ChangedEdge]) -> None:
    whole = asked.filter()
    wanted = replace(whole, since=max(whole.since, hour), until=min(whole.until, hour + _HOUR), clusters=(cluster,))
    if wanted.since >= wanted.until:
        return
    try:
        rows = history.answer(replay_questions.connections(wanted, limits=_LIMITS)).rows
    except QueryLimitError:
        return
    kinds, _ = recorded_of(rows)
    by_key: dict[tuple[Any, ...], list[ChangedEdge]] = {}
    for edge in edges:
        by_key.setdefault(_key(edge.source, edge.destination, edge.l4_protocol, edge.before == "allowed"), []).append(edge)
    for kind, row in zip(kinds.tolist(), rows.to_pylist(), strict=True):
        if kind < 0:
            continue
        key = _key(_shown(row, "source"), _shown(row, "destination"), row["l4_protocol"], kind == recorded.ALLOWED)
        for edge in by_key.get(key, ()):
            if len(edge.uuids) < EACH and edge.destination_port in (None, row["destination_port"]) and _in_ranges(edge, row):
                edge.uuids = tuple(dict.fromkeys([*edge.uuids, *(name for name in row["uuids"] if name)]))[:EACH]


def _key(source: Shown, destination: Shown, protocol: str | None, is_allowed: bool) -> tuple[Any, ...]:
    return source[:-1], destination[:-1], protocol, is_allowed


def _shown(row: dict[str, Any], side: str) -> Shown:
    return (*(row[f"{side}_{name}"] for name in ("cluster_name", "namespace", "workload_name", "entity", "dns_name")), None)


def _in_ranges(edge: ChangedEdge, row: dict[str, Any]) -> bool:
    return all(is_within(row[f"{side}_ip"], shown[-1]) for shown, side in ((edge.source, "source"), (edge.destination, "destination")))
