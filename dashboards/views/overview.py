"""The first page: the fleet (or one's own namespaces) at a glance, and what wants attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from dashboards.charting import series
from dashboards.edges import edges
from dashboards.edges.edges import Edge
from dashboards.frame import clock, filters, head, narrowed, navigation, ownership, summary, url_state
from dashboards.frame.time_control import TimeRange
from dashboards.history import attention, changes
from dashboards.overview import cards, drops, tables
from dashboards.views import flows as flows_page
from dashboards.visit import Visit, not_future
from warehouse.errors import AccessDeniedError
from warehouse.questions import count_questions
from warehouse.questions.answers import Answer
from warehouse.questions.edges_in_time import edges_in_time
from warehouse.questions.flow_filter import FlowFilter, bucket_width
from warehouse.questions.question import Question

DAY = timedelta(days=1)


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Overview")
    try:
        filters.bar(visit)
        summary.foreign(visit)
        window = filters.applied(visit.time)
        day_before, (earlier, word) = _day_before(window), _window_before(window)
        visit.ask_ahead(*asks(visit.time))
        pulse = visit.answer(count_questions.pulse(window))
    except AccessDeniedError:
        summary.denied(visit)
        return
    if not pulse.rows.num_rows:
        _owner_line(visit, pulse)
        summary.nothing(visit, window, pulse)
        return
    talking, _ = _edges(visit, window)
    before, day_observed = _edges(visit, day_before)
    fresh = new_edges(talking, before, was_observed=day_observed > 0)
    gaps = flows_page.gaps(visit, of=narrowed.is_about)
    _owner_line(visit, pulse)
    then = visit.answer(count_questions.timeline(earlier))
    width = _part_width(window)
    starts = series.starts(window.since, not_future(window.until), width)
    cards.draw(
        cards.Numbers(
            pulse=pulse,
            starts=starts,
            width=width,
            before=flows_page.verdict_counts(then),
            before_word=word,
            before_observed=summary.observed(then),
            fresh=fresh,
            day_observed=day_observed,
            changed=_changes(visit, window),
            drift=attention.drift_in_sight(visit),
            gaps=gaps,
            sees_all=visit.door.scope(visit.who).everything,
        )
    )
    grid = st.grid(3, gap="small", min_column_width=380)
    with grid.cell(column_span=2), st.container(border=True, height="stretch"):
        drops.draw(window, pulse, starts, width, gaps)
    with grid.cell(), st.container(border=True, height="stretch", key="attention"):
        attention.draw(visit, attention.items(visit, talking, before, fresh, gaps))
    grid = st.grid(3, gap="small", min_column_width=380)
    with grid.cell(column_span=2), st.container(border=True, height="stretch"):
        _namespaces(visit, window, visit.answer(_by_namespace(window)), talking, fresh)
    with grid.cell(), st.container(border=True, height="stretch"):
        tables.talkers(talking, ownership.owned(visit))


def asks(time: TimeRange) -> tuple[Question[Any], ...]:
    """What the page asks first, the longest answers first."""
    window = filters.applied(time)
    earlier, _ = _window_before(window)
    return (
        edges_in_time(window),
        edges_in_time(_day_before(window)),
        count_questions.timeline(earlier),
        _by_namespace(window),
        count_questions.pulse(window),
    )


def _by_namespace(window: FlowFilter) -> Question[Answer]:
    return count_questions.namespaces(window, buckets=tables.BUCKETS)


def _day_before(window: FlowFilter) -> FlowFilter:
    return replace(window, since=window.since - DAY, until=window.since)


def new_edges(now: Sequence[Edge], before: Sequence[Edge], *, was_observed: bool) -> list[Edge] | None:
    """Edges that were not there before, housekeeping left out; None where the time before was not observed, so nobody can say."""
    if not was_observed:
        return None
    known = {edge.key for edge in before}
    return [edge for edge in now if edge.key not in known and not edge.is_housekeeping]


def _edges(visit: Visit, window: FlowFilter) -> tuple[list[Edge], float]:
    """The edges of a window, and the share of it that was observed."""
    answer = visit.answer(edges_in_time(window))
    return edges.edges_of(answer, since=window.since, until=window.until), summary.observed(answer)


def _changes(visit: Visit, window: FlowFilter) -> list[changes.Change] | None:
    """Return the changes of configuration in the window that the filter bar is about; None where no history is recorded."""
    found = changes.between(visit, window.since, not_future(window.until))
    if found is None:
        return None
    return [each for each in found if any(narrowed.is_about(cluster, each.version["namespace"]) for cluster in each.clusters)]


def _owner_line(visit: Visit, pulse: Answer) -> None:
    scope = visit.door.scope(visit.who)
    names = sorted({grant.namespace or f"everything in {grant.cluster}" for grant in scope.grants})
    if any(grant.namespace is None and grant.cluster == "*" for grant in scope.grants):
        said = "You see **the whole fleet**"
    else:
        shown = ", ".join(f"**{name}**" for name in names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        said = f"You own {shown}"
    groups = sorted({grant.subject.removeprefix("group:") for grant in scope.grants if grant.subject.startswith("group:")})
    through = f" through the group{'s' if len(groups) > 1 else ''} {', '.join(f'`{group}`' for group in groups)}" if groups else ""
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        with st.container(horizontal=True, vertical_alignment="center", width="content", gap="xsmall", key="inline-owner"):
            st.markdown(f":material/key: {said}{through}", width="content")
            navigation.link("access", "why?", query=url_state.link())
        st.space("stretch")
        with st.container(width="content"):
            summary.line(visit, [f"{clock.span(visit.time.since, visit.time.until)}"])
        summary.coverage_link(visit, pulse)


def _window_before(window: FlowFilter) -> tuple[FlowFilter, str]:
    """The window that numbers are held against, and what it is called."""
    length = window.until - window.since
    shift = DAY if length <= DAY else length
    before = replace(window, since=window.since - shift, until=window.until - shift)
    return before, "the day before" if shift == DAY else "the window before"


def _part_width(window: FlowFilter) -> timedelta:
    """How long the parts of `pulse` are."""
    return max(timedelta(minutes=1), bucket_width(window))


def _namespaces(visit: Visit, window: FlowFilter, answer: Answer, talking: Sequence[Edge], fresh: list[Edge] | None) -> None:
    scope, now = visit.door.scope(visit.who), datetime.now(UTC)
    at = min(window.until, now)
    mine = [
        row
        for row in answer.rows.to_pylist()
        if scope.everything or scope.sees_whole(row["cluster"], now) or scope.owns(row["cluster"], row["namespace"], at)
    ]
    title = "Namespaces" if scope.everything else "My namespaces"
    tables.namespaces(title, mine, window.since, window.until, talking, fresh)
