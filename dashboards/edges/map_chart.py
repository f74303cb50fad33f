"""The map as an ECharts option: boxes, rows, lines. Pure; where things stand is dashboards.edges.map_layout's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from dashboards.edges.edges import OUTSIDE, Edge, End
from dashboards.edges.map_layout import ROW, TITLE, Layout
from dashboards.frame import clock, theme
from dashboards.frame.theme import Palette

BOX_WIDTH = 112
ROW_WIDTH = 102
LETTERS = 16
"""Of a name in a row; the rest is in the tooltip."""
LEAST_HEIGHT = 380
LABELLED = 12
"""Denied edges that carry their number; more would cover each other."""
LABEL_HEIGHT = 20
OUT_OF_BOX = 1.9 * BOX_WIDTH
"""How far, px, the handle of a denied edge within a tier is pulled, so that its middle, and its label, is beside the box."""


def option(layout: Layout, edges: Sequence[Edge], *, owns: Callable[[str], bool], mark_own: bool, shades: Palette) -> dict[str, Any]:
    """The chart. Nodes come in the order of `order(layout)`, by which a selection's index is read."""
    span = max(1, len(layout.tiers) - 1)
    denied = {end for edge in edges if edge.denied for end in (edge.source, edge.destination)}
    most = max((edge.flows for edge in edges), default=1)
    nodes = [_node(end, layout, owns=mark_own and owns(end.namespace), is_denied=end in denied, shades=shades) for end in order(layout)]
    within = {edge.key for edge in _labelled(edges) if layout.places[edge.source][0] == layout.places[edge.destination][0]}
    return {
        "animation": False,
        "grid": {"left": BOX_WIDTH // 2 + 2, "right": BOX_WIDTH // 2 + 2, "top": 0, "bottom": 0},
        "xAxis": {"type": "value", "min": 0, "max": span, "show": False},
        "yAxis": {"type": "value", "min": 0, "max": chart_height(layout), "inverse": True, "show": False},
        "tooltip": {"confine": True, "textStyle": {"fontFamily": "Inter", "fontSize": 12}},
        "textStyle": {"fontFamily": "Inter"},
        "toolbox": {"feature": {"saveAsImage": _save_as_image(shades)}, "right": 0, "top": 0},
        "series": [
            _boxes(layout, shades),
            _titles(layout, owns, mark_own, shades),
            _tier_names(layout, shades),
            _numbers(edges, layout),
            {
                "type": "graph",
                "coordinateSystem": "cartesian2d",
                "layout": "none",
                "data": nodes,
                "links": [_line(edge, most, edge.key in within, layout, shades) for edge in edges],
                "edgeSymbol": ["none", "arrow"],
                "edgeSymbolSize": [0, 6],
                "selectedMode": "single",
                "emphasis": {"focus": "adjacency", "blurScope": "series", "lineStyle": {"opacity": 1}},
                "blur": {"lineStyle": {"opacity": 0.04}, "itemStyle": {"opacity": 0.5}, "label": {"opacity": 0.5}},
                "select": {"itemStyle": {"borderColor": shades.primary, "borderWidth": 2}},
                "z": 4,
            },
        ],
    }


def _save_as_image(shades: Palette) -> dict[str, Any]:
    """The button that saves what is drawn; the browser makes the picture."""
    ink = {"borderColor": shades.muted}
    about = {"name": "hindcast-map", "title": "Save as PNG", "pixelRatio": 2}
    return {**about, "backgroundColor": shades.background, "iconStyle": ink, "emphasis": {"iconStyle": {"borderColor": shades.primary}}}


def chart_height(layout: Layout) -> int:
    """The chart's height, px: a unit of the layout is one."""
    return int(max(LEAST_HEIGHT, layout.height + 8))


def order(layout: Layout) -> list[End]:
    """The nodes, in the order they are drawn in."""
    return [end for box in layout.boxes for end in box.rows]


def title(end: End) -> str:
    """What a node is called in tooltips; unique."""
    return f"{end.namespace} · {end.name}" if end.namespace == OUTSIDE else str(end)


def _node(end: End, layout: Layout, *, owns: bool, is_denied: bool, shades: Palette) -> dict[str, Any]:
    tier, height = layout.places[end]
    text = end.name or end.namespace
    short = text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"
    colour = shades.denied if is_denied else shades.own if owns else shades.background
    return {
        "name": title(end),
        "value": [tier, round(height, 1)],
        "symbol": _rounded(ROW_WIDTH, ROW - 3, 4),
        "symbolSize": [ROW_WIDTH, ROW - 3],
        "itemStyle": {"color": colour},
        "label": {
            "show": True,
            "formatter": f"✕ {short}" if is_denied else short,
            "color": shades.denied_text if is_denied else shades.text,
            "fontWeight": 600 if is_denied else 400,
            "fontSize": 11,
        },
        "tooltip": {"formatter": f"<b>{_escaped(title(end))}</b>"},
    }


def _line(edge: Edge, most: int, is_labelled: bool, layout: Layout, shades: Palette) -> dict[str, Any]:
    width = 0.6 + 2.6 * math.sqrt(edge.flows / most)
    (tier, top), (other_tier, bottom) = layout.places[edge.source], layout.places[edge.destination]
    curve = 0.35 if tier == other_tier else 0.0 if edge.denied else 0.12
    if edge.denied and tier == other_tier:
        curve = OUT_OF_BOX / max(1.0, abs(top - bottom))
    line: dict[str, Any] = {
        "color": shades.verdicts["DROPPED"] if edge.denied else shades.verdicts["FORWARDED"],
        "width": max(1.6, width) if edge.denied else width,
        "type": [5, 3] if edge.denied else "solid",
        "opacity": 0.95 if edge.denied else 0.5,
        "curveness": round(curve, 3),
    }
    about = f"<b>{_escaped(str(edge.source))} → {_escaped(str(edge.destination))}</b><br/>{edge.flows:,} flows"
    if edge.denied:
        about += f"<br/>✕ {edge.denied:,} denied ({theme.percent(edge.denied / edge.flows)}): {_escaped(theme.reason(edge.reason))}"
    about += f"<br/>{clock.span(edge.first, edge.last)}<br/>{_escaped(', '.join(edge.clusters))}"
    drawn: dict[str, Any] = {
        "source": title(edge.source),
        "target": title(edge.destination),
        "value": edge.flows,
        "lineStyle": line,
        "tooltip": {"formatter": about},
    }
    if is_labelled:
        drawn["label"] = _number(edge)
    return drawn


def _number(edge: Edge) -> dict[str, Any]:
    """How often an edge was denied, as a label."""
    return {
        "show": True,
        "formatter": f"✕ {theme.compact(edge.denied)}",
        "fontSize": 10,
        "fontWeight": 600,
        "color": "#FFFFFF",
        "backgroundColor": "#A63A12",
        "padding": [2, 4],
        "borderRadius": 3,
        "rotate": 0,
    }


def number_spots(edges: Sequence[Edge], layout: Layout) -> list[tuple[Edge, float, float]]:
    """Where the numbers of denied edges from tier to tier stand, as (edge, tier, height).

    Each is where its (straight) line is between two tiers, since there no box is; one that would cover another is left out.
    """
    spots: list[tuple[Edge, float, float]] = []
    for edge in _labelled(edges):
        (tier, top), (other_tier, bottom) = layout.places[edge.source], layout.places[edge.destination]
        low, high = min(tier, other_tier), max(tier, other_tier)
        for gap in sorted((gap + 0.5 for gap in range(low, high)), key=lambda gap: (abs(gap - (low + high) / 2), gap)):
            height = top + (bottom - top) * (gap - tier) / (other_tier - tier)
            if all(gap != other or abs(height - taken) >= LABEL_HEIGHT for _, other, taken in spots):
                spots.append((edge, gap, height))
                break
    return spots


def _labelled(edges: Sequence[Edge]) -> list[Edge]:
    return sorted((edge for edge in edges if edge.denied), key=lambda edge: -edge.denied)[:LABELLED]


def _numbers(edges: Sequence[Edge], layout: Layout) -> dict[str, Any]:
    data = [
        {"value": [tier, round(height, 1)], "symbolSize": 1, "label": _number(edge)} for edge, tier, height in number_spots(edges, layout)
    ]
    return {"type": "scatter", "data": data, "silent": True, "itemStyle": {"color": "transparent", "opacity": 1}, "z": 6}


def _boxes(layout: Layout, shades: Palette) -> dict[str, Any]:
    data = [
        {
            "value": [box.tier, round(box.top + box.height / 2, 1)],
            "symbol": _rounded(BOX_WIDTH, box.height, 6),
            "symbolSize": [BOX_WIDTH, box.height],
        }
        for box in layout.boxes
    ]
    return {"type": "scatter", "data": data, "silent": True, "itemStyle": {"color": shades.surface, "opacity": 1}, "z": 1}


def _titles(layout: Layout, owns: Callable[[str], bool], mark_own: bool, shades: Palette) -> dict[str, Any]:
    data = []
    for box in layout.boxes:
        star = " ★" if mark_own and box.namespace != OUTSIDE and owns(box.namespace) else ""
        label = {"show": True, "formatter": _short(box.namespace) + star, "color": shades.text, "fontWeight": 600, "fontSize": 11}
        data.append({"value": [box.tier, round(box.top + TITLE / 2, 1)], "symbolSize": 1, "label": label})
    return {"type": "scatter", "data": data, "silent": True, "itemStyle": {"color": "transparent", "opacity": 1}, "z": 5}


def _tier_names(layout: Layout, shades: Palette) -> dict[str, Any]:
    data = [
        {"value": [number, 8], "symbolSize": 1, "label": {"show": True, "formatter": name, "color": shades.muted, "fontSize": 11}}
        for number, name in enumerate(layout.tiers)
    ]
    return {"type": "scatter", "data": data, "silent": True, "itemStyle": {"color": "transparent", "opacity": 1}, "z": 5}


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"


def _rounded(width: float, height: float, radius: float) -> str:
    """A rounded rectangle of these proportions; ECharts' own is stretched with its corners."""
    w, h, r = width, height, min(radius, height / 2)
    arc = f"A{r},{r},0,0,1,"
    return f"path://M{r},0H{w - r}{arc}{w},{r}V{h - r}{arc}{w - r},{h}H{r}{arc}0,{h - r}V{r}{arc}{r},0Z"


def _escaped(text: str) -> str:
    """A tooltip is HTML, and names come from clusters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("{", "&#123;")
