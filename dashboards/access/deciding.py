"""Who may change something on a page: propose, approve, apply, roll back, accept a finding.

Without sign-in the address says who looks, so it proves nothing. There the person who started the dashboard decides, with a code that
it printed at her terminal, and users whom the configuration names for demonstrations.
"""

from __future__ import annotations

import hmac

import streamlit as st

from dashboards.visit import Visit
from warehouse import config
from warehouse.errors import AccessDeniedError

_ENTERED = "code of the dashboard"
_WHY = (
    "Nobody is signed in, and anyone who reaches this page can choose who to look as, so nothing is decided here. Use the commands, or "
    "configure sign-in (`dashboard.auth`)."
)


def is_possible(visit: Visit) -> bool:
    """Whether the visitor may change something as the user as whom she looks."""
    auth = visit.settings.dashboard.auth
    return auth.mode != "local" or visit.who.user in auth.decide_without_sign_in or _has_entered_code()


def check(visit: Visit) -> None:
    """Raises AccessDeniedError unless the visitor may change something."""
    if not is_possible(visit):
        raise AccessDeniedError(_WHY)


def explain(visit: Visit) -> None:
    """Draw why nothing can be changed, and the field for the code; nothing if it can."""
    auth = visit.settings.dashboard.auth
    if auth.mode != "local":
        return
    if visit.who.user in auth.decide_without_sign_in:
        st.caption(":material/lock_open: Without sign-in, everyone who reaches this page may decide as this user: for demonstrations.")
        return
    if _has_entered_code():
        st.caption(":material/key: You entered the code of this dashboard: what you decide is recorded under the user as whom you look.")
        return
    with st.container(border=True, key="deciding"):
        st.markdown(f":material/lock: {_WHY}")
        if _code():
            st.text_input(
                "Code", type="password", key=_ENTERED, help="The person who started the dashboard finds it at her terminal.", width=280
            )
            if st.session_state.get(_ENTERED):
                st.markdown(":red[:material/block:] That is not the code.")


def _has_entered_code() -> bool:
    code = _code()
    entered = str(st.session_state.get(_ENTERED) or "")
    if code and hmac.compare_digest(entered.strip().encode(), code.encode()):
        st.session_state["is operator"] = True
    return bool(code) and bool(st.session_state.get("is operator"))


def _code() -> str | None:
    return config.environment().get(config.DASHBOARD_CODE_VARIABLE)
