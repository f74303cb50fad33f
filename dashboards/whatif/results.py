"""What a proposed policy would have done: cards, how far the answer is to be trusted, edges with why, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import streamlit as st

from dashboards.frame import clickable, clock, navigation, ownership, summary, theme, url_state
from dashboards.visit import Visit
from dashboards.whatif import by_day, edge_rows
from dashboards.whatif.edge_rows import CHANGES, EdgeRow
from pipelines.replay.confidence import Level
from pipelines.replay.outcomes import Change
from pipelines.replay.whatif import Result
from warehouse.records.coverage import Gaps
from warehouse.wording import counted

SHOWN = 500
_CARDS = {
    Change.NEWLY_DENIED: ("Newly denied", "block", "red"),
    Change.NEWLY_ALLOWED: ("Newly allowed", "check", "green"),
    Change.UNCERTAIN: ("Uncertain", "help", "yellow"),
    Change.UNCHANGED: ("Unchanged", "equal", "gray"),
}
_CONFIDENCE = {Level.HIGH: ("verified", "green"), Level.FAIR: ("info", "blue"), Level.LOW: ("warning", "orange")}
_FILTERS = {"changed": "Changed or uncertain", **{change.value: _CARDS[change][0] for change in CHANGES}}


def draw(visit: Visit, result: Result, gaps: Gaps) -> None:
    """Draw them."""
    rows = edge_rows.rows_of(result.edges)
    _warnings(result)
    _cards(result, rows)
    _confidence(visit, result, gaps)
    shown = _filtered(rows)
    changed = [row for row in rows if row.change is not Change.UNCHANGED]
    visit.answers.append(result.answer)
    _line(visit, result, shown, changed)
    if shown:
        picked = _table(shown[:SHOWN])
        if picked is not None:
            _panel(visit, picked)
    elif not changed:
        what = f"None of {counted(sum(row.flows for row in rows), 'flow')} on {counted(len(rows), 'edge')} would have met another verdict."
        summary.empty("Nothing would have changed", what, "check_circle")
    else:
        summary.empty("No edge of this kind", f"{len(changed)} others change or are uncertain.", "rule")
    denied = [row for row in rows if row.change is Change.NEWLY_DENIED]
    if denied:
        by_day.draw(visit, by_day.of(visit, denied), gaps)
    _disagreements(result)


def _warnings(result: Result) -> None:
    if result.alone:
        st.warning(
            "No configuration history is known of this window: the proposed policies are judged alone, as if nothing else were in force.",
            icon=":material/history_toggle_off:",
        )
    for refusal in result.refusals:
        st.error(f"{refusal}. It does not enforce, so it changes nothing.", icon=":material/block:")


def _cards(result: Result, rows: Sequence[EdgeRow]) -> None:
    with st.grid(4, border=True, gap="small", min_column_width=150):
        for change, (title, icon, colour) in _CARDS.items():
            mine = [row for row in rows if row.change is change]
            owners = {owner for row in mine for owner in row.owners}
            with st.container(gap="xsmall"):
                st.metric(f":material/{icon}: {title}", theme.compact(result.count(change)[0]))
                people = f" · {counted(len(owners), 'owner')}" if owners and change is not Change.UNCHANGED else ""
                st.badge(counted(len(mine), "edge") + people, color=colour)  # type: ignore[arg-type]


def _confidence(visit: Visit, result: Result, gaps: Gaps) -> None:
    """How far the answer is to be trusted, before anyone reads it."""
    shares = result.answer.shares
    observed = sum(shares.values()) / len(shares) if shares else 0.0
    flows = sum(edge.flows for edge in result.edges)
    share, unknown = result.agreement.share, result.agreement.unknown_share
    icon, colour = _CONFIDENCE[result.confidence]
    told = [
        f":{colour}[:material/{icon}:] **{result.confidence.value.capitalize()} confidence**: replayed **{theme.compact(flows)}** flows"
    ]
    told.append(f"**{theme.percent(observed)}** of node-time observed")
    if share is not None:
        told.append(f"**{theme.percent(share)}** of recorded verdicts reproduced by the policies in force then")
    if unknown:
        told.append(f"{theme.percent(unknown)} could not be judged")
    if result.concerned.uncertain:
        told.append(f"**{theme.percent(result.concerned.uncertain_share)}** of the flows that the change concerns are uncertain")
    st.markdown("; ".join(told) + "." + _hidden_by(gaps))
    if result.notes:
        with st.expander(f"What is not known ({len(result.notes)})", icon=":material/help:"):
            for note in result.notes:
                st.caption(note)


def _hidden_by(gaps: Gaps) -> str:
    if not gaps:
        return ""
    longest = max((gap.until - gap.since for gap in gaps), default=timedelta())
    return f" :material/sensors_off: {counted(len(gaps), 'gap')} of up to {theme.duration(longest)} may hide clients that connect seldom."


def _filtered(rows: Sequence[EdgeRow]) -> list[EdgeRow]:
    counts = {name: sum(row.change.value == name for row in rows) for name in _FILTERS}
    counts["changed"] = sum(row.change is not Change.UNCHANGED for row in rows)
    words = {name: f"{title} **{counts[name]:,}**" for name, title in _FILTERS.items()}
    chosen = url_state.choose(st.pills, "Edges", words, "show", "changed", clears="edge")
    if chosen == "changed":
        return [row for row in rows if row.change is not Change.UNCHANGED]
    return [row for row in rows if row.change.value == chosen]


def _line(visit: Visit, result: Result, shown: Sequence[EdgeRow], changed: Sequence[EdgeRow]) -> None:
    parts = [f"**{min(len(shown), SHOWN):,}** of **{counted(len(shown), 'edge')}**", f"{len(changed):,} change or are uncertain"]
    if result.hours_read:
        parts.append(f"{counted(result.hours_read, 'hour')} read from flows")
    if result.hours_left:
        parts.append(f"**flows of {counted(result.hours_left, 'hour')} are no longer stored: uncertain there**")
    summary.line(visit, parts)


def _table(shown: Sequence[EdgeRow]) -> EdgeRow | None:
    name = f"what-if edges {url_state.get('policy')[-12:]} {st.session_state.get('what-if round', 0)}"
    place = clickable.clicked(name, len(shown))
    if place is not None:
        url_state.put("edge", shown[place].key)
    several = len({row.clusters for row in shown}) > 1
    clickable.table(
        [_written(row, with_clusters=several) for row in shown],
        key=name,
        alt="Edges and what the proposed policy would have done to them",
        columns={
            "Result": st.column_config.MultiselectColumn(
                options=list(CHANGES.values()), color=["#A63A12", "green", "yellow", "gray"], width=126
            ),
            "Edge": st.column_config.TextColumn(width=310),
            "Flows": st.column_config.NumberColumn(format="compact", width=62),
            "First – last seen": st.column_config.TextColumn(width=190),  # noqa: RUF001
            "Owners": st.column_config.TextColumn(width=90),
            "Why": st.column_config.TextColumn(width=560),
        },
    )
    asked = url_state.get("edge")
    return next((row for row in shown if row.key == asked), None) if asked else None


def _written(row: EdgeRow, *, with_clusters: bool) -> dict[str, Any]:
    return {
        "Result": [CHANGES[row.change]],
        "Edge": str(row),
        "Flows": row.flows,
        "First – last seen": _span(row),  # noqa: RUF001 - an en dash
        "Owners": ", ".join(row.owners) or "nobody named",
        "Why": row.reason,
        **({"Clusters": ", ".join(row.clusters)} if with_clusters else {}),
    }


def _span(row: EdgeRow) -> str:
    """When it was first and last seen; the day is written once where it is one."""
    first, last = clock.local(row.first_seen), clock.local(row.last_seen)
    end = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%-d %b %H:%M}"
    return f"{first:%-d %b %H:%M} – {end}"  # noqa: RUF001 - an en dash


def _panel(visit: Visit, row: EdgeRow) -> None:
    """The edge that was clicked: the verdicts, the reason in full, the rules that decide, and its flows."""
    _, _, colour = _CARDS[row.change]
    conditions = [str(condition) for condition in edge_rows.filter_of(row, ownership.owned(visit))]
    with st.container(border=True, key="panel"):
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.badge(CHANGES[row.change], color=colour)  # type: ignore[arg-type]
            st.markdown(f"**{row}**", width="content")
            st.caption(f"{row.before} before, {row.after} after · {', '.join(row.clusters)}")
            st.space("stretch")
            st.button("", icon=":material/close:", type="tertiary", key="close panel", help="Close", on_click=_close)
        st.text(row.reason)
        for rule in row.rules:
            st.caption(f":material/policy: {rule}")
        with st.container(horizontal=True, wrap=True):
            navigation.link(
                "flows", f"Its {counted(row.flows, 'flow')}", query=url_state.link(f=conditions, both=None, match=None), icon="bar_chart"
            )


def _close() -> None:
    url_state.put("edge", None)
    st.session_state["what-if round"] = st.session_state.get("what-if round", 0) + 1


def _disagreements(result: Result) -> None:
    """Where the policies in force give another verdict than the one recorded."""
    if not result.disagreements:
        return
    wrong = sum(result.agreement.disagreed.values())
    with st.expander(f"Where the replay disagrees with what was recorded ({theme.compact(wrong)} flows)", icon=":material/rule:"):
        st.dataframe(
            [
                {
                    "Kind": row["disagreement"],
                    "Edge": f"{_end(row, 'source')} → {_end(row, 'destination')} :{row['destination_port'] or row['l4_protocol']}",
                    "Flows": row["flows"],
                    "Cluster": row["cluster"],
                    "Why": row["reason"],
                }
                for row in result.disagreements
            ],
            hide_index=True,
            row_height=28,
            alt="Disagreements of the replay with the record",
        )


def _end(row: dict[str, Any], side: str) -> str:
    return edge_rows.title(
        tuple(row[f"{side}_{name}"] for name in ("cluster_name", "namespace", "workload_name", "entity", "dns_name", "cidr"))
    )
