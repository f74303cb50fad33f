"""The tokens of who is signed in: made, shown once, and revoked. Other tools sign in with them."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from dashboards.frame import clock
from dashboards.visit import Visit
from warehouse.errors import QueryError
from warehouse.records import tokens

_LIFETIMES = {"1 day": 1, "30 days": 30, "90 days": 90, "1 year": 365}


def draw(visit: Visit) -> None:
    """Draw the user's tokens. Raises LakeError."""
    st.subheader("Tokens for other tools", anchor=False)
    if visit.settings.dashboard.auth.mode == "local":
        st.write("Without sign-in no token is made here. On the machine of the lake: `hindcast token create --user NAME`.")
        return
    st.caption(
        "With a token as the password, `hubble`, notebooks and BI clients see what you see, through `hindcast serve`. "
        "It carries the groups that you have now."
    )
    with st.form("new token", border=False):
        columns = st.columns([2, 1, 1], vertical_alignment="bottom")
        name = columns[0].text_input("Name", placeholder="e.g. laptop", max_chars=tokens.LONGEST_NAME)
        lifetime = columns[1].selectbox("Valid for", list(_LIFETIMES), index=1)
        wanted = columns[2].form_submit_button("Make a token", icon=":material/key:")
    if wanted:
        _make(visit, name, timedelta(days=_LIFETIMES[lifetime]))
    for token in tokens.listed(visit.lake, user=visit.who.user):
        columns = st.columns([2, 2, 1], vertical_alignment="center")
        columns[0].write(token.name)
        columns[1].caption(f"made {clock.minute(token.time)}, valid until {clock.minute(token.expires)}")
        columns[2].button("Revoke", key=f"revoke {token.id}", on_click=_revoke, args=(visit, token.id))


def _make(visit: Visit, name: str, lifetime: timedelta) -> None:
    try:
        _, text = tokens.create(visit.lake, visit.who, name=name, lifetime=lifetime, changed_by=visit.who.user)
    except QueryError as error:
        st.error(str(error))
        return
    st.success("Copy it now: it is not shown again.")
    st.code(text, language=None)


def _revoke(visit: Visit, identifier: str) -> None:
    tokens.revoke(visit.lake, identifier, user=visit.who.user, changed_by=visit.who.user)
