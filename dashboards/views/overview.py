"""The first page: the fleet (or one's own namespaces) at a glance, and what wants attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from dashboards.charting import charts, series
from dashboards.edges import edges
from dashboards.edges.edges import Edge
from dashboards.frame import clock, head, navigation, summary, theme, url_state
from dashboards.history import attention, changes
from dashboards.views import flows as flows_page
from dashboards.visit import Visit, not_future
from warehouse.errors import AccessDeniedError
from warehouse.questions import count_questions
from warehouse.questions.answers import Answer
from warehouse.questions.edges_in_time import edges_in_time
from warehouse.questions.flow_filter import FlowFilter, bucket_width
from warehouse.records import coverage

BUCKETS = 24
DAY = timedelta(days=1)
TALKERS = 8
REASONS = 4
DROPS_HEIGHT = 226
"""Of the chart, px: with it the card is about as high as the one beside it."""
_DROPPED = ("DROPPED", "ERROR")


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Overview")
    window = FlowFilter(since=visit.time.since, until=visit.time.until)
    try:
        pulse = visit.answer(count_questions.pulse(window))
    except AccessDeniedError:
        summary.denied(visit)
        return
    if not pulse.rows.num_rows:
        _owner_line(visit, pulse)
        summary.nothing(visit, window, pulse)
        return
    talking = _edges(visit, window)
    before = _edges(visit, FlowFilter(since=window.since - DAY, until=window.since))
    fresh = new_edges(talking, before, was_observed=_was_observed(visit))
    gaps = flows_page.gaps(visit)
    _owner_line(visit, pulse)
    _cards(visit, window, pulse, fresh, gaps)
    _middle(visit, window, pulse, talking, before, fresh, gaps)
    _bottom(visit, window, talking, fresh)


def new_edges(now: Sequence[Edge], before: Sequence[Edge], *, was_observed: bool) -> list[Edge] | None:
    """Edges that were not there before, housekeeping left out; None where the time before was not observed, so nobody can say."""
    if not was_observed:
        return None
    known = {edge.key for edge in before}
    return [edge for edge in now if edge.key not in known and not edge.is_housekeeping]


def _edges(visit: Visit, window: FlowFilter) -> list[Edge]:
    answer = visit.answer(edges_in_time(window))
    return edges.edges_of(answer, since=window.since, until=window.until)


def _was_observed(visit: Visit) -> bool:
    answer = visit.answers[-1]
    return any(share > 0 for share in answer.shares.values())


def _owner_line(visit: Visit, pulse: Answer) -> None:
    scope = visit.door.scope(visit.who)
    names = sorted({grant.namespace or f"everything in {grant.cluster}" for grant in scope.grants})
    if any(grant.namespace is None and grant.cluster == "*" for grant in scope.grants):
        said = "You see **the whole fleet**"
    else:
        shown = ", ".join(f"**{name}**" for name in names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        said = f"You own {shown}"
    groups = sorted({grant.subject.removeprefix("group:") for grant in scope.grants if grant.subject.startswith("group:")})
    through = f" through the group{'s' if len(groups) > 1 else ''} {', '.join(f'`{group}`' for group in groups)}" if groups else ""
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        with st.container(horizontal=True, vertical_alignment="center", width="content", gap="xsmall", key="inline-owner"):
            st.markdown(f":material/key: {said}{through}", width="content")
            navigation.link("access", "why?", query=url_state.link())
        st.space("stretch")
        with st.container(width="content"):
            summary.line(visit, [f"{clock.span(visit.time.since, visit.time.until)}"])
        summary.coverage_link(visit, pulse)


# Cards --------------------------------------------------------------------------------------------------------


def _cards(visit: Visit, window: FlowFilter, pulse: Answer, fresh: list[Edge] | None, gaps: coverage.Gaps) -> None:
    shades = theme.palette()
    starts = _starts(window)
    every, dropped, audited = (_series(pulse, starts, wanted) for wanted in (None, _DROPPED, ("AUDIT",)))
    total, drops, audits = sum(every), sum(dropped), sum(audited)
    shift = DAY if visit.time.length <= DAY else visit.time.length
    earlier = FlowFilter(since=window.since - shift, until=window.until - shift)
    then = visit.answer(count_questions.timeline(earlier))
    was = _by_verdict(then)
    word = "the day before" if shift == DAY else "the window before"
    changed = changes.between(visit, window.since, not_future(window.until))
    drift = attention.open_drift(visit)
    number = 5 + (changed is not None or drift is not None)  # audit verdicts where there is room for them
    cards = st.grid(number, gap="small", border=True, min_column_width=200)
    with cards.cell():
        st.metric("Flows", theme.compact(total), _change(total, sum(was.values()), word), delta_color="off", help=f"{total:,} flows")
        _spark(charts.spark(every, shades.verdicts["FORWARDED"], shades), "Flows in the window")
    with cards.cell():
        share, share_then = _share(drops, total), _share(sum(was.get(v, 0) for v in _DROPPED), sum(was.values()))
        said = f"{theme.percent(share)} of flows" + (f", was {theme.percent(share_then)}" if was else "")
        worse = share > share_then * 1.5 and drops > 10
        st.metric(
            "Dropped",
            theme.compact(drops),
            said,
            delta_color="inverse" if worse else "off",
            delta_arrow="up" if worse else "off",
            help=f"{drops:,} flows",
        )
        _spark(charts.spark(dropped, shades.verdicts["DROPPED"], shades, kind="bars"), "Drops in the window")
    with cards.cell():
        if fresh is None:
            st.metric("New edges", "unknown", "the day before was not observed", delta_color="off", delta_arrow="off")
        else:
            denied = sum(edge.is_denied for edge in fresh)
            said = f"since the day before{f', {denied} denied' if denied else ''}"
            st.metric(
                "New edges",
                f"{len(fresh):,}",
                said,
                delta_color="off",
                delta_arrow="off",
                help="Workloads that talk and did not on the day before",
            )
            _spark(charts.spark(_arrivals(fresh), shades.verdicts["AUDIT"], shades, kind="steps"), "New edges in the window, added up")
    if changed is not None:
        with cards.cell():
            said = ", ".join(sorted({change.version["namespace"] or "whole cluster" for change in changed})[:2]) or "none in the window"
            st.metric("Policy changes", f"{len(changed):,}", said, delta_color="off", delta_arrow="off", help="And of Cilium's settings")
            moments = [sum(change.at <= start for change in changed) for start in starts]
            _spark(charts.spark(moments, shades.verdicts["AUDIT"], shades, kind="steps"), "Changes of the configuration, added up")
    if drift is not None:
        with cards.cell():
            severe = sum(row["severity"] in ("critical", "high") for row in drift)
            said = f"{severe} critical or high" if drift else "as the blueprints want"
            st.metric("Drift", f"{len(drift):,}", said, delta_color="inverse" if severe else "off", delta_arrow="off")
            opened = [sum(row["since"] <= start for row in drift) for start in starts]
            _spark(charts.spark(opened, shades.verdicts["DROPPED"], shades, kind="steps"), "Drift that is open, since when")
    if changed is None or drift is None:
        with cards.cell():
            st.metric(
                "Audit verdicts",
                theme.compact(audits),
                "would be denied if enforced",
                delta_color="off",
                delta_arrow="off",
                help=f"{audits:,} flows",
            )
            _spark(charts.spark(audited, shades.verdicts["AUDIT"], shades, kind="bars"), "Audit verdicts in the window")
    with cards.cell():
        share = sum(pulse.shares.values()) / len(pulse.shares) if pulse.shares else 0.0
        nodes = len({gap.node_name for gap in gaps})
        said = f"{len(gaps)} gap{'s' if len(gaps) != 1 else ''} on {nodes} node{'s' if nodes != 1 else ''}" if gaps else "no gap"
        st.metric("Coverage", theme.percent(share), said, delta_color="off", delta_arrow="off", help="Share of node-time that was observed")
        _spark(charts.spark(_observed(gaps, starts, _width(window)), shades.other, shades, kind="steps"), "Coverage in the window")


def _spark(chart: Any, alt: str) -> None:
    st.altair_chart(chart, theme=None, alt=alt)


def _width(window: FlowFilter) -> timedelta:
    """How long the parts of `pulse` are."""
    return max(timedelta(minutes=1), bucket_width(window))


def _starts(window: FlowFilter) -> list[datetime]:
    return series.starts(window.since, not_future(window.until), _width(window))


def _series(pulse: Answer, starts: Sequence[datetime], verdicts: tuple[str, ...] | None) -> list[int]:
    counts: dict[datetime, int] = {}
    for row in pulse.rows.to_pylist():
        if verdicts is None or row["verdict"] in verdicts:
            counts[row["start"]] = counts.get(row["start"], 0) + row["flows"]
    return [counts.get(start, 0) for start in starts]


def _by_verdict(timeline: Answer) -> dict[str, int]:
    return flows_page.verdict_counts(timeline)


def _change(now: int, then: int, word: str) -> str:
    if not then:
        return f"none {word}"
    return f"{(now - then) / then * 100:+.0f} % vs {word}"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _arrivals(fresh: Sequence[Edge]) -> list[int]:
    firsts = [next((place for place, flows in enumerate(edge.buckets) if flows), 0) for edge in fresh]
    return [sum(first <= place for first in firsts) for place in range(len(fresh[0].buckets) if fresh else 2)]


def _observed(gaps: coverage.Gaps, starts: Sequence[datetime], width: timedelta) -> list[float]:
    """The share of node-time that was observed in each part of the window; where nothing is known yet, that of the part before."""
    seen = [interval for intervals in gaps.observed.values() for interval in intervals]
    missing = [(gap.since, gap.until) for gap in gaps]
    values: list[float] = []
    for start in starts:
        observed, missed = (_within(intervals, start, start + width) for intervals in (seen, missing))
        values.append(observed / (observed + missed) if observed + missed else values[-1] if values else 0.0)
    return values


def _within(intervals: Sequence[tuple[datetime, datetime]], since: datetime, until: datetime) -> float:
    """Seconds of the intervals that lie in a window."""
    return sum((min(end, until) - max(begin, since)).total_seconds() for begin, end in intervals if begin < until and end > since)


# Below the cards ----------------------------------------------------------------------------------------------


def _middle(
    visit: Visit,
    window: FlowFilter,
    pulse: Answer,
    talking: Sequence[Edge],
    before: Sequence[Edge],
    fresh: list[Edge] | None,
    gaps: coverage.Gaps,
) -> None:
    grid = st.grid(3, gap="small", min_column_width=380)
    with grid.cell(column_span=2), st.container(border=True, height="stretch"):
        _drops(window, pulse, gaps)
    with grid.cell(), st.container(border=True, height="stretch", key="attention"):
        attention.draw(visit, attention.items(visit, talking, before, fresh, gaps))


def _drops(window: FlowFilter, pulse: Answer, gaps: coverage.Gaps) -> None:
    shades = theme.palette()
    counts: dict[str, int] = {}
    for row in pulse.rows.to_pylist():
        if row["verdict"] in _DROPPED:
            name = row["reason"] or "none given"
            counts[name] = counts.get(name, 0) + row["flows"]
    most = sorted(counts, key=lambda name: -counts[name])
    kinds = most[:REASONS] + (["Other"] if len(most) > REASONS else [])
    inks = ["DROPPED", "AUDIT", "REDIRECTED", "FORWARDED"]
    colours = {kind: shades.verdicts[inks[place]] if place < len(inks) else shades.other for place, kind in enumerate(kinds)}
    legend = [
        (
            f"{theme.reason(kind if kind != 'none given' else None)} "
            + theme.compact(counts.get(kind, sum(counts[name] for name in most[REASONS:]))),
            colours[kind],
        )
        for kind in kinds
    ]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Drops by reason", anchor=False, width="content")
        st.space("stretch")
        navigation.link("flows", "Open in Flows", query=url_state.link(verdict="DROPPED", f=None), icon="north_east")
    if not counts:
        st.caption("Nothing was dropped in this window" + (", of what was observed." if gaps else "."))
        return
    sums: dict[tuple[datetime, str], int] = {}
    for row in pulse.rows.to_pylist():
        if row["verdict"] in _DROPPED:
            kind = row["reason"] or "none given"
            key = row["start"], kind if kind in most[:REASONS] else "Other"
            sums[key] = sums.get(key, 0) + row["flows"]
    rows = [{"start": start, "kind": kind, "flows": flows} for (start, kind), flows in sums.items()]
    names = {kind: theme.reason(None if kind == "none given" else kind) for kind in kinds}
    unit = f"Flows per {theme.duration(_width(window))}"
    with st.container(horizontal=True, vertical_alignment="center"):
        theme.legend(unit, legend)
        st.space("stretch")
        series.popover(series.numbers(rows, _starts(window), names), unit, key="numbers")
    chart = charts.bars(
        rows,
        since=window.since,
        until=window.until,
        width=_width(window),
        colours=colours,
        gaps=gaps,
        shades=shades,
        height=DROPS_HEIGHT,
        names=names,
    )
    st.altair_chart(chart, theme=None, alt="Drops in time by reason")


def _bottom(visit: Visit, window: FlowFilter, talking: Sequence[Edge], fresh: list[Edge] | None) -> None:
    grid = st.grid(3, gap="small", min_column_width=380)
    with grid.cell(column_span=2), st.container(border=True, height="stretch"):
        _namespaces(visit, window, talking, fresh)
    with grid.cell(), st.container(border=True, height="stretch"):
        _talkers(talking)


def _namespaces(visit: Visit, window: FlowFilter, talking: Sequence[Edge], fresh: list[Edge] | None) -> None:
    answer = visit.answer(count_questions.namespaces(window, buckets=BUCKETS))
    scope = visit.door.scope(visit.who)
    now = datetime.now(UTC)
    width = (window.until - window.since) / BUCKETS
    found: dict[str, dict[str, Any]] = {}
    for row in answer.rows.to_pylist():
        if not (
            scope.everything
            or scope.sees_whole(row["cluster"], now)
            or scope.owns(row["cluster"], row["namespace"], min(window.until, now))
        ):
            continue
        mine = found.setdefault(row["namespace"], {"clusters": set(), "flows": 0, "denied": 0, "drops": [0] * BUCKETS})
        mine["clusters"].add(row["cluster"])
        mine["flows"] += row["flows"]
        mine["denied"] += row["denied"]
        mine["drops"][min(max((row["start"] - window.since) // width, 0), BUCKETS - 1)] += row["denied"]
    order = sorted(found, key=lambda name: (-found[name]["denied"], -found[name]["flows"]))
    st.subheader("Namespaces" if scope.everything else "My namespaces", anchor=False)
    most = max((max(mine["drops"]) for mine in found.values()), default=1)
    rows = [_namespace_row(name, found[name], talking, fresh) for name in order]
    st.dataframe(
        rows,
        hide_index=True,
        row_height=30,
        height=min(310, 37 + 30 * max(1, len(rows))),
        key="namespaces",
        on_select=lambda: None,
        selection_mode="single-cell",
        alt="Namespaces with their flows and drops",
        column_config={
            "Flows": st.column_config.NumberColumn(format="compact", width=80),
            "Dropped": st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100, width=130, color="red"),
            "Drops in time": st.column_config.BarChartColumn(y_min=0, y_max=max(1, most), width=160, color="red"),
            "Peers": st.column_config.NumberColumn(width=70, help="Namespaces, and names outside, that it talks with"),
            "New edges": st.column_config.NumberColumn(width=90),
        },
    )
    cells = st.session_state.get("namespaces", {}).get("selection", {}).get("cells", [])
    if cells and cells[0][0] < len(order):
        name = order[cells[0][0]]
        with st.container(horizontal=True):
            navigation.link("flows", f"Flows of {name}", query=url_state.link(f=[f"ns={name}"]), icon="bar_chart")
            navigation.link("map", f"{name} on the map", query=url_state.link(f=[f"ns={name}"]), icon="hub")


def _namespace_row(name: str, found: Mapping[str, Any], talking: Sequence[Edge], fresh: list[Edge] | None) -> dict[str, Any]:
    mine = edges.touching(talking, name)
    peers = {end.namespace if end.namespace != edges.OUTSIDE else end.name for edge in mine for end in (edge.source, edge.destination)} - {
        name
    }
    return {
        "Namespace": name,
        "Flows": found["flows"],
        "Dropped": 100 * _share(found["denied"], found["flows"]),
        "Drops in time": found["drops"],
        "Peers": len(peers),
        "New edges": None if fresh is None else len(edges.touching(fresh, name)),
        "Clusters": ", ".join(sorted(found["clusters"])),
    }


def _talkers(talking: Sequence[Edge]) -> None:
    st.subheader("Top talkers", anchor=False)
    shown, rest = talking[:TALKERS], talking[TALKERS:]
    rows = [{"Edge": str(edge), "Flows": edge.flows} for edge in shown]
    if rest:
        rows.append({"Edge": f"Other ({len(rest)})", "Flows": sum(edge.flows for edge in rest)})
    rows.append({"Edge": "Total", "Flows": sum(edge.flows for edge in talking)})
    st.dataframe(
        rows,
        hide_index=True,
        row_height=30,
        alt="Edges with most flows",
        column_config={
            "Edge": st.column_config.TextColumn(width=300),
            "Flows": st.column_config.ProgressColumn(
                format="compact", min_value=0, max_value=max(1, sum(edge.flows for edge in talking)), width=110, color="blue"
            ),
        },
    )
