"""The differences of a comparison as a table, and the panel of the one that was clicked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import streamlit as st

from dashboards.edges import comparison, edges
from dashboards.edges.comparison import KINDS, Difference
from dashboards.edges.edges import Edge
from dashboards.edges.seen import Recorded
from dashboards.frame import navigation, ownership, time_control, url_state
from dashboards.visit import Visit, not_future
from warehouse.engine import Window
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.record_questions import Ledger
from warehouse.records import coverage

PARTS = 12
"""Bars of each window in the table."""
_CHIPS = ["#A63A12", "green", "gray", "blue"]


def draw(visit: Visit, shown: Sequence[Difference], after: FlowFilter, seen: Recorded | None) -> None:
    """Draw a table of differences, a row each."""
    until = not_future(after.until)
    gaps: list[coverage.Gap] = []
    if after.since < until:
        window = Window(since=after.since, until=until)
        ledger = visit.answer(Ledger(window=window))
        gaps = coverage.gaps(ledger.rows, after.since, until)
    rows = [_row(difference, gaps, until - after.since, seen) for difference in shown]
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
            "Kind": st.column_config.MultiselectColumn(options=list(KINDS.values()), color=_CHIPS, width=105),
            "Edge": st.column_config.TextColumn(width=310),
            "A flows": st.column_config.NumberColumn(format="compact", width=75),
            "B flows": st.column_config.NumberColumn(format="compact", width=75),
            "Change": st.column_config.NumberColumn(format="%+.0f %%", width=80),
            "Volume A, B": st.column_config.BarChartColumn("Volume A | B", y_min=0, y_max=most if len(rows) == 1 else None, width=100),
            "Verdict and evidence": st.column_config.TextColumn(width=330),
        },
    )


def _row(difference: Difference, gaps: Sequence[coverage.Gap], length: timedelta, seen: Recorded | None) -> dict[str, Any]:
    a, b = difference.a, difference.b
    said = comparison.in_words(difference, seen)
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


def picked(shown: Sequence[Difference]) -> Difference | None:
    """The difference whose row was clicked."""
    cells = st.session_state.get(_table_key(), {}).get("selection", {}).get("cells", [])
    return shown[int(cells[0][0])] if cells and int(cells[0][0]) < len(shown) else None


def panel(visit: Visit, difference: Difference, before: FlowFilter, after: FlowFilter, seen: Recorded | None) -> None:
    """Where to look further at the edge that was clicked."""
    conditions = [str(condition) for condition in edges.filter_of(difference.edge, ownership.owned(visit))]
    with st.container(border=True, key="panel"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{difference.edge}**", width="content")
            st.space("stretch")
            st.button("", icon=":material/close:", type="tertiary", key="close panel", help="Close", on_click=_close)
        st.caption(comparison.in_words(difference, seen) or KINDS[difference.kind])
        for label, window, edge in (("Its flows in A", before, difference.a), ("Its flows in B", after, difference.b)):
            if edge:
                span = {"from_": time_control.written(window.since), "until": time_control.written(window.until)}
                navigation.link("flows", label, query=url_state.link(f=conditions, last=None, **span), icon="bar_chart")


def _close() -> None:
    st.session_state["compare round"] = st.session_state.get("compare round", 0) + 1
