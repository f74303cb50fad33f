"""A lake with minutes of traffic in it, and pages without a browser."""

import datetime as dt
import itertools
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from collectors.decoding.decode import decode
from collectors.simulator import configuration
from collectors.simulator.fleet import build_fleet
from collectors.simulator.history import backfill
from collectors.simulator.story import Story
from collectors.simulator.traffic import Traffic
from hindcast import demo_files, demo_history
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS

APP = Path(__file__).parents[2] / "dashboards" / "app.py"
GRANTS = [
    {"subject": "ada", "role": "platform-admin"},
    {"subject": "nina", "role": "namespace-owner", "namespaces": ["nowhere"]},
    {"subject": "paula", "role": "namespace-owner", "namespaces": ["payments"]},
    {"subject": "group:checkout", "role": "namespace-owner", "namespaces": ["cart", "checkout"]},
    {"subject": "zoe", "namespaces": ["payments"], "deny": True},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration that is the environment's."""
    configure(tmp_path)
    monkeypatch.setenv("HINDCAST_CONFIG", str(tmp_path / "hindcast.yaml"))
    return tmp_path


@pytest.fixture(name="configure")
def configure_fixture() -> Callable[..., None]:
    """What writes the folder's configuration anew, with more sections."""
    return configure


DECIDE = {"auth": {"decide_without_sign_in": ["ada", "paula"]}}
"""Lets them decide, although nobody is signed in."""


def configure(folder: Path, **more: Any) -> None:
    """Write the configuration, with more sections."""
    (folder / "hindcast.yaml").write_text(json.dumps({"ownership": {"grants": GRANTS}, "dashboard": DECIDE} | more))


@pytest.fixture
def filled(folder: Path) -> Path:
    """The folder, with 900 flows of the last minutes, and their coverage with a gap of two minutes."""
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    now = dt.datetime.now(dt.UTC)
    traffic = Traffic(build_fleet(1, clusters=("c1",)), 1, now - dt.timedelta(minutes=10), 9.0)  # so that they are past also at night
    messages = [flow.SerializeToString() for flow in itertools.islice(traffic.flows(), 900)]
    lake.commit(FLOWS, lake.write_files(FLOWS, decode(messages, cluster="c1", recorded=now).rows), transactions={}, metadata={})
    begin = now - dt.timedelta(minutes=15)
    broken = now - dt.timedelta(minutes=5), now - dt.timedelta(minutes=3)
    rows = [
        ledger_row(begin, broken[0], "connected"),
        ledger_row(*broken, "gap", "the ring no longer held it"),
        ledger_row(broken[1], now, "connected"),
        ledger_row(broken[0], broken[1], "lost", "HUBBLE_RING_BUFFER", flows_lost=1234),
    ]
    lake.commit(COVERAGE, lake.write_files(COVERAGE, pa.Table.from_pylist(rows, schema=COVERAGE.schema)), transactions={}, metadata={})
    return folder


def ledger_row(begin: dt.datetime, end: dt.datetime, state: str, detail: str | None = None, **more: Any) -> dict[str, Any]:
    """A row of the ledger of one node."""
    node = {"cluster": "c1", "date": begin.date(), "node_name": "c1/worker-001"}
    return {**node, "from": begin, "to": end, "state": state, "source": "stream", "detail": detail, **more}


@pytest.fixture
def look(folder: Path) -> Callable[..., AppTest]:
    """Open a page with a state of the address."""

    def looked(page: str = "overview", **query: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=600)
        # AppTest switches between pages that are files; ours are functions, known by the hash of their address.
        app._page_hash = calc_hash("" if page == "overview" else page)
        for name, value in query.items():
            app.query_params[name.rstrip("_")] = value
        app.run()
        while any("hourglass" in element.value for element in app.markdown):  # a query that takes longer than a blink
            time.sleep(0.2)
            app.run()
        assert not app.exception, [error.message for error in app.exception]
        return app

    return looked


@pytest.fixture
def said() -> Callable[[AppTest], str]:
    """Everything a page says."""

    def all_of(page: AppTest) -> str:
        kinds = (page.subheader, page.header, page.markdown, page.caption, page.error, page.warning)
        return "\n".join(str(element.value) for kind in kinds for element in kind)

    return all_of


@pytest.fixture(scope="session")
def demo_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake of three hours of one cluster, about ten thousand flows, and its configuration, judged."""
    folder = tmp_path_factory.mktemp("dashboard")
    now = dt.datetime.now(dt.UTC)
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    since = now.replace(minute=0, second=0, microsecond=0) - dt.timedelta(hours=3)
    fleet, story = build_fleet(1, clusters=("c1",)), Story.before(now)
    backfill(lake, fleet, story, since=since, until=now, flows_per_second=1.0, seed=1)
    configuration.backfill(lake, fleet, story, since=now - dt.timedelta(days=2), until=now)
    demo_history.judge(lake, judged(folder), story, since=now - dt.timedelta(days=2), until=now)
    return folder


def judged(folder: Path) -> config.Config:
    """A configuration of the cluster with the demo's blueprint, below a folder."""
    document = {"clusters": [{"name": "c1"}], "blueprints": demo_files.write(folder)["blueprints"]}
    (folder / "judged.yaml").write_text(json.dumps(document))
    return config.load_config(folder / "judged.yaml")


@pytest.fixture(name="judged", scope="session")
def judged_fixture() -> Callable[[Path], config.Config]:
    """What makes such a configuration."""
    return judged


@pytest.fixture(scope="module")
def serve(demo_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Start the dashboard over the demo lake with a configuration, and give its address; all are stopped in the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int | None = None, **sections: Any) -> str:
        folder = tmp_path_factory.mktemp("served")
        if port is None:
            port = free_port()
        settings = {"lake": {"url": str(demo_lake / "lake")}, "ownership": {"grants": GRANTS}, "dashboard": DECIDE, **sections}
        (folder / "hindcast.yaml").write_text(json.dumps(settings))
        listen = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "hindcast", "dashboard", "--config", str(folder / "hindcast.yaml"), "--listen", listen]
        with (folder / "log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        deadline = time.monotonic() + 600
        while True:
            try:
                urllib.request.urlopen(f"http://{listen}/_stcore/health", timeout=1)
                return f"http://{listen}"
            except OSError:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)

    yield start
    for server in started:
        server.terminate()
    for server in started:
        server.wait(200)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(name="free_port")
def free_port_fixture() -> Callable[[], int]:
    """What gives ports."""
    return free_port


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages, each as a browser of its own."""
    contexts = []

    def open_page(**how: Any) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | how))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(300_000)
        expect.set_options(timeout=300_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
