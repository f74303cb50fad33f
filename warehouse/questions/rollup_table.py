"""Questions over a rollup, with SQL written by us: the rows that a principal may see, for stored hours and hours not yet stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from warehouse import engine, table_views
from warehouse.access.sight import Sight
from warehouse.engine import Window
from warehouse.errors import QueryError
from warehouse.questions import inferred_names, large_questions, rollup_relations
from warehouse.questions.answers import Answer, Coverage, coverage_of
from warehouse.questions.flow_table import FilteredQuestion
from warehouse.questions.question import Request
from warehouse.questions.rollup_relations import RollupRelation

BEFORE = "rows_before"
"""The relation that holds the rollup's rows of the window `before`."""


@dataclass(frozen=True, kw_only=True)
class RollupQuestion(FilteredQuestion):
    """A question over the relation `visible_<rollup>`, which holds everything in the filter's window that the principal may see.

    The SQL applies the filter's conditions itself: see rollup_filter.
    """

    before: Window | None = None
    """A second window, with both bounds, whose rows the SQL reads from the relation BEFORE."""
    by_hour: bool = False
    """True if the question does not distinguish minutes within an hour, so it may be answered from whole hours."""
    stored_only: bool = False
    """True to read only hours that are rolled up, for windows so long that their coverage is not computed."""
    of_moments: bool = False
    """True to answer also as of a moment: then from stored hours that hold what the lake knew, and else from flows; see `known_hours`."""
    infers_names: bool = False
    """True to add the DNS names that the lake has recorded for outside addresses."""

    def answer(self, request: Request) -> Answer:
        """Return the rows of the SQL, with the coverage of the window, which may be extended: see `rollup_relations.widened`."""
        wanted, table = self.wanted, self.source
        if wanted.as_of is not None and (wanted.as_of.version is not None or not self.of_moments):
            raise QueryError(f"{table.name} does not record when the lake learned of a flow, so it cannot answer as of a time: query flows")
        sight = request.sight.within(rollup_relations.widened(request.sight, table))
        seen = {f"visible_{table.name}": sight}
        if self.before is not None:
            earlier = request.sight.within(self.before)
            seen[BEFORE] = earlier.within(rollup_relations.widened(earlier, table))
        return large_questions.answered(request.engine, sight, table, lambda connection: self._answered(connection, seen, request))

    def _answered(self, connection: Any, seen: Mapping[str, Sight], request: Request) -> Answer:
        """Return the answer from one connection."""
        made, sources = [], []
        for name, one in seen.items():
            relation = RollupRelation(
                table=self.source, name=name, namespaces=self.wanted.namespaces, by_hour=self.by_hour, stored_only=self.stored_only
            )
            with engine.within(connection, self.limits):
                query, source = rollup_relations.query(connection, one, relation, request.rollups)
            made.append(table_views.relation(name, query))
            sources.append(source)
        rows, cut = engine.ask(connection, made, self.sql, self.values, self.limits)
        sight = seen[f"visible_{self.source.name}"]
        if self.infers_names:
            rows = inferred_names.added(rows, request, self.limits)
        return Answer(
            rows=rows,
            cut=cut,
            window=sight.window,
            coverage=Coverage() if self.stored_only else coverage_of(sight),
            files=sum(source.files for source in sources),
            source=rollup_relations.source_text(self.source, sources),
        )
