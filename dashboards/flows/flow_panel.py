"""The panel beside the table: everything that may be known of one flow, and where to go from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import streamlit as st

from dashboards.flows import flow_fields, flow_rows, why
from dashboards.frame import clock, filters, navigation, ownership, theme, time_control, url_state
from dashboards.history import causes, changes, manifests
from dashboards.visit import Visit
from warehouse.engine import Window
from warehouse.questions import flow_questions
from warehouse.questions.conditions import Condition
from warehouse.questions.flow_json import flow_json

AROUND = timedelta(minutes=5)
INSTANT = timedelta(microseconds=1)
LOOK_BACK = timedelta(days=1)
"""How long before a drop a change of policies is still named as what came before it."""


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
        _cause(visit, flow)
        _actions(row, column, can_explain=changes.is_recorded(visit))
        if changes.is_recorded(visit):
            why.draw(visit, flow)
        fields, raw, policies = st.tabs(["Fields", "Raw JSON", f"Policies ({len(named)})"])
        with fields:
            _fields(visit, flow)
        with raw:
            st.code(json.dumps(flow_json(flow), indent=1, ensure_ascii=False), language="json", wrap_lines=True)
        with policies:
            _policies(visit, flow, named)


def _whole(visit: Visit, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """All columns of the flow; what the table has where the flow has no uuid to ask by."""
    if not row["uuid"]:
        return row
    at, until = row["time"], row["time"] + timedelta(microseconds=1)
    answer = visit.answer(flow_questions.one_flow(cluster=row["cluster"], uuid=row["uuid"], at=at, until=until))
    visit.answers.remove(answer)
    found: list[Mapping[str, Any]] = answer.rows.to_pylist()
    return found[0] if found else row


def _actions(row: Mapping[str, Any], column: str | None, *, can_explain: bool) -> None:
    """Filter by the clicked value, and go on from here."""
    with st.container(horizontal=True, wrap=True):
        if can_explain:
            why.button()
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


def _fields(visit: Visit, flow: Mapping[str, Any]) -> None:
    """The fields in groups; what is hidden of the other side is named."""
    for name, fields in flow_fields.groups(flow, ownership.owned(visit), visit.door.peer_detail).items():
        st.markdown(f"**{name}**")
        st.table(fields, border="horizontal", hide_header=True, alt=f"{name} of the flow")
    if unread := flow.get("rest"):
        st.caption(f"And {len(unread)} bytes of fields that this version has no column for.")


def _policies(visit: Visit, flow: Mapping[str, Any], named: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
    """The policies that Hubble named, then those that were in force and select the end that they decide for."""
    for direction, decision, policy in named:
        icon, colour = (":material/block:", "red") if decision == "denied" else (":material/check:", "blue")
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.badge(f"{direction} {decision}", icon=icon, color=colour)  # type: ignore[arg-type]
            st.markdown(f"**{flow_rows.policy_name(policy)}**", width="content")
            revision = f" · revision {policy['revision']}" if policy.get("revision") else ""
            st.caption(f"{policy.get('kind') or 'policy'}{revision}")
    if not named:
        st.caption("Hubble named no policy for this flow. It names none for a drop by default deny, and none on a side that is not yours.")
    if not changes.is_recorded(visit):
        return
    at = flow["time"]
    st.markdown(f"**In force at {clock.second(at)}**")
    hidden = _not_owned(visit, flow)
    if hidden:
        st.caption(f":material/lock: The policies of {hidden} decide too; they are hidden: not yours.")
    deciding = causes.deciding(flow, changes.versions(visit, Window(since=at, until=at + INSTANT)))
    for direction, version in sorted(deciding, key=lambda pair: pair[1]["valid_from"], reverse=True):
        with st.container(gap=None):
            name = manifests.object_name(version)
            key = "|".join(version[part] or "" for part in ("cluster", "kind", "namespace", "name"))
            around = {"from_": time_control.written(at - AROUND), "until": time_control.written(at + AROUND), "last": None}
            query = url_state.link(find=version["name"], object=key, **around)
            navigation.link("policies", f"{name} ({direction})", query=query, icon="policy")
            st.caption(f"{version['kind']}, this version since {clock.second(version['valid_from'])} by {manifests.who(version)}")
    if not deciding and not hidden:
        st.caption("No recorded policy selects the end that would decide.")


def _not_owned(visit: Visit, flow: Mapping[str, Any]) -> str:
    """The namespace whose policies may have decided on the flow and are not the principal's to see; empty if there is none."""
    owns = ownership.owned(visit)
    ends = [flow.get(f"{causes.SIDES[direction]}_namespace") for direction in causes.directions(flow)]
    return " and ".join(end for end in ends if end and not owns(end))


def _cause(visit: Visit, flow: Mapping[str, Any]) -> None:
    """Say which change of a policy that decides on this drop was the last before it."""
    if flow["verdict"] != "DROPPED" or not changes.is_recorded(visit):
        return
    listed = changes.between(visit, flow["time"] - LOOK_BACK, flow["time"] + INSTANT) or []
    if change := causes.last_change(flow, listed):
        st.markdown(f":material/history: dropped **{changes.sentence(change)}**, the last change to what decides on it")
