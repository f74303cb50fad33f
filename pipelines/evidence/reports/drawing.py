"""Draws a report's charts as SVG for its page. Colours are classes of the page's style sheet, so they follow light and dark. Pure.

A chart has a title and a description for screen readers; its numbers are in the table below it and in the data files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape

from pipelines.evidence.reports.model import Bars, Chart, Columns

WIDTH = 720
"""Width of the drawing; the page scales it to the width there is."""
_LEFT, _TOP, _PLOT, _BOTTOM = 56, 8, 160, 22
_ROW, _BAR = 24, 14
_LABEL_CHARACTERS, _CHARACTER = 34, 7.4
_MOST_LABEL = 260


def svg(chart: Chart, id_: str) -> str:
    """Return the chart as an element that is its own labelled picture; `id_` must be unique on the page."""
    return _columns(chart, id_) if isinstance(chart, Columns) else _bars(chart, id_)


def _columns(chart: Columns, id_: str) -> str:
    width = WIDTH - _LEFT - 8
    each = width / max(1, len(chart.starts))
    sums = [sum(values) for values in zip(*(series.values for series in chart.series), strict=True)]
    top = nice(max(sums, default=0))
    parts = []
    for step in range(5):
        value, y = top * step / 4, _TOP + _PLOT * (1 - step / 4)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{compact(value)}</text>')
    for place in range(len(chart.starts)):
        low = 0.0
        for series in chart.series:
            value = series.values[place]
            if value:
                height = value / top * _PLOT
                y = _TOP + _PLOT - low / top * _PLOT - height
                x = _LEFT + place * each
                parts.append(
                    f'<rect class="{series.tone}" x="{x:.2f}" y="{y:.2f}" width="{max(0.5, each - 0.6):.2f}" height="{height:.2f}"/>'
                )
                low += value
    for place in _ticks(chart.starts):
        x = _LEFT + place * each
        parts.append(f'<text class="axis" x="{x:.1f}" y="{_TOP + _PLOT + 16}">{_time(chart.starts, place)}</text>')
    totals = ", ".join(f"{series.name} {compact(sum(series.values))}" for series in chart.series)
    ends = f"{chart.starts[0]:%Y-%m-%d %H:%M} to {chart.starts[-1]:%Y-%m-%d %H:%M} UTC" if chart.starts else "no time"
    described = f"{chart.unit.capitalize()} from {ends}; in all: {totals}. The greatest column has {compact(max(sums, default=0))}."
    return _picture(chart, id_, parts, _TOP + _PLOT + _BOTTOM, described)


def _bars(chart: Bars, id_: str) -> str:
    labels = [name if len(name) <= _LABEL_CHARACTERS else name[: _LABEL_CHARACTERS - 1] + "…" for name in chart.names]
    left = min(_MOST_LABEL, round(max((len(label) for label in labels), default=0) * _CHARACTER) + 12)
    width = WIDTH - left - 70
    sums = [sum(values) for values in zip(*(series.values for series in chart.series), strict=True)]
    most = chart.most or max(sums, default=0) or 1
    parts = []
    for place, (name, label) in enumerate(zip(chart.names, labels, strict=True)):
        y, x = place * _ROW + 4, float(left)
        parts.append(
            f'<text class="label" x="{left - 8}" y="{y + 11}" text-anchor="end">{escape(label)}<title>{escape(name)}</title></text>'
        )
        for series in chart.series:
            length = series.values[place] / most * width
            if length > 0:
                parts.append(f'<rect class="{series.tone}" x="{x:.2f}" y="{y}" width="{max(1.0, length):.2f}" height="{_BAR}"/>')
            x += length
        written = f"{sums[place]:.1f} %" if chart.unit == "%" else compact(sums[place])
        parts.append(f'<text class="value" x="{x + 6:.1f}" y="{y + 11}">{written.replace(".0 %", " %")}</text>')
    pairs = ", ".join(f"{name} {compact(total)}" for name, total in zip(chart.names, sums, strict=True))
    return _picture(chart, id_, parts, len(chart.names) * _ROW + 4, f"{chart.unit.capitalize()}: {pairs}.")


def _picture(chart: Chart, id_: str, parts: Sequence[str], height: int, described: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{id_}-title {id_}-about">'
        f'<title id="{id_}-title">{escape(chart.title)}</title><desc id="{id_}-about">{escape(described)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def nice(value: float) -> float:
    """Return a round number that is at least `value`, for the top of an axis."""
    if value <= 4:
        return 4.0
    size: float = 10 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 2, 4, 5, 8, 10) if step * size >= value)


def compact(number: float) -> str:
    """Return a number in two or three digits: 1.31M, 81.1K, 412."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(number) >= size * 0.9995:
            value = number / size
            text = f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"
            return (text.rstrip("0").rstrip(".") if "." in text else text) + letter
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"


def _ticks(starts: Sequence[datetime]) -> range:
    return range(0, len(starts), max(1, -(-len(starts) // 7)))


def _time(starts: Sequence[datetime], place: int) -> str:
    at, whole = starts[place].astimezone(UTC), starts[-1] - starts[0]
    if whole >= timedelta(days=6):
        return f"{at.day} {at:%b}"
    return f"{at.day} {at:%b %H:%M}" if whole > timedelta(hours=26) else f"{at:%H:%M}"
