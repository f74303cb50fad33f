"""Two windows side by side: which edges are new, vanished, changed or decided differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboards.charting import charts
from dashboards.edges import comparison, edges
from dashboards.edges.comparison import KINDS, Difference
from dashboards.edges.edges import Edge
from dashboards.flows import open_as_sql
from dashboards.frame import clock, export, filters, head, navigation, ownership, summary, theme, time_control, url_state
from dashboards.history import changes
from dashboards.visit import Visit, not_future
from warehouse.engine import Window
from warehouse.errors import AccessDeniedError
from warehouse.questions import count_questions
from warehouse.questions.answers import Answer
from warehouse.questions.edges_in_time import edges_in_time
from warehouse.questions.flow_filter import FlowFilter, bucket_width
from warehouse.questions.record_questions import Ledger
from warehouse.records import coverage

SHOWN = 500
PARTS = 12
"""Bars of each window in the table."""
_AGAINST = {"before": "The window before", "day": "The day before", "week": "Same time last week", "two": "Two windows"}
_LEVELS = {"namespace": "Namespace", "workload": "Workload"}
_LEVEL = "workload"
_CHIPS = ["#A63A12", "green", "gray", "blue"]


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Compare", share=lambda: _export(visit))
    level: Any = url_state.chosen("level", _LEVELS, _LEVEL)
    try:
        filters.bar(visit)
        summary.foreign(visit)
        after = filters.applied(visit)
        before = _windows(after)
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
    summary.line(visit, [f"**{min(len(shown), SHOWN):,}** of **{len(differences):,}** differences" + summary.cut(answers[1], "edges")])
    listed = changes.between(visit, before.since, not_future(after.until), tables=changes.WITH_DEPLOYMENTS)
    picked = _picked(shown[:SHOWN])
    grid = st.grid(4, gap="small", min_column_width=290)
    with grid.cell(column_span=3 if listed is not None or picked else "all"):
        _differences(visit, shown, differences, unchanged, after)
    if listed is not None or picked:
        with grid.cell():
            if picked:
                _panel(visit, picked, before, after)
            if listed is not None:
                changes.draw(listed, differences)


def _differences(visit: Visit, shown: Sequence[Difference], differences: Sequence[Difference], unchanged: int, after: FlowFilter) -> None:
    if shown:
        _table(visit, shown[:SHOWN], after)
    elif differences:
        summary.empty("No difference of this kind", f"{len(differences)} of other kinds are there.", "rule", ("Show all kinds", _all_kinds))
    else:
        summary.empty("Nothing changed", f"All {unchanged} edges are in both windows, within ± {comparison.CHANGED:.0%}.", "check_circle")


# Windows ------------------------------------------------------------------------------------------------------


def _windows(after: FlowFilter) -> FlowFilter:
    """Draw the choice of A and return it, with B's conditions; B is the head's window."""
    before = _window_a(after)
    _draw_windows(before, after)
    return before


def _window_a(after: FlowFilter) -> FlowFilter:
    against = url_state.chosen("against", _AGAINST, "day")
    length = after.until - after.since
    begin, end = (time_control.parse_moment(url_state.get(name)) for name in ("a_from", "a_until"))
    if against == "two" and begin and end and begin < end:
        return replace(after, since=begin, until=end)
    shift = {"before": length, "day": max(timedelta(days=1), length), "week": max(timedelta(days=7), length)}.get(against, length)
    return replace(after, since=after.since - shift, until=after.until - shift)


def _draw_windows(before: FlowFilter, after: FlowFilter) -> None:
    against = url_state.chosen("against", _AGAINST, "day")
    with st.container(border=True, horizontal=True, vertical_alignment="center", wrap=True):
        st.badge("A before", color="gray")
        st.markdown(f"**{clock.span(before.since, before.until)}**", width="content")
        st.markdown("→", width="content")
        st.badge("B after", color="blue")
        st.markdown(f"**{clock.span(after.since, after.until)}**", width="content")
        st.session_state["against"] = against
        st.selectbox(
            "A is",
            list(_AGAINST),
            key="against",
            format_func=_AGAINST.__getitem__,
            on_change=_against,
            args=(before,),
            width=200,
            label_visibility="collapsed",
        )
        if against == "two":
            with st.popover("Choose A", icon=":material/schedule:", key="choose a"), st.form("window a", border=False):
                st.session_state["a from"] = clock.local(before.since).replace(tzinfo=None, second=0, microsecond=0)
                st.session_state["a until"] = clock.local(before.until).replace(tzinfo=None, second=0, microsecond=0)
                st.datetime_input(f"A from ({clock.name()})", value=None, key="a from", step=60, format="YYYY-MM-DD")
                st.datetime_input(f"A to ({clock.name()})", value=None, key="a until", step=60, format="YYYY-MM-DD")
                st.form_submit_button("Apply", on_click=_set_a, width="stretch")
        st.space("stretch")
        url_state.choose(st.segmented_control, "Level", _LEVELS, "level", _LEVEL)


def _against(before: FlowFilter) -> None:
    chosen = st.session_state["against"]
    url_state.put("against", chosen)
    two = chosen == "two"
    url_state.put("a_from", time_control.written(before.since) if two else None)
    url_state.put("a_until", time_control.written(before.until) if two else None)


def _set_a() -> None:
    since, until = st.session_state["a from"], st.session_state["a until"]
    if since and until and since < until:
        url_state.put("a_from", time_control.written(clock.to_utc(since)))
        url_state.put("a_until", time_control.written(clock.to_utc(until)))


# What differs -------------------------------------------------------------------------------------------------


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
        st.caption(f"{unchanged:,} edges unchanged (within ± {comparison.CHANGED:.0%})")
        st.session_state["compare housekeeping"] = url_state.get("housekeeping") == "1"
        st.toggle("DNS, metrics, health", key="compare housekeeping", on_change=_housekeeping)
        st.session_state["compare by share"] = url_state.get("volumes") != "counts"
        hint = "Compares each edge's share of its window's flows, so that a busier window does not change every edge"
        st.toggle("By share of traffic", key="compare by share", on_change=_by_share, help=hint)
        st.space("stretch")
        shares = [sum(answer.shares.values()) / len(answer.shares) if answer.shares else 0.0 for answer in answers]
        st.markdown(f":material/sensors: observed A **{theme.percent(shares[0])}** · B **{theme.percent(shares[1])}**", width="content")
    if url_state.get("volumes") != "counts" and abs(scale - 1) > comparison.CHANGED:
        more = "more" if scale > 1 else "fewer"
        st.caption(f"B has {abs(scale - 1):.0%} {more} flows than A in all. Volumes are compared as shares of each window's total.")
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
    chart = charts.overlay(bars, moved, since=after.since, until=after.until, width=width, shades=shades)
    st.altair_chart(chart, theme=None, alt="Flows of B as bars, of A as a line")


def _table(visit: Visit, shown: Sequence[Difference], after: FlowFilter) -> None:
    until = not_future(after.until)
    gaps: list[coverage.Gap] = []
    if after.since < until:
        window = Window(since=after.since, until=until)
        ledger = visit.answer(Ledger(window=window))
        gaps = coverage.gaps(ledger.rows, after.since, until)
    rows = [_row(difference, gaps, until - after.since) for difference in shown]
    most = max((max(row["Volume A, B"]) for row in rows), default=1)
    st.dataframe(
        rows,
        key=_table_key(),
        hide_index=True,
        row_height=28,
        height=min(560, 37 + 28 * len(rows)),
        on_select="rerun",
        selection_mode="single-cell",
        placeholder="–",  # noqa: RUF001 - stands for nothing
        alt="Edges that differ between A and B",
        column_config={
            "Kind": st.column_config.MultiselectColumn(options=list(KINDS.values()), color=_CHIPS, width=120),
            "Edge": st.column_config.TextColumn(width=330),
            "A flows": st.column_config.NumberColumn(format="compact", width=75),
            "B flows": st.column_config.NumberColumn(format="compact", width=75),
            "Change": st.column_config.NumberColumn(format="%+.0f %%", width=80),
            "Volume A, B": st.column_config.BarChartColumn("Volume A | B", y_min=0, y_max=most if len(rows) == 1 else None, width=130),
            "Verdict and evidence": st.column_config.TextColumn(width=230),
        },
    )


def _row(difference: Difference, gaps: Sequence[coverage.Gap], length: timedelta) -> dict[str, Any]:
    a, b = difference.a, difference.b
    said = comparison.said(difference)
    if comparison.in_gap(difference, gaps, length):
        said += " · B was not observed throughout"
    change = difference.change
    return {
        "Kind": [KINDS[difference.kind]],
        "Edge": str(difference.edge),
        "A flows": a.flows if a else 0,
        "B flows": b.flows if b else 0,
        "Change": None if change is None else change * 100,
        "Volume A, B": [*_buckets(a, b), 0, *_buckets(b, a)],
        "Verdict and evidence": said,
        "Clusters": ", ".join(difference.edge.clusters),
    }


def _buckets(edge: Edge | None, other: Edge | None) -> list[int]:
    """At most PARTS counts of an edge in time; noughts where it was not."""
    if edge is None:
        return [0] * min(PARTS, len(other.buckets) if other else 1)
    step = -(-len(edge.buckets) // PARTS)
    return [sum(edge.buckets[place : place + step]) for place in range(0, len(edge.buckets), step)]


def _table_key() -> str:
    return f"differences {st.session_state.get('compare round', 0)}"


def _picked(shown: Sequence[Difference]) -> Difference | None:
    """The difference whose row was clicked."""
    cells = st.session_state.get(_table_key(), {}).get("selection", {}).get("cells", [])
    return shown[int(cells[0][0])] if cells and int(cells[0][0]) < len(shown) else None


def _panel(visit: Visit, difference: Difference, before: FlowFilter, after: FlowFilter) -> None:
    """Where to look further at the edge that was clicked."""
    conditions = [str(condition) for condition in edges.filter_of(difference.edge, ownership.owned(visit))]
    with st.container(border=True, key="panel"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{difference.edge}**", width="content")
            st.space("stretch")
            st.button("", icon=":material/close:", type="tertiary", key="close panel", help="Close", on_click=_close)
        st.caption(comparison.said(difference) or KINDS[difference.kind])
        for label, window, edge in (("Its flows in A", before, difference.a), ("Its flows in B", after, difference.b)):
            if edge:
                span = {"from_": time_control.written(window.since), "until": time_control.written(window.until)}
                navigation.link("flows", label, query=url_state.link(f=conditions, last=None, **span), icon="bar_chart")


def _close() -> None:
    st.session_state["compare round"] = st.session_state.get("compare round", 0) + 1


def _export(visit: Visit) -> None:
    st.divider()
    st.caption("The differences: the table's own download button gives them as CSV.")
    navigation.link("map", "The map of B", query=url_state.link(), icon="hub")
    after = filters.applied(visit)
    before = _window_a(after)
    if navigation.exists("sql"):
        span = {
            "from_": time_control.written(min(before.since, after.since)),
            "until": time_control.written(max(before.until, after.until)),
        }
        query = url_state.link(q=open_as_sql.comparison(before, after), last=None, **span)
        navigation.link("sql", "Open as SQL", query=query, icon="terminal")
    st.caption(f"Exports of flows are on the page of flows, up to {export.ROWS:,} rows.")
