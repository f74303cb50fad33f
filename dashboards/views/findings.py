"""Findings of audits: open, accepted or fixed, whose they are, for how long; and accepting and reopening them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from typing import Any

import streamlit as st

from dashboards.access import deciding, identity
from dashboards.frame import clock, head, navigation, summary, theme, time_control, url_state
from dashboards.visit import Visit, forget, not_future
from warehouse.errors import AccessDeniedError, HindcastError
from warehouse.questions.record_questions import FindingHistory, Findings
from warehouse.records import findings as records

_STATES = {"open": "Open", "acknowledged": "Accepted", "closed": "Fixed", "all": "All"}
_SEVERITIES = ("critical", "high", "medium", "low", "info")
_COLOURS = ["#A63A12", "red", "yellow", "blue", "gray"]
_FILTERS = {"severity": "Severity", "kind": "Kind", "namespace": "Namespace", "cluster": "Cluster"}
_USUALLY = timedelta(days=30)
_SAID, _ROUND = "findings said", "findings round"


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Findings")
    at = not_future(visit.time.until)
    try:
        answer = visit.answer(Findings(states=(records.OPEN, records.ACCEPTED, records.CLOSED), at=at))
    except AccessDeniedError:
        summary.denied(visit)
        return
    everything: list[Mapping[str, Any]] = answer.rows.to_pylist()
    counts = {state: sum(row["state"] == state for row in everything) for state in _STATES}
    st.caption(
        f"As of **{clock.dated(at)}** · **{counts['open']}** open · **{counts['acknowledged']}** accepted · **{counts['closed']}** fixed"
    )
    if said := st.session_state.pop(_SAID, None):
        st.toast(said, icon=":material/check:")
    if not everything:
        summary.empty("No findings", "No audit has found anything in what you own, or none has run: see hindcast policy audit.", "rule")
        return
    rows = _filtered(everything)
    picked = _table(visit, rows, at)
    if picked is not None:
        _panel(visit, picked, at)


def _filtered(everything: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Draw the filters, and give the rows that they leave, the most severe first."""
    with st.container(horizontal=True, vertical_alignment="bottom", wrap=True):
        state = url_state.choose(st.segmented_control, "State", _STATES, "state", "open", clears="item")
        rows = [row for row in everything if state in ("all", row["state"])]
        for name, label in _FILTERS.items():
            options = sorted({str(row[name] or "") for row in everything} - {""})
            chosen = [value for value in url_state.get_all(f"of-{name}") if value in options]
            key = f"findings {name}"
            st.session_state[key] = chosen
            st.multiselect(label, options, key=key, on_change=_choose, args=(name, key), width=200, placeholder="All")
            rows = [row for row in rows if not chosen or row[name] in chosen]
    return sorted(rows, key=lambda row: (_SEVERITIES.index(row["severity"]), row["since"], row["cluster"], row["key"]))


def _choose(name: str, key: str) -> None:
    url_state.put(f"of-{name}", st.session_state[key])


def _table(visit: Visit, rows: Sequence[Mapping[str, Any]], at: datetime) -> Mapping[str, Any] | None:
    """Draw the table, and give the finding that is chosen in it or in the address."""
    if not rows:
        st.caption("None with these filters.")
        return None
    owners = _owners(visit, at)
    key = f"findings table {st.session_state.get(_ROUND, 0)}"
    cells = st.session_state.get(key, {}).get("selection", {}).get("cells", [])
    picked = next((row for row in rows if _id(row) == url_state.get("item")), None)
    if cells and int(cells[0][0]) < len(rows):
        picked = rows[int(cells[0][0])]
        url_state.put("item", _id(picked))
    accepted = any(row["state"] == records.ACCEPTED for row in rows)
    st.dataframe(
        [
            {
                "Severity": [row["severity"]],
                "State": _STATES[row["state"]],
                "Finding": row["kind"].replace("_", " "),
                "Cluster": row["cluster"],
                "Namespace": row["namespace"] or "",
                "Object": row["subject"] or "",
                "Owner": owners(row),
                "Since": row["since"],
                "Age": theme.duration(at - row["since"]),
                **({"Until": row["expires"] if row["state"] == records.ACCEPTED else None} if accepted else {}),
                "Summary": row["summary"] or "",
            }
            for row in rows
        ],
        key=key,
        hide_index=True,
        row_height=28,
        height=min(460, 37 + 28 * len(rows)),
        on_select="rerun",
        selection_mode="single-cell",
        alt="Findings, the most severe first",
        column_config={
            "Severity": st.column_config.MultiselectColumn(options=list(_SEVERITIES), color=_COLOURS, width=90),
            "Since": clock.column("Since", "DD MMM YYYY HH:mm", width=140),
            "Until": clock.column("Until", "DD MMM YYYY HH:mm", width=140),
            "Summary": st.column_config.TextColumn(width=380),
        },
    )
    if picked is None:
        st.caption("Choose a finding for its evidence, its history, and to accept it.")
    return picked


def _owners(visit: Visit, at: datetime) -> Any:
    """A function that names the owners of a finding: all of them for who administers, else whether it is the principal's own."""
    scope = visit.door.scope(visit.who)
    grants = visit.door.grants() if scope.administers else ()

    def named(row: Mapping[str, Any]) -> str:
        cluster, namespace = row["cluster"], row["namespace"]
        if scope.administers:
            mine = [one for one in grants if one.role == "namespace-owner" and not one.is_denial and one.covers(cluster, namespace, at)]
            return ", ".join(sorted({one.subject for one in mine}))
        return "you" if records.may_decide(scope, cluster, namespace, at) else ""

    return named


def _panel(visit: Visit, row: Mapping[str, Any], at: datetime) -> None:
    """What was found, where to look, who decided what, and the decision."""
    with st.container(border=True, key="panel"):
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.badge(row["severity"], color="red" if row["severity"] in ("critical", "high") else "yellow")
            st.markdown(f"**{theme.plain(row['subject'] or row['kind'])}** on **{theme.plain(row['cluster'])}**", width="content")
            st.space("stretch")
            st.button("", icon=":material/close:", type="tertiary", key="close panel", help="Close", on_click=_close)
        st.markdown(theme.plain(row["summary"] or ""))
        _evidence(row, at)
        _decision(visit, row)
        _history(visit, row)


def _evidence(row: Mapping[str, Any], at: datetime) -> None:
    """Links to the policy and to the flows since the finding opened."""
    kind, _, name = (row["subject"] or "").partition("/")
    with st.container(horizontal=True, wrap=True):
        if "Polic" in kind:
            key = "|".join((row["cluster"], kind, row["namespace"] or "", name))
            navigation.link("policies", "The policy", query=url_state.link(object=key), icon="policy")
        if row["namespace"]:
            span = {"from_": time_control.written(row["since"]), "until": time_control.written(at), "last": None}
            query = url_state.link(f=[f"ns={row['namespace']}", f"cluster={row['cluster']}"], **span)
            navigation.link("flows", "Flows of the namespace since then", query=query, icon="bar_chart")


def _decision(visit: Visit, row: Mapping[str, Any]) -> None:
    """Accept an open finding, or reopen an accepted one; for who may decide about it, now."""
    if row["state"] == records.CLOSED:
        return
    if row["state"] == records.ACCEPTED:
        st.caption(
            f"Accepted by {theme.plain(row['by'] or 'unknown')} until {clock.dated(row['expires'])}: {theme.plain(row['reason'] or '')}"
        )
    if not records.may_decide(visit.door.scope(visit.who), row["cluster"], row["namespace"], datetime.now(UTC)):
        st.caption("Owners of its namespace decide about it; you may read it.")
        return
    deciding.explain(visit)
    if not deciding.is_possible(visit):
        return
    if row["state"] == records.ACCEPTED:
        st.button("Reopen", icon=":material/undo:", key="reopen finding", on_click=_reopen, args=(visit, row))
        return
    today = datetime.now(UTC).date()
    with st.form("accept finding", border=False), st.container(horizontal=True, vertical_alignment="bottom", wrap=True):
        reason = st.text_input("Reason", key="finding reason", max_chars=records.LONGEST_REASON, placeholder="Why it is accepted")
        until = st.date_input(
            "Accept until (UTC)",
            value=today + _USUALLY,
            min_value=today + timedelta(days=1),
            max_value=today + records.LONGEST - timedelta(days=1),
            key="finding expiry",
            width=180,
        )
        if st.form_submit_button("Accept", icon=":material/check:"):
            _accept(visit, row, reason, until)


def _accept(visit: Visit, row: Mapping[str, Any], reason: str, until: Any) -> None:
    if not isinstance(until, date):
        st.error("Choose the day until which it is accepted.")
        return
    expires = datetime.combine(until, clock_time(), UTC)
    try:
        deciding.check(visit)
        scope = visit.door.scope(visit.who)
        records.accept(visit.lake, visit.who, scope, row, reason=reason, expires=expires, by=identity.name(visit.who))
    except HindcastError as error:
        st.error(str(error))
        return
    _decided(f"Accepted until {clock.dated(expires)}")
    st.rerun()


def _reopen(visit: Visit, row: Mapping[str, Any]) -> None:
    try:
        deciding.check(visit)
        records.reopen(visit.lake, visit.who, visit.door.scope(visit.who), row, by=identity.name(visit.who))
    except HindcastError as error:
        st.session_state[_SAID] = str(error)
        return
    _decided("Open again")


def _decided(said: str) -> None:
    """Ask everything anew, so that the page shows the decision."""
    st.session_state[_SAID] = said
    forget()
    time_control.refresh()


def _history(visit: Visit, row: Mapping[str, Any]) -> None:
    """Every change, the newest first."""
    changes = visit.answer(FindingHistory(cluster=row["cluster"], key=row["key"])).rows.to_pylist() if row["key"] else []
    if not changes:
        return
    st.markdown("**History**")
    st.table(
        [
            {
                "When": clock.dated(change["time"]),
                "What": _STATES[change["state"]],
                "Who": change["by"] or change["source"] or "",
                "Why": theme.plain(change["reason"] or ""),
                "Until": clock.dated(change["expires"]) if change["expires"] else "",
            }
            for change in reversed(changes)
        ],
        border="horizontal",
    )


def _id(row: Mapping[str, Any]) -> str:
    return f"{row['cluster']}|{row['key'] or row['subject']}"


def _close() -> None:
    url_state.put("item", None)
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
