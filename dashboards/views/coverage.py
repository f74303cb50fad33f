"""What was not seen: each node's share of the window, its gaps with their causes, and flows known lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

import streamlit as st

from dashboards.charting import charts
from dashboards.frame import clock, export, head, summary, theme
from dashboards.frame.theme import Palette
from dashboards.visit import Visit, not_future
from warehouse.engine import Window
from warehouse.errors import AccessDeniedError
from warehouse.questions.answers import Answer
from warehouse.questions.record_questions import Ledger
from warehouse.records import coverage
from warehouse.records.coverage import UNDATED, Gap, Gaps
from warehouse.wording import counted

LIMIT = 1_000
ROW = 22
"""Height of a node in the picture, px."""
MOST_NODES = 60


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    until = not_future(visit.time.until)
    head.draw(visit, "Coverage")
    if visit.time.since >= until:
        summary.empty("Not yet", "This window lies in the future.", "schedule")
        return
    window = Window(since=visit.time.since, until=until)
    try:
        answer = visit.answer(Ledger(window=window))
    except AccessDeniedError:
        summary.denied(visit)
        return
    gaps = coverage.gaps(answer.rows, visit.time.since, until)
    _cards(answer, gaps)
    if not answer.coverage:
        summary.empty(
            "Not observed",
            f"The ledger has no row of {clock.span(visit.time.since, until)}: no collector ran, or none that you may see.",
            "sensors_off",
        )
        return
    said = f"**{counted(len(answer.coverage), 'node')}** of **{counted(len(answer.shares), 'cluster')}** · source: the ledger"
    st.caption(f"{said}, {counted(answer.rows.num_rows, 'row')} · {answer.seconds:.2f} s")
    _nodes(answer, gaps, visit.time.since, until)
    _gaps(gaps)
    _losses(visit, answer)


def _cards(answer: Answer, gaps: Sequence[Gap]) -> None:
    cards = st.grid("auto", gap="small", border=True, min_column_width=180)
    with cards.cell():
        st.metric(
            "Observed",
            theme.percent(summary.observed(answer)),
            counted(len(gaps), "gap"),
            delta_color="off",
            delta_arrow="off",
            help="Share of node-time",
        )
    with cards.cell():
        undated = answer.coverage.flows_lost_undated
        more = f"{theme.compact(undated)} more at an unknown time" if undated else "as Hubble reported"
        words = answer.losses or "no flow known lost"
        st.metric("Flows known lost", theme.compact(answer.flows_lost), more, delta_color="off", delta_arrow="off", help=words)
    for cluster, share in sorted(answer.shares.items()):
        with cards.cell():
            nodes = [node for node in answer.coverage if node.cluster == cluster]
            whole = sum(node.covered >= 0.9999 for node in nodes)
            st.metric(
                cluster, theme.percent(share), f"{whole} of {counted(len(nodes), 'node')} throughout", delta_color="off", delta_arrow="off"
            )


def _nodes(answer: Answer, gaps: Gaps, since: datetime, until: datetime) -> None:
    nodes = sorted(answer.coverage, key=lambda node: (node.covered, node.cluster, node.node_name))
    shades = theme.palette()
    first = f" · the first {MOST_NODES}" if len(nodes) > MOST_NODES else ""
    theme.legend(f"Nodes in time, the worst first{first}", [("observed", shades.observed), ("not observed", shades.gap)])
    shown = [(node.cluster, node.node_name) for node in nodes[:MOST_NODES]]
    charts.draw(picture(shown, gaps, since, until, shades), "Coverage of each node in time")
    st.dataframe(
        [
            {
                "Cluster": node.cluster,
                "Node": node.node_name,
                "Observed": 100 * node.covered,
                "Gaps": sum(gap.node_name == node.node_name and gap.cluster == node.cluster for gap in gaps),
                "Flows received": node.flows_received,
                "Flows lost": node.flows_lost,
                "Connected since": node.connected_since,
                "Last": node.last,
            }
            for node in nodes
        ],
        hide_index=True,
        row_height=28,
        height=min(360, 37 + 28 * len(nodes)),
        alt="Nodes and their coverage",
        column_config={
            "Observed": st.column_config.ProgressColumn(format="%.2f %%", min_value=0, max_value=100, width=150, color="blue"),
            "Flows received": st.column_config.NumberColumn(format="compact"),
            "Flows lost": st.column_config.NumberColumn(format="compact"),
            "Connected since": clock.column("Connected since", "DD MMM HH:mm:ss"),
            "Last": clock.column("Last seen", "DD MMM HH:mm:ss"),
        },
    )


def picture(nodes: Sequence[tuple[str, str]], gaps: Gaps, since: datetime, until: datetime, shades: Palette) -> charts.Chart:
    """A line for each node. Time that is neither observed nor a gap is left empty."""

    def piece(node: str, begin: datetime, end: datetime, colour: str, what: str) -> dict[str, Any]:
        ends = {"begin": charts.milliseconds(begin), "end": charts.milliseconds(end)}
        return {"node": node, **ends, "from": clock.second(begin), "to": clock.second(end), "colour": colour, "what": what}

    pieces = [piece(key[1], *interval, shades.observed, "observed") for key in nodes for interval in gaps.observed.get(key, ())]
    pieces += [piece(gap.node_name, gap.since, gap.until, shades.gap, gap.cause) for gap in gaps if (gap.cluster, gap.node_name) in nodes]
    named = {"title": None, "labelColor": shades.muted, "domain": False, "ticks": False, "labelLimit": 220}
    encoding = {
        "x": charts.temporal("begin", scale=charts.scale(since, until), axis=charts.axis(since, until, shades)),
        "x2": {"field": "end"},
        "y": charts.nominal("node", sort=[node for _, node in nodes], axis=named),
        "color": charts.nominal("colour", scale=None),
        "tooltip": [charts.nominal("node"), charts.nominal("what", title="coverage"), charts.nominal("from"), charts.nominal("to")],
    }
    drawn = {"data": charts.inline(pieces), "mark": {"type": "rect", "height": 10, "cornerRadius": 2}, "encoding": encoding}
    return charts.finished(drawn, shades, ROW * len(nodes))


def _gaps(gaps: Sequence[Gap]) -> None:
    st.subheader("What was not observed", anchor=False)
    if not gaps:
        st.caption("Every node of this window was observed throughout.")
        return
    rows = [
        {
            "Cluster": gap.cluster,
            "Node": gap.node_name,
            "From": gap.since,
            "To": gap.until,
            "How long": theme.duration(gap.until - gap.since),
            "Cause": gap.cause,
        }
        for gap in sorted(gaps, key=lambda gap: gap.since, reverse=True)[:LIMIT]
    ]
    st.dataframe(
        rows,
        hide_index=True,
        row_height=28,
        height=min(360, 37 + 28 * len(rows)),
        alt="Gaps of observation",
        column_config={
            "From": clock.column("From", "DD MMM HH:mm:ss", width=140),
            "To": clock.column("To", "DD MMM HH:mm:ss", width=140),
            "How long": st.column_config.TextColumn(width=100),
            "Cause": st.column_config.TextColumn(width=520),
        },
    )
    if len(gaps) > LIMIT:
        st.caption(f"The newest {LIMIT:,} of {len(gaps):,}")


def _losses(visit: Visit, answer: Answer) -> None:
    lost = [row for row in answer.rows.to_pylist() if row["flows_lost"]]
    if not lost:
        return
    st.subheader("Flows known lost", anchor=False)
    rows = [
        {
            "Cluster": row["cluster"],
            "Node": row["node_name"] or "the whole cluster",
            "From": None if row["state"] == UNDATED else row["from"],
            "Flows lost": row["flows_lost"],
            "Where": (row["source"] or "").replace("_", " ").lower(),
            "Detail": row["detail"] or "",
        }
        for row in lost[:LIMIT]
    ]
    st.dataframe(
        rows,
        hide_index=True,
        row_height=28,
        height=min(300, 37 + 28 * len(rows)),
        alt="Losses that Hubble reported",
        column_config={
            "From": clock.column("From", "DD MMM HH:mm:ss", width=140),
            "Flows lost": st.column_config.NumberColumn(format="localized"),
        },
    )
    with st.container(horizontal=True):
        for form in ("CSV", "Parquet"):
            export.button(visit, form, "ledger", partial(export.encode, answer.rows, form), key=f"export ledger {form}")
