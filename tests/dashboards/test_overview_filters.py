"""The filter bar on the overview: it narrows every card, chart and table there, and the links keep it."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.lake.tables import Lake
from warehouse.questions import conditions, count_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.record_questions import Drift

Look = Callable[..., AppTest]
BEYOND = "() => { const main = document.querySelector('[data-testid=stMain]'); return main.scrollWidth - main.clientWidth; }"
FINISHED = "() => document.querySelector('[data-testid=\"stApp\"]')?.dataset.testScriptState === 'notRunning'"
TODAY = {"last": "6h", "user": "ada"}


@pytest.fixture
def lake(folder: Path, demo_lake: Path, configure: Callable[..., None]) -> Lake:
    """The demo's lake, at which the pages look too."""
    configure(folder, lake={"url": str(demo_lake / "lake")})
    return Lake.open(config.Lake(url=str(demo_lake / "lake")))


def metric(app: AppTest, label: str) -> str:
    return str(next(each.value for each in app.metric if each.label == label))


def links(app: AppTest) -> dict[str, str]:
    return {link.proto.label.strip("*"): str(link.proto.query_string) for link in app.get("page_link")}


def tables(app: AppTest) -> dict[str, list[str]]:
    """The first column of the tables of namespaces and of talkers."""
    return {name: list(frame.value[name]) for frame in app.dataframe for name in ("Namespace", "Edge") if name in frame.value}


def test_a_filter_that_nothing_matches_says_so(lake: Lake, look: Look, said: Callable[[AppTest], str]) -> None:
    text = said(look(f=["ns=nowhere"], **TODAY))
    assert "No flow matches" in text
    assert "Without **ns=nowhere** there would be" in text


def test_a_filter_that_cannot_be_read_is_named_and_left_out(lake: Lake, look: Look, said: Callable[[AppTest], str]) -> None:
    app = look(f=["nonsense=1"], **TODAY)
    assert "Left out: 'nonsense' is not a filter field" in said(app)
    assert metric(app, "Flows") == metric(look(**TODAY), "Flows")


@pytest.mark.usefixtures("lake")
def test_an_owner_is_not_told_that_nothing_drifted_where_she_may_not_look(look: Look) -> None:
    drift = next(each for each in look(last="6h", user="paula").metric if each.label == "Drift")
    assert (drift.value, drift.delta) == ("0", "none that you may see")


def test_a_namespace_narrows_cards_charts_and_tables(lake: Lake, look: Look) -> None:
    every, app = look(**TODAY), look(f=["ns=cart"], **TODAY)
    for label in ("Flows", "Dropped"):
        assert metric(app, label) != metric(every, label)
    assert all("cart" in edge for edge in tables(app)["Edge"] if "→" in edge)
    assert set(tables(app)["Namespace"]) < set(tables(every)["Namespace"])
    assert "cart" in tables(app)["Namespace"]


@pytest.mark.parametrize("condition", ["method=GET", "dst.port=5432", "pod~^cart-api", "verdict=DROPPED"])
def test_the_flows_of_any_filter_are_counted_as_the_door_counts_them(condition: str, lake: Lake, look: Look) -> None:
    app = look(f=[condition], **TODAY)
    now = dt.datetime.now(dt.UTC)
    window = FlowFilter(since=now - dt.timedelta(hours=6), until=now, conditions=(conditions.parse(condition),))
    door = Door(lake, config.Ownership())
    counted = sum(door.answer(OPERATOR, count_questions.timeline(window)).rows["flows"].to_pylist())
    shown = next(link.proto.help for link in app.get("page_link") if link.proto.label == "Flows")
    assert shown == f"{counted:,} flows"


def test_objects_that_the_filter_is_not_about_are_left_out(lake: Lake, look: Look) -> None:
    rows = Door(lake, config.Ownership()).answer(OPERATOR, Drift(at=dt.datetime.now(dt.UTC))).rows.to_pylist()
    assert {row["namespace"] for row in rows} >= {None, "fraud"}, "there is drift of the cluster and of a namespace"
    for name in ("fraud", "cart"):
        assert metric(look(f=[f"ns={name}"], **TODAY), "Drift") == str(sum(row["namespace"] in (name, None) for row in rows))
    assert metric(look(f=["ns!=fraud"], **TODAY), "Drift") == str(sum(row["namespace"] != "fraud" for row in rows))
    assert metric(look(f=["cluster!=c2"], **TODAY), "Drift") == str(len(rows))


def test_links_of_the_overview_keep_its_filter_and_narrow_it_further(lake: Lake, look: Look) -> None:
    found = links(look(f=["ns=cart", "port!=53"], **TODAY))
    for label in ("Flows", "Dropped", "New edges", "Open in Flows"):
        assert "f=ns%3Dcart" in found[label], label
        assert "f=port%21%3D53" in found[label], label


def test_under_match_any_a_link_to_an_edge_names_the_edge_alone(lake: Lake, look: Look) -> None:
    found = links(look(f=["ns=cart", "ns=vault"], match="any", **TODAY))
    denied = next(query for label, query in found.items() if "denied" in label)
    assert "match=any" not in denied
    assert "src.ns" in denied


def test_a_filter_by_anothers_namespace_explains_to_an_owner_what_it_shows(lake: Lake, look: Look, said: Callable[[AppTest], str]) -> None:
    assert "fraud is not yours" in said(look(f=["ns=fraud"], user="paula", last="6h"))


def settle(page: Page) -> None:
    page.wait_for_timeout(300)
    page.wait_for_function(FINISHED)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_a_reader_narrows_the_overview_and_takes_the_filter_along(
    width: int, serve: Callable[..., str], visitor: Callable[..., Page]
) -> None:
    page = visitor(viewport={"width": width, "height": 900})
    page.goto(f"{serve()}/?user=ada&last=6h")
    box = page.get_by_role("combobox", name="Add a filter")
    expect(box).to_be_visible()
    settle(page)
    box.fill("ns=cart")
    box.press("Enter")
    page.wait_for_url("**f=ns%3Dcart**")
    settle(page)
    expect(page.get_by_role("button", name="ns = cart")).to_be_visible()
    assert page.evaluate(BEYOND) <= 0, "nothing is wider than the window"
    page.get_by_role("link", name="Dropped").first.click()
    page.wait_for_url("**/flows?**f=ns%3Dcart**")
    expect(page.get_by_role("button", name="ns = cart")).to_be_visible()
