"""The map as SVG: what the page shows and what is saved as a file are the same drawing. Pure.

Where things stand is dashboards.edges.map_layout's. Nodes and lines carry `data-` attributes, by which the page's script
highlights neighbours and picks a node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from dashboards.edges.allowed import Mark
from dashboards.edges.edges import OUTSIDE, Edge, End
from dashboards.edges.map_layout import ROW, TITLE, Layout
from dashboards.frame import clock, theme
from dashboards.frame.theme import Palette
from pipelines.replay.reachable import Standing
from warehouse.wording import counted

WIDE, NARROW = 196, 116
"""From the middle of a tier to the next, px: for a whole page, and for a narrow window or beside a panel."""
BOX_WIDTH = 112
ROW_WIDTH = 102
LETTERS = 16
"""Of a name in a row; the rest is in its tooltip."""
LEFT, TOP, RIGHT, FOOT = 12, 12, 74, 30
"""Margins, px. The right one holds lines between rows of the last tier."""
LOOP = 72
"""How far, px, a line between rows of one tier is pulled to the right; it reaches three quarters of it."""
LABELLED = 12
"""Denied edges that carry their number."""
ARROW = 6


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a map is drawn with besides its edges."""

    layout: Layout
    owns: Callable[[str], bool]
    mark_own: bool
    shades: Palette
    caption: str
    """Stands below the map."""
    tier: int = WIDE
    picked: End | None = None
    marks: Mapping[tuple[End, End], Mark] = field(default_factory=dict)
    """What the policies make of edges, where that is shown."""

    def x(self, tier: float) -> float:
        """The middle of a tier."""
        return LEFT + BOX_WIDTH / 2 + self.tier * tier


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line from one row's side to another's: a cubic Bézier curve."""

    points: tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]

    def at(self, share: float) -> tuple[float, float]:
        """The point at a share of the way."""
        rest = 1 - share
        weights = (rest**3, 3 * rest**2 * share, 3 * rest * share**2, share**3)
        x, y = (sum(weight * point[axis] for weight, point in zip(weights, self.points, strict=True)) for axis in (0, 1))
        return x, y

    @property
    def path(self) -> str:
        """The curve as a path of SVG."""
        first, *rest = (f"{x:.1f},{y:.1f}" for x, y in self.points)
        return f"M{first}C{' '.join(rest)}"


def draw(edges: Sequence[Edge], drawing: Drawing) -> str:
    """The picture of edges."""
    layout, shades = drawing.layout, drawing.shades
    width = drawing.x(max(0, len(layout.tiers) - 1)) + BOX_WIDTH / 2 + RIGHT
    height = layout.height + 2 * TOP + FOOT
    denied = {end for edge in edges if edge.denied for end in (edge.source, edge.destination)}
    most = max((edge.flows for edge in edges), default=1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'font-family="Inter, sans-serif" font-size="11" fill="{shades.text}" role="group" aria-label="{escape(drawing.caption)}">',
        f'<rect width="100%" height="100%" fill="{shades.background}"/>',
        f"<defs>{''.join(_arrow(kind, _ink(kind, shades)) for kind in ('denied', 'forwarded', 'refused', 'unused'))}</defs>",
    ]
    parts += [_text(drawing.x(number), TOP + 8, name, shades.muted) for number, name in enumerate(layout.tiers)]
    for box in layout.boxes:
        left, top = drawing.x(box.tier) - BOX_WIDTH / 2, TOP + box.top
        parts.append(f'<rect x="{left}" y="{top:.1f}" width="{BOX_WIDTH}" height="{box.height}" rx="6" fill="{shades.surface}"/>')
    # Lines above the boxes, so that those within a namespace are seen, and below the names, so that these can be read; denied
    # ones above all, so that nothing covers them.
    parts += [_line(edge, most, drawing) for edge in edges if not edge.denied]
    for box in layout.boxes:
        star = " ★" if drawing.mark_own and box.namespace != OUTSIDE and drawing.owns(box.namespace) else ""
        name = _short(box.namespace) + star
        parts.append(_text(drawing.x(box.tier), TOP + box.top + TITLE / 2, name, shades.text, bold=True, halo=shades.surface))
        parts += [_row(end, drawing, is_denied=end in denied) for end in box.rows]
    parts += [_line(edge, most, drawing) for edge in edges if edge.denied]
    parts += [_badge(x, y, f"✕ {theme.compact(edge.denied)}") for edge, x, y in labels(edges, drawing)]
    parts.append(f'<text x="{LEFT}" y="{height - 12:.0f}" fill="{shades.muted}">{escape(drawing.caption)}</text></svg>')
    return "\n".join(parts)


def title(end: End) -> str:
    """What a node is called in lists and addresses; unique."""
    return f"{end.namespace} · {end.name}" if end.namespace == OUTSIDE else str(end)


def curve(edge: Edge, drawing: Drawing) -> Curve:
    """Where an edge's line runs: from a side of its source's row to the nearer side of its destination's, where the arrow touches."""
    (tier, top), (other_tier, bottom) = drawing.layout.places[edge.source], drawing.layout.places[edge.destination]
    side = (other_tier > tier) - (other_tier < tier)
    x1 = drawing.x(tier) + (side or 1) * ROW_WIDTH / 2
    x2 = drawing.x(other_tier) - (side or -1) * ROW_WIDTH / 2
    y1, y2 = TOP + top, TOP + bottom
    if edge.source == edge.destination:
        y1, y2 = y1 - 5, y2 + 5
    pull = (x1 + LOOP, x2 + LOOP) if side == 0 else ((x1 + x2) / 2,) * 2
    return Curve(points=((x1, y1), (pull[0], y1), (pull[1], y2), (x2, y2)))


def labels(edges: Sequence[Edge], drawing: Drawing) -> list[tuple[Edge, float, float]]:
    """Where the numbers of the most denied edges stand: each on its own line; one that would cover another is left out."""
    found: list[tuple[Edge, float, float]] = []
    for edge in sorted((edge for edge in edges if edge.denied), key=lambda edge: -edge.denied)[:LABELLED]:
        line = curve(edge, drawing)
        spots = [line.at(share) for share in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.12, 0.88)]
        for x, y in sorted(spots, key=lambda spot: _is_on_box(spot[0], spot[1], drawing)):  # beside the boxes if there is room
            if all(abs(x - other) >= 46 or abs(y - beside) >= 18 for _, other, beside in found):
                found.append((edge, x, y))
                break
    return found


def _is_on_box(x: float, y: float, drawing: Drawing) -> bool:
    """Whether a number there would cover a part of a namespace's box."""
    return any(
        abs(x - drawing.x(box.tier)) < BOX_WIDTH / 2 + 20 and TOP + box.top - 8 < y < TOP + box.top + box.height + 8
        for box in drawing.layout.boxes
    )


def _arrow(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="{ARROW}" markerHeight="{ARROW}" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0L6,3L0,6Z" fill="{colour}"/></marker>'
    )


def _row(end: End, drawing: Drawing, *, is_denied: bool) -> str:
    shades, (tier, y) = drawing.shades, drawing.layout.places[end]
    is_own = drawing.mark_own and drawing.owns(end.namespace)
    ground = shades.denied if is_denied else shades.own if is_own else shades.background
    stroke = f' stroke="{shades.primary}" stroke-width="2"' if end == drawing.picked else ""
    name, about = _short(end.name or end.namespace), title(end) + (", has denied flows" if is_denied else "")
    # Assistive technology must name a node with the text that is drawn, also where that is cut short.
    label = about if name in about else f"{name} ({about})"
    ink = shades.denied_text if is_denied else shades.text
    return (
        f'<g data-node="{escape(title(end))}" tabindex="0" role="button" aria-label="{escape(label)}"><title>{escape(about)}</title>'
        f'<rect x="{drawing.x(tier) - ROW_WIDTH / 2}" y="{TOP + y - (ROW - 3) / 2:.1f}" width="{ROW_WIDTH}" height="{ROW - 3}" rx="4" '
        f'fill="{ground}"{stroke}/>{_text(drawing.x(tier), TOP + y, f"✕ {name}" if is_denied else name, ink, bold=is_denied)}</g>'
    )


def _line(edge: Edge, most: int, drawing: Drawing) -> str:
    mark = drawing.marks.get((edge.source, edge.destination))
    kind = _kind(edge, mark)
    width = max(1.6 if kind in ("denied", "refused") else 0.6, 0.6 + 2.6 * math.sqrt(edge.flows / most))
    ink, dashes = _ink(kind, drawing.shades), _DASHES[kind]
    about = f"{edge}: {counted(edge.flows, 'flow')}"
    if edge.denied:
        about += f", {edge.denied:,} denied ({theme.percent(edge.denied / edge.flows)}, {theme.reason(edge.reason).lower()})"
    about += f"\n{clock.span(edge.first, edge.last)}, {', '.join(edge.clusters)}" if edge.flows else f"\n{', '.join(edge.clusters)}"
    about += f"\n{mark.words}" if mark else ""
    ends = f'data-from="{escape(title(edge.source))}" data-to="{escape(title(edge.destination))}"'
    return (
        f'<path d="{curve(edge, drawing).path}" {ends} data-kind="{kind}" fill="none" stroke="{ink}" stroke-width="{width:.2f}"{dashes} '
        f'marker-end="url(#{kind})"><title>{escape(about)}</title></path>'
    )


_DASHES = {
    "forwarded": ' opacity="0.6"',
    "denied": ' stroke-dasharray="5 3"',
    "refused": ' stroke-dasharray="11 4"',
    "unused": ' stroke-dasharray="1 3"',
}


def _kind(edge: Edge, mark: Mark | None) -> str:
    """How an edge is drawn: `unused` and `refused` are what the policies make of it."""
    if edge.denied:
        return "denied"
    if mark is not None and mark.standing in (Standing.REFUSED, Standing.UNUSED):
        return mark.standing.value
    return "forwarded"


def _ink(kind: str, shades: Palette) -> str:
    return {
        "denied": shades.verdicts["DROPPED"],
        "refused": shades.verdicts["AUDIT"],
        "unused": shades.primary,
        "forwarded": shades.verdicts["FORWARDED"],
    }[kind]


def _badge(x: float, y: float, text: str) -> str:
    width = 6.2 * len(text) + 8
    ground = f'<rect x="{x - width / 2:.1f}" y="{y - 8:.1f}" width="{width:.1f}" height="16" rx="3" fill="#A63A12"/>'
    return f'<g pointer-events="none">{ground}{_text(x, y, text, "#FFFFFF", bold=True)}</g>'


def _text(x: float, y: float, text: str, ink: str, *, bold: bool = False, halo: str | None = None) -> str:
    """A text that stands around a point; `halo` is the colour that keeps lines away from its letters."""
    more = ' font-weight="600"' if bold else ""
    more += f' paint-order="stroke" stroke="{halo}" stroke-width="4" stroke-linejoin="round"' if halo else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" dominant-baseline="central" fill="{ink}"{more}>{escape(text)}</text>'


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"
