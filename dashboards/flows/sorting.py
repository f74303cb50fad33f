"""The order of the table of flows: of all that match, not only of those that are loaded. It is in the address as `sort=-latency`.

A click on the head of a column orders the rows that are loaded; that is the browser's and needs nothing here.
"""

from __future__ import annotations

import streamlit as st

from dashboards.frame import url_state
from warehouse.questions.flow_questions import NEWEST, ORDERS, Order

_WORDS = {
    "time": ("Newest", "Oldest"),
    "latency": ("Slowest", "Fastest"),
    "flows": ("Most flows", "Fewest flows"),
    "source": ("Source Z", "Source A"),
    "destination": ("Destination Z", "Destination A"),
    "port": ("Highest port", "Lowest port"),
    "verdict": ("Verdict Z", "Verdict A"),
    "reason": ("Drop reason Z", "Drop reason A"),
    "code": ("Highest HTTP status", "Lowest HTTP status"),
    "cluster": ("Cluster Z", "Cluster A"),
}
"""What each order of `flow_questions.ORDERS` is called, descending and ascending."""
_OFFERED = {str(Order(by, descending)): words[not descending] for by, words in _WORDS.items() for descending in (True, False)}


def chosen() -> Order:
    """Return the order of the address, newest first where it has none that exists."""
    text = url_state.get("sort")
    order = Order(text.removeprefix("-"), text.startswith("-"))
    return order if order.by in ORDERS else NEWEST


def word(order: Order) -> str:
    """Return the name of what comes first in an order, as in `400 (newest first) of 2 k flows`."""
    name = _WORDS[order.by][not order.descending]
    return name[:1].lower() + name[1:]


def choice() -> None:
    """Draw the choice."""
    st.session_state["sort"] = str(chosen())
    st.selectbox(
        "Sort all that match",
        list(_OFFERED),
        key="sort",
        format_func=lambda order: f"{_OFFERED[order]} first",
        on_change=_choose,
        label_visibility="collapsed",
        width=190,
        help="Sorts all flows that match, and shows the first of them; a click on a column's head sorts those that are shown",
    )


def _choose() -> None:
    picked = st.session_state["sort"]
    url_state.put("sort", None if picked == str(NEWEST) else picked)
