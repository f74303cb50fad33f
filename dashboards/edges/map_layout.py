"""Where things are on the map: namespaces as boxes in tiers from left to right, workloads as rows in them. Pure.

Tiers follow who calls whom: the outside on the left, then what it calls (the edge), what that calls (applications), what is
called further on (services), databases and queues, and the platform on the right. Within a tier boxes are ordered so that
lines cross little (barycentres, tier by tier); denied edges weigh most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboards.edges.edges import OUTSIDE, PLATFORM, Edge, End

ROW = 20
"""Height of a row, px."""
TITLE = 22
PADDING = 7
SPACE = 14
"""Between boxes, px."""
HEADING = 26
STEPS = 4
"""Tiers of calls, from the edge to inner services."""
DATA_PORTS = frozenset({1433, 1521, 2379, 3306, 4222, 5432, 5672, 6379, 6380, 8086, 9042, 9092, 9093, 9200, 11211, 26257, 27017})
"""Ports that databases, caches and queues are called on."""
TIERS = ("Outside", "Edge", "Applications", "Services", "Inner services", "Data", "Platform")
SWEEPS = 4
DENIED_WEIGHT = 60


@dataclass(frozen=True, kw_only=True)
class Box:
    """A namespace: its tier, the middle of its top edge's height, and its rows."""

    namespace: str
    tier: int
    top: float
    height: float
    rows: tuple[End, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Everything in its place: heights in px from the top, tiers to be spread over the width."""

    boxes: tuple[Box, ...]
    tiers: tuple[str, ...]
    """Names of the tiers."""
    height: float
    places: Mapping[End, tuple[int, float]]
    """The tier and the height of each row's middle."""


def stores(with_ports: Sequence[Edge]) -> frozenset[str]:
    """The namespaces that are called on ports of databases, caches and queues for more than half of their flows from elsewhere."""
    every: dict[str, int] = {}
    data: dict[str, int] = {}
    for edge in with_ports:
        number, namespace = edge.port.partition("/")[0], _box_of(edge.destination)
        if namespace not in (_box_of(edge.source), OUTSIDE) and not edge.is_housekeeping:
            every[namespace] = every.get(namespace, 0) + edge.flows
            if number.isdigit() and int(number) in DATA_PORTS:
                data[namespace] = data.get(namespace, 0) + edge.flows
    return frozenset(namespace for namespace, flows in data.items() if 2 * flows > every[namespace])


def lay_out(edges: Sequence[Edge], data: frozenset[str] = frozenset()) -> Layout:
    """The layout of the ends of edges; namespaces in `data` hold databases and queues."""
    rows: dict[str, set[End]] = {}
    for edge in edges:
        for end in (edge.source, edge.destination):
            rows.setdefault(_box_of(end), set()).add(end)
    tiers = _tiers(list(rows), edges, data)
    weights: dict[tuple[str, str], float] = {}
    for edge in edges:
        pair = _box_of(edge.source), _box_of(edge.destination)
        if pair[0] != pair[1]:
            weights[pair] = weights.get(pair, 0.0) + (DENIED_WEIGHT if edge.denied else 1)
    order = _ordered(tiers, weights)
    return _placed(order, rows)


def _box_of(end: End) -> str:
    return (
        end.namespace
        if end.namespace != OUTSIDE
        else ("nodes" if end.name in ("host", "remote-node", "health", "kube-apiserver") else OUTSIDE)
    )


def _tiers(boxes: Sequence[str], edges: Sequence[Edge], data: frozenset[str]) -> list[list[str]]:
    """Boxes by tier: outside, then by the shortest way of calls from there, then the platform."""
    platform = [box for box in boxes if box in PLATFORM or box == "nodes"]
    inner = [box for box in boxes if box not in platform and box != OUTSIDE]
    called: dict[str, set[str]] = {box: set() for box in boxes}
    callers: dict[str, set[str]] = {box: set() for box in boxes}
    for edge in edges:
        source, destination = _box_of(edge.source), _box_of(edge.destination)
        if source != destination and not edge.is_denied and source not in platform and destination not in platform:
            called[source].add(destination)
            callers[destination].add(source)
    depth: dict[str, int] = {}
    entered = [box for box in inner if OUTSIDE in callers[box]] or [box for box in inner if not callers[box]] or inner[:1]
    steps = entered
    level = 0
    while steps:
        for box in steps:
            depth[box] = min(level, STEPS - 1)
        steps = sorted({after for box in steps for after in called[box] if after in inner and after not in depth})
        level += 1
    for _ in range(STEPS):  # of two at the same step, the one that is called stands further on
        for box in sorted(depth):
            for after in called[box]:
                if after in depth and depth[after] == depth[box] and box not in called[after] and depth[box] > 0:
                    depth[after] = min(depth[after] + 1, STEPS - 1)
    for box in inner:  # who is called by nobody that was reached stands before whom it calls
        if box not in depth:
            depth[box] = max(0, min((depth[after] for after in called[box] if after in depth), default=1) - 1)
    tiers = [[OUTSIDE] if OUTSIDE in boxes else []]
    tiers += [sorted(box for box in inner if depth[box] == level and box not in data) for level in range(STEPS)]
    tiers.append(sorted(box for box in inner if box in data))
    tiers.append(sorted(platform))
    return tiers


def _ordered(tiers: list[list[str]], weights: Mapping[tuple[str, str], float]) -> list[list[str]]:
    """The same tiers, each in the order of its neighbours' middles, swept forth and back."""
    near: dict[str, list[tuple[str, float]]] = {}
    for (source, destination), weight in weights.items():
        near.setdefault(source, []).append((destination, weight))
        near.setdefault(destination, []).append((source, weight))
    order = [list(tier) for tier in tiers]
    for sweep in range(SWEEPS):
        numbers = range(len(order)) if sweep % 2 == 0 else range(len(order) - 1, -1, -1)
        for number in numbers:
            place = {box: (at + 0.5) / len(tier) for tier in order for at, box in enumerate(tier)}
            own = set(order[number])

            def middle(box: str, place: Mapping[str, float] = place, own: set[str] = own) -> float:
                beside = [(place[other], weight) for other, weight in near.get(box, []) if other not in own]
                total = sum(weight for _, weight in beside)
                return sum(at * weight for at, weight in beside) / total if total else place[box]

            order[number].sort(key=lambda box: (middle(box), box))
    return order


def _placed(order: Sequence[Sequence[str]], rows: Mapping[str, set[End]]) -> Layout:
    shown = [(name, tier) for name, tier in zip(TIERS, order, strict=True) if tier]
    heights = {box: TITLE + PADDING + ROW * len(rows[box]) for _, tier in shown for box in tier}
    tallest = max((sum(heights[box] + SPACE for box in tier) for _, tier in shown), default=0)
    boxes: list[Box] = []
    places: dict[End, tuple[int, float]] = {}
    for number, (_, tier) in enumerate(shown):
        top = HEADING + (tallest - sum(heights[box] + SPACE for box in tier)) / 2
        for box in tier:
            listed = tuple(sorted(rows[box]))
            boxes.append(Box(namespace=box, tier=number, top=top, height=heights[box], rows=listed))
            for at, end in enumerate(listed):
                places[end] = (number, top + TITLE + ROW * (at + 0.5))
            top += heights[box] + SPACE
    return Layout(boxes=tuple(boxes), tiers=tuple(name for name, _ in shown), height=HEADING + tallest, places=places)
