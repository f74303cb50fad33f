"""Central editing in a real browser and two real clusters: edit, plan, canary, publish, roll back; wide and narrow."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.modules import load

pytestmark = [pytest.mark.peers, pytest.mark.browser]

fleet_module: Any = load(Path(__file__).with_name("test_central.py"))
PATIENCE_MS = 300_000
AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def fleet(clusters: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    """Two clusters in which the same policy stands, as recorded and as it is."""
    made = fleet_module.Fleet(clusters, tmp_path)
    for cluster in made.servers:
        made.put(cluster, "api", "batch")
        made.record(cluster, "api", "batch")
    yield made
    for server in made.servers.values():
        server.kubectl("delete", "--wait=false", "--ignore-not-found", "-f", "-", input=made.rights)


@pytest.fixture
def address(fleet: Any, dashboard: Any) -> Iterator[str]:
    """Of the dashboard over it."""
    with dashboard(fleet.office.file) as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a visitor, wide at first."""
    context = browser.new_context(viewport={"width": 1440, "height": 1100})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    yield page
    context.close()


@pytest.fixture
def look(page: Page, tmp_path: Path) -> Callable[[str], None]:
    """What looks at a state wide and narrow: a picture of each, nothing wider than the window, no fault of accessibility."""

    def faults() -> list[str]:
        if not AXE.exists():
            return []
        page.evaluate(f"window.axe ? null : (() => {{ {AXE.read_text()} }})()")
        result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        serious = [one for one in result["violations"] if one["impact"] in ("serious", "critical")]
        return [f"{one['id']}: {node['html'][:160]}" for one in serious for node in one["nodes"][:3]]

    def looked(name: str) -> None:
        found: dict[str, Any] = {}
        for width in (800, 1440):
            page.set_viewport_size({"width": width, "height": 1100})
            page.mouse.move(5, 700)
            page.wait_for_timeout(800)  # what is hovered over, or moves to its new place, is on its way
            page.screenshot(path=str(tmp_path / f"{name}-{width}.png"), full_page=True)
            too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if said := [*faults(), *([f"{too_wide} pixels too wide"] if too_wide > 0 else [])]:
                found[f"{name} {width}"] = said
        assert not found, json.dumps(found, indent=1)

    return looked


def test_a_policy_is_edited_for_two_clusters_planned_published_to_a_canary_then_to_the_rest_and_rolled_back(
    fleet: Any, address: str, page: Page, look: Callable[[str], None]
) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    opened = f"{address}/policies?user=ada&show=fleet&object=CiliumNetworkPolicy%7C{fleet.space}%7Cweb"
    page.goto(opened.replace("ada", "otto"))
    expect(page.get_by_text("The same in", exact=False)).to_be_visible()
    assert page.get_by_text("Edit for many clusters").count() == 0

    page.goto(opened)
    page.get_by_role("button", name="Edit for many clusters").click()
    editor = page.locator(".cm-content")
    expect(editor).to_contain_text("batch")
    editor.fill(fleet.policy("api"))
    page.wait_for_timeout(1_000)  # what is typed is sent after a pause
    page.get_by_role("button", name="Plan", exact=True).click()
    expect(page.get_by_text("5 newly denied", exact=False).first).to_be_visible()
    expect(page.get_by_text("is not in the configuration yet", exact=False)).to_be_visible()
    look("planned")
    assert (fleet.apps("c1"), fleet.apps("c2")) == (["api", "batch"], ["api", "batch"])

    page.get_by_role("button", name="Publish to the canary").click()
    page.get_by_label("Why").fill("only api needs it")
    page.get_by_role("button", name="Publish now").click()
    expect(page.get_by_text("Published to the canary.", exact=True)).to_be_visible()
    expect(page.get_by_text("No flow was dropped because of it", exact=False)).to_be_visible()
    assert (fleet.apps("c1"), fleet.apps("c2")) == (["api"], ["api", "batch"])
    look("canary")
    link = page.url
    assert "change=" in link
    fleet.drop("c1")
    page.goto(link)
    expect(page.get_by_text("Flows are dropped because of it.")).to_be_visible()

    page.get_by_role("button", name="Publish to the rest").first.click()
    expect(page.get_by_text("It has dropped 1 flow where it is published", exact=False)).to_be_visible()
    page.get_by_role("button", name="Publish to the rest now").click()
    expect(page.get_by_text("Published to the rest.", exact=True)).to_be_visible()
    assert fleet.apps("c2") == ["api"]

    page.get_by_role("button", name="Roll back").first.click()
    page.get_by_role("button", name="Roll back now").click()
    expect(page.get_by_text("Rolled back.", exact=True)).to_be_visible()
    assert (fleet.apps("c1"), fleet.apps("c2")) == (["api", "batch"], ["api", "batch"])
    look("rolled-back")

    page.goto(link.replace("user=ada", "user=otto"))
    expect(page.get_by_text("only api needs it").first).to_be_visible()
    assert page.get_by_role("button", name="Roll back").count() == 0
    page.goto(f"{address}/policies?user=ada&show=changes")
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    look("list")
    assert not errors
