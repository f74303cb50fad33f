"""The overview's tables: namespaces with their flows and drops, and the edges with most flows. A row leads to its flows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from dashboards.edges import edges
from dashboards.edges.edges import Edge
from dashboards.frame import narrowed, navigation

BUCKETS = 24
"""Parts of the window in which a namespace's drops are drawn."""
TALKERS = 8


def namespaces(
    title: str, rows: Sequence[Mapping[str, Any]], since: datetime, until: datetime, talking: Sequence[Edge], fresh: Sequence[Edge] | None
) -> None:
    """Draw the namespaces of rows of `cluster`, `namespace`, `start`, `flows`, `denied`; links of the chosen one stand beside the title."""
    width = (until - since) / BUCKETS
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        mine = found.setdefault(row["namespace"], {"clusters": set(), "flows": 0, "denied": 0, "drops": [0] * BUCKETS})
        mine["clusters"].add(row["cluster"])
        mine["flows"] += row["flows"]
        mine["denied"] += row["denied"]
        mine["drops"][min(max((row["start"] - since) // width, 0), BUCKETS - 1)] += row["denied"]
    order = sorted(found, key=lambda name: (-found[name]["denied"], -found[name]["flows"]))
    cells = st.session_state.get("namespaces", {}).get("selection", {}).get("cells", [])
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.subheader(title, anchor=False, width="content")
        st.space("stretch")
        if cells and cells[0][0] < len(order):
            name = order[cells[0][0]]
            navigation.link("flows", f"Flows of {name}", query=narrowed.link(f"ns={name}"), icon="bar_chart")
            navigation.link("map", f"{name} on the map", query=narrowed.link(f"ns={name}"), icon="hub")
        else:
            st.caption("Choose a row to go to its flows.", width="content")
    most = max((max(mine["drops"]) for mine in found.values()), default=1)
    shown = [_namespace_row(name, found[name], talking, fresh) for name in order]
    st.dataframe(
        shown,
        hide_index=True,
        row_height=30,
        height=min(310, 37 + 30 * max(1, len(shown))),
        key="namespaces",
        on_select="rerun",
        selection_mode="single-cell",
        alt="Namespaces with their flows and drops",
        placeholder="–",  # noqa: RUF001 - stands for nothing
        column_config={
            "Flows": st.column_config.NumberColumn(format="compact", width=80),
            "Dropped": st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100, width=130, color="red"),
            "Drops in time": st.column_config.BarChartColumn(y_min=0, y_max=max(1, most), width=160, color="red"),
            "Peers": st.column_config.NumberColumn(width=70, help="Namespaces, and names outside, that it talks with"),
            "New edges": st.column_config.NumberColumn(width=90),
        },
    )


def _namespace_row(name: str, found: Mapping[str, Any], talking: Sequence[Edge], fresh: Sequence[Edge] | None) -> dict[str, Any]:
    mine = edges.touching(talking, name)
    peers = {end.namespace if end.namespace != edges.OUTSIDE else end.name for edge in mine for end in (edge.source, edge.destination)} - {
        name
    }
    return {
        "Namespace": name,
        "Flows": found["flows"],
        "Dropped": 100 * found["denied"] / found["flows"] if found["flows"] else 0.0,
        "Drops in time": found["drops"],
        "Peers": len(peers),
        "New edges": None if fresh is None else len(edges.touching(fresh, name)),
        "Clusters": ", ".join(sorted(found["clusters"])),
    }


def talkers(talking: Sequence[Edge], owns: Callable[[str], bool]) -> None:
    """Draw the edges with most flows, the rest as one row, and the total; a chosen edge leads to its flows."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Top talkers", anchor=False)
    shown, rest = talking[:TALKERS], talking[TALKERS:]
    rows = [{"Edge": str(edge), "Flows": edge.flows} for edge in shown]
    if rest:
        rows.append({"Edge": f"Other ({len(rest)})", "Flows": sum(edge.flows for edge in rest)})
    rows.append({"Edge": "Total", "Flows": sum(edge.flows for edge in talking)})
    turn = st.session_state.get("talkers round", 0)
    st.dataframe(
        rows,
        hide_index=True,
        row_height=30,
        key=f"talkers {turn}",
        on_select="rerun",
        selection_mode="single-cell",
        alt="Edges with most flows; choosing one opens its flows",
        column_config={
            "Edge": st.column_config.TextColumn(width=340),
            "Flows": st.column_config.ProgressColumn(
                format="compact", min_value=0, max_value=max(1, sum(edge.flows for edge in talking)), width=84, color="blue"
            ),
        },
    )
    cells = st.session_state.get(f"talkers {turn}", {}).get("selection", {}).get("cells", [])
    if cells and cells[0][0] < len(shown):
        st.session_state["talkers round"] = turn + 1  # so that nothing is chosen when the reader comes back
        navigation.go("flows", narrowed.link(*edges.filter_of(shown[cells[0][0]], owns)))
