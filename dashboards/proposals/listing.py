"""The table of proposals that a person may see, by what is asked of her."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards.frame import clock, summary, url_state
from dashboards.proposals import acting
from dashboards.visit import Visit
from pipelines.proposals.model import Proposal, Status

_ICONS = {
    Status.WAITING: "• waiting",
    Status.READY: "▸ ready",
    Status.EXPIRED: "! expired",
    Status.APPLYING: "… applying",
    Status.APPLIED: "✓ applied",
    Status.HANDED_OVER: "⇥ handed over",
    Status.ROLLING_BACK: "… rolling back",
    Status.ROLLED_BACK: "↺ rolled back",
    Status.REJECTED: "✕ rejected",
    Status.REFUSED: "⊘ refused",
}
_COLOURS = {
    Status.WAITING: "yellow", Status.READY: "blue", Status.EXPIRED: "gray", Status.APPLYING: "yellow", Status.APPLIED: "green",
    Status.HANDED_OVER: "green", Status.ROLLING_BACK: "yellow", Status.ROLLED_BACK: "gray", Status.REJECTED: "red", Status.REFUSED: "red",
}  # fmt: skip


def badge(status: Status) -> tuple[str, str]:
    """Return the words and the colour of a status."""
    return _ICONS[status], _COLOURS[status]


def draw(visit: Visit, proposals: Sequence[Proposal]) -> None:
    """Draw it."""
    desk = acting.desk_of(visit)
    now, me = desk.now, desk.who.user
    sorts = {
        "mine": [one for one in proposals if one.author == me],
        "to-approve": [one for one in proposals if one.status(now) is Status.WAITING and acting.may_decide(desk, one)],
        "all": list(proposals),
    }
    words = {"mine": "Mine", "to-approve": "To approve", "all": "All that you may see"}
    titles = {name: f"{words[name]} **{len(listed)}**" for name, listed in sorts.items()}
    chosen = url_state.choose(st.pills, "Proposals", titles, "show", "to-approve" if sorts["to-approve"] else "all")
    shown = sorts[chosen]
    if not shown:
        text = "Write a policy in What-if, see what it would have done, and propose it from there. Or: `hindcast policy propose --help`."
        summary.empty("No proposal", text, "inbox")
        return
    name = f"proposals table {chosen} {st.session_state.get('proposals round', 0)}"
    cells = st.session_state.get(name, {}).get("selection", {}).get("cells", [])
    if cells and int(cells[0][0]) < len(shown):
        st.session_state["proposals round"] = st.session_state.get("proposals round", 0) + 1
        acting.go_to(shown[int(cells[0][0])].id)
        st.rerun()
    st.dataframe(
        [_row(one, one.status(now)) for one in shown],
        key=name,
        hide_index=True,
        row_height=28,
        height=min(560, 37 + 28 * len(shown)),
        on_select="rerun",
        selection_mode="single-cell",
        alt="Proposals",
        column_config={
            "State": st.column_config.MultiselectColumn(options=list(_ICONS.values()), color=[_COLOURS[one] for one in _ICONS], width=130),
            "Change": st.column_config.TextColumn(width=380),
            "Proposed": clock.column("Proposed", "DD MMM HH:mm", width=110),
            "Risks": st.column_config.NumberColumn(width=60),
        },
    )


def _row(one: Proposal, status: Status) -> dict[str, object]:
    return {
        "State": [_ICONS[status]],
        "Change": one.title,
        "Cluster": one.cluster,
        "Namespace": one.namespace or "the whole cluster",
        "By": one.author,
        "Proposed": one.time,
        "Risks": len(one.judgement.about.get("risks", ())),
        "Needs": one.needs.value if status in (Status.WAITING, Status.EXPIRED) else "",
        "Id": one.id,
    }
