"""The parts of the map's page about what policies allow: working it out, the lists beside the map, and the legend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards.edges import allowed
from dashboards.frame import theme, url_state
from dashboards.sql_page import running
from dashboards.visit import Visit, not_future
from pipelines.replay.in_force import History
from pipelines.replay.reachable import Reachable, reachable
from warehouse.engine import Window
from warehouse.errors import CancelledError, ConfigError, QueryError
from warehouse.questions.flow_filter import FlowFilter, plain

JOB = "allowed"


def question(visit: Visit, wanted: FlowFilter) -> Callable[[threading.Event | None], Reachable]:
    """What works out who may reach whom, for the clusters and the window of a filter, until its argument is set."""
    door, who, clusters = visit.door, visit.who, plain(wanted).clusters
    window = Window(since=wanted.since, until=max(wanted.since, not_future(wanted.until)))
    return lambda cancelled: reachable(History(door, who, cancelled), window, clusters)


def judged(visit: Visit, wanted: FlowFilter) -> Reachable | None:
    """Who may reach whom; None while it is worked out, or where it cannot be, which is then drawn. Raises as `Door.answer`."""
    ask = question(visit, wanted)

    def work(cancelled: threading.Event) -> Reachable:
        found = ask(cancelled)
        if cancelled.is_set():
            raise CancelledError("cancelled")
        return found

    key = (visit.who, visit.door.scope(visit.who), plain(wanted).clusters, wanted.since, wanted.until)
    try:
        return running.answer(JOB, key, work, advice="A shorter window, or a filter on cluster, reads less.")
    except CancelledError:
        st.info("Cancelled.", icon=":material/stop_circle:")
        running.leave(JOB)
        url_state.put("view", None)
    except (ConfigError, QueryError) as error:
        st.warning(theme.plain(str(error)), icon=":material/help:")
    return None


def beside(drawn: allowed.Overlay) -> None:
    """Draw what is no line of the map: workloads that everyone reaches, and what is not known."""
    if drawn.open_to_all:
        everyone = f"Reachable by everyone: {len(drawn.open_to_all):,} workloads"
        with st.expander(everyone, icon=":material/lock_open:"):
            st.caption("No policy isolates them from callers, or a rule allows everyone. Lines to them are drawn where traffic was seen.")
            rows: list[dict[str, Any]] = [{"Namespace": end.namespace, "Workload": end.name} for end in drawn.open_to_all]
            st.dataframe(rows, hide_index=True, row_height=28, height=min(320, 37 + 28 * len(rows)), alt=everyone, key="open to all")
    if drawn.notes:
        with st.expander(f"What is not known ({len(drawn.notes)})", icon=":material/help:"):
            for note in drawn.notes:
                st.caption(theme.plain(note))


def legend(view: str) -> str:
    """What the lines of a view mean."""
    refused = "" if view == allowed.ALLOWED else " :yellow[━ ━] observed and not allowed now"
    return f"  :blue[┈] allowed and never seen{refused}"
