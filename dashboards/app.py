"""The dashboard: which pages there are, who looks, and what is said when something fails. Streamlit runs this file for each visit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards import opened
from dashboards.access import identity
from dashboards.central import planned
from dashboards.frame import navigation, summary, theme, time_control, url_state
from dashboards.sql_page import running
from dashboards.views import (
    access,
    alerts,
    compare,
    coverage,
    docs,
    findings,
    flows,
    map,
    overview,
    policies,
    posture,
    proposals,
    recommend,
    reports,
    sql,
    what_if,
)
from dashboards.visit import Visit, recorded
from warehouse import config
from warehouse.errors import AccessDeniedError, HindcastError, QueryLimitError
from warehouse.questions.door import Door
from warehouse.schema import DRIFT, FINDINGS, FLOWS, POLICY_CHANGES, POLICY_VERSIONS, POSTURE, REPORTS

Draw = Callable[[Visit], None]


def main() -> None:
    """Draw what was asked for."""
    st.set_page_config(page_title="Hindcast", page_icon="/app/static/icon.png", layout="wide")
    theme.add_css()
    st.logo(theme.logo(), size="large")
    problem: HindcastError | None = None
    settings: config.Config | None = None
    tables: frozenset[str] = frozenset()
    try:
        settings = opened.configuration()
        tables = recorded(Door(opened.lake(settings.lake), settings.ownership))
    except HindcastError as error:
        problem = error
    # All pages before the question who looks, so that the address is known whatever the answer.
    asked = navigation.build(_pages(tables))
    if settings is None or problem is not None:
        _failed(problem)
        return
    who = identity.current(settings)
    identity.watch(theme.is_dark(), identity.session_end(settings))
    st.session_state["visit"] = (settings, who)
    asked.run()


def _pages(tables: frozenset[str]) -> dict[str, list[tuple[str, str, str, Callable[[], None]]]]:
    def page(address: str, title: str, icon: str, draw: Draw) -> tuple[str, str, str, Callable[[], None]]:
        return address, title, icon, lambda: _run(address, title, draw)

    return {
        "": [
            page("overview", "Overview", "space_dashboard", overview.page),
            page("flows", "Flows", "bar_chart", flows.page),
            page("map", "Map", "hub", map.page),
            page("compare", "Compare", "compare_arrows", compare.page),
        ],
        "Policy": [
            *([page("policies", "Policies", "policy", policies.page)] if POLICY_VERSIONS.name in tables else []),
            *([page("what-if", "What-if", "experiment", what_if.page)] if FLOWS.name in tables else []),
            *([page("recommend", "Recommend", "auto_awesome", recommend.page)] if FLOWS.name in tables else []),
            *([page("proposals", "Proposals", "rate_review", proposals.page)] if {FLOWS.name, POLICY_CHANGES.name} & tables else []),
            *([page("posture", "Posture", "rule", posture.page)] if {DRIFT.name, POSTURE.name} & tables else []),
            *([page("findings", "Findings", "flag", findings.page)] if FINDINGS.name in tables else []),
        ],
        "Evidence": [
            page("coverage", "Coverage", "sensors", coverage.page),
            page("alerts", "Alerts", "notifications", alerts.page),
            *([page("reports", "Reports", "summarize", reports.page)] if REPORTS.name in tables else []),
            page("sql", "SQL", "terminal", sql.page),
            page("access", "Access", "key", access.page),
            page("docs", "Docs", "menu_book", docs.page),
        ],
    }


def _run(address: str, title: str, draw: Draw) -> None:
    """One page, with its state from the address and its errors in words."""
    settings, who = st.session_state["visit"]
    entered = url_state.begin(address)
    if entered:
        for job in ("sql", what_if.JOB, recommend.JOB, planned.JOB):
            running.leave(job)
    window = time_control.current(entered=entered)
    url_state.flush()
    visit: Visit | None = None
    try:
        visit = Visit(
            settings=settings,
            lake=opened.lake(settings.lake),
            door=opened.door(settings, address),
            who=who,
            time=window,
            page=address,
        )
        draw(visit)
    except AccessDeniedError as error:
        summary.denied(visit) if visit else _failed(error)
    except QueryLimitError as error:
        summary.empty(
            "The question is too large",
            f"{error}. A filter on a namespace or a cluster reads less, and so does a shorter window.",
            "timer_off",
            (
                f"Look at the last {theme.duration(window.length / 4)}",
                lambda: time_control.set_range(window.until - window.length / 4, window.until),
            ),
        )
    except HindcastError as error:
        _failed(error)
    if visit is not None:
        for more in visit.last:
            more()
        visit.end()
    url_state.keep()


def _failed(error: Any) -> None:
    st.error(str(error), icon=":material/error:")
    st.button("Try again", icon=":material/refresh:")


main()
