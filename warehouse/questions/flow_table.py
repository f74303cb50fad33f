"""Questions whose SQL is written by us, over the flows that a principal may see and that match a filter."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from warehouse import engine, table_views
from warehouse.access import visible
from warehouse.access.sight import Sight
from warehouse.engine import Limits, Window
from warehouse.questions import edge_rule, flow_filter, large_questions, part_sums, pods_as_of, recorded_workloads
from warehouse.questions.answers import Answer, coverage_of
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.part_sums import Flows
from warehouse.questions.question import Question, Request, Subject
from warehouse.questions.time_buckets import HOUR
from warehouse.schema import FLOWS, WORKLOADS, Table

MATCHING = "matching_flows"
"""The relation that the SQL of a FlowQuestion reads: the flows that the principal may see and that match the filter."""
CONNECTIONS = "matching_connections"
"""The relation that the SQL of a FlowQuestion about connections reads."""
_PODS = "workloads_of_pods"
_LEARNED_FROM = timedelta(days=1)
"""How much of the end of a window is read to learn the workloads of pods; otherwise a long window would be read twice."""
_LOOK_BACK = (timedelta(hours=1), timedelta(days=1))
"""How far back from the end of a window the newest flows are searched for before the whole window is searched."""


@dataclass(frozen=True, kw_only=True)
class FilteredQuestion(Question[Answer]):
    """A question about the flows that match a filter, with SQL written by us, whichever table it reads."""

    source: Table
    """The table that the SQL reads."""
    wanted: FlowFilter
    """The filter that selects the flows."""
    sql: str
    """SQL written by us, never by a user; user input is only in `values`."""
    values: tuple[Any, ...] = ()
    """Values of the placeholders in `sql`, in order."""

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
    """A question over the relation MATCHING, answered by one statement."""

    source: Table = FLOWS
    newest: bool = False
    """True if only the newest flows are wanted, up to `limits.rows`. The last value of `sql` is then the time from which they are
    read. That time is looked up first, because this needs only one column where the question itself may need all of them."""

    connections: bool = False
    """True if `sql` reads the relation CONNECTIONS instead: the matching flows with sides exchanged where needed so that the source
    opened the connection, plus the column `server_port`. The sides in the filter are then those of the connection."""
    resolves_workloads: bool = False
    """True to fill in the workloads of pods, as rollups do, where the flow itself does not name one. A filter by workload
    has the same effect."""

    def answer(self, request: Request) -> Answer:
        """The rows of the SQL, with the coverage of the filter's window."""
        wanted = self.wanted
        text = f"{self.sql} {flow_filter.matching(wanted)[0]}"
        named = {name for name in FLOWS.schema.names if re.search(rf"\b{name}\b", text)}
        columns = named | edge_rule.NEEDED if self.connections else named
        sight = request.sight.of_columns(columns)
        return large_questions.answered(request.engine, sight, FLOWS, lambda connection: self._answered(connection, sight, columns))

    def _answered(self, connection: Any, sight: Sight, columns: Set[str]) -> Answer:
        """Return the answer from one connection."""
        wanted, values = self.wanted, self.values
        completed = None
        if self.resolves_workloads or any(condition.field == "workload" for condition in wanted.conditions):
            with engine.within(connection, self.limits):
                _learn_workloads(connection, sight, wanted.until)
            completed = partial(edge_rule.with_workloads, pods=_PODS)
        shown = visible.relations(connection, sight, FLOWS, completed=completed)
        relations = list(shown.relations)
        if self.connections and flow_filter.has_sides(wanted):
            relations.append(table_views.relation("turned_flows", edge_rule.turned_round(f"visible_{FLOWS.name}", columns)))
            matching, given = flow_filter.matching(wanted, {"turned_flows": False})
            relations.append(table_views.relation(CONNECTIONS, matching))
        else:
            matching, given = flow_filter.matching(wanted, shown.parts)
            relations.append(table_views.relation(MATCHING, matching))
            if self.connections:
                relations.append(table_views.relation(CONNECTIONS, edge_rule.turned_round(MATCHING, columns)))
        if self.newest:
            values = (*values, _oldest(connection, relations, given, wanted, self.limits))
        rows, cut = engine.ask(connection, relations, self.sql, [*given, *values], self.limits)
        return Answer(rows=rows, cut=cut, window=sight.window, coverage=coverage_of(sight), files=shown.files)


def _learn_workloads(connection: Any, sight: Sight, end: datetime) -> None:
    """Create a table of the pods' workloads from all flows in the last day before an end, rounded to whole hours."""
    window = sight.window
    if window.since is None or window.until is None:
        raise ValueError("a question about flows needs a window with a start and an end")
    until = min(end, datetime.now(UTC) + HOUR)
    since = max(window.since, until - _LEARNED_FROM).replace(minute=0, second=0, microsecond=0)
    until = (until + HOUR - timedelta.resolution).replace(minute=0, second=0, microsecond=0)
    key = _learned_from(sight, since, until)
    if key is not None and pods_as_of.MEMORY.recall(connection, _PODS, key):
        return
    seen = _pods_of_hours(connection, sight, since, until, "flows_of_hours")
    recorded_workloads.learn(connection, seen, _PODS, sight.lake, as_of=window.as_of)
    if key is not None:
        pods_as_of.MEMORY.keep(connection, _PODS, key)


def _learned_from(sight: Sight, since: datetime, until: datetime) -> Hashable | None:
    """Return what decides which pods are learned; None if they are those known now, which are remembered by parts of hours."""
    lake, as_of = sight.lake, sight.window.as_of
    if as_of is None:
        return None
    return lake.address(FLOWS), lake.version(FLOWS), lake.version(WORKLOADS), as_of, sight.clusters, since, until


def _pods_of_hours(connection: Any, sight: Sight, since: datetime, until: datetime, name: str) -> str:
    """Return the query for the pods in the flows of these hours."""
    window = sight.window
    if window.as_of is None:
        return _remembered_pods(connection, sight, since, until, name)
    files = table_views.files_of(sight.lake, FLOWS, replace(window, since=since, until=until), sight.clusters or None)
    rows = table_views.query_of(connection, sight.lake, FLOWS, files, name, as_of=window.as_of)
    first, end = (f"{engine.literal(moment.isoformat())}::TIMESTAMPTZ" for moment in (since, until))
    return edge_rule.pods_seen(f"""(SELECT * FROM ({rows}) WHERE "time" >= {first} AND "time" < {end})""")


def _remembered_pods(connection: Any, sight: Sight, since: datetime, until: datetime, name: str) -> str:
    """Return the query for the pods in the flows of these hours, which are looked up once for each part of an hour."""
    last_change = sight.lake.last_change(FLOWS)
    files = sight.lake.contents(FLOWS, clusters=sight.clusters or None, since=since, until=until)
    spans = {cluster: [(since, until)] for cluster in sorted({file.partition["cluster"] for file in files})}
    flows = Flows(lake=sight.lake, spans=spans, files=files, last_change=last_change).within(spans)
    rest, is_known = part_sums.recall(connection, flows, part_sums.PODS, f"known_{name}")
    flows.within(rest).add_view(connection, name)
    return part_sums.PODS.of(name) + (f" UNION ALL BY NAME SELECT * EXCLUDE (part) FROM known_{name}" if is_known else "")


def _oldest(connection: Any, relations: Sequence[str], given: Sequence[Any], wanted: FlowFilter, limits: Limits) -> datetime:
    """Return the time of the oldest of the newest flows, or the end of the window if no flow matches.

    Common flows are found without reading the whole of a long window.
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
