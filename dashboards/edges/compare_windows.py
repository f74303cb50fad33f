"""The two windows of a comparison: B is the head's window, A the one before it that is chosen here."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import streamlit as st

from dashboards.frame import clock, time_control, url_state
from warehouse.questions.flow_filter import FlowFilter

_AGAINST = {"before": "The window before", "day": "The day before", "week": "Same time last week", "two": "Two windows"}
LEVELS = {"namespace": "Namespace", "workload": "Workload"}
LEVEL = "workload"
"""Where nothing else is chosen."""


def choose(after: FlowFilter) -> FlowFilter:
    """Draw the choice of A and return it, with B's conditions; B is the head's window."""
    before = window_a(after)
    _draw_windows(before, after)
    return before


def window_a(after: FlowFilter) -> FlowFilter:
    """A as the address says, with B's conditions."""
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
        url_state.choose(st.segmented_control, "Level", LEVELS, "level", LEVEL)


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
