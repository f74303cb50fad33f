"""Each report's page in a real browser: it says nothing on the console, asks nobody for anything, is accessible, and fits a sheet of A4."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from pipelines.evidence.reports import making, subjects
from pipelines.evidence.reports.asked import ReportOf
from warehouse import config

pytestmark = pytest.mark.browser
AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"
START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
A4_PIXELS = 688
"""The width of A4 between its margins of 14 mm, at 96 dots an inch."""
SHEET_PIXELS = 794
"""The width of all of A4."""
CUT = "[...document.querySelectorAll('.rows')].filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.ariaLabel)"
OWN = """
title: Mine </script><script>document.title = "stolen"</script>
queries: {ports: {sql: "SELECT '</title><img src=http://127.0.0.1:9/x>' AS name, 3 AS flows"}}
sections: [{id: ports, title: "<b>Ports</b>", query: ports, chart: {names: name, values: [flows]}}]
"""
REPORTS = {
    "fleet": "",
    "owner": "",
    "access": "",
    "changes": "",
    "segmentation": '{"zones": [{"name": "pay", "namespaces": ["pay"]}]}',
    "mine": OWN,
}


@pytest.fixture(scope="module")
def pages(read_fleet: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of each report."""
    folder = tmp_path_factory.mktemp("pages")
    for name, more in REPORTS.items():
        subject = subjects.principal_of("group:payments") if name == "owner" else None
        request = ReportOf(
            name=name, since=START + dt.timedelta(days=1), until=START + dt.timedelta(days=2), known=START + dt.timedelta(days=3),
            settings=more, source="mine.yaml" if name == "mine" else "", **({"subject": subject} if subject else {}),
        )  # fmt: skip
        made = making.make(
            config.Config(ownership=read_fleet.settings.ownership), read_fleet.lake, request, formats=("html",), stem=name, by="t"
        )
        making.write(made, folder)
    return folder


@pytest.mark.parametrize("name", REPORTS)
def test_it_asks_nobody_for_anything_and_is_accessible(name: str, pages: Path, browser: Browser) -> None:
    if not AXE.exists():
        pytest.skip(f"axe-core is not installed: npm install --prefix {AXE.parents[2]} axe-core")
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        heard: list[str] = []
        page.on("console", lambda message, heard=heard: heard.append(message.text))
        page.on("pageerror", lambda error, heard=heard: heard.append(str(error)))
        own = (pages / f"{name}.html").as_uri()
        page.on("request", lambda request, heard=heard, own=own: heard.append(request.url) if request.url != own else None)
        page.goto(own)
        assert page.locator("main section").count() >= 2
        assert page.title().endswith("· Hindcast")
        assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
        page.locator("nav a").last.click()
        page.evaluate(f"(() => {{ {AXE.read_text()} }})()")
        faults = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert not [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in faults]
        assert heard == []
        context.close()


@pytest.mark.parametrize("name", REPORTS)
def test_it_fits_a_sheet_of_paper(name: str, pages: Path, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": A4_PIXELS, "height": 1000})
    page = context.new_page()
    page.goto((pages / f"{name}.html").as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= A4_PIXELS
    assert page.pdf(prefer_css_page_size=True)[:5] == b"%PDF-"
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": SHEET_PIXELS, "height": 1123})
    assert page.evaluate(CUT) == [], "a table that needs scrolling is cut on a picture of the page"
    context.close()


def test_the_manifest_in_the_page_is_data(pages: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.goto((pages / "mine.html").as_uri())
    manifest = json.loads(page.locator("#hindcast-manifest").text_content() or "")
    assert manifest["title"].startswith("Mine </script>")
    assert json.loads((pages / "mine.manifest.json").read_text()) == manifest
    page.close()
