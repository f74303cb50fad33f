"""The head of every page: its name, the control of time, sharing, and who is looking and why they may."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from urllib.parse import urlencode

import streamlit as st

from dashboards.access import identity
from dashboards.frame import clock, ownership, saved, time_control, url_state
from dashboards.visit import Visit, forget

_SIGN_IN = {"oidc": "signed in", "proxy": "signed in by the proxy", "local": "local mode: no sign-in"}


def draw(
    visit: Visit,
    title: str,
    *,
    with_time: bool = True,
    extra: Callable[[], None] | None = None,
    share: Callable[[], None] | None = None,
) -> None:
    """Draw it. `extra` goes before the control of time, `share` adds to the menu of sharing."""
    with st.container(horizontal=True, vertical_alignment="center", wrap=True, key="head"):
        st.header(title, anchor=False, width="content")
        if visit.settings.dashboard.auth.mode == "local":
            st.badge("Local mode", icon=":material/computer:", color="yellow", help="No sign-in; it answers this machine only")
        st.space("stretch")
        if extra:
            extra()
        if with_time:
            time_control.control(visit.time, _refresh)
        with st.popover("Views", icon=":material/bookmarks:", help="Views saved under a name", key="views"):
            saved.menu(visit, "view", page=visit.page, state=saved.state_of_page())
        with st.popover("Share", icon=":material/ios_share:", help="A link to this view, and files of it", key="share"):
            _share(visit, share)
        with st.popover(
            _short(identity.name(visit.who)), icon=":material/account_circle:", help="Who looks, and why they may", key="account"
        ):
            _account(visit)
    if visit.time.problem and with_time:
        st.warning(f"{visit.time.problem}. The last hour is shown instead.", icon=":material/warning:")


def _share(visit: Visit, more: Callable[[], None] | None) -> None:
    st.markdown("**Link to this view**")
    # Two moments instead of "the last hour": whoever opens it later is to see the same thing.
    fixed = dict.fromkeys(("last", "from", "until", "user"))
    rest = [(name, value) for name in st.query_params for value in url_state.get_all(name) if name not in fixed]
    window = [("from", time_control.written(visit.time.since)), ("until", time_control.written(visit.time.until))]
    base = (st.context.url or "").split("?")[0]
    st.code(f"{base}?{urlencode([*window, *rest])}", language=None, wrap_lines=True)
    st.caption("Opens this very window, for whoever may see it: rights are looked up anew for each reader.")
    if more:
        more()


def _account(visit: Visit) -> None:
    who = visit.who
    st.markdown(f"**{identity.name(who)}** · {_SIGN_IN[visit.settings.dashboard.auth.mode]}")
    if who.user and who.groups:
        st.caption("Groups: " + ", ".join(sorted(who.groups)))
    if visit.settings.dashboard.auth.mode == "local":
        known = identity.subjects(visit.settings)
        st.session_state["look as"] = who.user or f"group:{next(iter(who.groups))}"
        st.selectbox("Look as", known, key="look as", on_change=_look_as)
    for line in reasons(visit):
        st.markdown(line)
    if visit.settings.dashboard.auth.mode == "oidc":
        st.button("Sign out", icon=":material/logout:", on_click=st.logout)
    st.caption(f"Hindcast {version('hindcast-flows')} · light or dark as the browser is set, or as chosen by the ⋮ at the top right")


def _short(name: str) -> str:
    """A name that fits the head."""
    first = name.partition("@")[0]
    return first if len(first) <= 18 else first[:17] + "…"


def reasons(visit: Visit) -> list[str]:
    """What the principal may see and through which grant, a line of Markdown each."""
    scope = visit.door.scope(visit.who)
    lines = []
    for grant in scope.grants:
        where = "all clusters" if grant.cluster == "*" else f"cluster {grant.cluster}"
        what = f"namespace **{grant.namespace}** in {where}" if grant.namespace else f"everything in {where}"
        through = f" through the group `{grant.subject.removeprefix('group:')}`" if grant.subject.startswith("group:") else ""
        when = "".join(f" {word} {clock.span(at, at)[-20:]}" for word, at in (("from", grant.since), ("until", grant.until)) if at)
        lines.append(f"- {what} as {grant.role}{through}{when} · {ownership.in_words(grant.reason)}")
    lines += [
        f"- :red[not] {denial.namespace or 'anything'} in {denial.cluster} · {ownership.in_words(denial.reason)}"
        for denial in scope.denials
    ]
    return lines or ["- nothing: ask for a grant in the configuration's `ownership.grants`"]


def _refresh() -> None:
    time_control.refresh()
    forget()


def _look_as() -> None:
    url_state.put("user", st.session_state["look as"])
    forget()
