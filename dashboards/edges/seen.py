"""When edges were first and last seen in all that is recorded: the edges of a page know only about the page's own window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboards.edges.edges import Edge, Key, key_of
from dashboards.visit import Visit
from warehouse.engine import Limits
from warehouse.errors import QueryError
from warehouse.questions.edges_in_time import first_and_last_seen
from warehouse.questions.flow_filter import FlowFilter

LIMITS = Limits(rows=50_000, seconds=10)
"""A page does without these times rather than make a person wait longer."""


@dataclass(frozen=True)
class Recorded:
    """The first and the last time of each edge in the hours that are rolled up."""

    times: Mapping[Key, tuple[datetime, datetime]]

    def first(self, edge: Edge) -> datetime | None:
        """The earliest time on record of an edge, its own window included; None if no hour that is rolled up has it."""
        return min(edge.first, self.times[edge.key][0]) if edge.key in self.times else None

    def last(self, edge: Edge) -> datetime | None:
        """The latest time on record of an edge, its own window included; None if no hour that is rolled up has it."""
        return max(edge.last, self.times[edge.key][1]) if edge.key in self.times else None


def recorded(visit: Visit, wanted: FlowFilter, *, level: Any) -> Recorded | None:
    """The times of the edges that match the filter, until the end of its window.

    None where they cannot be known: for pods and filters that rollups do not keep, where no hour is rolled up yet, and where the
    answer would be too long or too slow. Raises AccessDeniedError and LakeError.
    """
    question = first_and_last_seen(wanted, level=level, limits=LIMITS)
    if question.refusal is not None:
        return None
    try:
        answer = visit.answer(question)
    except QueryError:
        return None
    if answer.cut or not answer.files:
        return None
    times: dict[Key, tuple[datetime, datetime]] = {}
    for row in answer.rows.to_pylist():
        key = key_of(row)
        first, last = times.get(key, (row["first"], row["last"]))
        times[key] = min(first, row["first"]), max(last, row["last"])
    return Recorded(times)
