"""The dashboard in a real browser, as people use it."""

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("", "flows", "map", "compare", "coverage", "sql", "access", "docs")
HARMLESS = ("_stcore/health", "_stcore/host-config")
"""Asked for once below a page's own address on a deep link, then at the root."""
FINISHED = """() => {
    const app = document.querySelector('[data-testid="stApp"]');
    return app && app.dataset.testScriptState === 'notRunning' && !document.querySelector('[data-testid="stSkeleton"]');
}"""


@pytest.fixture(scope="module")
def address(serve: Callable[..., str]) -> str:
    return serve()


def open_page(page: Page, address: str) -> None:
    """Go there, and wait until all is drawn."""
    page.goto(address)
    expect(page.get_by_test_id("stHeading").first).to_be_visible()
    settle(page)


def settle(page: Page) -> None:
    """Wait until the script has ended and nothing is a skeleton."""
    page.wait_for_timeout(300)
    page.wait_for_function(FINISHED)
    page.wait_for_timeout(300)


@pytest.mark.parametrize("user", ["ada", "paula"])
def test_every_page_draws_without_an_error_and_asks_nothing_of_another_host(user: str, address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
    page.on("pageerror", lambda error: failed.append(str(error)))
    for name in PAGES:
        open_page(page, f"{address}/{name}?user={user}&last=6h")
        assert page.get_by_test_id("stException").count() == 0
        assert page.get_by_test_id("stAlertContentError").count() == 0
        expect(page.get_by_text("Local mode").first).to_be_visible()
    assert not [url for url in failed if not url.split("?")[0].endswith(HARMLESS)]
    ours = (address, address.replace("http", "ws"), "data:", "blob:")
    assert not [url for url in asked if not url.startswith(ours)], "a request left the host"


def test_an_owner_filters_by_clicks_and_the_address_tells_a_colleague(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    open_page(page, f"{address}/flows?user=paula&last=6h")
    page.get_by_role("button", name="Dropped").click()
    page.wait_for_url("**verdict=DROPPED**")
    box = page.get_by_role("combobox", name="Add a filter")
    box.fill("port!=53")
    box.press("Enter")
    page.wait_for_url("**f=port**")
    settle(page)
    expect(page.get_by_role("button", name="port = 53")).to_be_visible()
    page.get_by_role("button", name="port = 53").click()
    page.get_by_role("menuitem", name="Switch off").click()
    page.wait_for_url("**f=-port**")
    colleague = visitor()
    open_page(colleague, page.url)
    expect(colleague.get_by_role("button", name="port = 53 · off")).to_be_visible()
    colleague.get_by_role("button", name="port = 53 · off").click()
    colleague.get_by_role("menuitem", name="Remove").click()
    expect(colleague.get_by_role("button", name="port = 53 · off")).to_have_count(0)
    assert "verdict=DROPPED" in colleague.url


def test_a_click_on_a_flow_opens_its_panel_and_filters_by_its_value(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    open_page(page, f"{address}/flows?user=ada&last=6h")
    table = page.get_by_test_id("stDataFrame")
    table.hover()
    table.click(position={"x": 330, "y": 60})
    expect(page.get_by_role("tab", name="Raw JSON")).to_be_visible()
    page.wait_for_url("**flow=**")
    expect(page.get_by_role("rowheader", name="uuid", exact=True)).to_be_visible()
    page.get_by_role("button", name="Source is").click()
    page.get_by_role("menuitem", name="Show only these").click()
    page.wait_for_url("**f=src.**")


def test_a_brush_over_the_histogram_narrows_the_table_and_zooms(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    open_page(page, f"{address}/flows?user=ada&last=6h")
    chart = page.get_by_test_id("stVegaLiteChart").locator("canvas")
    place = chart.bounding_box()
    assert place
    middle = place["y"] + place["height"] / 2
    page.mouse.move(place["x"] + place["width"] * 0.6, middle)
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] * 0.7, middle, steps=6)
    page.mouse.move(place["x"] + place["width"] * 0.8, middle, steps=6)
    page.mouse.up()
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_url("**from=**")
    since, until = (
        dt.datetime.fromisoformat(page.evaluate(f"new URL(location.href).searchParams.get('{name}')")) for name in ("from", "until")
    )
    assert dt.timedelta(minutes=50) < until - since < dt.timedelta(minutes=100)


def test_another_persons_data_is_not_reached_by_the_address(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    open_page(page, f"{address}/flows?user=paula&last=6h&f=ns%3Dcart&f=ns%3Dcatalog")
    expect(page.get_by_text("No flow matches")).to_be_visible()
    assert page.get_by_test_id("stDataFrame").count() == 0


def test_the_state_goes_along_from_page_to_page(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    open_page(page, f"{address}/flows?user=paula&last=2h&f=ns%3Dpayments")
    page.get_by_test_id("stTopNavLink").filter(has_text="Map").click()
    page.wait_for_url("**/map**last=2h**")
    settle(page)
    assert "f=ns" in page.url
    assert "user=paula" in page.url


OPENED: dict[str, list[str]] = {"flows": ["Share", "paula", "Last 6 h", "Columns"], "map": ["Share"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_accessibility_fault(scheme: Any, address: str, visitor: Callable[..., Page]) -> None:
    if not AXE.exists():
        pytest.skip(f"axe-core is not installed: npm install --prefix {AXE.parents[2]} axe-core")
    page = visitor(color_scheme=scheme)
    faults: dict[str, list[str]] = {}

    def check(what: str) -> None:
        page.evaluate(AXE.read_text())
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        found = [
            f"{fault['id']} ({fault['impact']}): {node['html'][:160]}"
            for fault in result["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"][:3]
        ]
        if found:
            faults[what] = found

    for name in PAGES:
        open_page(page, f"{address}/{name}?user=paula&last=6h")
        check(name or "overview")
        for button in OPENED.get(name, []):
            page.get_by_role("button", name=button).first.click()
            page.wait_for_timeout(700)
            check(f"{name}, {button} opened")
            page.keyboard.press("Escape")
    assert not faults, json.dumps(faults, indent=1)


def test_the_dashboard_refuses_to_listen_where_others_could_reach_it(tmp_path: Path) -> None:
    (tmp_path / "hindcast.yaml").write_text("{}")
    command = [sys.executable, "-m", "hindcast", "dashboard", "--config", str(tmp_path / "hindcast.yaml"), "--listen", "0.0.0.0:8501"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "loopback" in done.stderr
