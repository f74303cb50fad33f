"""Two windows side by side: which edges are new, vanished, changed or decided differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import streamlit as st

from dashboards.charting import charts
from dashboards.edges import compare_windows, comparison, difference_table, edges, seen
from dashboards.edges.comparison import KINDS, Difference
from dashboards.flows import open_as_sql
from dashboards.frame import clock, export, filters, head, navigation, summary, theme, time_control, url_state
from dashboards.frame.time_control import TimeRange
from dashboards.history import changes
from dashboards.views import flows as flows_page
from dashboards.visit import Visit, not_future
from warehouse.errors import AccessDeniedError
from warehouse.questions import count_questions
from warehouse.questions.answers import Answer
from warehouse.questions.edges_in_time import edges_in_time
from warehouse.questions.flow_filter import FlowFilter, bucket_width
from warehouse.questions.question import Question
from warehouse.wording import counted

SHOWN = 500


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Compare", share=lambda: _export(visit))
    level = _level()
    try:
        filters.bar(visit)
        summary.foreign(visit)
        after = filters.applied(visit.time)
        before = compare_windows.choose(after)
        visit.ask_ahead(*asks(visit.time))
        answers = [visit.answer(edges_in_time(window, level=level)) for window in (before, after)]
    except AccessDeniedError:
        summary.denied(visit)
        return
    sides = [
        edges.edges_of(answer, since=window.since, until=window.until, by_port=level == "workload")
        for answer, window in zip(answers, (before, after), strict=True)
    ]
    if not any(sides):
        summary.nothing(visit, after, answers[1])
        return
    by_share = url_state.get("volumes") != "counts"
    scale = comparison.volume_scale(*sides) if by_share else (after.until - after.since) / (before.until - before.since)
    differences, unchanged = comparison.compare(*sides, scale=scale)
    if url_state.get("housekeeping") != "1":
        differences = [difference for difference in differences if not difference.edge.is_housekeeping]
    kinds = _pills(differences, unchanged, answers, scale)
    _overlay(visit, before, after)
    shown = [difference for difference in differences if not kinds or difference.kind in kinds]
    summary.line(
        visit, [f"**{min(len(shown), SHOWN):,}** of **{counted(len(differences), 'difference')}**" + summary.cut(answers[1], "edges")]
    )
    listed = changes.between(visit, before.since, not_future(after.until), tables=changes.WITH_DEPLOYMENTS)
    picked = difference_table.picked(shown[:SHOWN])
    times = None
    if any(difference.kind in ("new", "vanished") for difference in shown[:SHOWN]):
        times = seen.recorded(visit, replace(after, until=max(before.until, after.until)), level=level)
    grid = st.grid(4, gap="small", min_column_width=290)
    with grid.cell(column_span=3 if listed is not None or picked else "all"):
        if shown:
            difference_table.draw(visit, shown[:SHOWN], after, times)
        else:
            _nothing_shown(differences, unchanged)
    if listed is not None or picked:
        with grid.cell():
            if picked:
                difference_table.panel(visit, picked, before, after, times)
            if listed is not None:
                changes.draw(listed, differences)


def asks(time: TimeRange) -> tuple[Question[Any], ...]:
    """What the page asks first."""
    after = filters.applied(time)
    windows = after, compare_windows.window_a(after)
    return *(edges_in_time(window, level=_level()) for window in windows), *(count_questions.timeline(window) for window in windows)


def _level() -> Any:
    return url_state.chosen("level", compare_windows.LEVELS, compare_windows.LEVEL)


def _nothing_shown(differences: Sequence[Difference], unchanged: int) -> None:
    """Say why no difference is shown."""
    if differences:
        summary.empty("No difference of this kind", f"{len(differences)} of other kinds are there.", "rule", ("Show all kinds", _all_kinds))
    else:
        text = f"Both windows have the same {counted(unchanged, 'edge')}, within ± {theme.percent(comparison.CHANGED)}."
        summary.empty("Nothing changed", text, "check_circle")


def _pills(differences: Sequence[Difference], unchanged: int, answers: Sequence[Answer], scale: float) -> list[str]:
    counts = {kind: sum(difference.kind == kind for difference in differences) for kind in KINDS}
    chosen: list[str] = [kind for kind in url_state.get_all("kind") if kind in KINDS]
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.session_state["kinds"] = chosen
        st.pills(
            "Kinds",
            list(KINDS),
            selection_mode="multi",
            key="kinds",
            label_visibility="collapsed",
            wrap=True,
            format_func=lambda kind: f"{KINDS[kind]} **{counts[kind]}**",
            on_change=lambda: url_state.put("kind", st.session_state["kinds"]),
        )
        st.caption(f"{counted(unchanged, 'edge')} unchanged (within ± {theme.percent(comparison.CHANGED)})")
        st.session_state["compare housekeeping"] = url_state.get("housekeeping") == "1"
        st.toggle("DNS, metrics, health", key="compare housekeeping", on_change=_housekeeping)
        st.session_state["compare by share"] = url_state.get("volumes") != "counts"
        hint = "Compares each edge's share of its window's flows, so that a busier window does not change every edge"
        st.toggle("By share of traffic", key="compare by share", on_change=_by_share, help=hint)
        st.space("stretch")
        shares = [summary.observed(answer) for answer in answers]
        st.markdown(f":material/sensors: observed A **{theme.percent(shares[0])}** · B **{theme.percent(shares[1])}**", width="content")
    if url_state.get("volumes") != "counts" and abs(scale - 1) > comparison.CHANGED:
        more = "more" if scale > 1 else "fewer"
        by = theme.percent(round(abs(scale - 1), 2))
        st.caption(f"B has {by} {more} flows than A in all. Volumes are compared as shares of each window's total.")
    if shares[0] == 0:
        st.warning("A was not observed: everything in B looks new.", icon=":material/sensors_off:")
    return chosen


def _housekeeping() -> None:
    url_state.put("housekeeping", "1" if st.session_state["compare housekeeping"] else None)


def _by_share() -> None:
    url_state.put("volumes", None if st.session_state["compare by share"] else "counts")


def _all_kinds() -> None:
    url_state.put("kind", None)


def _overlay(visit: Visit, before: FlowFilter, after: FlowFilter) -> None:
    series = []
    for window in (before, after):
        answer = visit.answer(count_questions.timeline(window))
        counts: dict[datetime, int] = {}
        for row in answer.rows.to_pylist():
            counts[row["start"]] = counts.get(row["start"], 0) + row["flows"]
        series.append(counts)
    factor = (after.until - after.since) / (before.until - before.since)
    moved = [{"start": after.since + (start - before.since) * factor, "flows": flows} for start, flows in sorted(series[0].items())]
    bars = [{"start": start, "kind": "B", "flows": flows} for start, flows in series[1].items()]
    width = bucket_width(after)
    shades = theme.palette()
    theme.legend(
        f"Flows per {theme.duration(width)}, on the same clock",
        [
            (f"B, {clock.local(after.since):%-d %b}", shades.verdicts["FORWARDED"]),
            (f"A, {clock.local(before.since):%-d %b}, as a line", shades.text),
        ],
    )
    chart = charts.overlay(bars, moved, since=after.since, until=after.until, width=width, gaps=flows_page.gaps(visit), shades=shades)
    charts.draw(chart, "Flows of B as bars, of A as a line")


def _export(visit: Visit) -> None:
    st.divider()
    st.caption("The differences: the table's own download button gives them as CSV.")
    navigation.link("map", "The map of B", query=url_state.link(), icon="hub")
    after = filters.applied(visit.time)
    before = compare_windows.window_a(after)
    if navigation.exists("sql"):
        span = {
            "from_": time_control.written(min(before.since, after.since)),
            "until": time_control.written(max(before.until, after.until)),
        }
        query = url_state.link(q=open_as_sql.comparison(before, after), last=None, **span)
        navigation.link("sql", "Open as SQL", query=query, icon="terminal")
    st.caption(f"Exports of flows are on the page of flows, up to {export.ROWS:,} rows.")
