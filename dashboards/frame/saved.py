"""Views and queries saved under a name: the menu that lists, opens, saves, renames, shares and deletes them.

What is saved is a page's address or a query's text; who opens it asks anew, within what she may see.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from urllib.parse import parse_qsl, urlencode

import streamlit as st

from dashboards.frame import navigation, theme, url_state
from dashboards.visit import Visit
from warehouse.errors import HindcastError
from warehouse.records import saved_views
from warehouse.records.saved_views import EVERYONE, Kind, SavedView

SHOWN = 30
_ROUND, _PROBLEM = "saved round", "saved problem"
_WORDS: dict[Kind, str] = {"view": "this view", "query": "this query"}


def state_of_page() -> str:
    """The address's state, which a view is; without who looked."""
    return urlencode([(name, value) for name in st.query_params for value in url_state.get_all(name) if name != "user"])


def menu(visit: Visit, kind: Kind, *, page: str, state: str) -> None:
    """The contents of its popover; `state` is what would be saved now."""
    scope = visit.door.scope(visit.who)
    if scope.is_empty:
        st.caption("Nothing here is yours to look at, so there is nothing to save.")
        return
    now = datetime.now(UTC)
    found = visit.ask(
        "saved", lambda: saved_views.listed(visit.lake, visit.who, scope, kind=kind, at=now), kind, st.session_state.get(_ROUND, 0)
    )
    mine = saved_views.owner_of(visit.who)
    if found:
        with st.container(gap="xsmall", key=f"saved {kind}"):
            for view in found[:SHOWN]:
                _entry(view, mine)
            if len(found) > SHOWN:
                st.caption(f"and {len(found) - SHOWN} more: rename or delete some")
    audiences = saved_views.audiences(scope, now)
    with st.form(f"save {kind}", border=False, clear_on_submit=True):
        st.text_input(f"Save {_WORDS[kind]} as", key=f"save {kind} name", max_chars=saved_views.LONGEST_NAME)
        hint = "Or type the name of a namespace, to share with its owners" if scope.everything else None
        st.selectbox(
            "Who may open it",
            ["", *audiences],
            key=f"save {kind} for",
            format_func=_audience,
            accept_new_options=scope.everything,
            help=hint,
        )
        st.form_submit_button("Save", icon=":material/bookmark_add:", on_click=partial(_save, visit, kind, page, state), width="stretch")
    own = [view for view in found if view.owner == mine]
    if own:
        with st.expander("Rename, share, delete"):
            _manage(visit, kind, own, audiences)
    if problem := st.session_state.pop(_PROBLEM, None):
        st.warning(problem, icon=":material/warning:")


def _typed_audience(written: str) -> str:
    """The audience that a choice stands for: a namespace's name alone means its owners in every cluster."""
    return written if not written or written == EVERYONE or "/" in written else f"*/{written.strip()}"


def _entry(view: SavedView, mine: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        query = [("q", view.state)] if view.kind == "query" else parse_qsl(view.state)
        user = [("user", url_state.get("user"))] if url_state.get("user") else []
        navigation.link(view.page, view.name, query=[*user, *query], icon="bookmark" if view.owner == mine else "group")
        told = f"{view.page} · " if view.kind == "view" else ""
        whose = _shared(view) if view.owner == mine else f"by {view.owner}"
        st.caption(told + theme.no_link(whose))


def _manage(visit: Visit, kind: Kind, own: list[SavedView], audiences: list[str]) -> None:
    by_id = {view.id: view for view in own}
    chosen = by_id[st.selectbox("Which", list(by_id), key=f"manage {kind}", format_func=lambda each: by_id[each].name)]
    name, to = f"rename {kind} {chosen.id}", f"share {kind} {chosen.id}"
    st.text_input("Name", value=chosen.name, key=name, max_chars=saved_views.LONGEST_NAME)
    now = chosen.shared_with[0] if chosen.shared_with else ""
    offered = list(dict.fromkeys(["", now, *audiences]))
    st.selectbox("Who may open it", offered, index=offered.index(now), key=to, format_func=_audience)
    with st.container(horizontal=True):
        st.button("Change", icon=":material/edit:", key=f"change {kind}", on_click=_change, args=(visit, chosen, name, to))
        st.button("Delete", icon=":material/delete:", key=f"delete {kind}", on_click=_delete, args=(visit, chosen))


def _audience(audience: str) -> str:
    if not audience:
        return "Only me"
    audience = _typed_audience(audience)
    cluster, _, namespace = audience.partition("/")
    return (
        "Everyone who sees anything" if audience == EVERYONE else f"Owners of {namespace} in {'any cluster' if cluster == '*' else cluster}"
    )


def _shared(view: SavedView) -> str:
    return "only me" if not view.shared_with else "for " + ", ".join(_audience(each).lower() for each in view.shared_with)


def _save(visit: Visit, kind: Kind, page: str, state: str) -> None:
    name, audience = st.session_state[f"save {kind} name"], _typed_audience(st.session_state[f"save {kind} for"])
    scope = visit.door.scope(visit.who)
    draft = saved_views.Draft(kind=kind, name=name, page=page, state=state, shared_with=(audience,) if audience else ())
    try:
        saved_views.save(visit.lake, visit.who, scope, draft)
    except HindcastError as error:
        st.session_state[_PROBLEM] = str(error)
    _again()


def _change(visit: Visit, view: SavedView, name: str, to: str) -> None:
    audience = st.session_state[to]
    shared_with = None if [audience] == list(view.shared_with) else [audience] if audience else []
    try:
        saved_views.change(
            visit.lake, visit.who, visit.door.scope(visit.who), view.id, name=st.session_state[name], shared_with=shared_with
        )
    except HindcastError as error:
        st.session_state[_PROBLEM] = str(error)
    _again()


def _delete(visit: Visit, view: SavedView) -> None:
    try:
        saved_views.change(visit.lake, visit.who, visit.door.scope(visit.who), view.id, deleted=True)
    except HindcastError as error:
        st.session_state[_PROBLEM] = str(error)
    _again()


def _again() -> None:
    """Look at the list anew."""
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
