"""Getting around: links lead to the exact view, one step back undoes one click, and everything has a name."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

Look = Callable[..., AppTest]
FINISHED = """() => {
    const app = document.querySelector('[data-testid="stApp"]');
    return app && app.dataset.testScriptState === 'notRunning' && !document.querySelector('[data-testid="stSkeleton"]');
}"""


def settle(page: Page) -> None:
    """Wait until the script has ended and nothing is a skeleton."""
    page.wait_for_timeout(400)
    page.wait_for_function(FINISHED)
    page.wait_for_timeout(200)


def links(app: AppTest) -> dict[str, str]:
    return {link.proto.label.strip("*"): str(link.proto.query_string) for link in app.get("page_link")}


def test_each_card_of_the_overview_leads_to_what_it_counts(filled: Path, look: Look) -> None:
    found = links(look("overview", user="ada", last="15m"))
    assert "verdict=DROPPED" in found["Dropped"]
    assert "verdict=ERROR" in found["Dropped"]
    assert "kind=new" in found["New edges"]
    assert {"Flows", "Coverage", "Audit verdicts"} <= found.keys()
    assert all("last=15m" in query for query in found.values())


@pytest.fixture(scope="module")
def address(serve: Callable[..., str]) -> str:
    return serve()


@pytest.mark.browser
def test_one_step_back_undoes_one_click(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    page.goto(f"{address}/overview?user=ada&last=2h")
    page.wait_for_url("**/?**last=2h**")
    settle(page)
    page.get_by_test_id("stTopNavLink").filter(has_text="Map").click()
    page.wait_for_url("**/map**last=2h**")
    settle(page)
    page.get_by_role("button", name="earlier", exact=True).click()
    page.wait_for_url("**from=**")
    settle(page)
    page.go_back()
    page.wait_for_url("**/map**last=2h**")
    settle(page)
    page.go_back()
    page.wait_for_url("**/?**last=2h**")


@pytest.mark.browser
def test_buttons_have_names_without_the_words_of_their_icons_and_escape_closes_the_panel(
    address: str, visitor: Callable[..., Page]
) -> None:
    page = visitor()
    page.goto(f"{address}/flows?user=ada&last=6h")
    settle(page)
    for name in ("Views", "Share", "ada", "Columns", "Numbers", "earlier", "refresh"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    close = page.get_by_role("button", name="close panel", exact=True)
    for row in range(3):  # the table must not answer the same key: its answer raced with the panel's, now and then
        table = page.get_by_test_id("stDataFrame").first
        table.hover()
        table.click(position={"x": 330, "y": 50 + 28 * row})
        expect(close).to_be_visible()
        settle(page)
        page.keyboard.press("Escape")
        expect(close).to_have_count(0)
        page.wait_for_function("() => !location.search.includes('flow=')")
        settle(page)


@pytest.mark.browser
def test_the_theme_is_chosen_in_the_menu(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor(color_scheme="light")
    page.goto(f"{address}/docs?user=ada")
    settle(page)
    page.get_by_test_id("stMainMenu").get_by_role("button").first.click()
    expect(page.get_by_test_id("stMainMenuPopover")).to_contain_text("Dark")


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 720], ids=["a phone", "200 % zoom"])
def test_no_page_is_wider_than_a_narrow_window(width: int, address: str, visitor: Callable[..., Page]) -> None:
    page = visitor(viewport={"width": width, "height": 844})
    for name in ("", "flows", "map", "compare", "posture", "coverage", "policies", "access", "sql", "docs"):
        page.goto(f"{address}/{name}?user=ada&last=6h")
        settle(page)
        wide = page.evaluate(
            "() => { const main = document.querySelector('[data-testid=stMain]'); return main.scrollWidth - main.clientWidth; }"
        )
        assert wide <= 1, name
