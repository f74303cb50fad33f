"""The dashboard in a real browser, as people use it."""

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Page, expect

from dashboards.whatif import draft, starting

pytestmark = pytest.mark.browser

AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("", "flows", "map", "compare", "policies", "what-if", "recommend", "posture", "coverage", "sql", "access", "docs")
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
    page.wait_for_timeout(150)


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


def test_an_owner_filters_by_clicks_and_a_colleague_who_opens_the_address_sees_the_same_filters(
    address: str, visitor: Callable[..., Page]
) -> None:
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
    click_cell(page)
    expect(page.get_by_role("tab", name="Raw JSON")).to_be_visible()
    page.wait_for_url("**flow=**")
    expect(page.get_by_role("rowheader", name="UUID", exact=True)).to_be_visible()
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
    expect(page.get_by_text("cart and catalog are not yours").first).to_be_visible()
    assert page.get_by_test_id("stDataFrame").count() == 0


def test_the_state_goes_along_from_page_to_page(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    open_page(page, f"{address}/flows?user=paula&last=2h&f=ns%3Dpayments")
    page.get_by_test_id("stTopNavLink").filter(has_text="Map").click()
    page.wait_for_url("**/map**last=2h**")
    settle(page)
    assert "f=ns" in page.url
    assert "user=paula" in page.url


def test_a_query_is_written_with_completion_run_by_keys_and_cancelled(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    open_page(page, f"{address}/sql?user=paula&last=6h")
    editor = page.get_by_role("textbox", name="Query")
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.type("SELECT count(*) AS n FROM flows WHERE drop_reason_d")
    expect(page.get_by_role("option", name="drop_reason_desc")).to_be_visible()
    page.wait_for_timeout(200)  # what has just come up is not taken by a key that was meant for something else
    page.keyboard.press("Tab")
    page.keyboard.type(" IS NULL")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**run=1**")
    assert "drop_reason_desc+IS+NULL" in page.url
    expect(page.get_by_text("limit 10,000")).to_be_visible()
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.type("SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range % 7 = b.range % 11")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled: nothing of it is kept")).to_be_visible()


def test_a_saved_view_is_opened_by_whom_it_is_shared_with_and_by_no_one_else(address: str, visitor: Callable[..., Page]) -> None:
    hers, admins, others = visitor(), visitor(), visitor()
    open_page(hers, f"{address}/flows?user=paula&last=6h&verdict=DROPPED&f=port!%3D53")
    hers.get_by_role("button", name="Views").click()
    for name, audience in (("my drops", None), ("drops of payments", "Owners of payments in any cluster")):
        hers.get_by_label("Save this view as").fill(name)
        if audience:
            chooser = hers.get_by_role("combobox", name="Who may open it").first
            chooser.click()
            hers.get_by_role("option", name=audience).click()
            expect(chooser).to_have_value(audience)
        hers.get_by_role("button", name="Save", exact=True).click()
        expect(hers.get_by_test_id("stPopoverBody").get_by_role("link", name=name)).to_be_visible()
        settle(hers)
    for page, user, is_shown in ((admins, "ada", True), (others, "group:checkout", False)):
        open_page(page, f"{address}/sql?user={user}&last=2d")
        page.get_by_role("button", name="Views").click()
        body = page.get_by_test_id("stPopoverBody")
        expect(body.get_by_label("Save this view as")).to_be_visible()
        expect(body.get_by_role("link", name="drops of payments")).to_have_count(int(is_shown))
        assert body.get_by_role("link", name="my drops").count() == 0
    admins.get_by_role("link", name="drops of payments").click()
    admins.wait_for_url("**/flows?**")
    settle(admins)
    assert all(part in admins.url for part in ("user=ada", "last=6h", "verdict=DROPPED", "f=port"))
    expect(admins.get_by_role("button", name="port = 53")).to_be_visible()


def test_the_map_is_saved_as_a_picture(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor(accept_downloads=True)
    open_page(page, f"{address}/map?user=paula&last=6h")
    page.get_by_role("button", name="Share").click()
    with page.expect_download() as download:
        page.get_by_test_id("stPopoverBody").get_by_role("button", name="SVG").click()
    picture = ElementTree.fromstring(Path(download.value.path()).read_text())  # noqa: S314 - our own
    words = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert "payments ★" in words
    assert any("of node-time observed" in (text or "") for text in words)
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as PNG").click()
    assert Path(download.value.path()).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_node_of_the_map_is_picked_by_mouse_or_keys_and_kept_in_the_address(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    open_page(page, f"{address}/map?user=ada&last=6h")
    page.get_by_role("button", name="payments/payments-api").first.click()
    page.wait_for_url("**find=payments%2Fpayments-api**")
    expect(page.get_by_role("link", name="Its flows")).to_be_visible()
    colleague = visitor()
    open_page(colleague, page.url)
    expect(colleague.get_by_role("link", name="Its flows")).to_be_visible()
    settle(page)
    page.get_by_role("button", name="cart/cart-api").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**find=cart%2Fcart-api**")


def test_the_keyboard_alone_reaches_controls_and_opens_a_flow(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    open_page(page, f"{address}/flows?user=ada&last=6h")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.testid === 'data-grid-canvas'"):
            break
    page.keyboard.press("ArrowDown")
    page.wait_for_url("**flow=**")
    expect(page.get_by_role("tab", name="Raw JSON")).to_be_visible()


OPENED: dict[str, list[str]] = {
    "flows": ["Views", "Share", "paula", "Last 6 h", "Columns", "Numbers"],
    "map": ["Share"],
    "sql": ["Saved queries", "Examples"],
    "what-if": ["Start from"],
    "": ["Numbers"],
}
"""Popovers that are opened on a page."""
WITH_PANEL = (
    "map?find=payments%2Fpayments-api",
    "map?view=both",
    "policies?object=c1%7CCiliumNetworkPolicy%7Cpayments%7Cpayments-ingress",
    "sql?run=1&q=SELECT+cluster+FROM+flows+LIMIT+5",
    "flows?f=ns%3Dnowhere",
    f"what-if?policy={draft.encoded(starting.example('Nothing into the namespace', 'payments'), {})}",
    "recommend?of=payments",
)
"""Pages in a state that shows more: a panel, rows, why there is nothing."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_accessibility_fault(scheme: Any, address: str, visitor: Callable[..., Page]) -> None:
    if not AXE.exists():
        pytest.skip(f"axe-core is not installed: npm install --prefix {AXE.parents[2]} axe-core")
    page = visitor(color_scheme=scheme)
    faults: dict[str, list[str]] = {}
    # What is dark is the same but for its colours.
    how = {"resultTypes": ["violations"], **({"runOnly": ["color-contrast"]} if scheme == "dark" else {})}

    def check(what: str) -> None:
        page.evaluate(f"window.axe ? null : (() => {{ {AXE.read_text()} }})()")
        result = page.evaluate("how => axe.run(document, how)", how)
        found = [
            f"{fault['id']} ({fault['impact']}): {node['html'][:160]}"
            for fault in result["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"][:3]
        ]
        if found:
            faults[what] = found

    for name in (*PAGES, *WITH_PANEL):
        path, _, state = name.partition("?")
        user = "ada" if path == "posture" else "paula"  # an owner sees no controls of the cluster
        open_page(page, f"{address}/{path}?user={user}&last=6h&{state}")
        check(name or "overview")
        for button in OPENED.get(name, []):
            page.get_by_role("button", name=button).first.click()
            page.mouse.move(5, 700)  # what is hovered over is on its way from one colour to another
            page.wait_for_timeout(600)
            check(f"{name}, {button} opened")
            page.keyboard.press("Escape")
        if path in ("flows", "posture") and not state:
            click_cell(page)
            expect(page.get_by_role("button", name="close")).to_be_visible()
            check(f"{name}, panel opened")
    assert not faults, json.dumps(faults, indent=1)


def click_cell(page: Page) -> None:
    """Click into the first table's second row."""
    table = page.get_by_test_id("stDataFrame").first
    table.hover()
    table.click(position={"x": 330, "y": 50})


def test_the_dashboard_refuses_to_listen_where_others_could_reach_it(tmp_path: Path) -> None:
    (tmp_path / "hindcast.yaml").write_text("{}")
    command = [sys.executable, "-m", "hindcast", "dashboard", "--config", str(tmp_path / "hindcast.yaml"), "--listen", "0.0.0.0:8501"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 2
    assert "loopback" in done.stderr
