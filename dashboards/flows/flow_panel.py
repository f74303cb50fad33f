"""The panel beside the table: everything that may be known of one flow, and where to go from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import streamlit as st

from dashboards.asking import Visit
from dashboards.flows import flow_rows
from dashboards.frame import clock, filters, navigation, theme, time_control, url_state
from warehouse.questions import flow_questions
from warehouse.questions.conditions import Condition
from warehouse.questions.flow_json import flow_json

AROUND = timedelta(minutes=5)
_ORDER = (
    "time", "verdict", "drop_reason_desc", "source_namespace", "source_workload_name", "source_pod_name", "source_ip", "source_port",
    "destination_namespace", "destination_workload_name", "destination_pod_name", "destination_ip", "destination_port", "l4_protocol",
    "tcp_flags", "traffic_direction", "is_reply", "cluster", "node_name",
)  # fmt: skip


def draw(visit: Visit, row: Mapping[str, Any], column: str | None, close: Callable[[], None]) -> None:
    """Draw it for a row of the table; `column` is the one that was clicked."""
    flow = _whole(visit, row)
    named = flow_rows.policies(flow)
    with st.container(border=True, key="panel"):
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            verdict = row["verdict"] or ""
            st.badge(verdict.capitalize() or "Unknown", icon=theme.ICONS.get(verdict), color=theme.BADGES.get(verdict, "gray"))  # type: ignore[arg-type]
            if row["drop_reason_desc"]:
                st.markdown(f"**{theme.reason(row['drop_reason_desc'])}**", width="content")
            st.space("stretch")
            st.caption(clock.dated(row["time"]))
            st.button("", icon=":material/close:", type="tertiary", key="close panel", help="Close", on_click=close)
        _actions(row, column)
        fields, raw, policies = st.tabs(["Fields", "Raw JSON", f"Policies ({len(named)})"])
        with fields:
            _fields(flow)
        with raw:
            st.code(json.dumps(flow_json(flow), indent=1, ensure_ascii=False), language="json", wrap_lines=True)
        with policies:
            _policies(flow, named)


def _whole(visit: Visit, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """All columns of the flow; what the table has where the flow has no uuid to ask by."""
    if not row["uuid"]:
        return row
    at, until = row["time"], row["time"] + timedelta(microseconds=1)
    answer = visit.ask(
        "one flow",
        lambda: flow_questions.one_flow(visit.door, visit.who, cluster=row["cluster"], uuid=row["uuid"], at=at, until=until),
        row["cluster"],
        row["uuid"],
    )
    visit.answers.remove(answer)
    found: list[Mapping[str, Any]] = answer.rows.to_pylist()
    return found[0] if found else row


def _actions(row: Mapping[str, Any], column: str | None) -> None:
    """Filter by the clicked value, and go on from here."""
    with st.container(horizontal=True, wrap=True):
        wanted = flow_rows.conditions_of(row, column) if column else []
        if wanted:
            said = ", ".join(value for condition in wanted for value in condition.values)
            label = f"**{column}** is {said}"
            st.menu_button(
                label, ["Show only these", "Hide these"], key="cell filter", icon=":material/filter_alt:", on_click=_filter, args=(wanted,)
            )
        elif column == "Time":
            st.button(f"± {theme.duration(AROUND)} around", key="around", icon=":material/schedule:", on_click=_around, args=(row,))
        ends = [flow_rows.conditions_of(row, side) for side in ("Source", "Destination")]
        places = ["This connection", "Five minutes around it", *(["On the map"] if navigation.exists("map") else [])]
        if all(ends):
            chosen = st.menu_button("Open", places, key="open flow", icon=":material/open_in_new:", on_click=_open, args=(row, ends))
            if chosen == "On the map":
                navigation.go("map", url_state.link(f=[str(condition) for part in ends for condition in part]))


def _filter(wanted: Sequence[Condition]) -> None:
    is_shown = st.session_state["cell filter"] == "Show only these"
    for condition in wanted if is_shown else wanted[-1:]:
        filters.add(condition if is_shown else condition.negated())


def _around(row: Mapping[str, Any]) -> None:
    time_control.set_range(row["time"] - AROUND, row["time"] + AROUND)


def _open(row: Mapping[str, Any], ends: Sequence[Sequence[Condition]]) -> None:
    chosen = st.session_state["open flow"]
    if chosen == "This connection":
        filters.put([filters.Chip(condition=condition) for part in ends for condition in part])
        url_state.put("both", "1")
    elif chosen == "Five minutes around it":
        _around(row)


def _fields(flow: Mapping[str, Any]) -> None:
    order = [*_ORDER, *(name for name in flow if name not in _ORDER and name not in ("rest", "date", "time_ns"))]
    shown = {name.replace("_", " "): flow_rows.plain(flow[name]) for name in order if flow.get(name) not in (None, [], "")}
    hidden = flow.get("rest")
    st.table(shown, border="horizontal", hide_header=True, alt="Fields of the flow")
    if hidden:
        st.caption(f"And {len(hidden)} bytes of fields that this version has no column for.")


def _policies(flow: Mapping[str, Any], named: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
    if not named:
        told = "drops, forwarded first packets (policy verdict events) and L7 decisions"
        st.write(f"Hubble named no policy for this flow. It does for {told}, from Cilium 1.16 on, and only on the side you own.")
        return
    for direction, decision, policy in named:
        icon, colour = (":material/block:", "red") if decision == "denied" else (":material/check:", "blue")
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.badge(f"{direction} {decision}", icon=icon, color=colour)  # type: ignore[arg-type]
            st.markdown(f"**{flow_rows.policy_name(policy)}**", width="content")
            revision = f" · revision {policy['revision']}" if policy.get("revision") else ""
            st.caption(f"{policy.get('kind') or 'policy'}{revision}")
