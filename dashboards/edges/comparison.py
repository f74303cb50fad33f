"""Two windows' edges -> what is new, vanished, changed or decided differently. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from dashboards.edges.edges import Edge
from dashboards.edges.seen import Recorded
from dashboards.frame import clock, theme
from warehouse.records.coverage import Gap

Kind = Literal["flip", "new", "vanished", "changed"]
KINDS: dict[Kind, str] = {"flip": "⇄ Verdict flip", "new": "+ New", "vanished": "− Vanished", "changed": "△ Changed"}  # noqa: RUF001 - signs
CHANGED = 0.25
"""Volumes (per unit of time) that differ by less are called unchanged."""
FEWEST = 10
"""Below so many flows in both windows a difference of volume is chance."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An edge that is not in both windows as it was."""

    kind: Kind
    a: Edge | None
    b: Edge | None
    scale: float = 1.0
    """How many flows of B are as much as one of A."""

    @property
    def edge(self) -> Edge:
        """The edge, as it was where it was seen last."""
        found = self.b or self.a
        if found is None:
            raise ValueError("a difference needs an edge in one of the windows")
        return found

    @property
    def change(self) -> float | None:
        """By how much its volume changed, as a share of what A's would be in B; None where A had none."""
        return (self.b.flows if self.b else 0) / (self.a.flows * self.scale) - 1 if self.a and self.a.flows else None


def compare(a: Sequence[Edge], b: Sequence[Edge], *, scale: float = 1.0) -> tuple[list[Difference], int]:
    """The differences, flips first, and how many edges did not change. `scale` says how many flows of B are as much as one of A."""
    before, after = {edge.key: edge for edge in a}, {edge.key: edge for edge in b}
    found: list[Difference] = []
    unchanged = 0
    for key in before.keys() | after.keys():
        kind = _kind(before.get(key), after.get(key), scale)
        if kind is None:
            unchanged += 1
        else:
            found.append(Difference(kind=kind, a=before.get(key), b=after.get(key), scale=scale))
    order = list(KINDS)
    found.sort(
        key=lambda difference: (order.index(difference.kind), -max(_flows(difference.a), _flows(difference.b)), str(difference.edge))
    )
    return found, unchanged


def _kind(a: Edge | None, b: Edge | None, scale: float) -> Kind | None:
    if a is None:
        return "new"
    if b is None:
        return "vanished"
    if a.is_denied != b.is_denied:
        return "flip"
    # Denials that appear beside allowed flows (some pods, some minutes) are a flip of a part.
    if b.denied >= FEWEST and b.denied / b.flows > 2 * (a.denied / a.flows) and not a.denied:
        return "flip"
    if a.denied >= FEWEST and not b.denied:
        return "flip"
    expected = a.flows * scale
    if max(a.flows, b.flows) >= FEWEST and abs(b.flows - expected) > CHANGED * expected:
        return "changed"
    return None


def volume_scale(a: Sequence[Edge], b: Sequence[Edge]) -> float:
    """How many flows of B are as much as one of A if each counts as a share of its window's total; 1 where a window has none."""
    total_a, total_b = (sum(edge.flows for edge in edges) for edges in (a, b))
    return total_b / total_a if total_a and total_b else 1.0


def _flows(edge: Edge | None) -> int:
    return edge.flows if edge else 0


def in_gap(difference: Difference, gaps: Sequence[Gap], length: timedelta) -> bool:
    """Whether a vanished edge may only not have been seen: a cluster it was in was not observed for a good part of B."""
    if difference.kind != "vanished" or difference.a is None:
        return False
    missing = sum(((gap.until - gap.since) for gap in gaps if gap.cluster in difference.a.clusters), timedelta())
    return missing > length * 0.1


def in_words(difference: Difference, seen: Recorded | None = None) -> str:
    """What to know of it beside the numbers. `seen` are the times of all that is recorded; without it only those of A and B are told."""
    a, b = difference.a, difference.b
    match difference.kind:
        case "new" if b:
            first = seen.first(b) if seen else None
            begin = f"✕ {'all' if b.denied == b.flows else 'mostly'} denied, " if b.is_denied else ""
            if first and first != b.first:
                return f"{begin}first seen {clock.minute(first)}; in B since {clock.minute(b.first)}"
            end = "; in no earlier hour on record" if seen else ""
            return f"{begin}{'in B since' if begin else 'first in B'} {clock.minute(b.first)}{end}"
        case "vanished" if a:
            last = seen.last(a) if seen else None
            later = f"last seen {clock.minute(last)}; " if last and last != a.last else ""
            return f"{later}last in A {clock.minute(a.last)}" + (", was denied" if a.is_denied else "")
        case "flip" if a and b:
            if b.denied > a.denied:
                since = f", in B since {clock.minute(b.first_denied)}" if b.first_denied else ""
                return f"✓ → ✕ {theme.percent(b.denied / b.flows)} denied{since}"
            return f"✕ → ✓ was {theme.percent(a.denied / a.flows)} denied"
    return ""
