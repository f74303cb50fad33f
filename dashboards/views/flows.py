"""The page of flows: the filter bar, verdicts, a histogram to brush, the table, and one flow's details beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboards.charting import charts, series
from dashboards.flows import flow_panel, flow_rows, sorting
from dashboards.frame import clock, export, filters, head, summary, theme, time_control, url_state
from dashboards.frame.time_control import TimeRange
from dashboards.visit import Visit, forget, not_future
from warehouse.engine import Limits, Window
from warehouse.errors import AccessDeniedError
from warehouse.questions import count_questions, flow_questions
from warehouse.questions.answers import Answer
from warehouse.questions.flow_filter import FlowFilter, bucket_width
from warehouse.questions.flow_table import FlowQuestion
from warehouse.questions.question import Question
from warehouse.questions.record_questions import Ledger
from warehouse.records import coverage

LIMIT = 400
LIVE_SECONDS = 5
_TABLE = "flows table"


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    is_live = url_state.get("live") == "1" and visit.time.ends_now
    head.draw(visit, "Flows", extra=lambda: _live_toggle(visit.time, is_live), share=lambda: export.menu(visit, _wanted(visit.time)))
    try:
        filters.bar(visit)
        summary.foreign(visit)
        every = filters.applied(visit.time)
        visit.ask_ahead(*asks(visit.time))
        timeline = visit.answer(count_questions.timeline(every))
    except AccessDeniedError:
        summary.denied(visit)
        return
    counts = verdict_counts(timeline)
    _controls(visit, counts, timeline)
    wanted = _wanted(visit.time)
    brushed = _histogram(visit, wanted, timeline)
    shown = replace(wanted, since=brushed[0], until=brushed[1]) if brushed else wanted
    answer = visit.answer(_rows(shown))
    total = _total(timeline, wanted, brushed)
    _line(visit, answer, total, brushed)
    if answer.rows.num_rows:
        _result(visit, answer.rows.to_pylist(), shown)
    else:
        summary.nothing(visit, shown, answer)
    if is_live:
        _tick()


def verdict_counts(timeline: Answer) -> dict[str, int]:
    """Flows by verdict."""
    counts: dict[str, int] = {}
    for row in timeline.rows.to_pylist():
        counts[row["verdict"]] = counts.get(row["verdict"], 0) + row["flows"]
    return counts


def asks(time: TimeRange) -> tuple[Question[Any], ...]:
    """What the page asks first."""
    return _rows(_wanted(time)), count_questions.timeline(filters.applied(time))


def _rows(wanted: FlowFilter) -> FlowQuestion:
    """The question for the flows that are listed, in the order and with the columns that were chosen."""
    columns = flow_rows.needed(flow_rows.chosen())
    return flow_questions.ordered(wanted, sorting.chosen(), columns=columns, limits=Limits(rows=LIMIT))


def _wanted(time: TimeRange) -> FlowFilter:
    return filters.applied(time, tuple(url_state.get_all("verdict")))


# Controls -----------------------------------------------------------------------------------------------------


def _live_toggle(window: TimeRange, is_live: bool) -> None:
    st.session_state["live"] = is_live
    st.toggle(
        "Live",
        key="live",
        on_change=lambda: url_state.put("live", "1" if st.session_state["live"] else None),
        disabled=not window.ends_now,
        help=f"New flows every {LIVE_SECONDS} s" if window.ends_now else "Only a window that ends now can be live",
    )


@st.fragment(run_every=LIVE_SECONDS)
def _tick() -> None:
    anchor: datetime | None = st.session_state.get("last tick")
    now = datetime.now(UTC)
    if anchor is not None and now - anchor >= timedelta(seconds=LIVE_SECONDS - 1):
        st.session_state["last tick"] = now
        time_control.refresh()
        forget()
        st.rerun()
    st.session_state.setdefault("last tick", now)


def _controls(visit: Visit, counts: Mapping[str, int], timeline: Answer) -> None:
    """Verdicts with their counts (at once filter and legend), columns, coverage."""
    chosen = [verdict for verdict in url_state.get_all("verdict") if verdict in theme.VERDICTS]
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.session_state["verdicts"] = chosen
        st.pills(
            "Verdicts",
            [verdict for verdict in theme.VERDICTS if counts.get(verdict) or verdict in chosen],
            selection_mode="multi",
            key="verdicts",
            on_change=lambda: url_state.put("verdict", st.session_state["verdicts"]),
            label_visibility="collapsed",
            wrap=True,
            format_func=lambda verdict: f"{theme.ICONS[verdict]} {verdict.capitalize()} **{theme.compact(counts.get(verdict, 0))}**",
        )
        st.space("stretch")
        sorting.choice()
        with st.popover("Columns", icon=":material/view_column:", key="columns popover"):
            flow_rows.chooser()
        summary.coverage_link(visit, timeline)


def _histogram(visit: Visit, wanted: FlowFilter, timeline: Answer) -> tuple[datetime, datetime] | None:
    """Draw it, and give the part of the window that is brushed."""
    shades = theme.palette()
    rows = [
        {"start": row["start"], "kind": row["verdict"], "flows": row["flows"]}
        for row in timeline.rows.to_pylist()
        if not wanted.verdicts or row["verdict"] in wanted.verdicts
    ]
    kinds = [verdict for verdict in ("DROPPED", "ERROR", "AUDIT", "REDIRECTED", "FORWARDED") if any(row["kind"] == verdict for row in rows)]
    others = sorted({row["kind"] for row in rows} - set(kinds))
    colours = {kind: shades.verdicts.get(kind, shades.other) for kind in [*kinds, *others]}
    before = _before(visit, wanted) if url_state.get("previous") == "1" else []
    if colours:
        _legend(wanted, rows, colours, shades)
    chart = charts.bars(
        rows,
        since=wanted.since,
        until=wanted.until,
        width=bucket_width(wanted),
        colours=colours,
        gaps=gaps(visit),
        shades=shades,
        names={kind: theme.verdict_label(kind) for kind in colours},
        brush=True,
        before=before,
    )
    name = f"histogram {wanted.since} {wanted.until} {st.session_state.get('histogram round', 0)}"
    alt = "Flows in time by verdict; drag to narrow the time"
    state: Any = st.vega_lite_chart(chart, theme=None, key=name, on_select="rerun", selection_mode=charts.BRUSH, alt=alt)
    ends = (state.get("selection", {}).get(charts.BRUSH, {}) or {}).get("begin") if state else None
    if not ends or len(ends) != 2 or ends[1] - ends[0] < 1000:
        return None
    moments = [datetime.fromtimestamp(end / 1000, UTC).replace(microsecond=0) for end in ends]
    since, until = max(moments[0], wanted.since), min(moments[1] + timedelta(seconds=1), wanted.until)
    return (since, until) if since < until else None


def _legend(wanted: FlowFilter, rows: Sequence[Mapping[str, Any]], colours: dict[str, str], shades: theme.Palette) -> None:
    """The chart's colours, the choice of the window before beside it, and its numbers."""
    width, is_beside = bucket_width(wanted), url_state.get("previous") == "1"
    names = {kind: theme.LABELS.get(kind, f"  {kind}")[2:] for kind in reversed(colours)}
    entries = [(name, colours[kind]) for kind, name in names.items()]
    unit = f"Flows per {theme.duration(width)}"
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        theme.legend(unit, [*entries, *([("the window before, as a line", shades.text)] if is_beside else [])])
        st.space("stretch")
        st.session_state["previous"] = is_beside
        st.toggle(
            "Window before",
            key="previous",
            on_change=lambda: url_state.put("previous", "1" if st.session_state["previous"] else None),
            help="Draws the flows of the window right before this one as a line, on the same clock",
        )
        moments = series.starts(wanted.since, not_future(wanted.until), width)
        series.popover(series.numbers(rows, moments, names), unit, key="numbers")


def _before(visit: Visit, wanted: FlowFilter) -> list[dict[str, Any]]:
    """Flows of the window right before, moved onto this one."""
    length = wanted.until - wanted.since
    earlier = replace(wanted, since=wanted.since - length, until=wanted.since)
    answer = visit.answer(count_questions.timeline(earlier))
    visit.answers.remove(answer)
    counts: dict[datetime, int] = {}
    for row in answer.rows.to_pylist():
        if not wanted.verdicts or row["verdict"] in wanted.verdicts:
            counts[row["start"]] = counts.get(row["start"], 0) + row["flows"]
    moments = series.starts(earlier.since, earlier.until, bucket_width(earlier))
    return [{"start": moment + length, "flows": counts.get(moment, 0)} for moment in moments]


def gaps(visit: Visit, *, of: Callable[[str], bool] | None = None) -> coverage.Gaps:
    """What was observed in the window, and what was not; of the clusters that `of` is true for, where it is given."""
    until = not_future(visit.time.until)
    if visit.time.since >= until:
        return coverage.Gaps([], {})
    window = Window(since=visit.time.since, until=until)
    ledger = visit.answer(Ledger(window=window))
    visit.answers.remove(ledger)
    rows = ledger.rows
    if of is not None:
        wanted = [cluster for cluster in rows["cluster"].unique().to_pylist() if of(cluster)]
        rows = rows.filter(pc.is_in(rows["cluster"], value_set=pa.array(wanted, pa.string())))
    return coverage.gaps(rows, visit.time.since, until)


# Answers ------------------------------------------------------------------------------------------------------


def _total(timeline: Answer, wanted: FlowFilter, brushed: tuple[datetime, datetime] | None) -> int | None:
    """Flows that match, counted by the timeline; None for a brushed part, which cuts through its bars."""
    if brushed:
        return None
    counts = verdict_counts(timeline)
    return sum(number for verdict, number in counts.items() if not wanted.verdicts or verdict in wanted.verdicts)


def _line(visit: Visit, answer: Answer, total: int | None, brushed: tuple[datetime, datetime] | None) -> None:
    rows = answer.rows.num_rows
    shown = f"**{rows:,}**"
    of = f" of **{theme.compact(total)}** flows" if total is not None and answer.cut else " flows"
    part = [f"{shown}{of}" + (f" in **{clock.span(*brushed)}**" if brushed else "")]
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        with st.container(width="content"):
            first = [f"{sorting.word(sorting.chosen())} first; a column's head sorts these {rows:,} only"] if answer.cut else []
            summary.line(visit, [*part, *first], limit=LIMIT)
        if brushed:
            st.button("Zoom in", icon=":material/zoom_in:", type="tertiary", on_click=time_control.set_range, args=brushed, key="zoom in")
            st.button("Clear", icon=":material/close:", type="tertiary", on_click=_clear_brush, key="clear brush")


def _clear_brush() -> None:
    st.session_state["histogram round"] = st.session_state.get("histogram round", 0) + 1


def _result(visit: Visit, rows: Sequence[Mapping[str, Any]], wanted: FlowFilter) -> None:
    columns = flow_rows.chosen()
    grid = st.grid(3, gap="small", min_column_width=390)
    name = f"{_TABLE} {st.session_state.get('table round', 0)}"
    place, column = _picked(name, rows)
    with grid.cell(column_span=2 if place is not None else "all"):
        st.dataframe(
            flow_rows.table(rows, columns),
            key=name,
            hide_index=True,
            height=min(560, 37 + 28 * len(rows)),
            row_height=28,
            on_select="rerun",
            selection_mode="single-cell",
            alt=f"Flows, {sorting.word(sorting.chosen())} first",
            column_config=flow_rows.configuration(columns, wanted.since, wanted.until),
        )
    if place is not None:
        with grid.cell():
            flow_panel.draw(visit, rows[place], column, _close)


def _picked(name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[int | None, str | None]:
    """The row and the column that were clicked, or the row that the address names."""
    cells = st.session_state.get(name, {}).get("selection", {}).get("cells", [])
    if cells and int(cells[0][0]) < len(rows):
        place = int(cells[0][0])
        url_state.put("flow", rows[place]["uuid"])
        return place, str(cells[0][1])
    asked = url_state.get("flow")
    found = next((place for place, row in enumerate(rows) if row["uuid"] == asked), None) if asked else None
    if asked and found is None:
        url_state.put("flow", None)
    return found, None


def _close() -> None:
    url_state.put("flow", None)
    st.session_state["table round"] = st.session_state.get("table round", 0) + 1
