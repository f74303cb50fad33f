"""Edges: where the map puts them, and what of two windows is called new, vanished, changed or flipped."""

import datetime as dt
import itertools
import random
import time
from typing import Any
from xml.etree import ElementTree

import pytest

from dashboards.edges import comparison, map_layout, map_svg
from dashboards.edges.edges import OUTSIDE, Edge, End, filter_of
from dashboards.frame.theme import LIGHT

AT = dt.datetime(2026, 3, 2, 14, tzinfo=dt.UTC)


def edge(source: str, destination: str, flows: int = 100, denied: int = 0, port: str = "8080/TCP") -> Edge:
    ends = [End(*(name.split("/") if "/" in name else (OUTSIDE, name))) for name in (source, destination)]
    return Edge(
        source=ends[0], destination=ends[1], port=port, clusters=("c1",), flows=flows, denied=denied, audited=0, reason=None, first=AT,
        last=AT, first_denied=AT if denied else None, buckets=(flows,),
    )  # fmt: skip


def fleet(nodes: int, edges: int) -> list[Edge]:
    chance = random.Random(7)
    names = [f"ns{number // 5}/workload-{number}" for number in range(nodes)]
    pairs = {tuple(chance.sample(names, 2)) for _ in range(edges * 2)}
    return [edge(*pair, flows=chance.randrange(1, 9999), denied=chance.choice([0, 0, 0, 5])) for pair in sorted(pairs)[:edges]]


def test_boxes_of_a_tier_do_not_overlap_and_every_end_has_a_place() -> None:
    found = [*fleet(60, 200), edge("world", "ns1/workload-5"), edge("ns2/workload-10", "kube-system/coredns", port="53/UDP")]
    layout = map_layout.lay_out(found)
    assert {end for each in found for end in (each.source, each.destination)} == set(layout.places)
    for tier in range(len(layout.tiers)):
        boxes = sorted((box for box in layout.boxes if box.tier == tier), key=lambda box: box.top)
        assert boxes
        assert all(above.top + above.height <= below.top for above, below in itertools.pairwise(boxes))
        assert all(box.top >= 0 and box.top + box.height <= layout.height for box in boxes)
    assert layout.tiers[0] == "Outside"
    assert layout.tiers[-1] == "Platform"


def test_who_is_called_stands_further_on_than_who_calls() -> None:
    layout = map_layout.lay_out([edge("world", "edge/gateway"), edge("edge/gateway", "shop/web"), edge("shop/web", "cart/api")])
    tiers = [layout.places[End(*name)][0] for name in ((OUTSIDE, "world"), ("edge", "gateway"), ("shop", "web"), ("cart", "api"))]
    assert tiers == sorted(tiers)
    assert len(set(tiers)) == 4


def test_a_large_map_is_laid_out_in_no_time() -> None:
    found = fleet(200, 2_000)
    began = time.process_time()
    layout = map_layout.lay_out(found)
    drawn = map_svg.draw(found, drawing(layout))
    assert time.process_time() - began < 4
    assert drawn.count("data-from=") == 2_000


def test_names_from_clusters_are_text_in_tooltips() -> None:
    found = [edge("a/<img src=x onerror=alert(1)>", "b/c")]
    drawn = map_svg.draw(found, drawing(map_layout.lay_out(found)))
    assert "<img" not in drawn
    ElementTree.fromstring(drawn)  # noqa: S314 - our own


def drawing(layout: map_layout.Layout, **more: Any) -> map_svg.Drawing:
    return map_svg.Drawing(**({"layout": layout, "owns": lambda _: False, "mark_own": False, "shades": LIGHT, "caption": "said"} | more))


@pytest.mark.parametrize("tier", [map_svg.WIDE, map_svg.NARROW])
def test_every_line_starts_at_a_side_of_its_caller_and_its_arrow_touches_the_called(tier: int) -> None:
    found = [
        edge("world", "shop/web"),
        edge("shop/web", "shop/db", port="5432/TCP"),
        edge("shop/db", "shop/web", denied=9),
        edge("cart/api", "shop/web", denied=90),
        edge("shop/web", "shop/web"),
    ]
    drawn = drawing(map_layout.lay_out(found), tier=tier)
    for each in found:
        points = map_svg.curve(each, drawn).points
        for end, (x, y) in ((each.source, points[0]), (each.destination, points[-1])):
            column, height = drawn.layout.places[end]
            assert abs(abs(x - drawn.x(column)) - map_svg.ROW_WIDTH / 2) < 0.1
            assert abs(y - map_svg.TOP - height) <= map_layout.ROW / 2
    written = map_svg.draw(found, drawn)
    assert written.count('marker-end="url(#denied)"') == 2
    assert written.count('marker-end="url(#forwarded)"') == 3
    loop = map_svg.curve(found[1], drawn).at(0.5)
    assert loop[0] > drawn.x(drawn.layout.places[found[1].source][0]) + map_svg.BOX_WIDTH / 2, "within a namespace the line leaves the box"


def test_the_number_of_a_denied_edge_stands_on_its_line_and_covers_no_other() -> None:
    found = [each for each in fleet(40, 120) if each.denied]
    drawn = drawing(map_layout.lay_out(found))
    spots = map_svg.labels(found, drawn)
    assert spots
    for each, x, y in spots:
        line = map_svg.curve(each, drawn)
        assert min(abs(x - px) + abs(y - py) for px, py in (line.at(share / 100) for share in range(101))) < 2
    assert all(abs(one[1] - other[1]) >= 46 or abs(one[2] - other[2]) >= 18 for one, other in itertools.combinations(spots, 2))


def test_a_namespace_of_databases_is_recognised_by_the_ports_it_is_called_on() -> None:
    found = [edge("shop/web", "db/main", port="5432/TCP"), edge("shop/web", "cart/api"), edge("cart/api", "cart/db", port="5432/TCP")]
    assert map_layout.stores(found) == {"db"}
    layout = map_layout.lay_out(found, map_layout.stores(found))
    assert layout.tiers[layout.places[End("db", "main")][0]] == "Data"


def test_no_edges_make_an_empty_map() -> None:
    assert map_layout.lay_out([]).boxes == ()


def test_the_same_is_no_difference() -> None:
    found = fleet(20, 50)
    differences, unchanged = comparison.compare(found, found)
    assert not differences
    assert unchanged == len({each.key for each in found})


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        (None, edge("a/x", "b/y"), "new"),
        (edge("a/x", "b/y"), None, "vanished"),
        (edge("a/x", "b/y"), edge("a/x", "b/y", denied=100), "flip"),
        (edge("a/x", "b/y", denied=100), edge("a/x", "b/y"), "flip"),
        (edge("a/x", "b/y"), edge("a/x", "b/y", denied=20), "flip"),
        (edge("a/x", "b/y"), edge("a/x", "b/y", flows=200), "changed"),
        (edge("a/x", "b/y"), edge("a/x", "b/y", flows=110), None),
        (edge("a/x", "b/y", flows=3), edge("a/x", "b/y", flows=7), None),
    ],
)
def test_differences_are_called_by_their_names(a: Edge | None, b: Edge | None, kind: str | None) -> None:
    differences, unchanged = comparison.compare([a] if a else [], [b] if b else [])
    assert [difference.kind for difference in differences] == ([kind] if kind else [])
    assert unchanged == (kind is None)


def test_windows_of_different_length_are_compared_by_the_hour() -> None:
    differences, _ = comparison.compare([edge("a/x", "b/y", flows=100)], [edge("a/x", "b/y", flows=200)], scale=2.0)
    assert not differences


def test_an_edge_that_vanished_while_its_cluster_was_not_observed_is_not_called_gone_for_sure() -> None:
    from warehouse.records.coverage import Gap

    (difference,), _ = comparison.compare([edge("a/x", "b/y")], [])
    gap = Gap(cluster="c1", node_name="n", since=AT, until=AT + dt.timedelta(minutes=30), cause="gap")
    assert comparison.in_gap(difference, [gap], dt.timedelta(hours=1))
    assert not comparison.in_gap(difference, [], dt.timedelta(hours=1))


def test_a_filter_names_pods_only_of_what_is_ones_own() -> None:
    written = [str(condition) for condition in filter_of(edge("mine/web", "theirs/db"), lambda namespace: namespace == "mine")]
    assert written == ["src.ns=mine", "src.pod~^web(-|$)", "dst.ns=theirs", "port=8080"]
