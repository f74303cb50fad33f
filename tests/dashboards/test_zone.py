"""The zone of times is chosen in the browser, travels in the address, and each reader's own browser says which zone is local."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
FINISHED = "() => document.querySelector('[data-testid=\"stApp\"]')?.dataset.testScriptState === 'notRunning'"


def settle(page: Page) -> None:
    page.wait_for_timeout(300)
    page.wait_for_function(FINISHED)


def test_a_reader_chooses_her_own_zone_and_a_colleague_elsewhere_reads_his(serve: Callable[..., str], visitor: Callable[..., Page]) -> None:
    page = visitor(timezone_id="Asia/Kolkata")
    window = "from=2026-03-02T09:00Z&until=2026-03-02T10:00Z"
    page.goto(f"{serve()}/coverage?user=ada&{window}")
    settle(page)
    head = page.get_by_role("button", name="2 Mar 09:00 – 10:00 UTC")  # noqa: RUF001 - the dash of a range
    head.click()
    page.get_by_role("button", name="Local time").or_(page.get_by_role("radio", name="Local time")).first.click()
    page.wait_for_url("**zone=local**")
    settle(page)
    expect(page.get_by_text("2 Mar 14:30 – 15:30 IST").first).to_be_visible()  # noqa: RUF001
    expect(page.get_by_text("From (IST)")).to_be_visible()
    assert "from=2026-03-02T09" in page.url, "the address stays in UTC"
    colleague = visitor(timezone_id="America/New_York")
    colleague.goto(page.url)
    expect(colleague.get_by_text("2 Mar 04:00 – 05:00 EST").first).to_be_visible()  # noqa: RUF001
