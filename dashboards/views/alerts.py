"""Alerts: the rules and whether they can be evaluated, what fires or has ended, silences, and what was sent where."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import streamlit as st

from dashboards.frame import clock, head, navigation, summary, theme, url_state
from dashboards.visit import Visit, not_future
from warehouse.config.selectors import Selector
from warehouse.engine import Window
from warehouse.questions.alert_questions import AlertStates, Deliveries, last_evaluation
from warehouse.wording import counted

_STATES = {"firing": "▲ firing", "pending": "• pending", "resolved": "✓ resolved", "inactive": "○ did not fire"}
_COLOURS = ["#A63A12", "yellow", "green", "gray"]
_RULES = {"failed": "✕ failed", "not_covered": "? not observed", "evaluated": "✓ evaluated", "inactive": "○ gone"}
_RULE_COLOURS = ["#A63A12", "yellow", "green", "gray"]
_OUTCOMES = {"delivered": "✓ delivered", "partly": "◐ partly", "failed": "✕ failed", "denied": "⊘ denied"}
_OUTCOME_COLOURS = ["green", "yellow", "#A63A12", "gray"]
_SHOWN = {"live": "Firing and pending", "ended": "Ended", "all": "All"}
_LIVE = ("firing", "pending")

_LATE = timedelta(minutes=15)
"""Evaluations older than this are not what is true now: they are due every five minutes."""


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Alerts")
    at = not_future(visit.time.until)
    states = visit.answer(AlertStates(at=at)).rows.to_pylist()
    rules = [row for row in states if row["alert"] == row["rule"]]
    alerts = [{**row, "labels": json.loads(row["labels"] or "{}")} for row in states if row["alert"] != row["rule"]]
    wrong = sum(row["state"] == "failed" for row in rules)
    counts = {state: sum(row["state"] == state for row in alerts) for state in _LIVE}
    st.caption(
        f"As of **{clock.dated(at)}** · **{counts['firing']}** firing · **{counts['pending']}** pending · "
        f"**{counted(len(rules), 'rule')}**, **{wrong}** of them wrong"
    )
    if not states:
        summary.empty(
            "No alert rules",
            "None of yours was evaluated by then. Name files in `alerts.rules` of the configuration; `hindcast alerts run` evaluates them.",
            "notifications_off",
        )
    else:
        when = visit.ask("last evaluation of rules", lambda: last_evaluation(visit.lake))
        if when is not None and at - when > _LATE:
            st.warning(
                f"The rules were last evaluated {clock.dated(when)}, {theme.duration(at - when)} before: what happened since is not in "
                "these lists. `hindcast alerts run` evaluates them; the DAG `alert_rules` does so every five minutes."
            )
        _alerts(visit, alerts, at)
        _rules(visit, rules, alerts, when)
    _silences(visit, alerts, at)
    _deliveries(visit)


def _alerts(visit: Visit, alerts: Sequence[Mapping[str, Any]], at: datetime) -> None:
    st.subheader("Alerts", anchor=False)
    since = visit.time.since
    sorts = {
        "live": [row for row in alerts if row["state"] in _LIVE],
        "ended": [row for row in alerts if row["state"] not in _LIVE and row["time"] >= since],
    }
    sorts["all"] = [*sorts["live"], *sorts["ended"]]
    titles = {name: f"{words} **{len(sorts[name])}**" for name, words in _SHOWN.items()}
    rows = sorts[url_state.choose(st.pills, "Alerts", titles, "show", "live" if sorts["live"] else "all", clears="item")]
    if not rows:
        st.caption("None fires, and none has ended in this window." if not sorts["all"] else "None of these.")
        return
    picked = next((row for row in rows if row["alert"] == url_state.get("item")), None)
    key = f"alerts table {st.session_state.get('alerts round', 0)}"
    cells = st.session_state.get(key, {}).get("selection", {}).get("cells", [])
    if cells and int(cells[0][0]) < len(rows):
        picked = rows[int(cells[0][0])]
        url_state.put("item", picked["alert"])
    st.dataframe(
        [
            {
                "State": [_STATES[row["state"]]],
                "Alert": row["labels"].get("alertname", row["rule"]),
                "Severity": row["labels"].get("severity", ""),
                "About": _about(row),
                "Owner": _owner(row),
                "Since": row["since"],
                "Fired": row["fired"],
                "Changed": row["time"],
                "Value": row["value"],
                "Silent": _silent(visit, row, at),
            }
            for row in rows
        ],
        key=key,
        hide_index=True,
        row_height=28,
        height=min(420, 37 + 28 * len(rows)),
        on_select="rerun",
        selection_mode="single-cell",
        alt="Alerts, the newest change first",
        column_config={
            "State": st.column_config.MultiselectColumn(options=list(_STATES.values()), color=_COLOURS, width=120),
            "About": st.column_config.TextColumn(width=280),
            **{name: clock.column(name, "DD MMM HH:mm", width=110) for name in ("Since", "Fired", "Changed")},
        },
    )
    if picked is None:
        st.caption("Choose an alert for what it says, and for the view that shows it.")
    else:
        _panel(picked)


def _panel(row: Mapping[str, Any]) -> None:
    """Draw what an alert says, and the link to the exact view."""
    with st.container(border=True, key="panel"):
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.badge(_STATES[row["state"]], color="red" if row["state"] == "firing" else "gray")
            st.markdown(f"**{theme.plain(row['labels'].get('alertname', row['rule']))}**", width="content")
            st.space("stretch")
            st.button("", icon=":material/close:", type="tertiary", key="close panel", help="Close", on_click=_close)
        for name, text in json.loads(row["annotations"] or "{}").items():
            st.markdown(f"{theme.plain(name)}: {theme.plain(text)}")
        st.caption(" · ".join(f"{theme.plain(name)}={theme.plain(text)}" for name, text in sorted(row["labels"].items())))
        st.caption(f"rule {theme.plain(row['rule'])}, evaluated as {theme.plain(row['made_for'])}")
        if row["detail"]:
            st.text(row["detail"])
        address, _, query = (row["link"] or "").lstrip("/").partition("?")
        if address and navigation.exists(address):
            navigation.link(address, "The view that shows it", query=parse_qsl(query), icon="open_in_new")


def _rules(visit: Visit, rules: Sequence[Mapping[str, Any]], alerts: Sequence[Mapping[str, Any]], when: datetime | None) -> None:
    st.subheader("Rules", anchor=False)
    if not rules:
        st.caption("None of the rules is yours to see.")
        return
    order = list(_RULES)
    ordered = sorted(rules, key=lambda row: (order.index(row["state"]), row["rule"]))
    st.caption(f"Last evaluated {clock.dated(when)}." if when else "Never evaluated.")
    live = {name: sum(row["rule"] == name and row["state"] in _LIVE for row in alerts) for name in {row["rule"] for row in rules}}
    st.dataframe(
        [
            {
                "State": [_RULES[row["state"]]],
                "Rule": row["rule"],
                "Owner": _owner(row),
                "Alerts": live[row["rule"]],
                "Since": row["time"],
                "What is wrong": row["detail"] or "",
            }
            for row in ordered
        ],
        hide_index=True,
        row_height=28,
        height=min(360, 37 + 28 * len(rules)),
        alt="Alert rules, those that cannot be evaluated first",
        column_config={
            "State": st.column_config.MultiselectColumn(options=list(_RULES.values()), color=_RULE_COLOURS, width=130),
            "Since": clock.column("Since", "DD MMM HH:mm", width=110),
            "What is wrong": st.column_config.TextColumn(width=520),
        },
    )


def _silences(visit: Visit, alerts: Sequence[Mapping[str, Any]], at: datetime) -> None:
    """Draw the silences of the configuration: all for administrators, for others those that match an alert of theirs."""
    silences = [
        one
        for one in visit.settings.alerts.silences
        if visit.door.scope(visit.who).administers or any(Selector.parse(one.match).matches(row["labels"]) for row in alerts)
    ]
    if not silences:
        return
    st.subheader("Silences", anchor=False)
    st.dataframe(
        [
            {
                "State": "now" if one.since <= at < one.until else "ended" if one.until <= at else "to come",
                "Matches": one.match,
                "From": one.since,
                "Until": one.until,
                "Reason": one.reason,
                "Alerts": sum(Selector.parse(one.match).matches(row["labels"]) and row["state"] in _LIVE for row in alerts),
            }
            for one in sorted(silences, key=lambda one: one.until, reverse=True)
        ],
        hide_index=True,
        row_height=28,
        alt="Silences",
        column_config={name: clock.column(name, "DD MMM HH:mm", width=120) for name in ("From", "Until")},
    )


def _deliveries(visit: Visit) -> None:
    st.subheader("What was sent", anchor=False)
    answer = visit.answer(Deliveries(window=Window(since=visit.time.since, until=visit.time.until)))
    rows = answer.rows.to_pylist()
    if not rows:
        st.caption("Nothing that you may see was sent in this window.")
        return
    st.dataframe(
        [
            {
                "Result": [_OUTCOMES[row["outcome"]]],
                "Time": row["time"],
                "To": row["target"],
                "Kind": row["kind"],
                "What": row["title"] or "(not shown to auditors)",
                "For": row["made_for"],
                "Tries": row["tries"],
                "Why not": row["detail"] or "",
                "Sent by": row["source"],
            }
            for row in rows
        ],
        hide_index=True,
        row_height=28,
        height=min(420, 37 + 28 * len(rows)),
        alt="Deliveries, the newest first",
        column_config={
            "Result": st.column_config.MultiselectColumn(options=list(_OUTCOMES.values()), color=_OUTCOME_COLOURS, width=120),
            "Time": clock.column("Time", "DD MMM HH:mm:ss", width=140),
            "What": st.column_config.TextColumn(width=300),
            "Why not": st.column_config.TextColumn(width=380),
        },
    )
    summary.line(visit, [f"**{len(rows):,}** deliveries{summary.cut(answer, 'deliveries')}"])


def _about(row: Mapping[str, Any]) -> str:
    """The labels that say what an alert is about, besides those with a column of their own."""
    own = ("alertname", "severity", "owner")
    return ", ".join(f"{name}={text}" for name, text in sorted(row["labels"].items()) if name not in own)


def _owner(row: Mapping[str, Any]) -> str:
    return "the platform" if row["made_for"] == "operator" else str(row["made_for"])


def _silent(visit: Visit, row: Mapping[str, Any], at: datetime) -> str:
    """Why an alert is silent now."""
    now = (one for one in visit.settings.alerts.silences if one.since <= at < one.until)
    return next((one.reason for one in now if Selector.parse(one.match).matches(row["labels"])), "")


def _close() -> None:
    url_state.put("item", None)
    st.session_state["alerts round"] = st.session_state.get("alerts round", 0) + 1
