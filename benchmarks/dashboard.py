"""The dashboard over a given lake: time to first useful paint, memory of its server, and concurrent users.

Run: .venv/bin/python -m benchmarks.dashboard --lake DIR [--rounds 5] [--sessions 20] [--minutes 5] [--think 10]. Three ratios:
- paint: each page in a real browser (Chromium at /usr/bin/chromium), opened by its link in a session that has not loaded it
  before: from the click until its main content is drawn. Medians, with everything warm; the slowest page to 2 s.
  "opened" is the same by its address in a new tab, for comparison.
- memory: of the server and its SQL workers with that many sessions open and after they clicked, to 1.5 GB.
- users: that many sessions, using the browser's protocol, for that long; each opens a page, a window, a filter or a query, and
  waits for half to one and a half times --think seconds. No error; the 95th percentile from the click to the end of the
  answer to 3 s. CPU time per click shows how many users this machine can serve.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
from playwright.sync_api import Locator, Page, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.util import calc_hash
from websockets.sync.client import connect

from benchmarks.screenshots import CHROMIUM, free_address, wait_for_server
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.engine import Limits
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import FLOWS

PAINT_SECONDS, MEMORY_BYTES, ANSWER_SECONDS = 2.0, 1.5e9, 3.0
NAMESPACES = 6
WINDOWS = (dt.timedelta(hours=1), dt.timedelta(hours=6), dt.timedelta(days=1))
USEFUL = {  # page: title, and what it is for
    "overview": ("Overview", "[data-testid=stMetric]"),
    "flows": ("Flows", "[data-testid=stDataFrame]"),
    "map": ("Map", ".map svg"),
    "compare": ("Compare", "[data-testid=stDataFrame]"),
    "policies": ("Policies", "[data-testid=stDataFrame]"),
    "posture": ("Posture", "h3"),
    "what-if": ("What-if", "[data-testid=stMetric]"),
    "coverage": ("Coverage", "[data-testid=stMetric]"),
    "sql": ("SQL", "[data-testid=stBidiComponentRegular], [data-testid=stDataFrame]"),
    "access": ("Access", "[data-testid=stDataFrame]"),
    "docs": ("Docs", "h1"),
}
EMPTY = "h3:has-text('Not observed'), h3:has-text('No policy'), h3:has-text('Nothing changed'), h3:has-text('Nothing replayed')"
"""What a page shows if the lake has nothing of its kind."""
QUERY = "SELECT source_namespace, verdict, count(*) AS flows FROM flows GROUP BY ALL ORDER BY flows DESC LIMIT 20"


def main() -> None:
    """Measure and print; exit with code 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5, help="visits of each page for the medians; 0 leaves them out")
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--think", type=float, default=10.0, help="seconds between an answer and the next click, on average")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(given.lake, Path(folder)) as (address, server, namespaces, until):
        ratios = [paint(address, until, given.rounds)] if given.rounds else []
        ratios += crowd(address, server, namespaces, until, given.sessions, given.minutes, given.think)
    sys.exit(max(ratios) > 1)


@contextmanager
def serving(lake_folder: Path, folder: Path) -> Iterator[tuple[str, psutil.Process, list[str], dt.datetime]]:
    """Start the dashboard over the lake; yield its address, process, busiest namespaces (each with an owner) and newest flow."""
    lake = Lake.open(config.Lake(url=str(lake_folder)))
    newest = lake.span(FLOWS)[1]
    if newest is None:
        sys.exit(f"{lake_folder} holds no flow")
    until = newest.replace(second=0, microsecond=0) + dt.timedelta(minutes=1)
    last = FlowFilter(since=until - dt.timedelta(hours=1), until=until)
    found = Door(lake, config.Ownership()).answer(
        OPERATOR, count_questions.values("destination_namespace", last, limits=Limits(rows=NAMESPACES))
    )
    namespaces = [name for name in found.rows["value"].to_pylist() if name]
    grants = [{"subject": "ada", "role": "platform-admin"}]
    grants += [{"subject": f"owner-{name}", "role": "namespace-owner", "namespaces": [name]} for name in namespaces]  # type: ignore[dict-item]
    document = {"lake": {"url": str(lake_folder.absolute())}, "ownership": {"grants": grants}}
    (folder / "hindcast.yaml").write_text(json.dumps(document))
    address = free_address()
    command = [sys.executable, "-m", "hindcast", "dashboard", "--config", str(folder / "hindcast.yaml"), "--listen", address]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_server(address)
        print(f"{lake.rows(FLOWS):,} flows; owners of {', '.join(namespaces)}; windows end at {until:%Y-%m-%d %H:%M} UTC", flush=True)
        yield address, psutil.Process(server.pid), namespaces, until
    finally:
        server.terminate()
        server.wait(20)


def state(user: str, until: dt.datetime, length: dt.timedelta, **more: str) -> str:
    """Return the query part of a page's address."""
    window = {"from": f"{until - length:%Y-%m-%dT%H:%MZ}", "until": f"{until:%Y-%m-%dT%H:%MZ}"}
    return urlencode({"user": user, **window, **more})


# Paint --------------------------------------------------------------------------------------------------------


def paint(address: str, until: dt.datetime, rounds: int) -> float:
    """Return the ratio of the slowest page's median to the limit."""
    query = state("ada", until, dt.timedelta(days=1))
    switched: dict[str, list[float]] = {}
    opened: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.set_default_timeout(60_000)
        _open(page, f"http://{address}/?{query}", "overview")
        names = []
        for name in USEFUL:
            names += [name] if _link(page, name) is not None else []
            page.keyboard.press("Escape")  # a section's menu, if one is open
        for turn in range(rounds + 1):  # the first warms up
            for name in names:
                seconds = _open(page, f"http://{address}/{'' if name == 'overview' else name}?{query}", name)
                # By its link, from a page that runs few queries: each time in a session that has loaded nothing else.
                _open(page, f"http://{address}/{'access' if name == 'docs' else 'docs'}?{query}", "access" if name == "docs" else "docs")
                by_link = _switch(page, name)
                if turn:
                    opened.setdefault(name, []).append(seconds)
                    switched.setdefault(name, []).append(by_link)
        browser.close()
    medians = {name: statistics.median(values) for name, values in switched.items()}
    for name, seconds in medians.items():
        print(f"  {name:9} {seconds:5.2f} s by its link, {statistics.median(opened[name]):5.2f} s opened")
    slowest = max(medians, key=lambda name: medians[name])
    ratio = medians[slowest] / PAINT_SECONDS
    print(f"paint: {slowest} {medians[slowest]:.2f} s of {PAINT_SECONDS:g} ({ratio:.2f}), medians of {rounds}", flush=True)
    return ratio


def _open(page: Page, address: str, name: str) -> float:
    began = time.monotonic()
    page.goto(address, wait_until="commit")
    painted(page, name)
    seconds = time.monotonic() - began
    rest(page)
    return seconds


def _link(page: Page, name: str) -> Locator | None:
    """Return the visible navigation link to a page, or None if the lake has nothing that the page would show."""
    title = USEFUL[name][0]
    flat = page.get_by_test_id("stTopNavLink").filter(has_text=title)
    if flat.count():
        return flat.first
    for section in page.get_by_test_id("stTopNavSection").all():
        section.click()
        page.wait_for_timeout(200)
        link = page.get_by_role("menuitem", name=title)
        if link.count():
            return link.first
        page.keyboard.press("Escape")
    return None


def _switch(page: Page, name: str) -> float:
    link = _link(page, name)
    assert link is not None
    began = time.monotonic()
    link.click()
    painted(page, name)
    seconds = time.monotonic() - began
    rest(page)
    return seconds


def painted(page: Page, name: str) -> None:
    """Wait until the page's main content is drawn and the previous page's content is gone."""
    title, useful = USEFUL[name]
    page.get_by_role("heading", name=title, exact=True, level=2).wait_for()
    page.locator(", ".join(f"[data-stale=false] {part}" for part in f"{useful}, {EMPTY}".split(", "))).first.wait_for()


def rest(page: Page) -> None:
    page.wait_for_function("() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'")
    page.wait_for_timeout(150)


# Sessions -----------------------------------------------------------------------------------------------------


class Session:
    """One user's tab, without a browser: asks the server to draw a page, and reads until it is drawn."""

    def __init__(self, address: str, user: str) -> None:
        self.user = user
        self._open = ExitStack()
        options: Any = {"subprotocols": ["streamlit"], "origin": f"http://{address}", "max_size": None}
        self._link = self._open.enter_context(connect(f"ws://{address}/_stcore/stream", **options))

    def draw(self, page: str, query: str) -> tuple[float, str | None]:
        """Return the seconds it took, and the error that was drawn instead, if any."""
        request = BackMsg()
        request.rerun_script.query_string = query
        request.rerun_script.page_script_hash = calc_hash("" if page == "overview" else page)
        began, error = time.monotonic(), None
        self._link.send(request.SerializeToString())
        while True:
            message = ForwardMsg.FromString(self._link.recv(timeout=120))
            kind = message.WhichOneof("type")
            if kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
                error = message.delta.new_element.exception.message
            elif (
                kind == "delta" and message.delta.new_element.WhichOneof("type") == "alert" and message.delta.new_element.alert.format == 1
            ):
                error = message.delta.new_element.alert.body
            elif kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                return time.monotonic() - began, error

    def close(self) -> None:
        self._open.close()


def crowd(
    address: str, server: psutil.Process, namespaces: Sequence[str], until: dt.datetime, sessions: int, minutes: float, think: float
) -> list[float]:
    """Return the ratios of memory and of the users' 95th percentile; 2 for the latter if there was an error."""
    users = [Session(address, "ada" if number % 4 == 0 else f"owner-{namespaces[number % len(namespaces)]}") for number in range(sessions)]
    with ThreadPoolExecutor(sessions) as pool:
        list(pool.map(lambda user: user.draw("overview", state(user.user, until, WINDOWS[-1])), users))
        opened = memory_bytes(server)
        print(f"memory: {opened / 1e6:,.0f} MB with {sessions} sessions open on the overview", flush=True)
        most, stop = [opened], threading.Event()
        watcher = threading.Thread(target=_watch, args=(server, most, stop))
        watcher.start()
        ends, spent = time.monotonic() + 60 * minutes, cpu_seconds(server)
        clicks = [click for found in pool.map(lambda user: _click(user, namespaces, until, ends, think), users) for click in found]
        spent = cpu_seconds(server) - spent
        stop.set()
        watcher.join()
    for user in users:
        user.close()
    memory_ratio = most[0] / MEMORY_BYTES
    print(f"memory: {most[0] / 1e6:,.0f} MB at most of {MEMORY_BYTES / 1e6:,.0f} ({memory_ratio:.2f}), {sessions} sessions that clicked")
    errors = [f"{page}: {error}" for page, _, error in clicks if error]
    for page in USEFUL:
        seconds = sorted(seconds for name, seconds, _ in clicks if name == page)
        if seconds:
            print(f"  {page:9} median {statistics.median(seconds):5.2f} s, 95th {percentile(seconds):5.2f} s, {len(seconds)} clicks")
    p95 = percentile(sorted(seconds for _, seconds, _ in clicks))
    ratio = p95 / ANSWER_SECONDS
    summary = f"{len(clicks)} clicks of {sessions} users in {minutes:g} min, {len(errors)} errors"
    print(f"  {spent / max(1, len(clicks)):.2f} s of CPU a click, load {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores")
    print(f"users: {summary}; 95th percentile {p95:.2f} s of {ANSWER_SECONDS:g} ({ratio:.2f})")
    for error in errors[:5]:
        print(f"  {error[:200]}")
    return [memory_ratio, 2.0 if errors else ratio]


def _click(user: Session, namespaces: Sequence[str], until: dt.datetime, ends: float, think: float) -> list[tuple[str, float, str | None]]:
    """Act as a user until the time is over; return pages, seconds, errors."""
    chance = random.Random(id(user))
    done = []
    while time.monotonic() < ends:
        time.sleep(chance.uniform(0.5, 1.5) * think)
        page = chance.choice(["overview", "flows", "flows", "flows", "map", "map", "compare", "coverage", "sql", "access"])
        more = {}
        if page in ("flows", "map") and chance.random() < 0.6:
            more["f"] = (
                f"ns={chance.choice(namespaces)}" if user.user == "ada" else chance.choice(["port=443", "verdict=DROPPED", "reply=no"])
            )
        if page == "sql" and chance.random() < 0.5:
            more |= {"q": QUERY, "run": "1"}
        seconds, error = user.draw(page, state(user.user, until, chance.choice(WINDOWS), **more))
        done.append((page, seconds, error))
    return done


def _watch(server: psutil.Process, most: list[float], stop: threading.Event) -> None:
    while not stop.wait(1):
        most[0] = max(most[0], memory_bytes(server))


def memory_bytes(server: psutil.Process) -> float:
    """Return the memory of the server and all its children; shared memory counts once."""
    total = 0.0
    for process in (server, *server.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def cpu_seconds(server: psutil.Process) -> float:
    """Return the CPU seconds of the server and of its running child processes."""
    return sum(sum(process.cpu_times()[:2]) for process in (server, *server.children(recursive=True)))


def percentile(ordered: Sequence[float]) -> float:
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else float("inf")


if __name__ == "__main__":
    main()
