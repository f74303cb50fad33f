"""Charts of time: bars stacked by verdict or reason with the strip of coverage above, and sparks of cards. It asks nothing of the lake."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import altair as alt
from altair.utils import schemapi

from dashboards.frame import clock
from dashboards.frame.theme import Palette
from warehouse.records.coverage import Gap, Gaps

schemapi.disable_debug_mode()  # validating each chart takes longer than making it; tests validate them
HEIGHT = 148
STRIP = 5


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
) -> Any:
    """Numbers in equal parts of a window, stacked: rows of `start`, `kind`, `flows`, each part `width` long.

    `colours` holds the kinds from the bottom up. Gaps of the ledger shade the time they are in. `before` are rows of
    `start`, `flows` of another window, moved onto this one: a line.
    """
    layers: list[Any] = [_gap_shades(gaps, since, until, shades)] if gaps else []
    stacked: Any = alt.Chart(alt.InlineData(values=_stacked(rows, width, until, list(colours), names))).mark_rect(
        clip=True, stroke=shades.background, strokeWidth=0.5
    )
    drawn = stacked.encode(
        x=alt.X("begin:T", scale=scale(since, until), axis=axis(since, until, shades)),
        x2="end:T",
        y=alt.Y("low:Q", axis=_numbers(shades), scale=_heights(rows, before)),
        y2="high:Q",
        color=alt.Color("kind:N", scale=alt.Scale(domain=list(colours), range=list(colours.values())), legend=None),
        tooltip=[
            alt.Tooltip("from:N", title=f"from ({clock.name()})"),
            alt.Tooltip("name:N", title="kind"),
            alt.Tooltip("flows:Q", format=","),
        ],
    )
    if brush:
        drawn = drawn.add_params(
            alt.selection_interval(encodings=["x"], name="window", mark=alt.BrushConfig(fill=shades.primary, fillOpacity=0.15))
        )
    layers += [drawn, _strip(gaps, since, until, shades)]
    if before:
        layers.append(_line(before, shades))
    return finished(alt.layer(*layers), shades, height)


def spark(values: Sequence[float], colour: str, shades: Palette, *, kind: str = "area") -> Any:
    """A small line, area or row of bars without axes, for a card."""
    data = alt.InlineData(values=[{"place": place, "value": value} for place, value in enumerate(values)])
    chart: Any = alt.Chart(data)
    if kind == "bars":
        marked = chart.mark_bar(color=colour)
    elif kind == "steps":
        marked = chart.mark_line(color=colour, interpolate="step-after", strokeWidth=1.5)
    else:
        marked = chart.mark_area(line={"color": colour, "strokeWidth": 1.5}, color=colour, opacity=0.25)
    top = max([*values, 1])
    encoded = marked.encode(
        x=alt.X("place:Q", axis=None, scale=alt.Scale(nice=False)), y=alt.Y("value:Q", axis=None, scale=alt.Scale(domain=[0, top]))
    )
    return finished(encoded, shades, 34)


def overlay(
    now: Sequence[Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]],
    *,
    since: datetime,
    until: datetime,
    width: timedelta,
    shades: Palette,
) -> Any:
    """Two windows on one clock: bars of the one, a step line of the other (whose times have been moved onto the first's)."""
    bar: Any = alt.Chart(alt.InlineData(values=_stacked(now, width, until, ["B"], {"B": "B"}))).mark_rect(
        clip=True, color=shades.verdicts["FORWARDED"], stroke=shades.background, strokeWidth=0.5
    )
    drawn = bar.encode(
        x=alt.X("begin:T", scale=scale(since, until), axis=axis(since, until, shades)),
        x2="end:T",
        y=alt.Y("low:Q", axis=_numbers(shades), scale=_heights(now, before)),
        y2="high:Q",
        tooltip=[alt.Tooltip("from:N", title=f"from ({clock.name()})"), alt.Tooltip("flows:Q", title="flows in B", format=",")],
    )
    return finished(alt.layer(drawn, _line(before, shades)), shades, 110)


def _line(rows: Sequence[Mapping[str, Any]], shades: Palette) -> Any:
    line: Any = alt.Chart(alt.InlineData(values=[{"begin": milliseconds(row["start"]), "flows": row["flows"]} for row in rows]))
    return line.mark_line(color=shades.text, interpolate="step-after", strokeWidth=1.5, clip=True).encode(x="begin:T", y="flows:Q")


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


def _heights(stacked: Sequence[Mapping[str, Any]], line: Sequence[Mapping[str, Any]]) -> Any:
    """The axis of numbers. Its ends are given, since Vega writes NaN on the axis of a chart without any value."""
    sums: dict[datetime, int] = {}
    for row in stacked:
        sums[row["start"]] = sums.get(row["start"], 0) + row["flows"]
    return alt.Scale(domain=[0, max([1, *sums.values(), *(row["flows"] for row in line)])], nice=True)


def _strip(gaps: Gaps, since: datetime, until: datetime, shades: Palette) -> Any:
    """The line above the bars: the time that was observed, and the gaps on top of it. Time that nothing is known of is left empty."""
    seen = _joined(interval for intervals in gaps.observed.values() for interval in intervals)
    pieces = [
        {"begin": milliseconds(begin), "end": milliseconds(end), "colour": shades.observed, "what": "observed"} for begin, end in seen
    ]
    for begin, end, nodes, cause in _pieces(gaps):
        what = f"{nodes} node{'s' if nodes > 1 else ''} not observed: {cause}"
        pieces.append({"begin": begin, "end": end, "colour": shades.gap, "what": what})
    chart: Any = alt.Chart(alt.InlineData(values=pieces))
    return chart.mark_rect().encode(
        x=alt.X("begin:T", scale=scale(since, until)),
        x2="end:T",
        y=alt.value(0),
        y2=alt.value(STRIP),
        color=alt.Color("colour:N", scale=None),
        tooltip=[alt.Tooltip("what:N", title="coverage")],
    )


def _joined(intervals: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """The same time in intervals that do not overlap."""
    joined: list[tuple[datetime, datetime]] = []
    for begin, end in sorted(intervals):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _gap_shades(gaps: Sequence[Gap], since: datetime, until: datetime, shades: Palette) -> Any:
    pieces = [{"begin": begin, "end": end} for begin, end, _, _ in _pieces(gaps)]
    chart: Any = alt.Chart(alt.InlineData(values=pieces))
    return chart.mark_rect(color=shades.gap, opacity=0.16).encode(
        x=alt.X("begin:T", scale=scale(since, until)), x2="end:T", y=alt.value(STRIP), y2=alt.value("height")
    )


def _pieces(gaps: Sequence[Gap]) -> list[tuple[int, int, int, str]]:
    """The gaps of all nodes as stretches that do not overlap: (begin, end, nodes, the first's cause)."""
    ends = sorted({milliseconds(moment) for gap in gaps for moment in (gap.since, gap.until)})
    found = []
    for begin, end in itertools.pairwise(ends):
        inside = [gap for gap in gaps if milliseconds(gap.since) <= begin and milliseconds(gap.until) >= end]
        if inside:
            found.append((begin, end, len({gap.node_name for gap in inside}), inside[0].cause))
    return found


def scale(since: datetime, until: datetime) -> Any:
    """The axis of time of a window."""
    return alt.Scale(type="utc" if clock.is_utc() else "time", domain=[milliseconds(since), milliseconds(until)], nice=False)


def axis(since: datetime, until: datetime, shades: Palette) -> Any:
    """Its labels."""
    span = until - since
    form = "%H:%M:%S" if span <= timedelta(minutes=6) else "%H:%M" if span <= timedelta(hours=26) else "%-d %b %H:%M"
    return alt.Axis(
        title=None,
        grid=False,
        format=form,
        tickCount=10,
        labelOverlap=True,
        labelFlush=True,
        labelColor=shades.muted,
        domainColor=shades.border,
        tickColor=shades.border,
    )


def _numbers(shades: Palette) -> Any:
    return alt.Axis(
        title=None, tickCount=4, format="~s", labelColor=shades.muted, gridColor=shades.border, gridOpacity=0.7, domain=False, ticks=False
    )


def finished(chart: Any, shades: Palette, height: int) -> Any:
    """A chart with the look of all."""
    return (
        chart.properties(
            height=height,
            width="container",
            padding={"left": 0, "right": 2, "top": 2, "bottom": 2},
            usermeta={"embedOptions": {"renderer": "canvas"}},  # as SVG a brush has no name that a screen reader could say
        )
        .configure(background="transparent", font="Inter")
        .configure_view(stroke=None)
        .configure_axis(labelFontSize=11)
    )


def milliseconds(moment: datetime) -> int:
    """A moment as Vega takes it."""
    return int(moment.timestamp() * 1000)
