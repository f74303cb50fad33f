"""The dashboard in a real browser, as an owner uses it."""

import datetime as dt
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from collectors.simulator.fleet import build_fleet
from collectors.simulator.history import backfill
from collectors.simulator.story import Story
from warehouse import config
from warehouse.tables import Lake

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
GRANTS = [
    {"subject": "ada", "role": "platform-admin"},
    {"subject": "paula", "role": "namespace-owner", "namespaces": ["payments"]},
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("dashboard")
    now = dt.datetime.now(dt.UTC)
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    since = now.replace(minute=0, second=0, microsecond=0) - dt.timedelta(hours=3)
    backfill(lake, build_fleet(1, clusters=("c1",)), Story.before(now), since=since, until=now, flows_per_second=1.0, seed=1)
    (folder / "hindcast.yaml").write_text(json.dumps({"ownership": {"grants": GRANTS}}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "hindcast", "dashboard", "--config", str(folder / "hindcast.yaml"), "--listen", listen]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://{listen}/_stcore/health", timeout=1)
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield f"http://{listen}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        yield page
        browser.close()


def test_an_owner_finds_her_flows_filters_by_a_click_and_the_address_keeps_it(page: Page, address: str) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{address}/?user=paula&last=6h")
    expect(page.get_by_text("Local mode")).to_be_visible()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    summary = page.get_by_text("flows known lost").or_(page.get_by_text("observed")).first
    expect(summary).to_be_visible()
    before = summary.inner_text()
    page.get_by_role("button", name="DROPPED", exact=True).click()
    page.wait_for_url("**verdict=DROPPED**")
    expect(page.get_by_text(before)).to_have_count(0)
    again = page.context.new_page()
    again.goto(page.url)
    expect(again.get_by_test_id("stDataFrame")).to_be_visible()
    assert "verdict=DROPPED" in again.url
    assert all(url.startswith((address, address.replace("http", "ws"), "data:", "blob:")) for url in requests), "a request left the host"


def test_a_click_on_a_flow_opens_its_fields(page: Page, address: str) -> None:
    page.goto(f"{address}/?user=ada&last=6h")
    table = page.get_by_test_id("stDataFrame")
    expect(table).to_be_visible()
    page.wait_for_timeout(1500)
    table.hover()
    table.click(position={"x": 500, "y": 60})
    expect(page.get_by_role("rowheader", name="verdict", exact=True)).to_be_visible()
    expect(page.get_by_role("rowheader", name="uuid", exact=True)).to_be_visible()


def test_the_dashboard_refuses_to_listen_where_others_could_reach_it(tmp_path: Path) -> None:
    (tmp_path / "hindcast.yaml").write_text("{}")
    command = [sys.executable, "-m", "hindcast", "dashboard", "--config", str(tmp_path / "hindcast.yaml"), "--listen", "0.0.0.0:8501"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "loopback" in done.stderr
