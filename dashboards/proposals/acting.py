"""What a person does with a proposal on its page: each button calls one step of `pipelines.proposals`, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards.access import deciding
from dashboards.frame import clock, url_state
from dashboards.visit import Visit, forget
from dashboards.whatif import edge_rows
from pipelines.proposals import applying, handing_over, rolling_back, rules, steps, store
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Proposal, Status
from warehouse.errors import HindcastError, ProposalError, RollBackDeniesError

_TOLD, _REFUSED = "told of a proposal", "roll-backs that would deny"


def desk_of(visit: Visit) -> Desk:
    """Return what the visitor acts on proposals with."""
    return Desk(settings=visit.settings, lake=visit.lake, door=visit.door, who=visit.who)


def may_decide(desk: Desk, proposal: Proposal) -> bool:
    """Whether the visitor may approve or reject it."""
    try:
        rules.check_approver(proposal, desk.who, desk.scope, desk.now)
    except ProposalError:
        return False
    return True


def told() -> None:
    """Draw what the last step came to, once."""
    kind, text = st.session_state.pop(_TOLD, ("", ""))
    if kind == "error":
        st.error(text, icon=":material/block:")
    elif kind:
        st.success(text, icon=":material/check:")


def do(visit: Visit, step: Callable[[], Any], done: str) -> bool:
    """Take a step if the visitor may, remember what it came to, and ask everything anew; returns whether it succeeded."""
    try:
        deciding.check(visit)
        step()
    except HindcastError as error:
        st.session_state[_TOLD] = ("error", str(error))
        return False
    finally:
        forget()
    st.session_state[_TOLD] = ("success", done)
    return True


def buttons(visit: Visit, proposal: Proposal) -> None:
    """Draw what the visitor may do with the proposal now."""
    desk = desk_of(visit)
    deciding.explain(visit)
    if not deciding.is_possible(visit):
        _patch(proposal)
        return
    status = proposal.status(desk.now)
    is_author = bool(desk.who.user) and rules.is_same(proposal.author, desk.who)
    is_owner = rules.is_owner(desk.scope, proposal.cluster, proposal.namespace, desk.now) and bool(desk.who.user)
    decides = not is_author and is_owner and may_decide(desk, proposal)
    is_open = status in (Status.WAITING, Status.READY, Status.EXPIRED)

    def fresh() -> Proposal:
        return store.visible_one(desk, proposal.id)

    def button(label: str, icon: str, step: Callable[[], Any], done: str) -> None:
        _button(visit, proposal, label, icon, step, done)

    with st.container(horizontal=True, wrap=True, key="proposal buttons"):
        if decides and (status is Status.WAITING or (status is Status.EXPIRED and proposal.approval is not None)):
            step = lambda: steps.approve(desk, fresh(), judged=proposal.judged)  # noqa: E731
            _button(visit, proposal, "Approve", "check", step, "Approved.", primary=True)
        if is_owner and status is Status.READY:
            if visit.settings_of(proposal.cluster) is not None:
                with _popover("Apply", "play_arrow", f"This changes {proposal.cluster} as {desk.who.user}.", primary=True):
                    button("Apply now", "play_arrow", lambda: applying.apply(desk, fresh()), "Applied.")
            if visit.settings.proposals.git is not None:
                with _popover("Commit", "commit", f"This pushes a branch to {visit.settings.proposals.git.repository}."):
                    button("Commit now", "commit", lambda: handing_over.hand_over_commit(desk, fresh()), "Handed over as a commit.")
        if is_owner and status is Status.APPLIED:
            _roll_back(visit, proposal, fresh)
        if is_author and is_open:
            button("Judge again", "refresh", lambda: steps.judge_again(desk, fresh()), "Judged again, against what is in force now.")
        if is_open and (is_author or decides):
            _reject(visit, proposal, fresh, "Withdraw" if is_author else "Reject")
        _patch(proposal)
    if status is Status.WAITING and not decides:
        whose = "It is your own, so somebody else" if is_author else "Somebody else"
        st.caption(f":material/hourglass_empty: {whose} must decide: it needs the approval of {proposal.needs.value}.")


def _button(visit: Visit, proposal: Proposal, label: str, icon: str, step: Callable[[], Any], done: str, *, primary: bool = False) -> None:
    """Draw a button for a step about the judgement that is shown: once the proposal was judged again, a click on it does nothing."""
    key = f"proposal {label} {proposal.judged}"
    if st.button(label, icon=f":material/{icon}:", type="primary" if primary else "secondary", key=key):
        with st.spinner(f"{label} …"):
            do(visit, step, done)
        st.rerun()


def _popover(label: str, icon: str, text: str, *, primary: bool = False) -> Any:
    found = st.popover(label, icon=f":material/{icon}:", key=f"confirm {label}", type="primary" if primary else "secondary")
    found.write(text)
    return found


def _patch(proposal: Proposal) -> None:
    st.download_button(
        "Patch", handing_over.patch(proposal), file_name=f"{proposal.id}.patch", mime="text/x-diff", icon=":material/download:",
        on_click="ignore", key="patch",
    )  # fmt: skip


def _reject(visit: Visit, proposal: Proposal, fresh: Callable[[], Proposal], label: str) -> None:
    with st.popover(label, icon=":material/close:", key="reject"):
        reason = st.text_input("Why", key="reject reason", max_chars=steps.LONGEST_REASON)
        done = "Withdrawn." if label == "Withdraw" else "Rejected."
        _button(visit, proposal, f"{label} it", "close", lambda: steps.reject(desk_of(visit), fresh(), reason), done)


def _roll_back(visit: Visit, proposal: Proposal, fresh: Callable[[], Proposal]) -> None:
    """Draw the roll-back: at once if it denies nothing that was recorded since, else after that was shown and accepted."""
    desk = desk_of(visit)
    accepted: str | None = st.session_state.get(_REFUSED, {}).get(proposal.id)

    def step() -> None:
        force = bool(st.session_state.get("even if changed"))
        try:
            rolling_back.roll_back(desk, fresh(), even_if_changed=force, accepted=accepted)
        except RollBackDeniesError as error:
            st.session_state[_REFUSED] = {proposal.id: error.judged}
            raise
        st.session_state.pop(_REFUSED, None)

    with _popover("Roll back", "undo", f"This puts back in {proposal.cluster} what was in force before, as {desk.who.user}."):
        st.checkbox("Also if somebody has changed an object since", key="even if changed")
        if accepted is None:
            st.caption("It is tried on the traffic since then first.")
            _button(visit, proposal, "Roll back now", "undo", step, "Rolled back.", primary=True)
    if accepted is not None:
        _button(visit, proposal, f"Roll back all the same ({accepted})", "undo", step, "Rolled back.", primary=True)


def reversal(visit: Visit, proposal: Proposal) -> None:
    """Draw the edges that rolling back would deny, once that was asked for."""
    if proposal.id not in st.session_state.get(_REFUSED, {}):
        return
    found = visit.ask(f"reversal of {proposal.id}", lambda: rolling_back.judge(desk_of(visit), proposal))
    st.subheader("If it is rolled back", anchor=False)
    st.write(f"{found.in_words[0].upper()}{found.in_words[1:]}.")
    if found.denied:
        st.dataframe(
            [{"Edge": edge_rows.of_row(edge.row()), "Flows": edge.flows, "Last seen": edge.last_seen} for edge in found.denied],
            hide_index=True,
            row_height=28,
            alt="Edges that rolling back would deny",
            column_config={"Last seen": clock.column("Last seen", "DD MMM HH:mm:ss", width=150)},
        )


def go_to(proposal: str | None) -> None:
    """Show a proposal, or the list."""
    url_state.put("proposal", proposal)
    for part in ("policy", "without", "in"):
        url_state.put(part, None)
