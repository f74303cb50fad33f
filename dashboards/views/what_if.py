"""What a policy would have done: written or pasted, replayed against the history of the head's window."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import streamlit as st

from dashboards.frame import head, navigation, summary, url_state
from dashboards.sql_page import running
from dashboards.views import flows
from dashboards.visit import Visit, not_future
from dashboards.whatif import draft, editing, results, starting
from pipelines.policy.reading import Document
from pipelines.replay import whatif
from pipelines.replay.candidates import Identity, identity
from pipelines.replay.in_force import History
from pipelines.replay.whatif import Result, WhatIf
from warehouse.engine import Window
from warehouse.errors import CancelledError, ConfigError, QueryError

JOB = "what-if"


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "What-if")
    if visit.door.scope(visit.who).is_empty:
        summary.denied(visit)
        return
    editing.take_from_address(visit)
    replay = _replay(visit)
    if replay is not None:
        running.begin(JOB, replay.key, replay.work)  # beside what is drawn before its result
    grid = st.grid(3, gap="small", min_column_width=390)
    with grid.cell():
        editing.card(visit)
        _options(visit)
    with grid.cell(column_span=2):
        _result(visit, replay)


def _options(visit: Visit) -> None:
    """Where it is tried, and what else changes with it."""
    clusters = visit.door.clusters(visit.who)
    versions = starting.in_force(visit)
    policies = {f"{one['kind']}|{one['namespace'] or ''}|{one['name']}": starting.title(one, with_cluster=False) for one in versions}
    with st.container(horizontal=True, wrap=True):
        if len(clusters) > 1:
            st.session_state["what-if clusters"] = [name for name in url_state.get_all("in") if name in clusters]
            st.multiselect(
                "In", clusters, key="what-if clusters", placeholder="All clusters", width=210,
                on_change=lambda: url_state.put("in", st.session_state["what-if clusters"]),
            )  # fmt: skip
        st.session_state["what-if without"] = [name for name in url_state.get_all("without") if name in policies]
        st.multiselect(
            "And without", list(policies), key="what-if without", format_func=policies.__getitem__, placeholder="Remove none", width=210,
            on_change=lambda: url_state.put("without", st.session_state["what-if without"]),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Replay:
    """The replay that the address asks for."""

    asked: WhatIf
    key: Hashable
    work: Callable[[threading.Event], Result]


def _replay(visit: Visit) -> _Replay | None:
    """Return the replay that the address asks for; None if it has no policy that can be replayed."""
    text = editing.asked()
    if text is None:
        return None
    found = draft.read(text, editing.owns(visit))
    removed = tuple((kind, namespace, name) for kind, namespace, name in (one.split("|", 2) for one in url_state.get_all("without")))
    if not found.documents and not removed:
        return None
    until = max(visit.time.since, not_future(visit.time.until))
    asked = WhatIf(
        window=Window(since=visit.time.since, until=until),
        namespaces=_namespaces(found.documents, removed),
        clusters=tuple(url_state.get_all("in")),
        documents=found.documents,
        removed=removed,
        with_examples=False,  # they cost as much as the rest, and a link leads to all flows of an edge
    )
    door, who = visit.door, visit.who

    def work(cancelled: threading.Event) -> Result:
        result = whatif.simulate(History(door, who, cancelled), asked)
        if cancelled.is_set():
            raise CancelledError("cancelled")
        return result

    key = (who, door.scope(who), url_state.get("policy"), asked.clusters, removed, visit.time.since, visit.time.until)
    return _Replay(asked=asked, key=key, work=work)


def _result(visit: Visit, replay: _Replay | None) -> None:
    part = url_state.get("policy")
    if editing.asked() is None:
        if part:
            _unreadable(part)
        else:
            summary.empty(
                "Nothing replayed yet",
                "Write or paste a policy, or start from one in force. Replay tries it on the traffic of the window above.",
                "play_circle",
            )
        return
    if draft.is_kept(part):
        st.caption(
            ":material/link_off: This policy is too long for a link. It is kept in this session: a link to this page will not have it."
        )
    if replay is None:
        summary.empty("No policy", "The text holds no network policy, so there is nothing to replay.", "edit_note")
        return
    try:
        result = running.answer(JOB, replay.key, replay.work, advice="A shorter window reads less.")
    except CancelledError:
        st.info("Cancelled. Replay starts it again.", icon=":material/stop_circle:")
        running.leave(JOB)
        return
    except (ConfigError, QueryError) as error:
        st.error(str(error), icon=":material/block:")
        return
    if result is not None:
        if navigation.exists("proposals") and not result.refusals:
            query = url_state.link(policy=part, in_=replay.asked.clusters[:1], without=url_state.get_all("without"))
            navigation.link("proposals", "Propose this change", query=query, icon="rate_review")
        results.draw(visit, result, flows.gaps(visit))


def _namespaces(documents: Iterable[Document], removed: Iterable[Identity]) -> tuple[str, ...]:
    """The namespaces whose traffic can change; empty for that of whole clusters, since a policy of a cluster selects anything."""
    named = {identity(document)[1] for document in documents} | {namespace for _, namespace, _ in removed}
    return () if "" in named else tuple(sorted(named))


def _unreadable(part: str) -> None:
    if draft.is_kept(part):
        summary.empty(
            "The policy is not in this link",
            "It was too long for an address, and stays in the session of whoever wrote it. Ask for its text, and paste it here.",
            "link_off",
        )
    else:
        summary.empty("The link is damaged", "The policy in the address cannot be read. Paste its text here instead.", "link_off")
