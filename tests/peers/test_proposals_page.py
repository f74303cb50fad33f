"""A proposal in a real browser and a real cluster: proposed from What-if, approved by another, applied, watched, rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from dashboards.whatif import draft
from tests.peers.proposal_place import Place

pytestmark = [pytest.mark.peers, pytest.mark.browser]

PATIENCE_MS = 120_000


@pytest.fixture
def place(clusters: dict[str, Any], tmp_path: Path) -> Any:
    """A namespace whose owner paula has the right to change its policies, with an hour of traffic."""
    made = Place(clusters["one"], tmp_path)
    space, api = made.namespace, "rbac.authorization.k8s.io"
    binding = {"apiVersion": f"{api}/v1", "kind": "RoleBinding", "metadata": {"name": "paula", "namespace": space}}
    role, subject = {"apiGroup": api, "kind": "Role", "name": "edit-paula"}, {"apiGroup": api, "kind": "User", "name": "paula"}
    made.server.apply(binding | {"roleRef": role, "subjects": [subject]})
    made.configure(approval="platform-when-risky")
    made.office.flows(f"{space}/api", f"{space}/web")
    made.office.flows(f"{space}/batch", f"{space}/web", times=5)
    return made


@pytest.fixture
def address(place: Any, dashboard: Any) -> Iterator[str]:
    """Of the dashboard over it."""
    with dashboard(place.office.file) as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a visitor."""
    context = browser.new_context(viewport={"width": 1440, "height": 1100})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    yield page
    context.close()


def test_a_proposal_is_made_approved_applied_watched_and_rolled_back(place: Any, address: str, page: Page, tmp_path: Path) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    policy = draft.encoded(place.policy("api"), {})
    page.goto(f"{address}/what-if?user=paula&last=1h&policy={policy}")
    page.get_by_text("Propose this change").click()
    page.get_by_label("Why").fill("only api needs it")
    page.get_by_role("button", name="Propose", exact=True).click()
    expect(page.get_by_text("Proposed: checked, and tried on recorded traffic.")).to_be_visible()
    expect(page.get_by_text("it would have denied 5 flows on 1 edge", exact=False)).to_be_visible()
    expect(page.get_by_text("It is your own, so somebody else must decide")).to_be_visible()
    assert page.get_by_role("button", name="Approve").count() == 0
    page.screenshot(path=str(tmp_path / "proposed.png"), full_page=True)
    link = page.url.replace("user=paula", "user=ada")
    assert "proposal=" in link
    assert place.stored() is None

    page.goto(f"{address}/proposals?user=ada")
    expect(page.get_by_text("To approve")).to_be_visible()
    page.goto(link)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Approved.", exact=True)).to_be_visible()

    page.goto(link.replace("user=ada", "user=paula"))
    page.get_by_role("button", name="Apply", exact=False).first.click()
    page.get_by_role("button", name="Apply now").click()
    expect(page.get_by_text("Applied.", exact=True)).to_be_visible()
    assert place.spec() == yaml.safe_load(place.policy("api"))["spec"]
    expect(page.get_by_text("No flow was dropped because of it", exact=False)).to_be_visible()
    place.office.now = datetime.now(UTC)
    place.office.flows(f"{place.namespace}/batch", f"{place.namespace}/web", ago=0, times=1, verdict="DROPPED")
    page.wait_for_timeout(1500)
    page.goto(link.replace("user=ada", "user=paula"))
    expect(page.get_by_text("1 flow on 1 edge, as announced, dropped because of it", exact=False)).to_be_visible()
    page.screenshot(path=str(tmp_path / "applied.png"), full_page=True)

    page.get_by_role("button", name="Roll back").first.click()
    page.get_by_role("button", name="Roll back now").click()
    expect(page.get_by_text("Rolled back.", exact=True)).to_be_visible()
    assert place.stored() is None
    page.goto(f"{address}/proposals?user=otto&show=all")
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    page.screenshot(path=str(tmp_path / "list.png"), full_page=True)
    assert not errors
    assert [event for event, _, _ in place.events(None)] == [
        "proposed", "approved", "applying", "applied", "rolling_back", "rolled_back"
    ]  # fmt: skip
