"""Policies tried on history, recommended and explained, in a real browser: as administrator and as owner, wide and narrow."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from dashboards.whatif import draft, starting

pytestmark = pytest.mark.browser

LOOKS = [(user, width) for user in ("ada", "paula") for width in (1440, 800)]
CLOSED = starting.example("Nothing into the namespace", "payments")
FINISHED = """() => document.querySelector('[data-testid="stApp"]')?.dataset.testScriptState === 'notRunning'"""


@pytest.fixture(scope="module")
def address(serve: Callable[..., str]) -> str:
    """Of a dashboard over hours of traffic."""
    return serve()


def opened(visitor: Callable[..., Page], address: str, width: int = 1440) -> Page:
    """A page that is drawn."""
    page = visitor(viewport={"width": width, "height": 1000})
    page.goto(address)
    expect(page.get_by_test_id("stHeading").first).to_be_visible()
    settle(page)
    return page


def settle(page: Page) -> None:
    """Wait until the page is drawn: a table that is about to be drawn anew takes no click."""
    page.wait_for_timeout(300)
    page.wait_for_function(FINISHED)


def choose_row(page: Page, x: int, address: str) -> None:
    """Click into the first row until the address says so: a table that has just been drawn takes no click yet."""
    table = page.get_by_test_id("stDataFrame").first
    for _ in range(30):
        table.hover()
        table.click(position={"x": x, "y": 50})
        for _ in range(30):
            page.wait_for_timeout(200)
            if address in page.url:
                return settle(page)
    raise AssertionError(f"no row was chosen: {page.url}")


def test_an_owner_cannot_try_a_policy_of_a_namespace_that_is_not_hers(address: str, visitor: Callable[..., Page]) -> None:
    foreign = draft.encoded(starting.example("Nothing into the namespace", "cart"), {})
    page = opened(visitor, f"{address}/what-if?user=paula&last=2h&policy={foreign}")
    expect(page.get_by_text("namespace cart is not yours").first).to_be_visible()
    expect(page.get_by_text("cannot be simulated").first).to_be_visible()
    assert page.get_by_text("Newly denied").count() == 0


def test_a_policy_is_written_with_completion_and_its_faults_are_marked(address: str, visitor: Callable[..., Page]) -> None:
    page = opened(visitor, f"{address}/what-if?user=paula&last=2h")
    editor = page.get_by_role("textbox", name="Proposed policy")
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.type("kind: CiliumNetworkPolicy\nspec:\n")
    page.keyboard.type("  endp")
    expect(page.get_by_role("option", name="endpointSelector")).to_be_visible()
    page.wait_for_timeout(200)  # what has just come up is not taken by a key that was meant for something else
    page.keyboard.press("Tab")
    expect(page.get_by_text("metadata.name: must be specified").first).to_be_visible()
    expect(page.locator(".cm-lintRange-error").first).to_be_visible()


def test_a_refused_policy_says_where_why_and_by_whom(address: str, visitor: Callable[..., Page]) -> None:
    text = starting.example("Only these clients", "payments").replace('"8080"', '"80800"')
    page = opened(visitor, f"{address}/what-if?user=ada&last=2h&policy={draft.encoded(text, {})}")
    expect(page.get_by_text("would be refused by the").first).to_be_visible()
    expect(page.get_by_text("spec.ingress[0].toPorts[0].ports[0]").first).to_be_visible()


@pytest.mark.parametrize(("user", "width"), LOOKS)
def test_a_policy_is_tried_on_history_and_an_edge_leads_to_its_flows(
    user: str, width: int, address: str, visitor: Callable[..., Page]
) -> None:
    page = opened(visitor, f"{address}/what-if?user={user}&last=2h&policy={draft.encoded(CLOSED, {})}", width)
    expect(page.get_by_text("confidence").first).to_be_visible()
    expect(page.get_by_text("Newly denied").first).to_be_visible()
    page.get_by_role("radio", name="Unchanged").click()
    page.wait_for_url("**show=unchanged**")
    settle(page)
    choose_row(page, 250, "edge=unchanged")
    page.get_by_role("link", name="flows").last.click()
    page.wait_for_url("**/flows?**")
    expect(page.get_by_role("button", name="cluster = c1")).to_be_visible()
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()


@pytest.mark.parametrize(("user", "width"), LOOKS)
def test_a_recommendation_has_evidence_and_opens_in_what_if(user: str, width: int, address: str, visitor: Callable[..., Page]) -> None:
    page = opened(visitor, f"{address}/recommend?user={user}&last=2h&of=payments", width)
    expect(page.get_by_text("What was not seen").first).to_be_visible()
    expect(page.get_by_role("button", name="Download all")).to_be_visible()
    page.get_by_role("link", name="Open in What-if").first.click()
    page.wait_for_url("**/what-if?**policy=**")
    expect(page.get_by_text("confidence").first).to_be_visible()


@pytest.mark.parametrize(("user", "width"), LOOKS)
def test_a_flow_says_why_it_was_decided_so(user: str, width: int, address: str, visitor: Callable[..., Page]) -> None:
    page = opened(visitor, f"{address}/flows?user={user}&last=2h&f=ns%3Dpayments", width)
    choose_row(page, 330, "flow=")
    page.get_by_role("button", name="Why?").click()
    page.wait_for_url("**why=1**")
    expect(page.get_by_text("Policies say").first).to_be_visible()
    expect(page.get_by_text("Ingress at").first).to_be_visible()
