"""Sparks: small pictures of a number's course, without axes, for cards. They are plain SVG, which a browser draws at no cost."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

import streamlit as st

WIDTH, HEIGHT = 200, 34
_TOP, _BOTTOM = 2, 32
"""Between which the values are drawn, so that a line at the edge is not cut."""


def draw(values: Sequence[float], colour: str, alt: str, *, kind: str = "area") -> None:
    """Draw values as an `area`, as `bars` or as `steps`, as wide as the card; `alt` says what they are to a screen reader."""
    picture = base64.b64encode(svg(values, colour, kind).encode()).decode()
    st.html(f'<img class="hc-spark" alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{picture}">')


def svg(values: Sequence[float], colour: str, kind: str) -> str:
    """Return the picture of values of 0 or more, which is stretched to any width."""
    most, step = max([*values, 1]), WIDTH / max(len(values), 1)
    heights = [_BOTTOM - value / most * (_BOTTOM - _TOP) for value in values]
    line = f'fill="none" stroke="{colour}" stroke-width="1.5" vector-effect="non-scaling-stroke"'
    if kind == "bars":
        drawn = "".join(
            f'<rect x="{place * step + step * 0.05:.1f}" y="{height:.1f}" width="{step * 0.9:.1f}" '
            f'height="{_BOTTOM - height:.1f}" fill="{colour}"/>'
            for place, height in enumerate(heights)
            if height < _BOTTOM
        )
    elif kind == "steps":
        path = " ".join(f"H{place * step:.1f} V{height:.1f}" for place, height in enumerate(heights))
        drawn = f'<path d="M0,{heights[0] if heights else _BOTTOM:.1f} {path} H{WIDTH}" {line}/>'
    else:
        gap = WIDTH / max(len(values) - 1, 1)
        points = " ".join(f"{place * gap:.1f},{height:.1f}" for place, height in enumerate(heights))
        drawn = f'<polygon points="0,{_BOTTOM} {points} {WIDTH},{_BOTTOM}" fill="{colour}" opacity="0.25"/>'
        drawn += f'<polyline points="{points}" {line}/>'
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} preserveAspectRatio="none">{drawn}</svg>'
