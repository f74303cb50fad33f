"""What charts and maps say in numbers and in files."""

import datetime as dt
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from dashboards.charting import series
from dashboards.edges import map_layout, map_svg
from dashboards.edges.edges import OUTSIDE, Edge, End
from dashboards.frame.theme import LIGHT

AT = dt.datetime(2026, 3, 2, 14, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
SVG = "{http://www.w3.org/2000/svg}"


def edge(source: End, destination: End, denied: int = 0) -> Edge:
    return Edge(
        source=source, destination=destination, port="", clusters=("c1",), flows=100, denied=denied, audited=0, reason=None, first=AT,
        last=AT, first_denied=None, buckets=(100,),
    )  # fmt: skip


def test_no_part_of_time_has_no_numbers() -> None:
    assert series.numbers([], [], {"a": "A"}) == []


def test_parts_without_flows_count_as_nought() -> None:
    rows = [{"start": AT + MINUTE, "kind": "a", "flows": 6}]
    (found,) = series.numbers(rows, series.starts(AT, AT + 3 * MINUTE, MINUTE), {"a": "A"})
    assert found == {"Series": "A", "Min": 0, "Mean": 2, "95th": 6, "Max": 6, "Last": 0, "Total": 6}


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=60))
def test_numbers_are_those_of_the_values(values: list[int]) -> None:
    moments = [AT + MINUTE * place for place in range(len(values))]
    rows = [{"start": moment, "kind": "a", "flows": value} for moment, value in zip(moments, values, strict=True) if value]
    (found,) = series.numbers(rows, moments, {"a": "A"})
    assert (found["Min"], found["Max"], found["Last"], found["Total"]) == (min(values), max(values), values[-1], sum(values))
    assert sum(value <= found["95th"] for value in values) >= 0.95 * len(values)
    assert sum(value < found["95th"] for value in values) < 0.95 * len(values)


def test_parts_begin_at_round_times_the_first_before_the_window() -> None:
    found = series.starts(AT + dt.timedelta(seconds=90), AT + 4 * MINUTE, 2 * MINUTE)
    assert found == [AT, AT + 2 * MINUTE]


def test_a_picture_holds_every_end_and_edge_and_names_are_text_in_it() -> None:
    ends = [End("a", "<script>alert(1)</script>"), End("b", "web"), End(OUTSIDE, 'x" onload="alert(1)')]
    edges = [edge(ends[0], ends[1], denied=60), edge(ends[2], ends[1]), edge(ends[0], End("a", "db"), denied=5)]
    about = {"owns": lambda name: name == "b", "mark_own": True, "shades": LIGHT, "caption": "3 of 3 edges & more"}
    picture = map_svg.draw(edges, map_svg.Drawing(layout=map_layout.lay_out(edges), **about))
    root = ElementTree.fromstring(picture)  # noqa: S314 - our own
    assert not [element for element in root.iter() if "script" in element.tag or "onload" in element.attrib]
    assert len([line for line in root.iter(f"{SVG}path") if line.get("marker-end")]) == 3
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"b ★", "3 of 3 edges & more"} <= set(words)
    assert "✕ web" in words


def test_an_empty_map_is_a_picture_too() -> None:
    about = {"owns": lambda _: False, "mark_own": False, "shades": LIGHT, "caption": "none"}
    picture = map_svg.draw([], map_svg.Drawing(layout=map_layout.lay_out([]), **about))
    assert ElementTree.fromstring(picture).tag == f"{SVG}svg"  # noqa: S314 - our own
