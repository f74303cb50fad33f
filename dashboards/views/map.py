"""The map: who talks to whom, by cluster, namespace, workload or pod, with what was denied in sight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from dashboards.edges import allowed, allowed_view, edges, map_component, map_layout, map_svg, seen
from dashboards.edges.edges import Edge, End
from dashboards.flows import open_as_sql
from dashboards.frame import clock, export, filters, head, navigation, ownership, summary, theme, url_state
from dashboards.frame.time_control import TimeRange
from dashboards.visit import Visit
from warehouse.engine import Limits
from warehouse.errors import AccessDeniedError
from warehouse.questions.answers import Answer
from warehouse.questions.conditions import Condition
from warehouse.questions.edges_in_time import edges_in_time
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.question import Question
from warehouse.wording import counted

DRAWN = 400
"""Edges drawn at first; more on demand, up to MOST."""
MOST = 2_000
_LEVELS = {"cluster": "Cluster", "namespace": "Namespace", "workload": "Workload", "pod": "Pod"}
_LEVEL = "workload"


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Map", share=lambda: _export(visit))
    level = _level()
    try:
        filters.bar(visit)
        summary.foreign(visit)
        wanted = filters.applied(visit.time)
        visit.ask_ahead(*asks(visit.time))
        answer = visit.answer(_edges(wanted))
    except AccessDeniedError:
        summary.denied(visit)
        return
    found = edges.edges_of(answer, since=wanted.since, until=wanted.until, by_port=False)
    with_ports = edges.edges_of(answer, since=wanted.since, until=wanted.until)
    controls, view = st.container(), _view(level)
    judged = allowed_view.judged(visit, wanted) if view != allowed.OBSERVED and found else None
    marked = allowed.overlay(found, with_ports, judged, wanted) if judged else allowed.Overlay(found=found, with_ports=with_ports)
    found, with_ports = marked.found, marked.with_ports
    ends = sorted({end for edge in found for end in (edge.source, edge.destination)})
    with controls:
        looked_for = _controls(visit, level, ends)
    if not found:
        summary.nothing(visit, wanted, answer)
        return
    shown = _shown(found, with_ports, _switches(), looked_for)
    counts = marked.counts(shown) if judged else []
    shown = marked.seen_in(view, shown) if judged else shown
    if judged:
        allowed_view.beside(marked)
    if not shown:
        _line(visit, answer, shown, found, level, counts)
        summary.empty(
            "Every edge is switched off",
            f"{counted(len(found), 'edge')} seen, all of it hidden by the switches above.",
            "visibility_off",
            ("Show all", _show_all),
        )
        return
    drawn = shown[: _most_drawn()]
    _line(visit, answer, drawn, found, level, counts)
    if len(drawn) < len(shown) and len(drawn) < MOST:
        st.button(
            f"{counted(len(shown) - len(drawn), 'more edge')}: draw them",
            icon=":material/expand_more:",
            type="tertiary",
            on_click=lambda: url_state.put("drawn", str(min(MOST, 2 * len(drawn)))),
        )
    elif len(drawn) < len(shown):
        st.caption(f"{counted(len(shown) - len(drawn), 'more edge')}: filter, or go up a level, to see them")
    _draw(visit, answer, drawn, marked, looked_for)


def asks(time: TimeRange) -> tuple[Question[Any], ...]:
    """What the page asks first."""
    return (_edges(filters.applied(time)),)


def _edges(wanted: FlowFilter) -> Question[Answer]:
    return edges_in_time(wanted, level=_level(), limits=Limits(rows=5 * MOST))


def _level() -> Any:
    return url_state.chosen("level", _LEVELS, _LEVEL)


def _view(level: str) -> str:
    """The view that the address asks for; what was observed at levels at which policies are not judged."""
    return url_state.chosen("view", allowed.VIEWS, allowed.OBSERVED) if level == allowed.LEVEL else allowed.OBSERVED


def _most_drawn() -> int:
    asked = url_state.get("drawn")
    return min(MOST, int(asked)) if asked.isdigit() else DRAWN


def _controls(visit: Visit, level: str, ends: Sequence[End]) -> End | None:
    """The level, what to show, and what is looked for."""
    names = {map_svg.title(end): end for end in ends}
    asked = url_state.get("find")
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        url_state.choose(st.segmented_control, "Level", _LEVELS, "level", _LEVEL, clears="find")
        if level == allowed.LEVEL:
            url_state.choose(st.segmented_control, "View", allowed.VIEWS, "view", allowed.OBSERVED)
        for name, label in (("denied", "Denied only"), ("housekeeping", "DNS, metrics, health"), ("related", "Hide unrelated")):
            st.session_state[f"map {name}"] = url_state.get(name) == "1"
            off = name == "related" and asked not in names
            hint = {"related": "Of what is picked or found"}.get(name)
            st.toggle(label, key=f"map {name}", on_change=_switch, args=(name,), disabled=off, help=hint)
        st.session_state["map find"] = asked if asked in names else None
        st.selectbox(
            "Find",
            list(names),
            index=None,
            key="map find",
            placeholder=f"Find a {level}",
            label_visibility="collapsed",
            on_change=lambda: url_state.put("find", st.session_state["map find"]),
            width=280,
        )
        st.space("stretch")
        summary.coverage_link(visit, visit.answers[-1])
    return names.get(asked)


def _switch(name: str) -> None:
    url_state.put(name, "1" if st.session_state[f"map {name}"] else None)


def _show_all() -> None:
    url_state.put("denied", None)
    url_state.put("related", None)
    url_state.put("housekeeping", "1")


def _switches() -> frozenset[str]:
    """The switches that are on."""
    return frozenset(name for name in ("denied", "housekeeping", "related") if url_state.get(name) == "1")


def _shown(found: Sequence[Edge], with_ports: Sequence[Edge], switches: frozenset[str], looked_for: End | None) -> list[Edge]:
    """The edges that the switches leave, those that must be seen first: denied, then by flows."""
    other = {(edge.source, edge.destination) for edge in with_ports if not edge.is_housekeeping}
    kept = list(found)
    if "housekeeping" not in switches:
        kept = [edge for edge in kept if edge.denied or (edge.source, edge.destination) in other]
    if "denied" in switches:
        kept = [edge for edge in kept if edge.denied]
    if "related" in switches and looked_for is not None:
        kept = [edge for edge in kept if looked_for in (edge.source, edge.destination)]
    return sorted(kept, key=lambda edge: (not edge.denied, -edge.flows))


def _line(visit: Visit, answer: Any, drawn: Sequence[Edge], found: Sequence[Edge], level: str, counts: Sequence[str]) -> None:
    own = "" if visit.door.scope(visit.who).everything else " · ★ yours"
    legend = f":blue[━] forwarded, width = flows :red[╍ ✕] denied :red[✕ name] has denied flows{own}"
    legend += allowed_view.legend(_view(level)) if counts else ""
    st.markdown(f":small[{legend}]")
    summary.line(visit, [f"**{len(drawn):,}** of **{counted(len(found), 'edge')}**" + summary.cut(answer, f"{level} pairs"), *counts])


def _draw(visit: Visit, answer: Answer, drawn: Sequence[Edge], marked: allowed.Overlay, picked: End | None) -> None:
    """Draw the map and, for a picked node, its panel. What is picked is in the address as `find`, and so is opened by a link."""
    owns = ownership.owned(visit)
    found, with_ports = marked.found, marked.with_ports
    layout = map_layout.lay_out(drawn, map_layout.stores(with_ports))
    picked = picked if picked in layout.places else None
    drawing = map_svg.Drawing(
        layout=layout,
        owns=owns,
        mark_own=not visit.door.scope(visit.who).everything,
        shades=theme.palette(),
        caption=_caption(answer, filters.applied(visit.time), drawn, found),
        picked=picked,
        marks=marked.marks,
    )
    grid = st.grid(3, gap="small", min_column_width=390)
    with grid.cell(column_span=2 if picked else "all"):
        wide, narrow = (map_svg.draw(drawn, replace(drawing, tier=tier)) for tier in (map_svg.WIDE, map_svg.NARROW))
        map_component.draw(wide, narrow, key="map drawing", on_pick=lambda name: url_state.put("find", name))
    if picked:
        with grid.cell():
            mine = [edge for edge in with_ports if picked in (edge.source, edge.destination)]
            _panel(visit, picked, mine, owns, _recorded(visit, picked))


def _recorded(visit: Visit, picked: End) -> seen.Recorded | None:
    """When the edges of an end were first and last seen; asked for its namespace alone where the level has namespaces."""
    level = _level()
    wanted = filters.applied(visit.time)
    if level in ("namespace", "workload") and picked.namespace != edges.OUTSIDE and not wanted.match_any:
        named = Condition(field="ns", operator="=", values=(picked.namespace,), side="either")
        if not any((condition.field, condition.side) == ("ns", "either") for condition in wanted.conditions):
            wanted = replace(wanted, conditions=(*wanted.conditions, named))
    return seen.recorded(visit, wanted, level=level)


def _caption(answer: Answer, wanted: FlowFilter, drawn: Sequence[Edge], found: Sequence[Edge]) -> str:
    """What the picture shows, for who sees it without the page."""
    span = clock.span(wanted.since, wanted.until)
    parts = [f"{len(drawn):,} of {counted(len(found), 'edge')}", span, summary.coverage_in_words(answer), *map(str, wanted.conditions)]
    return " · ".join(parts)


def _panel(visit: Visit, picked: End, mine: Sequence[Edge], owns: Any, times: seen.Recorded | None) -> None:
    """One end: its flows, and each of its edges by port."""
    with st.container(border=True, key="panel"):
        flows, denied = sum(edge.flows for edge in mine), sum(edge.denied for edge in mine)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(map_svg.title(picked), anchor=False, width="content")
            st.space("stretch")
            st.button("", icon=":material/close:", type="tertiary", key="close panel", help="Close", on_click=_close)
        share = theme.percent(denied / flows) if flows else "0 %"
        st.markdown(
            f"**{theme.compact(flows)}** flows · " + (f":red[✕ **{theme.compact(denied)}** denied ({share})]" if denied else "none denied")
        )
        with st.container(horizontal=True, wrap=True):
            query = [str(condition) for condition in edges.filter_of_end(picked, owns)]
            navigation.link("flows", "Its flows", query=url_state.link(f=query), icon="bar_chart")
            if denied:
                navigation.link("flows", "What was denied", query=url_state.link(f=query, verdict="DROPPED"), icon="block")
        for title, listed in (
            ("Calls", [edge for edge in mine if edge.source == picked]),
            ("Is called by", [edge for edge in mine if edge.destination == picked]),
        ):
            if listed:
                st.markdown(f"**{title}** ({len(listed)})")
                _peers(listed, picked, title, times)


def _peers(listed: Sequence[Edge], picked: End, title: str, times: seen.Recorded | None) -> None:
    rows = [
        {
            "Peer": str(edge.destination if edge.source == picked else edge.source),
            "Port": edge.port,
            "Flows": edge.flows,
            "Denied": 100 * edge.denied / edge.flows if edge.flows else None,
            "In time": list(edge.buckets),
            "First": ((times.first(edge) if times else None) or edge.first) if edge.flows else None,
            "Last": ((times.last(edge) if times else None) or edge.last) if edge.flows else None,
        }
        for edge in listed
    ]
    where = "seen" if times else "in window"
    st.dataframe(
        rows,
        hide_index=True,
        row_height=28,
        height=min(320, 37 + 28 * len(rows)),
        alt=title,
        key=f"peers {title}",
        column_config={
            "Flows": st.column_config.NumberColumn(format="compact", width=60),
            "Port": st.column_config.TextColumn(width=80),
            "Denied": st.column_config.NumberColumn(format="%.0f %%", width=65),
            "In time": st.column_config.BarChartColumn(y_min=0, width=90),
            "First": clock.column(f"First {where}", "DD MMM HH:mm", width=100),
            "Last": clock.column(f"Last {where}", "DD MMM HH:mm", width=100),
        },
    )


def _close() -> None:
    url_state.put("find", None)
    url_state.put("related", None)


def _export(visit: Visit) -> None:
    """The edges as a file, and the picture; what is wanted is taken from the address now, the file made at the click."""
    st.divider()
    st.markdown("**Export the edges**")
    level = _level()
    wanted = filters.applied(visit.time)

    def ask() -> Answer:
        return visit.door.answer(visit.who, edges_in_time(wanted, level=level, limits=Limits(rows=export.ROWS, seconds=120)))

    def make(form: str) -> bytes:
        answer = ask()
        return export.encode(answer.rows.drop_columns(["bucket_starts", "bucket_flows"]), form, is_cut=answer.cut)

    with st.container(horizontal=True, wrap=True):
        for form in export.FORMATS:
            export.button(visit, form, "edges", partial(make, form), key=f"export edges {form}")
        picture = partial(_picture, visit, ask, wanted, _switches(), _view(level), url_state.get("find"), _most_drawn(), theme.palette())
        export.button(visit, "SVG", "map", picture, key="export map SVG")
    if navigation.exists("sql"):
        navigation.link("sql", "Open as SQL", query=url_state.link(q=open_as_sql.edges(wanted)), icon="terminal")
    st.caption("The map as PNG: the button at its top right.")


def _picture(
    visit: Visit,
    ask: Callable[[], Answer],
    wanted: FlowFilter,
    switches: frozenset[str],
    view: str,
    find: str,
    most: int,
    shades: theme.Palette,
) -> bytes:
    """The map that is drawn, as SVG."""
    answer = ask()
    found, with_ports = (edges.edges_of(answer, since=wanted.since, until=wanted.until, by_port=by_port) for by_port in (False, True))
    marked = allowed.Overlay(found=found, with_ports=with_ports)
    if view != allowed.OBSERVED:
        marked = allowed.overlay(found, with_ports, allowed_view.question(visit, wanted)(None), wanted)
        found, with_ports = marked.found, marked.with_ports
    looked_for = next((end for edge in found for end in (edge.source, edge.destination) if map_svg.title(end) == find), None)
    shown = _shown(found, with_ports, switches, looked_for)
    drawn = (shown if view == allowed.OBSERVED else marked.seen_in(view, shown))[:most]
    drawing = map_svg.Drawing(
        layout=map_layout.lay_out(drawn, map_layout.stores(with_ports)),
        owns=ownership.owned(visit),
        mark_own=not visit.door.scope(visit.who).everything,
        shades=shades,
        caption=_caption(answer, wanted, drawn, found),
        marks=marked.marks,
    )
    return map_svg.draw(drawn, drawing).encode()
