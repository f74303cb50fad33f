"""One proposal: what it changes, what was checked, what it would have done, what it did, who did what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboards.frame import clock, navigation, summary, theme, url_state
from dashboards.history import manifests
from dashboards.proposals import acting, listing
from dashboards.visit import Visit
from dashboards.whatif import edge_rows, editing
from pipelines.proposals import handing_over, watching
from pipelines.proposals.model import Entry, Proposal, Status
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.questions.proposal_questions import ProposedEdges
from warehouse.wording import counted

_MARKS = {True: ("check_circle", "green", "passed"), False: ("block", "red", "refused"), None: ("help", "orange", "not checked")}
_CHANGES = {"newly_denied": ("Newly denied", "block"), "newly_allowed": ("Newly allowed", "check"), "uncertain": ("Uncertain", "help")}
_TITLES = {"newly_denied": "✕ newly denied", "newly_allowed": "✓ newly allowed", "uncertain": "? uncertain"}


def draw(visit: Visit, proposal: Proposal) -> None:
    """Draw it. Raises HindcastError."""
    status = proposal.status(acting.desk_of(visit).now)
    _head(proposal, status)
    acting.told()
    acting.buttons(visit, proposal)
    acting.reversal(visit, proposal)
    grid = st.grid(2, gap="small", min_column_width=420)
    with grid.cell():
        _differences(visit, proposal)
    with grid.cell():
        _checks(proposal)
        _risks(proposal)
        _history(proposal)
    if status is not Status.REFUSED:
        _simulation(visit, proposal)
    if proposal.applied is not None:
        _drops(visit, proposal)


def _head(proposal: Proposal, status: Status) -> None:
    words, colour = listing.badge(status)
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.button("All proposals", icon=":material/arrow_back:", type="tertiary", on_click=acting.go_to, args=(None,), key="to the list")
        st.badge(words, color=colour)  # type: ignore[arg-type]
        st.markdown(f"**{theme.plain(proposal.title)}** on {proposal.cluster}", width="content")
    reason = proposal.judgement.about.get("reason") or proposal.entries[0].about.get("reason")
    expires = proposal.expires()
    told = [f"{proposal.id} · by {theme.no_link(proposal.author)} · {clock.dated(proposal.time)} · judged as {proposal.judged}"]
    if expires is not None and status in (Status.READY, Status.EXPIRED):
        told.append(f"may be applied until {clock.second(expires)}")
    st.caption(" · ".join(told))
    if reason:
        st.text(str(reason))


def _differences(visit: Visit, proposal: Proposal) -> None:
    st.subheader("What changes", anchor=False)
    texts = [handing_over.as_yaml(one.after) for one in proposal.objects]
    for one, after in zip(proposal.objects, texts, strict=True):
        known = {"create": "is new", "update": "is changed", "delete": "is deleted"}[one.action]
        st.caption(f"{one.key} {known}" + ("" if one.resource_version or one.before is None else ", compared with configuration history"))
        manifests.draw_difference(handing_over.as_yaml(one.before), after)
    if any(texts) and navigation.exists("what-if"):
        query = url_state.link(policy=editing.part_of("---\n".join(text for text in texts if text)), in_=proposal.cluster)
        navigation.link("what-if", "Replay it as I see it", query=query, icon="experiment")


def _checks(proposal: Proposal) -> None:
    st.subheader("Checks", anchor=False)
    for check in proposal.checks():
        icon, colour, word = _MARKS[check.is_met]
        st.markdown(f":{colour}[:material/{icon}:] **{check.check}** {word}: {theme.plain(str(check))}")


def _risks(proposal: Proposal) -> None:
    found = proposal.judgement.about.get("risks")
    if found is None:
        return
    st.subheader("Risks", anchor=False)
    for risk in found:
        st.markdown(f":orange[:material/warning:] {theme.plain(str(risk))}")
    if not found:
        st.markdown(":green[:material/check_circle:] None was found.")
    st.caption(f"Approval: {proposal.needs.value}.")


def _history(proposal: Proposal) -> None:
    st.subheader("What happened", anchor=False)
    for entry in proposal.entries:
        st.markdown(f"**{clock.dated(entry.time)}** · {entry.event.value.replace('_', ' ')} by {theme.no_link(entry.actor)}")
        if entry.detail:
            st.text(_short(entry))


def _short(entry: Entry) -> str:
    text = entry.detail or ""
    return text if len(text) <= 600 else f"{text[:600]}…"


def _simulation(visit: Visit, proposal: Proposal) -> None:
    found = proposal.judgement.about.get("simulation")
    st.subheader("Tried on recorded traffic", anchor=False)
    if not found:
        st.caption("It could not be simulated; the risks say why.")
        return
    with st.grid(3, border=True, gap="small", min_column_width=150):
        for change, (title, icon) in _CHANGES.items():
            counts = found["changes"][change]
            with st.container(gap="xsmall"):
                st.metric(f":material/{icon}: {title}", theme.compact(counts["flows"]))
                st.caption(counted(counts["edges"], "edge"))
    st.caption(_confidence(found))
    answer = visit.answer(ProposedEdges(proposal=proposal.id, judgement=proposal.judgement.number))
    rows = answer.rows.to_pylist()
    if not rows:
        st.caption("No edge changes, as far as you may see.")
        return
    st.dataframe(
        [
            {"Result": _TITLES[row["change"]], "Edge": edge_rows.of_row(row), "Flows": row["flows"], "Last seen": row["last_seen"],
             "Why": row["reason"] or "the other end is not yours: replay it as you see it"}
            for row in rows
        ],
        hide_index=True,
        row_height=28,
        height=min(420, 37 + 28 * len(rows)),
        alt="Edges that the proposal would have changed",
        column_config={
            "Edge": st.column_config.TextColumn(width=330),
            "Last seen": clock.column("Last seen", "DD MMM HH:mm", width=110),
            "Why": st.column_config.TextColumn(width=520),
        },
    )  # fmt: skip
    summary.line(visit, [f"**{counted(len(rows), 'edge')}**{summary.cut(answer, 'edges')}"])


def _confidence(found: Mapping[str, Any]) -> str:
    told = [f"Traffic from {found['since'][:16].replace('T', ' ')} to {found['until'][:16].replace('T', ' ')} UTC"]
    told.append(f"as {found['as_seen_by']} may see it")
    if found.get("confidence") is not None:
        told.append(f"{theme.percent(found['confidence'])} of recorded verdicts reproduced by the policies in force then")
    if found.get("uncertain_share"):
        told.append(f"{theme.percent(found['uncertain_share'])} of the flows that it concerns are uncertain")
    observed = list(found.get("coverage", {}).values())
    told.append(f"{theme.percent(sum(observed) / len(observed))} of node-time observed" if observed else "not observed")
    return " · ".join(told) + "."


def _drops(visit: Visit, proposal: Proposal) -> None:
    st.subheader("Since it was applied", anchor=False)
    try:
        found = visit.ask(f"drops of {proposal.id}", lambda: watching.watch(acting.desk_of(visit), proposal))
    except (AccessDeniedError, QueryError) as error:
        st.caption(str(error))
        return
    for note in found.notes:
        st.caption(note)
    if found.drops:
        said = f"{found.in_words} dropped because of it until {clock.second(found.until)}."
        if found.unannounced:
            st.warning(said, icon=":material/warning:")
        else:
            st.markdown(f":material/info: {said}")
        st.dataframe(
            [
                {"Edge": edge_rows.of_row(edge.row()), "Flows": edge.flows, "Last seen": edge.last_seen,
                 "Announced": "✕ no" if edge in found.unannounced else "✓ by its simulation"}
                for edge in found.drops
            ],
            hide_index=True,
            row_height=28,
            alt="Edges that the change dropped",
            column_config={"Last seen": clock.column("Last seen", "DD MMM HH:mm:ss", width=150)},
        )  # fmt: skip
    elif found.is_judged:
        st.markdown(f":green[:material/check_circle:] No flow was dropped because of it until {clock.second(found.until)}.")
    if found.uncertain:
        st.caption(f"Of {len(found.uncertain):,} more dropped edges it cannot be told.")
