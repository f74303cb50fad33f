"""The map as an SVG file: the same places, lines and colours as on the page, at a fixed width. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from dashboards.edges.edges import OUTSIDE, Edge, End
from dashboards.edges.map_chart import BOX_WIDTH, LETTERS, ROW_WIDTH, number_spots
from dashboards.edges.map_layout import ROW, TITLE, Layout
from dashboards.frame import theme
from dashboards.frame.theme import Palette

TIER = 210
"""From the middle of a tier to the next, px."""
MARGIN = 12
FOOT = 30


def draw(layout: Layout, edges: Sequence[Edge], *, owns: Callable[[str], bool], mark_own: bool, shades: Palette, caption: str) -> bytes:
    """The file; `caption` stands below the map."""
    width = 2 * MARGIN + BOX_WIDTH + TIER * max(0, len(layout.tiers) - 1)
    height = layout.height + 2 * MARGIN + FOOT
    denied = {end for edge in edges if edge.denied for end in (edge.source, edge.destination)}
    most = max((edge.flows for edge in edges), default=1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}" '
        f'font-family="Inter, sans-serif" font-size="11" fill="{shades.text}">',
        f"<title>{escape(caption)}</title>",
        f'<rect width="100%" height="100%" fill="{shades.background}"/>',
        '<defs><marker id="end" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" markerUnits="userSpaceOnUse" '
        'orient="auto"><path d="M0,0L6,3L0,6Z" fill="context-stroke"/></marker></defs>',
    ]
    for number, name in enumerate(layout.tiers):
        parts.append(_text(_x(number), MARGIN + 8, name, shades.muted))
    for box in layout.boxes:
        left, top = _x(box.tier) - BOX_WIDTH / 2, MARGIN + box.top
        parts.append(f'<rect x="{left}" y="{top:.1f}" width="{BOX_WIDTH}" height="{box.height}" rx="6" fill="{shades.surface}"/>')
    parts += [_line(edge, most, layout, shades) for edge in sorted(edges, key=lambda edge: bool(edge.denied))]
    for box in layout.boxes:
        star = " ★" if mark_own and box.namespace != OUTSIDE and owns(box.namespace) else ""
        parts.append(_text(_x(box.tier), MARGIN + box.top + TITLE / 2, _short(box.namespace) + star, shades.text, bold=True))
        for end in box.rows:
            parts.append(_row(end, layout, is_own=mark_own and owns(end.namespace), is_denied=end in denied, shades=shades))
    for edge, tier, y in number_spots(edges, layout):
        parts.append(_badge(_x(tier), MARGIN + y, f"✕ {theme.compact(edge.denied)}"))
    parts.append(f'<text x="{MARGIN}" y="{height - MARGIN:.0f}" fill="{shades.muted}">{escape(caption)}</text></svg>')
    return "\n".join(parts).encode()


def _x(tier: float) -> float:
    return MARGIN + BOX_WIDTH / 2 + TIER * tier


def _row(end: End, layout: Layout, *, is_own: bool, is_denied: bool, shades: Palette) -> str:
    tier, y = layout.places[end]
    ground = shades.denied if is_denied else shades.own if is_own else shades.background
    box = (
        f'<rect x="{_x(tier) - ROW_WIDTH / 2}" y="{MARGIN + y - (ROW - 3) / 2:.1f}" width="{ROW_WIDTH}" height="{ROW - 3}" rx="4" '
        f'fill="{ground}"><title>{escape(str(end))}</title></rect>'
    )
    name = _short(end.name or end.namespace)
    ink = shades.denied_text if is_denied else shades.text
    return box + _text(_x(tier), MARGIN + y, f"✕ {name}" if is_denied else name, ink, bold=is_denied)


def _line(edge: Edge, most: int, layout: Layout, shades: Palette) -> str:
    (tier, top), (other_tier, bottom) = layout.places[edge.source], layout.places[edge.destination]
    y1, y2 = MARGIN + top, MARGIN + bottom
    side = 0 if tier == other_tier else math.copysign(1, other_tier - tier)
    x1 = _x(tier) + (side or 1) * ROW_WIDTH / 2
    x2 = _x(other_tier) - (side or -1) * ROW_WIDTH / 2
    pull = TIER * 0.35 if side == 0 else (x2 - x1) / 2
    path = f"M{x1:.1f},{y1:.1f}C{x1 + pull:.1f},{y1:.1f},{x2 + pull if side == 0 else x2 - pull:.1f},{y2:.1f},{x2:.1f},{y2:.1f}"
    if edge.denied and side:
        path = f"M{x1:.1f},{y1:.1f}L{x2:.1f},{y2:.1f}"
    width = max(1.6 if edge.denied else 0.6, 0.6 + 2.6 * math.sqrt(edge.flows / most))
    ink = shades.verdicts["DROPPED" if edge.denied else "FORWARDED"]
    dashes = ' stroke-dasharray="5 3"' if edge.denied else ' opacity="0.5"'
    told = f"{edge}: {edge.flows:,} flows" + (f", {edge.denied:,} denied" if edge.denied else "")
    return (
        f'<path d="{path}" fill="none" stroke="{ink}" stroke-width="{width:.2f}"{dashes} marker-end="url(#end)">'
        f"<title>{escape(told)}</title></path>"
    )


def _badge(x: float, y: float, text: str) -> str:
    width = 6.2 * len(text) + 8
    ground = f'<rect x="{x - width / 2:.1f}" y="{y - 8:.1f}" width="{width:.1f}" height="16" rx="3" fill="#A63A12"/>'
    return ground + _text(x, y, text, "#FFFFFF", bold=True)


def _text(x: float, y: float, text: str, ink: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" dominant-baseline="central" fill="{ink}"{weight}>{escape(text)}</text>'


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"
