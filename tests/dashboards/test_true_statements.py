"""What a page states is true: axes, times, counts, ports and the words beside them."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from dashboards.charting import charts
from dashboards.edges import comparison
from dashboards.edges.edges import Edge, End
from dashboards.flows import flow_rows
from dashboards.frame import filters, theme, time_control
from dashboards.frame.time_control import TimeRange
from dashboards.views import coverage
from warehouse.questions import conditions
from warehouse.records.coverage import Gap, Gaps

Look = Callable[..., AppTest]
Said = Callable[[AppTest], str]
NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def parts_of(chart: Any) -> list[Any]:
    """Every mapping in a chart's specification."""
    found: list[Any] = []
    todo = [chart]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            found.append(part)
            todo.extend(part.values())
        elif isinstance(part, list):
            todo.extend(part)
    return found


def bars(rows: list[dict[str, Any]], gaps: Gaps | None = None, **more: Any) -> charts.Chart:
    return charts.bars(
        rows,
        since=NOON - HOUR,
        until=NOON,
        width=dt.timedelta(minutes=1),
        colours={"FORWARDED": "#6C8EB5"},
        names={"FORWARDED": "Forwarded"},
        gaps=Gaps([], {}) if gaps is None else gaps,
        shades=theme.LIGHT,
        **more,
    )


OBSERVED = Gaps([Gap(cluster="c1", node_name="n1", since=NOON - HOUR / 2, until=NOON, cause="away")], {("c1", "n1"): [(NOON - HOUR, NOON)]})
ROWS = [{"start": NOON - HOUR, "kind": "FORWARDED", "flows": 7}]
WINDOW: dict[str, Any] = {"since": NOON - HOUR, "until": NOON, "width": dt.timedelta(minutes=1), "shades": theme.LIGHT}


@pytest.mark.parametrize(
    "chart",
    [
        bars([]),
        bars(ROWS, OBSERVED, brush=True, before=[{"start": NOON - HOUR, "flows": 3}]),
        charts.overlay([{**ROWS[0], "kind": "B"}], [{"start": NOON - HOUR, "flows": 3}], gaps=OBSERVED, **WINDOW),
        coverage.picture([("c1", "n1")], OBSERVED, NOON - HOUR, NOON, theme.LIGHT),
    ],
    ids=["nothing", "bars", "two windows", "nodes"],
)
def test_a_chart_is_what_vega_lite_understands(chart: charts.Chart) -> None:
    read = altair.LayerChart if "layer" in chart else altair.Chart
    read.from_dict(chart, validate=True)  # raises an error that names the part that is wrong


@pytest.mark.parametrize("rows", [[], ROWS], ids=["empty", "one bar"])
def test_the_axis_of_a_chart_has_numbers_even_when_there_is_nothing_to_draw(rows: list[dict[str, Any]]) -> None:
    axes = [part["y"]["scale"]["domain"] for part in parts_of(bars(rows)) if isinstance(part.get("y"), dict) and "scale" in part["y"]]
    assert axes
    assert all(low == 0 and high >= 1 for low, high in axes)


@pytest.mark.parametrize(
    ("observed", "painted"),
    [
        ({}, []),
        ({("c1", "n1"): [(NOON - HOUR, NOON - HOUR / 2)]}, [(NOON - HOUR, NOON - HOUR / 2)]),
        ({("c1", "n1"): [(NOON - HOUR, NOON - HOUR / 2)], ("c1", "n2"): [(NOON - HOUR * 0.75, NOON)]}, [(NOON - HOUR, NOON)]),
    ],
    ids=["nothing recorded", "half of the window", "two nodes"],
)
def test_only_time_that_the_ledger_calls_observed_is_painted_as_observed(
    observed: Any, painted: list[tuple[dt.datetime, dt.datetime]]
) -> None:
    pieces = [part for part in parts_of(bars([], Gaps([], observed))) if part.get("what") == "observed"]
    expected = [(charts.milliseconds(begin), charts.milliseconds(end)) for begin, end in painted]
    assert [(piece["begin"], piece["end"]) for piece in pieces] == expected


def test_a_comparison_of_two_quiet_windows_has_numbers_on_its_axis() -> None:
    chart = charts.overlay([], [], gaps=Gaps([], {}), **WINDOW)
    axes = [part["y"]["scale"]["domain"] for part in parts_of(chart) if isinstance(part.get("y"), dict) and "scale" in part["y"]]
    assert axes
    assert all(domain == [0, 1] for domain in axes)


def test_a_tooltip_that_names_a_zone_is_not_written_by_the_browser_in_another() -> None:
    titled = [
        part
        for part in parts_of(bars([{"start": NOON - HOUR, "kind": "FORWARDED", "flows": 7}]))
        if "UTC" in str(part.get("title", "")) and "field" in part
    ]
    assert titled
    assert all(part["type"] == "nominal" for part in titled), "the browser writes times in its own zone"


def test_the_time_column_has_the_date_when_the_window_crosses_midnight() -> None:
    assert flow_rows.time_format(NOON - HOUR, NOON) == "HH:mm:ss.SSS"
    assert flow_rows.time_format(NOON - 13 * HOUR, NOON) == "DD MMM HH:mm:ss.SSS"


def test_the_later_arrow_keeps_the_length_of_the_window() -> None:
    shown = TimeRange(since=NOON - HOUR, until=NOON)
    since, until = time_control.shifted(shown, 1, now=NOON + HOUR / 4)
    assert until == NOON + HOUR / 4
    assert until - since == HOUR


@given(back=st.integers(0, 400), length=st.integers(1, 2_000), windows=st.sampled_from([-1, 1]))
def test_no_arrow_changes_the_length_of_a_window_or_leads_into_the_future(back: int, length: int, windows: int) -> None:
    minute = dt.timedelta(minutes=1)
    shown = TimeRange(since=NOON - minute * (back + length), until=NOON - minute * back)
    since, until = time_control.shifted(shown, windows, now=NOON)
    assert until - since == shown.length
    assert until <= NOON


def reply_row() -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(flow_rows.ALWAYS)
    return row | {"is_reply": True, "source_port": 5432, "destination_port": 38439, "l4_protocol": "TCP", "verdict": "FORWARDED"}


def test_the_port_of_a_reply_is_filtered_by_as_it_is_shown() -> None:
    row = reply_row()
    (shown,) = flow_rows.table([row], ["Port"])["Port"]
    (wanted,) = flow_rows.conditions_of(row, "Port")
    assert shown == "5432/TCP"
    assert wanted.values == ("5432",)
    assert "38439" not in str(conditions.sql([wanted]))


def edge(first: dt.datetime, last: dt.datetime, *, denied: int = 0) -> Edge:
    return Edge(
        source=End("shop", "web"),
        destination=End("cart", "cart-api"),
        port="8080/TCP",
        clusters=("c1",),
        flows=40,
        denied=denied,
        audited=0,
        reason=None,
        first=first,
        last=last,
        first_denied=first if denied else None,
        buckets=(40,),
    )


@pytest.mark.parametrize("denied", [0, 40])
def test_when_an_edge_was_seen_first_refers_to_the_window_alone(denied: int) -> None:
    seen = edge(NOON - HOUR, NOON, denied=denied)
    new, gone = (comparison.Difference(kind=kind, a=a, b=b) for kind, a, b in (("new", None, seen), ("vanished", seen, None)))
    assert "in B" in comparison.in_words(new)
    assert "in A" in comparison.in_words(gone)


def test_a_full_table_says_that_sorting_orders_what_is_loaded(filled: Path, look: Look, said: Said) -> None:
    assert "newest first; a column's head sorts these 400 only" in said(look("flows", user="ada"))
    assert "sorting" not in said(look("flows", user="paula"))


def test_a_namespace_that_is_not_ones_own_is_called_so_instead_of_counted(filled: Path, look: Look, said: Said) -> None:
    app = look("flows", user="paula", f=["ns=cart"])
    assert "cart is not yours" in said(app)
    assert "Without **ns=cart**" not in said(app)
    assert "is not yours" not in said(look("flows", user="paula", f=["ns=payments"]))
    assert "is not yours" not in said(look("flows", user="ada", f=["ns=cart"]))


def test_a_filter_with_a_mistake_stays_in_the_box_to_be_mended(filled: Path, look: Look, said: Said) -> None:
    app = look("flows", user="ada")
    app.session_state["filter typed"] = "prot=53"  # AppTest types nothing new into a selectbox
    app.run()
    for text in ("prt=53", "port=x"):
        (line,) = (line for line in app.text_input if line.label == "Add a filter")
        line.set_value(text).run()
        (line,) = (line for line in app.text_input if line.label == "Add a filter")
        assert line.value == text
        assert app.warning
    line.set_value("port=53").run()
    assert app.query_params["f"] in ("port=53", ["port=53"])
    assert not [line for line in app.text_input if line.label == "Add a filter"]


def test_an_edited_filter_with_a_mistake_stays_in_the_box(filled: Path, look: Look, said: Said) -> None:
    app = look("flows", user="ada", f=["ns=cart"])
    app.session_state["filter edited"] = 0
    app.run()
    (line,) = (line for line in app.text_input if line.label == "Edit the filter")
    line.set_value("ns~(").run()
    assert "regular expression" in said(app)
    assert next(line for line in app.text_input if line.label == "Edit the filter").value == "ns~("


def test_a_field_that_was_chosen_offers_its_values(filled: Path, look: Look) -> None:
    app = look("flows", user="ada")
    (box,) = (box for box in app.selectbox if box.label == "Add a filter")
    box.set_value("ns=").run()
    (box,) = (box for box in app.selectbox if box.label == "Add a filter")
    assert "ns=cart" in box.options
    assert all(option.startswith("ns=") for option in box.options)
    box.set_value("ns=cart").run()
    assert app.query_params["f"] in ("ns=cart", ["ns=cart"])


@pytest.mark.parametrize(
    ("typed", "chosen", "read"),
    [("cart", "ns=", "ns=cart"), ("ns=cart", "ns=", "ns=cart"), ("port!=53", "ns=", "port!=53"), ("cart", None, "cart")],
)
def test_a_value_alone_is_taken_for_the_field_that_was_chosen(typed: str, chosen: str | None, read: str) -> None:
    assert filters.completed(typed, chosen) == read


def test_ports_are_filtered_by_ranges(filled: Path, look: Look) -> None:
    rows = look("flows", user="ada", f=["dst.port=8000-9100"], cols="destination_port").dataframe[-1].value
    ports = {int(port) for port in rows["destination_port"]}
    assert len(ports) > 1
    assert all(8000 <= port <= 9100 for port in ports)


def test_times_are_written_in_the_zone_that_was_chosen(filled: Path, look: Look) -> None:
    app = look("flows", user="ada", zone="local", last="15m")
    assert "From (UTC)" in [box.label for box in app.get("datetime_input")], "AppTest's browser names no zone"
    app.query_params["zone"] = "utc"
    app.run()
    assert "From (UTC)" in [box.label for box in app.get("datetime_input")]
