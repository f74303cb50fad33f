"""What a person does with a proposal on its page: each button calls one step of `pipelines.proposals`, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards.frame import url_state
from dashboards.visit import Visit, forget
from pipelines.proposals import applying, handing_over, rules, steps, store
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Proposal, Status
from warehouse.errors import HindcastError, ProposalError

_TOLD = "told of a proposal"


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


def do(step: Callable[[], Any], done: str) -> bool:
    """Take a step, remember what it came to, and ask everything anew; returns whether it succeeded."""
    try:
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
    status = proposal.status(desk.now)
    is_author = bool(desk.who.user) and rules.is_same(proposal.author, desk.who)
    is_owner = rules.is_owner(desk.scope, proposal.cluster, proposal.namespace, desk.now) and bool(desk.who.user)
    decides = not is_author and is_owner and may_decide(desk, proposal)
    is_open = status in (Status.WAITING, Status.READY, Status.EXPIRED)

    def fresh() -> Proposal:
        return store.visible_one(desk, proposal.id)

    with st.container(horizontal=True, wrap=True, key="proposal buttons"):
        if decides and (status is Status.WAITING or (status is Status.EXPIRED and proposal.approval is not None)):
            _button("Approve", "check", lambda: steps.approve(desk, fresh()), "Approved.", primary=True)
        if is_owner and status is Status.READY:
            if visit.settings_of(proposal.cluster) is not None:
                _confirmed(
                    "Apply", "play_arrow", f"This changes {proposal.cluster} as {desk.who.user}.",
                    lambda: applying.apply(desk, fresh()), "Applied.", primary=True,
                )  # fmt: skip
            if visit.settings.proposals.git is not None:
                _confirmed(
                    "Commit", "commit", f"This pushes a branch to {visit.settings.proposals.git.repository}.",
                    lambda: handing_over.hand_over_commit(desk, fresh()), "Handed over as a commit.",
                )  # fmt: skip
        if is_owner and status is Status.APPLIED:
            _roll_back(desk, proposal, fresh)
        if is_author and is_open:
            _button("Judge again", "refresh", lambda: steps.judge_again(desk, fresh()), "Judged again, against what is in force now.")
        if is_open and (is_author or decides):
            _reject(desk, fresh, "Withdraw" if is_author else "Reject")
        st.download_button(
            "Patch", handing_over.patch(proposal), file_name=f"{proposal.id}.patch", mime="text/x-diff", icon=":material/download:",
            on_click="ignore", key="patch",
        )  # fmt: skip
    if status is Status.WAITING and not decides:
        whose = "It is your own, so somebody else" if is_author else "Somebody else"
        st.caption(f":material/hourglass_empty: {whose} must decide: it needs the approval of {proposal.needs.value}.")


def _button(label: str, icon: str, step: Callable[[], Any], done: str, *, primary: bool = False) -> None:
    if st.button(label, icon=f":material/{icon}:", type="primary" if primary else "secondary", key=f"proposal {label}"):
        with st.spinner(f"{label} …"):
            do(step, done)
        st.rerun()


def _confirmed(label: str, icon: str, text: str, step: Callable[[], Any], done: str, *, primary: bool = False) -> None:
    with st.popover(label, icon=f":material/{icon}:", key=f"confirm {label}", type="primary" if primary else "secondary"):
        st.write(text)
        _button(f"{label} now", icon, step, done, primary=True)


def _reject(desk: Desk, fresh: Callable[[], Proposal], label: str) -> None:
    with st.popover(label, icon=":material/close:", key="reject"):
        reason = st.text_input("Why", key="reject reason", max_chars=steps.LONGEST_REASON)
        _button(f"{label} it", "close", lambda: steps.reject(desk, fresh(), reason), "Withdrawn." if label == "Withdraw" else "Rejected.")


def _roll_back(desk: Desk, proposal: Proposal, fresh: Callable[[], Proposal]) -> None:
    with st.popover("Roll back", icon=":material/undo:", key="roll back"):
        st.write(f"This puts back in {proposal.cluster} what was in force before, as {desk.who.user}.")
        force = st.checkbox("Also if somebody has changed an object since", key="even if changed")
        _button("Roll back now", "undo", lambda: applying.roll_back(desk, fresh(), even_if_changed=force), "Rolled back.", primary=True)


def go_to(proposal: str | None) -> None:
    """Show a proposal, or the list."""
    url_state.put("proposal", proposal)
    for part in ("policy", "without", "in"):
        url_state.put(part, None)
