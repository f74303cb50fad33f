"""The overview's chart of drops by reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import streamlit as st

from dashboards.charting import charts, series
from dashboards.frame import navigation, theme, url_state
from dashboards.overview.cards import DROPPED
from warehouse.questions.answers import Answer
from warehouse.questions.flow_filter import FlowFilter
from warehouse.records.coverage import Gaps

REASONS = 4
"""Reasons with a colour of their own; the rest are drawn together as Other."""
DROPS_HEIGHT = 226
"""Of the chart, px: with it the card is about as high as the one beside it."""


def draw(window: FlowFilter, pulse: Answer, starts: Sequence[datetime], width: timedelta, gaps: Gaps) -> None:
    """Draw the chart with its legend and numbers; `starts` and `width` are those of the parts that `pulse` counts."""
    shades = theme.palette()
    counts: dict[str, int] = {}
    for row in pulse.rows.to_pylist():
        if row["verdict"] in DROPPED:
            name = row["reason"] or "none given"
            counts[name] = counts.get(name, 0) + row["flows"]
    most = sorted(counts, key=lambda name: -counts[name])
    kinds = most[:REASONS] + (["Other"] if len(most) > REASONS else [])
    inks = ["DROPPED", "AUDIT", "REDIRECTED", "FORWARDED"]
    colours = {kind: shades.verdicts[inks[place]] if place < len(inks) else shades.other for place, kind in enumerate(kinds)}
    legend = [
        (
            f"{theme.reason(kind if kind != 'none given' else None)} "
            + theme.compact(counts.get(kind, sum(counts[name] for name in most[REASONS:]))),
            colours[kind],
        )
        for kind in kinds
    ]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Drops by reason", anchor=False, width="content")
        st.space("stretch")
        navigation.link("flows", "Open in Flows", query=url_state.link(verdict="DROPPED"), icon="north_east")
    if not counts:
        st.caption("Nothing was dropped in this window" + (", of what was observed." if gaps else "."))
        return
    sums: dict[tuple[datetime, str], int] = {}
    for row in pulse.rows.to_pylist():
        if row["verdict"] in DROPPED:
            kind = row["reason"] or "none given"
            key = row["start"], kind if kind in most[:REASONS] else "Other"
            sums[key] = sums.get(key, 0) + row["flows"]
    rows = [{"start": start, "kind": kind, "flows": flows} for (start, kind), flows in sums.items()]
    names = {kind: theme.reason(None if kind == "none given" else kind) for kind in kinds}
    unit = f"Flows per {theme.duration(width)}"
    with st.container(horizontal=True, vertical_alignment="center"):
        theme.legend(unit, legend)
        st.space("stretch")
        series.popover(series.numbers(rows, starts, names), unit, key="numbers")
    chart = charts.bars(
        rows,
        since=window.since,
        until=window.until,
        width=width,
        colours=colours,
        gaps=gaps,
        shades=shades,
        height=DROPS_HEIGHT,
        names=names,
    )
    charts.draw(chart, "Drops in time by reason")
