"""What audits found about policies: rules that nothing needed, that are shadowed, too wide or select nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from dashboards.frame import clock, theme
from dashboards.visit import Visit
from warehouse.questions.record_questions import Findings
from warehouse.schema import FINDINGS

_BADGES = {"critical": "red", "high": "red", "medium": "yellow", "low": "blue", "info": "gray"}
Key = tuple[str, str, str | None, str]
"""Cluster, kind, namespace and name of a policy."""


def by_policy(visit: Visit, at: datetime) -> dict[Key, list[Mapping[str, Any]]]:
    """The findings that were open at a time, by the policy that they are about."""
    if FINDINGS.name not in visit.recorded():
        return {}
    answer = visit.answer(Findings(at=at))
    visit.answers.remove(answer)
    found: dict[Key, list[Mapping[str, Any]]] = {}
    for row in answer.rows.to_pylist():
        kind, slash, name = (row["subject"] or "").partition("/")
        if slash:
            found.setdefault((row["cluster"], kind, row["namespace"], name), []).append(row)
    return found


def draw(rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the findings about one policy."""
    for row in rows:
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.badge(row["kind"].replace("_", " ").capitalize(), color=_BADGES.get(row["severity"], "gray"))  # type: ignore[arg-type]
            st.caption(f"open since {clock.minute(row['since'])}")
        st.markdown(theme.plain(row["summary"]))
