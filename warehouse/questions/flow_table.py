"""Questions in SQL of ours over the flows that a principal may see and that match a filter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from warehouse import engine
from warehouse.access import visible
from warehouse.engine import Limits, Window
from warehouse.questions import flow_filter
from warehouse.questions.answers import Answer, coverage_of
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.question import Question, Request, Subject
from warehouse.schema import FLOWS, Table

MATCHING = "matching_flows"
"""The relation that the SQL of a FlowQuestion reads: the flows that the principal may see and that match the filter."""
_LOOK_BACK = (timedelta(hours=1), timedelta(days=1))
"""How far back from a window's end the newest flows are looked for before the whole of a longer window is."""


@dataclass(frozen=True, kw_only=True)
class FilteredQuestion(Question[Answer]):
    """A question in SQL of ours about the flows that match a filter, whichever table it reads."""

    source: Table
    """The table that the SQL reads."""
    wanted: FlowFilter
    """Which flows it is about."""
    sql: str
    """Ours, never a person's; whatever people gave is among `values`."""
    values: tuple[Any, ...] = ()
    """For the placeholders in `sql`, in their order."""

    @property
    def subject(self) -> Subject:
        """The filter, as the access log records it."""
        wanted = self.wanted
        return Subject(
            window=Window(since=wanted.since, until=wanted.until, as_of=wanted.as_of),
            text=flow_filter.as_text(wanted),
            clusters=wanted.clusters,
            namespaces=(*wanted.namespaces, *wanted.source_namespaces, *wanted.destination_namespaces),
        )


@dataclass(frozen=True, kw_only=True)
class FlowQuestion(FilteredQuestion):
    """A question over the relation MATCHING, asked in one statement."""

    source: Table = FLOWS
    newest: bool = False
    """True if only the newest flows are asked for, as many as `limits.rows`. The last value of `sql` is then the time from
    which they are read; it is looked up first, which needs one column where the question itself may need all of them."""

    def answer(self, request: Request) -> Answer:
        """The rows of the SQL, with the coverage of the filter's window."""
        wanted, values = self.wanted, self.values
        text = f"{self.sql} {flow_filter.matching(wanted)[0]}"
        sight = request.sight.of_columns({name for name in FLOWS.schema.names if re.search(rf"\b{name}\b", text)})
        with engine.connect_warm() as connection:
            shown = visible.relations(connection, sight, FLOWS)
            matching, given = flow_filter.matching(wanted, shown.parts)
            relations = [*shown.relations, engine.relation(MATCHING, matching)]
            if self.newest:
                values = (*values, _oldest(connection, relations, given, wanted, self.limits))
            rows, cut = engine.ask(connection, relations, self.sql, [*given, *values], self.limits)
        return Answer(rows=rows, cut=cut, window=sight.window, coverage=coverage_of(sight), files=shown.files)


def _oldest(connection: Any, relations: Sequence[str], given: Sequence[Any], wanted: FlowFilter, limits: Limits) -> datetime:
    """The time of the oldest of the newest flows, or the end of the window if no flow matches.

    Flows that are common are found without reading the whole of a long window.
    """
    if wanted.until - wanted.since <= _LOOK_BACK[0]:
        return wanted.since
    newest = f'SELECT "time" FROM {MATCHING} WHERE "time" >= ? ORDER BY "time" DESC LIMIT {int(limits.rows) + 1}'
    sql = f'SELECT min("time") AS oldest, count(*) AS flows FROM ({newest})'
    for back in (*_LOOK_BACK, wanted.until - wanted.since):
        since = max(wanted.since, wanted.until - back)
        rows, _ = engine.ask(connection, relations, sql, [*given, since], limits)
        found: datetime | None = rows["oldest"][0].as_py()
        if rows["flows"][0].as_py() > limits.rows or since == wanted.since:
            return found or wanted.until
    return wanted.since
