"""Who looks: from sign-in (OIDC), from a proxy's headers, or chosen in local mode. What they may see is the warehouse's to say.

The server's middleware (dashboards.access.sign_in) has let in nobody whose token or proxy is not right; here a session also ends
when its token does, however long the cookie lasts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboards.frame import url_state
from warehouse import config
from warehouse.access.principals import Principal

WATCH_SECONDS = 5.0


def principal_of(claims: Mapping[str, Any], settings: config.DashboardAuth) -> Principal | None:
    """The principal that a session's claims (or a proxy's headers, by name) stand for; None if they name nobody."""
    if settings.oidc:
        user, groups = claims.get(settings.oidc.user_claim), claims.get(settings.oidc.groups_claim) or []
        if settings.oidc.user_claim == "email" and claims.get("email_verified") is False:
            return None  # anyone may have written it there
    elif settings.proxy:
        user, groups = claims.get("user"), [part.strip() for part in (claims.get("groups") or "").split(",")]
    else:
        return None
    if not isinstance(user, str) or not user.strip():
        return None
    listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list | tuple) else []
    return Principal(user=user.strip(), groups=frozenset(group for group in listed if isinstance(group, str) and group))


def seconds_left(claims: Mapping[str, Any], now: float) -> float | None:
    """How long a session's token is good for; None where it does not say, below 0 when it is over."""
    expires = claims.get("exp")
    return float(expires) - now if isinstance(expires, int | float) else None


def current(settings: config.Config) -> Principal:
    """Who looks; draws a page that asks for sign-in, and stops, where that is not known."""
    auth = settings.dashboard.auth
    if auth.mode == "local":
        return _local(settings)
    claims = dict(st.user.to_dict())
    who = principal_of(claims, auth)
    if auth.mode == "proxy":
        if who is None:
            _card("Not signed in", "The proxy in front of this dashboard named no user. Sign in there, then reload this page.")
            st.stop()
        return who
    if not claims.get("is_logged_in"):
        _ask_for_sign_in("Sign in to see the history of your namespaces", "The link you followed opens as soon as you are signed in.")
    left = seconds_left(claims, time.time())
    if left is not None and left <= 0:
        _ask_for_sign_in("Your session has ended", "It lasts as long as the sign-in it came from. Sign in again to go on where you were.")
    if who is None:
        claim = auth.oidc.user_claim if auth.oidc else "name"
        _card("Signed in, but as nobody", f"The provider did not give a (verified) `{claim}`, by which ownership is looked up.")
        st.button("Sign out", on_click=st.logout)
        st.stop()
    return who


@st.fragment(run_every=WATCH_SECONDS)
def watch(is_dark: bool, ends: float | None) -> None:
    """Draw the page again when the reader has switched the theme, or when the session has come to its end."""
    now_dark = st.context.theme.type == "dark"
    if now_dark != is_dark or (ends is not None and time.time() > ends):
        st.rerun()


def session_end(settings: config.Config) -> float | None:
    """When the session ends, seconds since 1970; None if it does not by itself."""
    if settings.dashboard.auth.mode != "oidc":
        return None
    expires = st.user.to_dict().get("exp")
    return float(expires) if isinstance(expires, int | float) else None


def subjects(settings: config.Config) -> list[str]:
    """Whom one can look as in local mode: everyone with a grant of their own."""
    return list(dict.fromkeys(grant.subject for grant in settings.ownership.grants))


def as_principal(subject: str) -> Principal:
    """The principal of a grant's subject, a user or `group:NAME`."""
    if subject.startswith("group:"):
        return Principal(user="", groups=frozenset([subject.removeprefix("group:")]))
    return Principal(user=subject)


def name(who: Principal) -> str:
    """A principal, for people."""
    return who.user or ", ".join(sorted(who.groups))


def _local(settings: config.Config) -> Principal:
    known = subjects(settings)
    if not known:
        _card(
            "Nobody owns anything yet", "Name users and their namespaces in `ownership.grants` of the configuration, then reload this page."
        )
        st.stop()
    chosen = url_state.get("user") or st.session_state.get("local user") or known[0]
    if chosen not in known:
        st.session_state.pop("local user", None)
        _card(
            f"{chosen!r} has no grant",
            "Nothing is shown to a user whom `ownership.grants` of the configuration does not name. "
            f"Put one of these into the address as `?user=NAME`: {', '.join(f'`{subject}`' for subject in known)}.",
        )
        st.stop()
    st.session_state["local user"] = chosen
    url_state.put("user", chosen)
    return as_principal(chosen)


def _ask_for_sign_in(title: str, text: str) -> None:
    _card(title, text)
    st.button("Sign in", type="primary", icon=":material/login:", on_click=st.login)
    st.stop()


def _card(title: str, text: str) -> None:
    with st.container(border=True):
        st.subheader(title, anchor=False)
        st.write(text)
