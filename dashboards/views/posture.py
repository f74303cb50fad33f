"""Where clusters do not stand as their blueprints want: controls by cluster, open drift, and both at any past time."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboards.frame import clickable, clock, head, navigation, summary, theme, time_control, url_state
from dashboards.history import attention, evaluations, manifests
from dashboards.visit import Visit, not_future
from warehouse.errors import AccessDeniedError
from warehouse.questions.record_questions import Controls, Drift, DriftCounts
from warehouse.records import posture

STATES = {"pass": "✓ Pass", "fail": "▲ Fail", "unknown": "? Unknown", "not_evaluated": "◇ Not evaluated"}
_COLOURS = ["green", "#A63A12", "yellow", "gray"]
_SEVERITIES = ("critical", "high", "medium", "low")
DAYS = 7


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Posture")
    at = not_future(visit.time.until)
    try:
        drift = visit.answer(Drift(at=at))
        controls = visit.answer(Controls(at=at))
        standing = evaluations.standing(visit)
    except AccessDeniedError:
        summary.denied(visit)
        return
    open_drift: list[Mapping[str, Any]] = drift.rows.to_pylist()
    results: list[Mapping[str, Any]] = controls.rows.to_pylist()
    when = f", last evaluated {clock.second(standing.last)}" if standing.last else ""
    counted = f" · **{len(results)}** results of controls" if results else ""  # which only those see who see a cluster whole
    st.caption(
        f"As of **{clock.dated(at)}**{when} · **{len(open_drift)}** open drift{counted} · {max(drift.seconds, controls.seconds):.2f} s"
    )
    _drift(visit, open_drift, standing)
    _controls(results)
    _by_day(visit, at, sorted({row["cluster"] for row in [*open_drift, *results]}))


def _drift(visit: Visit, rows: Sequence[Mapping[str, Any]], standing: evaluations.Standing) -> None:
    """Draw the open drift. Clusters that were not held against a blueprint in the window are named, and not called as wanted."""
    st.subheader("Drift", anchor=False)
    if standing.missing:
        last = f"the last evaluation was at {clock.second(standing.last)}" if standing.last else "nothing was evaluated before"
        st.warning(f"Not evaluated in this window: {', '.join(standing.missing)}; {last}.", icon=":material/help:")
    if standing.unwanted:
        st.warning(f"Held against no blueprint: {', '.join(standing.unwanted)}.", icon=":material/help:")
    if standing.unseen:
        st.warning(f"Configuration never seen whole: {', '.join(standing.unseen)}.", icon=":material/help:")
    if not rows:
        if not any(grant.namespace is None for grant in visit.door.scope(visit.who).grants):
            st.caption("No open drift is recorded in your namespaces. Drift of whole clusters is shown only to those who see them whole.")
        elif standing.allows_all_clear:
            st.caption("None: every cluster that you may see stood as its blueprints want when it was last evaluated.")
        else:
            st.caption("No open drift is recorded.")
        return
    order = sorted(rows, key=lambda row: (_SEVERITIES.index(row["severity"]) if row["severity"] in _SEVERITIES else 9, row["since"]))
    grid = st.grid(3, gap="small", min_column_width=390)
    name = f"drift table {st.session_state.get('drift round', 0)}"
    place = clickable.clicked(name, len(order))
    picked = next((row for row in order if attention.drift_id(row) == url_state.get("item")), None)
    if place is not None:
        picked = order[place]
        url_state.put("item", attention.drift_id(picked))
    with grid.cell(column_span=2 if picked else "all"):
        clickable.table(
            [
                {
                    "Severity": [row["severity"]],
                    "Cluster": row["cluster"],
                    "Drift": row["drift"].replace("_", " "),
                    "Object": _object(row),
                    "Blueprint": row["blueprint"] or "",
                    "Since": row["since"],
                    "By": row["changed_by"] or "",
                    "Summary": row["summary"],
                }
                for row in order
            ],
            key=name,
            alt="Open drift, the most severe first",
            columns={
                "Severity": st.column_config.MultiselectColumn(
                    options=list(_SEVERITIES), color=["#A63A12", "red", "yellow", "gray"], width=90
                ),
                "Since": clock.column("Since", "DD MMM YYYY HH:mm", width=140),
                "Summary": st.column_config.TextColumn(width=360),
            },
        )
    if picked:
        with grid.cell():
            _evidence(visit, picked)


def _object(row: Mapping[str, Any]) -> str:
    name = f"{row['namespace']}/{row['name']}" if row["namespace"] else row["name"] or "the whole cluster"
    return f"{row['kind']} {name}" if row["kind"] else name


def _evidence(visit: Visit, row: Mapping[str, Any]) -> None:
    """Since when, by whom, what differs, and where to look further."""
    with st.container(border=True, key="panel"):
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.badge(
                row["severity"], icon=":material/change_history:", color="red" if row["severity"] in ("critical", "high") else "yellow"
            )
            st.markdown(f"**{_object(row)}** on **{row['cluster']}**", width="content")
            st.space("stretch")
            st.button("", icon=":material/close:", type="tertiary", key="close panel", help="Close", on_click=_close)
        st.write(row["summary"])
        facts = {
            "Since": f"{clock.dated(row['since'])} ({theme.duration(not_future(visit.time.until) - row['since'])})",
            "Changed by": row["changed_by"] or "unknown",
            "Blueprint": f"{row['blueprint']} {row['blueprint_version'] or ''}".strip() if row["blueprint"] else "",
            "Control": row["control"] or "",
            "Where": ", ".join(row["paths"] or ()),
        }
        st.table({name: value for name, value in facts.items() if value}, border="horizontal", hide_header=True, alt="Facts of the drift")
        if row["before"] or row["after"]:
            st.markdown("**Wanted → there is**")
            manifests.draw_difference(_pretty(row["before"]), _pretty(row["after"]))
        with st.container(horizontal=True, wrap=True):
            if row["namespace"]:
                span = {
                    "from_": time_control.written(row["since"]),
                    "until": time_control.written(not_future(visit.time.until)),
                    "last": None,
                }
                query = url_state.link(f=[f"ns={row['namespace']}", f"cluster={row['cluster']}"], **span)
                navigation.link("flows", "Flows of the namespace since then", query=query, icon="bar_chart")
            if row["kind"] and "Polic" in row["kind"]:
                navigation.link("policies", "The policy", query=url_state.link(find=row["name"]), icon="policy")


def _pretty(text: str | None) -> str:
    try:
        return json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) if text else ""
    except ValueError:
        return text or ""


def _close() -> None:
    url_state.put("item", None)
    st.session_state["drift round"] = st.session_state.get("drift round", 0) + 1


def _controls(results: Sequence[Mapping[str, Any]]) -> None:
    if not results:
        return
    st.subheader("Controls", anchor=False)
    clusters = sorted({row["cluster"] for row in results})
    by_control: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in results:
        by_control.setdefault(row["control"], {})[row["cluster"]] = row
    counts = {state: sum(row["status"] == state for row in results) for state in STATES}
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.session_state["only differences"] = url_state.get("only") == "1"
        st.toggle(
            "Only what does not pass",
            key="only differences",
            on_change=lambda: url_state.put("only", "1" if st.session_state["only differences"] else None),
        )
        st.markdown(" · ".join(f"{STATES[state]} **{number}**" for state, number in counts.items() if number))
    names = [
        name
        for name, found in sorted(by_control.items())
        if url_state.get("only") != "1" or any(row["status"] != "pass" for row in found.values())
    ]
    chips = st.column_config.MultiselectColumn(options=list(STATES.values()), color=_COLOURS, width=140)
    matrix = [
        {
            "Control": name,
            "Asks": posture.REQUIREMENTS.get(name, ""),
            **{
                cluster: [STATES.get(by_control[name][cluster]["status"], "? Unknown")] if cluster in by_control[name] else []
                for cluster in clusters
            },
        }
        for name in names
    ]
    name = "controls matrix"
    st.dataframe(
        matrix,
        key=name,
        hide_index=True,
        row_height=30,
        height=min(520, 37 + 30 * max(1, len(matrix))),
        on_select="rerun",
        selection_mode="single-cell",
        alt="Controls by cluster",
        column_config={"Control": st.column_config.TextColumn(width=110), **dict.fromkeys(clusters, chips)},
    )
    cells = st.session_state.get(name, {}).get("selection", {}).get("cells", [])
    if cells and int(cells[0][0]) < len(names) and str(cells[0][1]) in clusters:
        if result := by_control[names[int(cells[0][0])]].get(str(cells[0][1])):
            _result(result)
    else:
        st.caption("Choose a cell for its evidence.")


def _result(row: Mapping[str, Any]) -> None:
    with st.container(border=True):
        state = STATES.get(row["status"], row["status"])
        st.markdown(f"**{row['control']}** on **{row['cluster']}** · {state} · {row['failed'] or 0} of {row['checked'] or 0} fail")
        if row["detail"]:
            st.write(row["detail"])
        if row["failing"]:
            st.caption("Failing: " + ", ".join(row["failing"][:20]) + (" and more" if (row["failed"] or 0) > 20 else ""))
        observed = f"{clock.second(row['observed'])}" if row["observed"] else "never"
        st.caption(f"Evaluated {clock.second(row['time'])}; the cluster was last seen whole {observed}")


def _by_day(visit: Visit, at: datetime, clusters: Sequence[str]) -> None:
    """Open drift at the end of each of the last days, a strip with numbers."""
    if not clusters:
        return
    st.subheader("Drift by day", anchor=False)
    days = [min(at, (at - timedelta(days=back)).replace(hour=23, minute=59, second=59, microsecond=0)) for back in range(DAYS - 1, -1, -1)]
    counts = visit.answer(DriftCounts(moments=tuple(days)))
    shades = theme.palette()
    cells = []
    for cluster in clusters:
        row = "".join(_day(counts[day].get(cluster), shades) for day in days)
        cells.append(f'<tr><th scope="row">{html.escape(cluster)}</th>{row}</tr>')
    heads = "".join(f'<th scope="col">{day:%-d %b}</th>' for day in days)
    st.html(
        f'<div style="overflow-x:auto" tabindex="0" role="region" aria-label="Drift by day"><table class="hc-heat">'
        f"{''.join(cells)}<tr><th></th>{heads}</tr></table></div>"
    )
    st.caption("Drift that was open at the end of each day, UTC; – where nobody looked at the cluster's configuration.")  # noqa: RUF001


def _day(count: int | None, shades: theme.Palette) -> str:
    ground, ink = (shades.denied, shades.denied_text) if count else (shades.surface, shades.text)
    shown = "–" if count is None else str(count)  # noqa: RUF001 - stands for nothing
    return f'<td style="background:{ground};color:{ink}">{shown}</td>'
