"""What wants attention: new denials, new edges, time not observed. Each with the number that says why, and a link to the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import streamlit as st

from dashboards.edges import edges
from dashboards.edges.edges import Edge
from dashboards.frame import clock, narrowed, navigation, ownership, theme, url_state
from dashboards.history import causes, changes
from dashboards.visit import Visit, not_future
from warehouse.questions.record_questions import Drift
from warehouse.records.coverage import Gap
from warehouse.schema import DRIFT
from warehouse.wording import counted

SHOWN = 6
DENIALS = 3
LOOK_BACK = timedelta(days=1)
"""How long before the window a change of policies is still named as what came before a denial."""
FEWEST_DENIED = 5
"""Fewer drops of an edge are no news."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing to look at."""

    icon: str
    colour: str
    title: str
    detail: str
    page: str
    query: list[tuple[str, str]] = field(default_factory=list)


def items(visit: Visit, talking: Sequence[Edge], before: Sequence[Edge], fresh: Sequence[Edge] | None, gaps: Sequence[Gap]) -> list[Item]:
    """What there is to look at, the weightiest first."""
    return [*_drift(visit), *_denials(visit, talking, before, was_observed=fresh is not None), *_new(fresh), *_gaps(gaps)]


def draw(visit: Visit, found: Sequence[Item]) -> None:
    """The list, in its card."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Needs your attention", anchor=False, width="content")
        st.space("stretch")
        if found:
            st.badge(str(len(found)), color="red")
    if not found:
        st.caption(f"Nothing in {clock.span(visit.time.since, visit.time.until)}: no new denial, no new edge, no gap.")
    for item in found[:SHOWN]:
        with st.container(horizontal=True, vertical_alignment="top", gap="small", wrap=False):
            st.badge("", icon=f":material/{item.icon}:", color=item.colour)  # type: ignore[arg-type]
            with st.container(gap=None):
                navigation.link(item.page, f"**{item.title}**", query=item.query)
                st.caption(theme.no_link(item.detail))
    if len(found) > SHOWN:
        st.caption(f"and {len(found) - SHOWN} more")


def drift_id(row: Mapping[str, Any]) -> str:
    """What names an open drift in an address."""
    return "|".join(str(row[name] or "") for name in ("cluster", "drift", "blueprint", "kind", "namespace", "name"))


def open_drift(visit: Visit) -> list[dict[str, Any]] | None:
    """Drift that was open at the end of the window; None where no blueprint is compared."""
    if DRIFT.name not in visit.recorded():
        return None
    at = not_future(visit.time.until)
    answer = visit.answer(Drift(at=at))
    visit.answers.remove(answer)
    rows: list[dict[str, Any]] = answer.rows.to_pylist()
    return rows


def drift_in_sight(visit: Visit) -> list[dict[str, Any]] | None:
    """Open drift of what the filter bar is about; None where no blueprint is compared."""
    found = open_drift(visit)
    return found and [row for row in found if narrowed.is_about(row["cluster"], row["namespace"])]


def _drift(visit: Visit) -> list[Item]:
    rows = [row for row in drift_in_sight(visit) or () if row["severity"] in ("critical", "high")]
    found = []
    for row in sorted(rows, key=lambda row: (row["severity"] != "critical", row["since"])):
        by = f" by {row['changed_by']}" if row["changed_by"] else ""
        title = (
            f"{row['cluster']} drifted from {row['blueprint']}"
            if row["blueprint"]
            else f"{row['cluster']}: {row['drift'].replace('_', ' ')}"
        )
        detail = f"{row['summary']}; since {clock.minute(row['since'])}{by}"
        found.append(
            Item(icon="change_history", colour="red", title=title, detail=detail, page="posture", query=url_state.link(item=drift_id(row)))
        )
    if len(found) > DENIALS:
        rest = counted(len(found) - DENIALS, "more drift")
        item = Item(icon="change_history", colour="gray", title=rest, detail="critical or high", page="posture", query=url_state.link())
        found = [*found[:DENIALS], item]
    return found


def _denials(visit: Visit, talking: Sequence[Edge], before: Sequence[Edge], *, was_observed: bool) -> list[Item]:
    """Edges that are denied and were not on the day before, each with the last change of a policy that may be why.

    `was_observed` says whether anything is known of that day.
    """
    owns = ownership.owned(visit)
    changed = changes.between(visit, visit.time.since - LOOK_BACK, not_future(visit.time.until)) or []
    then = {edge.key: edge for edge in before}
    found: list[tuple[int, Item]] = []
    for edge in talking:
        old = then.get(edge.key)
        share, share_then = edge.denied / edge.flows, (old.denied / old.flows if old else 0.0)
        if edge.denied < FEWEST_DENIED or share < 2 * share_then or (old is not None and old.is_denied):
            continue
        what = f"{theme.compact(edge.denied)} drops ({theme.percent(share)} of its flows), {theme.reason(edge.reason).lower()}"
        unseen = "not seen on the day before" if was_observed else "the day before was not observed"
        then_said = "was allowed on the day before" if old else unseen
        since = f" since {clock.minute(edge.first_denied)}" if edge.first_denied else ""
        query = narrowed.link(*edges.filter_of(edge, owns), verdict="DROPPED")
        item = Item(
            icon="block",
            colour="red",
            title=f"{edge.source} → {edge.destination} denied{since}",
            detail=f"{what}; {then_said}" + _cause(edge, changed),
            page="flows",
            query=query,
        )
        found.append((edge.denied, item))
    found.sort(key=lambda pair: -pair[0])
    return [item for _, item in found[:DENIALS]]


def _cause(edge: Edge, changed: Sequence[changes.Change]) -> str:
    if edge.first_denied is None:
        return ""
    change = causes.last_change_at_edge(edge.source.namespace, edge.destination.namespace, edge.clusters, edge.first_denied, changed)
    return f"; {changes.sentence(change)}" if change else ""


def _new(fresh: Sequence[Edge] | None) -> list[Item]:
    if not fresh:
        return []
    names = ", ".join(str(edge) for edge in fresh[:2]) + (f" and {len(fresh) - 2} more" if len(fresh) > 2 else "")
    denied = sum(edge.is_denied for edge in fresh)
    query = url_state.link(kind="new")
    title = counted(len(fresh), "new edge") + (f", {denied} denied" if denied else "")
    return [Item(icon="add_link", colour="yellow", title=title, detail=names, page="compare", query=query)]


def _gaps(gaps: Sequence[Gap]) -> list[Item]:
    if not gaps:
        return []
    length = sum((gap.until - gap.since for gap in gaps), timedelta())
    nodes = {(gap.cluster, gap.node_name) for gap in gaps}
    clusters = sorted({gap.cluster for gap in gaps})
    longest = max(gaps, key=lambda gap: gap.until - gap.since)
    where = clusters[0] if len(clusters) == 1 else counted(len(clusters), "cluster")
    title = f"{theme.duration(length)} of node-time not observed"
    detail = f"{counted(len(nodes), 'node')} of {where}; {clock.span(longest.since, longest.until)}: {longest.cause}"
    return [Item(icon="sensors_off", colour="gray", title=title, detail=detail, page="coverage", query=url_state.link())]
