"""Charts of time: bars stacked by verdict or reason with the strip of coverage above. It asks nothing of the lake.

Charts are written in Vega-Lite's own form. Made by a library that validates each of them, they took longer than the questions that they
show; the tests validate them instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboards.frame import clock
from dashboards.frame.theme import Palette
from warehouse.records.coverage import Gap, Gaps
from warehouse.wording import counted

Chart = dict[str, Any]
"""A chart, or a layer of one, in the form of Vega-Lite."""
HEIGHT = 148
STRIP = 5
BRUSH = "window"
"""The name of the choice of a part of the time that is made by dragging."""


def draw(chart: Chart, alt: str) -> None:
    """Draw a chart; `alt` says what it is to a screen reader."""
    st.vega_lite_chart(chart, theme=None, alt=alt)


def bars(
    rows: Sequence[Mapping[str, Any]],
    *,
    since: datetime,
    until: datetime,
    width: timedelta,
    colours: Mapping[str, str],
    names: Mapping[str, str],
    gaps: Gaps,
    shades: Palette,
    height: int = HEIGHT,
    brush: bool = False,
    before: Sequence[Mapping[str, Any]] = (),
) -> Chart:
    """Numbers in equal parts of a window, stacked: rows of `start`, `kind`, `flows`, each part `width` long.

    `colours` holds the kinds from the bottom up. Gaps of the ledger shade the time they are in. `before` are rows of
    `start`, `flows` of another window, moved onto this one: a line.
    """
    drawn = _bars(_stacked(rows, width, until, list(colours), names), since, until, shades, _heights(rows, before))
    drawn["encoding"]["color"] = nominal("kind", scale={"domain": list(colours), "range": list(colours.values())}, legend=None)
    drawn["encoding"]["tooltip"].insert(1, nominal("name", title="kind"))
    layers = [_gap_shades(gaps, since, until, shades)] if gaps else []
    layers += [drawn, _strip(gaps, since, until, shades)]
    if before:
        layers.append(_line(before, shades))
    chart: Chart = {"layer": layers}
    if brush:
        select = {"type": "interval", "encodings": ["x"], "mark": {"fill": shades.primary, "fillOpacity": 0.15}}
        chart["params"] = [{"name": BRUSH, "select": select, "views": [_BARS]}]
    return finished(chart, shades, height)


def overlay(
    now: Sequence[Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]],
    *,
    since: datetime,
    until: datetime,
    width: timedelta,
    gaps: Gaps,
    shades: Palette,
) -> Chart:
    """Two windows on one clock: bars of the one, a step line of the other (whose times have been moved onto the first's).

    Gaps are those of the first.
    """
    drawn = _bars(_stacked(now, width, until, ["B"], {"B": "B"}), since, until, shades, _heights(now, before), flows="flows in B")
    drawn["mark"]["color"] = shades.verdicts["FORWARDED"]
    shaded = [_gap_shades(gaps, since, until, shades)] if gaps else []
    return finished({"layer": [*shaded, drawn, _strip(gaps, since, until, shades), _line(before, shades)]}, shades, 110)


def inline(rows: Iterable[Mapping[str, Any]]) -> Chart:
    """The data of a chart."""
    return {"values": list(rows)}


def temporal(name: str, **more: Any) -> Chart:
    """A field that holds moments, as `milliseconds` gives them."""
    return {"field": name, "type": "temporal", **more}


def nominal(name: str, **more: Any) -> Chart:
    """A field that holds names."""
    return {"field": name, "type": "nominal", **more}


def quantitative(name: str, **more: Any) -> Chart:
    """A field that holds numbers."""
    return {"field": name, "type": "quantitative", **more}


_BARS = "bars"


def _bars(
    data: Iterable[Mapping[str, Any]], since: datetime, until: datetime, shades: Palette, heights: Chart, *, flows: str = "flows"
) -> Chart:
    """The layer of bars; `flows` is what their numbers are called."""
    encoding = {
        "x": temporal("begin", scale=scale(since, until), axis=axis(since, until, shades)),
        "x2": {"field": "end"},
        "y": quantitative("low", axis=_numbers(shades), scale=heights),
        "y2": {"field": "high"},
        "tooltip": [nominal("from", title=f"from ({clock.name()})"), quantitative("flows", title=flows, format=",")],
    }
    mark = {"type": "rect", "clip": True, "stroke": shades.background, "strokeWidth": 0.5}
    return {"name": _BARS, "data": inline(data), "mark": mark, "encoding": encoding}


def _line(rows: Sequence[Mapping[str, Any]], shades: Palette) -> Chart:
    mark = {"type": "line", "color": shades.text, "interpolate": "step-after", "strokeWidth": 1.5, "clip": True}
    data = inline({"begin": milliseconds(row["start"]), "flows": row["flows"]} for row in rows)
    return {"data": data, "mark": mark, "encoding": {"x": temporal("begin"), "y": quantitative("flows")}}


def _stacked(
    rows: Sequence[Mapping[str, Any]], width: timedelta, until: datetime, order: list[str], names: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Each bar's two ends: Vega stacks no bars that have two ends on the axis of time."""
    heights: dict[datetime, int] = {}
    data = []
    for row in sorted(rows, key=lambda row: order.index(row["kind"])):
        low = heights.get(row["start"], 0)
        heights[row["start"]] = high = low + row["flows"]
        begin, end = milliseconds(row["start"]), milliseconds(row["start"] + width)
        data.append(
            {
                "begin": begin,
                "end": end,
                "from": clock.minute(row["start"]),
                "low": low,
                "high": high,
                "kind": row["kind"],
                "name": names[row["kind"]],
                "flows": row["flows"],
            }
        )
    return data


def _heights(stacked: Sequence[Mapping[str, Any]], line: Sequence[Mapping[str, Any]]) -> Chart:
    """The axis of numbers. Its ends are given, since Vega writes NaN on the axis of a chart without any value."""
    sums: dict[datetime, int] = {}
    for row in stacked:
        sums[row["start"]] = sums.get(row["start"], 0) + row["flows"]
    return {"domain": [0, max([1, *sums.values(), *(row["flows"] for row in line)])], "nice": True}


def _strip(gaps: Gaps, since: datetime, until: datetime, shades: Palette) -> Chart:
    """The line above the bars: the time that was observed, and the gaps on top of it. Time that nothing is known of is left empty."""
    seen = _joined(interval for intervals in gaps.observed.values() for interval in intervals)
    pieces = [
        {"begin": milliseconds(begin), "end": milliseconds(end), "colour": shades.observed, "what": "observed"} for begin, end in seen
    ]
    for begin, end, nodes, cause in _pieces(gaps):
        what = f"{counted(nodes, 'node')} not observed: {cause}"
        pieces.append({"begin": begin, "end": end, "colour": shades.gap, "what": what})
    encoding = {
        "x": temporal("begin", scale=scale(since, until)),
        "x2": {"field": "end"},
        "y": {"value": 0},
        "y2": {"value": STRIP},
        "color": nominal("colour", scale=None),
        "tooltip": [nominal("what", title="coverage")],
    }
    return {"data": inline(pieces), "mark": {"type": "rect"}, "encoding": encoding}


def _joined(intervals: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """The same time in intervals that do not overlap."""
    joined: list[tuple[datetime, datetime]] = []
    for begin, end in sorted(intervals):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _gap_shades(gaps: Sequence[Gap], since: datetime, until: datetime, shades: Palette) -> Chart:
    encoding = {
        "x": temporal("begin", scale=scale(since, until)),
        "x2": {"field": "end"},
        "y": {"value": STRIP},
        "y2": {"value": "height"},
    }
    data = inline({"begin": begin, "end": end} for begin, end, _, _ in _pieces(gaps))
    return {"data": data, "mark": {"type": "rect", "color": shades.gap, "opacity": 0.16}, "encoding": encoding}


def _pieces(gaps: Sequence[Gap]) -> list[tuple[int, int, int, str]]:
    """The gaps of all nodes as stretches that do not overlap: (begin, end, nodes, the first's cause)."""
    ends = sorted({milliseconds(moment) for gap in gaps for moment in (gap.since, gap.until)})
    found = []
    for begin, end in itertools.pairwise(ends):
        inside = [gap for gap in gaps if milliseconds(gap.since) <= begin and milliseconds(gap.until) >= end]
        if inside:
            found.append((begin, end, len({gap.node_name for gap in inside}), inside[0].cause))
    return found


def scale(since: datetime, until: datetime) -> Chart:
    """The axis of time of a window."""
    return {"type": "utc" if clock.is_utc() else "time", "domain": [milliseconds(since), milliseconds(until)], "nice": False}


def axis(since: datetime, until: datetime, shades: Palette) -> Chart:
    """Its labels."""
    span = until - since
    form = "%H:%M:%S" if span <= timedelta(minutes=6) else "%H:%M" if span <= timedelta(hours=26) else "%-d %b %H:%M"
    return {
        "title": None,
        "grid": False,
        "format": form,
        "tickCount": 10,
        "labelOverlap": True,
        "labelFlush": True,
        "labelColor": shades.muted,
        "domainColor": shades.border,
        "tickColor": shades.border,
    }


def _numbers(shades: Palette) -> Chart:
    look = {"labelColor": shades.muted, "gridColor": shades.border, "gridOpacity": 0.7}
    return {"title": None, "tickCount": 4, "format": "~s", "domain": False, "ticks": False, **look}


def finished(chart: Chart, shades: Palette, height: int) -> Chart:
    """A chart with the look of all."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        **chart,
        "height": height,
        "width": "container",
        "padding": {"left": 0, "right": 2, "top": 2, "bottom": 2},
        "usermeta": {"embedOptions": {"renderer": "canvas"}},  # as SVG a brush has no name that a screen reader could say
        "config": {"background": "transparent", "font": "Inter", "view": {"stroke": None}, "axis": {"labelFontSize": 11}},
    }


def milliseconds(moment: datetime) -> int:
    """A moment as Vega takes it."""
    return int(moment.timestamp() * 1000)
