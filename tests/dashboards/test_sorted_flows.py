"""Flows sorted over all that match, in the address, at every width."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

Look = Callable[..., AppTest]
Said = Callable[[AppTest], str]
BEYOND = "() => { const main = document.querySelector('[data-testid=stMain]'); return main.scrollWidth - main.clientWidth; }"
FINISHED = "() => document.querySelector('[data-testid=\"stApp\"]')?.dataset.testScriptState === 'notRunning'"


def test_an_order_of_the_address_that_does_not_exist_is_the_newest_first(filled: Path, look: Look, said: Said) -> None:
    assert "newest first" in said(look("flows", user="ada", sort="-speed"))


def test_the_oldest_of_all_that_match_come_first(filled: Path, look: Look, said: Said) -> None:
    app = look("flows", user="ada", sort="time", cols="Time,uuid")
    oldest, newest = (set(frame.dataframe[-1].value["uuid"]) for frame in (app, look("flows", user="ada", cols="Time,uuid")))
    assert len(oldest) == 400
    assert not oldest & newest, "of 900 flows, the first 400 are not among the last 400"
    times: list[dt.datetime] = list(app.dataframe[-1].value["Time"])
    assert times == sorted(times)
    assert "oldest first; a column's head sorts these 400 only" in said(app)


def test_the_choice_of_an_order_goes_into_the_address(filled: Path, look: Look) -> None:
    app = look("flows", user="paula")
    app.selectbox(key="sort").set_value("-latency").run()
    assert app.query_params["sort"] in ("-latency", ["-latency"])
    app.selectbox(key="sort").set_value("-time").run()
    assert "sort" not in app.query_params


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_a_reader_sorts_all_flows_by_latency_and_a_colleague_opens_the_same(
    width: int, serve: Callable[..., str], visitor: Callable[..., Page]
) -> None:
    page, address = visitor(viewport={"width": width, "height": 900}), serve()
    page.goto(f"{address}/flows?user=ada&last=6h")
    page.wait_for_timeout(300)
    page.wait_for_function(FINISHED)
    page.get_by_role("combobox", name="Sort all that match").click()
    page.get_by_role("option", name="Slowest first").click()
    page.wait_for_url("**sort=-latency**")
    expect(page.get_by_text("slowest first; a column")).to_be_visible()
    assert page.evaluate(BEYOND) <= 0, "nothing is wider than the window"
    colleague = visitor(viewport={"width": width, "height": 900})
    colleague.goto(page.url)
    expect(colleague.get_by_text("slowest first; a column")).to_be_visible()
