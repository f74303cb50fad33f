"""*Observed, Allowed, Both* on the map in a real browser: as administrator and as owner, wide and narrow."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

LOOKS = [(user, width) for user in ("ada", "paula") for width in (1440, 800)]


@pytest.fixture(scope="module")
def address(serve: Callable[..., str]) -> str:
    """Of a dashboard over hours of traffic."""
    return serve()


def kinds(page: Page) -> list[str]:
    """How each line of the map is drawn."""
    found: list[str] = page.locator("path[data-kind]").evaluate_all("lines => lines.map(line => line.dataset.kind)")
    return found


def test_an_owner_without_a_namespace_is_shown_nothing_that_is_allowed(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    page.goto(f"{address}/map?user=nina&last=2h&view=both")
    expect(page.get_by_test_id("stHeading").first).to_be_visible()
    page.wait_for_function("""() => document.querySelector('[data-testid="stApp"]')?.dataset.testScriptState === 'notRunning'""")
    assert page.locator("path[data-kind]").count() == 0
    assert page.get_by_text("Reachable by everyone").count() == 0


@pytest.mark.parametrize(("user", "width"), LOOKS)
def test_the_map_shows_what_policies_allow_beside_what_was_seen(user: str, width: int, address: str, visitor: Callable[..., Page]) -> None:
    page = visitor(viewport={"width": width, "height": 1000})
    page.goto(f"{address}/map?user={user}&last=2h")
    expect(page.locator("path[data-kind]").first).to_be_attached()
    assert not {"unused", "refused"} & set(kinds(page))
    assert page.get_by_text("allowed and used").count() == 0
    page.get_by_role("radio", name="Both").click()
    page.wait_for_url("**view=both**")
    expect(page.get_by_text("allowed and not used").first).to_be_visible()
    expect(page.locator("path[data-kind]").first).to_be_attached()
    assert "forwarded" in kinds(page)
    expect(page.get_by_text("What is not known").first).to_be_visible()
    if user == "paula":
        ends = page.locator("path[data-kind]").evaluate_all("lines => lines.map(line => [line.dataset.from, line.dataset.to])")
        assert all(any(name.startswith("payments") for name in pair) for pair in ends)
        assert "refused" not in kinds(page), "a cluster-wide policy that is not hers may allow what hers deny"
        return
    expect(page.locator('path[data-kind="unused"]').first).to_be_attached()
    page.get_by_role("radio", name="Allowed").click()
    page.wait_for_url("**view=allowed**")
    expect(page.locator('path[data-kind="refused"]')).to_have_count(0)
    expect(page.locator('path[data-kind="unused"]').first).to_be_attached()
    page.get_by_role("radio", name="Observed").click()
    expect(page.locator('path[data-kind="unused"]')).to_have_count(0)
