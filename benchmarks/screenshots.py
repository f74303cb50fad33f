"""`python -m benchmarks.screenshots`: makes the README's pictures, from a lake like the demo's: a fleet with a story, rolled up."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from hindcast import demo_files, demo_history
from hindcast.simulate import CLUSTERS, GRANTS
from warehouse import config
from warehouse.lake.tables import Lake

TARGET = Path(__file__).parents[1] / "docs" / "screenshots"
CHROMIUM = "/usr/bin/chromium"
QUERY = """-- which connections were denied, since when, and how often
SELECT source_namespace || '/' || coalesce(source_workload_name, '?') AS source,
    destination_namespace || '/' || coalesce(destination_workload_name, '?') AS destination,
    min("time") AS first, count(*) AS drops
FROM flows
WHERE verdict = 'DROPPED'
GROUP BY ALL ORDER BY drops DESC"""
SHOTS = {
    "overview": ("light", "?user=ada&last=1d"),
    "flows": ("light", "flows?user=carlos&last=12h&verdict=DROPPED"),
    "map": ("dark", "map?user=ada&last=1d"),
    "compare": ("light", "compare?user=ada&last=1d"),
    "posture": ("light", "posture?user=ada&last=1d"),
    "sql": ("dark", f"sql?user=carlos&last=1d&run=1&{urlencode({'q': QUERY})}"),
}
FINISHED = """() => {
    const app = document.querySelector('[data-testid="stApp"]');
    return app && app.dataset.testScriptState === 'notRunning' && !document.querySelector('[data-testid="stSkeleton"]');
}"""


def main() -> None:
    """Make the pictures, and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="a folder with hindcast.yaml and a lake, instead of a generated one")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = given or made(Path(temporary))
        address = free_address()
        command = [sys.executable, "-m", "hindcast", "dashboard", "--config", str(folder / "hindcast.yaml"), "--listen", address]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_server(address)
            _shoot(f"http://{address}")
        finally:
            server.terminate()
            server.wait(20)


def made(folder: Path, *, flows_per_second: float = 1.5) -> Path:
    """Create a configuration and a lake with the demo's history in a folder; return the folder."""
    document = {
        "lake": {"url": "./lake"},
        "clusters": [{"name": name} for name in CLUSTERS[:3]],
        "ownership": {"grants": list(GRANTS)},
        "blueprints": demo_files.write(folder)["blueprints"],
    }
    (folder / "hindcast.yaml").write_text(json.dumps(document))
    settings = config.load_config(folder / "hindcast.yaml")
    demo_history.fill(Lake.open(settings.lake), settings, now=dt.datetime.now(dt.UTC), flows_per_second=flows_per_second)
    return folder


def free_address() -> str:
    """Return an address on loopback with a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def wait_for_server(address: str) -> None:
    """Wait until the dashboard answers there."""
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://{address}/_stcore/health", timeout=2)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def _shoot(address: str) -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, (scheme, query) in SHOTS.items():
            page = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme).new_page()  # type: ignore[arg-type]
            page.goto(f"{address}/{query}")
            _settle(page)
            file = TARGET / f"{name}.png"
            page.screenshot(path=file)
            Image.open(file).quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
            print(f"{file.name}: {file.stat().st_size // 1024} KB")
        browser.close()


def _settle(page: Page) -> None:
    page.get_by_test_id("stHeading").first.wait_for(timeout=120_000)
    for _ in range(3):
        page.wait_for_function(FINISHED, timeout=120_000)
        page.wait_for_function("() => !document.body.innerText.includes('Running · ')", timeout=120_000)
        page.wait_for_timeout(1_200)


if __name__ == "__main__":
    main()
