"""Every page of a dashboard that already runs, such as the demo's after hours: seconds until it is drawn, and the server's memory.

Run: .venv/bin/python -m benchmarks.pages --address http://127.0.0.1:PORT [--user ada] [--last 1h] [--rounds 7] [--pages flows map]
[--pid PID] [--lake DIR]. Each load is a new tab of a real browser (Chromium at /usr/bin/chromium) on the page's address, hence a
new session that asks everything anew. The first visit of each page, when the browser has none of the dashboard's own scripts, is
printed by itself and left out of the rest. A page counts as drawn when its main content is: What-if, which replays a policy that
only lets through what Kubernetes' own namespace asks for, when its numbers are. Prints each page's median and 95th percentile, the
server's CPU time, the requests and, with the lake's folder, the questions of a load, and the load of the machine in between. The
ratios are of the slowest page's median to 2 s, of all loads' 95th percentile to 3 s, and of the memory of the server with its
workers to 500 MB. Exits with 1 if one is exceeded.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psutil
import pyarrow.compute as pc
from playwright.sync_api import Browser, Page, Request, sync_playwright

from benchmarks.dashboard import USEFUL, cpu_seconds, memory_bytes, painted, percentile, rest
from benchmarks.screenshots import CHROMIUM
from dashboards.whatif import draft
from warehouse import config
from warehouse.access import access_log
from warehouse.lake.tables import Lake
from warehouse.schema import ACCESS_LOG

MEDIAN_SECONDS, P95_SECONDS, MEMORY_BYTES = 2.0, 3.0, 500e6
POLICY = """apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: tried-by-a-benchmark, namespace: {namespace}}}
spec:
  podSelector: {{}}
  ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: kube-system}}}}}}]}}]
"""


def main() -> None:
    """Measure and print; exit with code 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True, help="of the dashboard, such as http://127.0.0.1:8501")
    parser.add_argument("--user", default="ada", help="who looks, where the dashboard is in local mode")
    parser.add_argument("--last", default="1h", help="the window, which ends now")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pages", nargs="+", choices=list(USEFUL), default=list(USEFUL), help="which pages; all unless given")
    parser.add_argument("--namespace", default="orders", help="whose policy What-if tries")
    parser.add_argument("--lake", type=Path, help="folder of the lake, whose access log tells how many questions a load asks")
    parser.add_argument("--pid", type=int, help="the server's process; otherwise the one that listens at the address")
    given = parser.parse_args()
    server = psutil.Process(given.pid) if given.pid else _listening(urlsplit(given.address).port or 80)
    before = memory_bytes(server)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        state = {"user": given.user, "last": given.last}
        policy = {"policy": draft.encoded(POLICY.format(namespace=given.namespace), {})}
        queries = {name: urlencode(state | (policy if name == "what-if" else {})) for name in given.pages}
        began = dt.datetime.now(dt.UTC)
        seconds = {name: _loads(browser, server, given.address, name, query, given.rounds) for name, query in queries.items()}
        browser.close()
    if given.lake:
        _print_questions(given.lake, given.user, began, given.pages, given.rounds + 1)
    for name, values in seconds.items():
        print(f"  {name:9} median {statistics.median(values):5.2f} s, 95th {percentile(sorted(values)):5.2f} s, {len(values)} loads")
    sys.exit(max(_ratios(seconds, before, memory_bytes(server))) > 1)


def _ratios(seconds: dict[str, list[float]], before: float, after: float) -> list[float]:
    """Print the ratios to the limits, and return them."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    slowest = max(medians, key=lambda name: medians[name])
    p95 = percentile(sorted(value for values in seconds.values() for value in values))
    found = [medians[slowest] / MEDIAN_SECONDS, p95 / P95_SECONDS, after / MEMORY_BYTES]
    print(f"pages: slowest median {medians[slowest]:.2f} s ({slowest}) of {MEDIAN_SECONDS:g} ({found[0]:.2f})")
    print(f"pages: 95th percentile of all loads {p95:.2f} s of {P95_SECONDS:g} ({found[1]:.2f})")
    print(f"memory: {before / 1e6:,.0f} MB before, {after / 1e6:,.0f} MB after, of {MEMORY_BYTES / 1e6:,.0f} ({found[2]:.2f})")
    return found


def _print_questions(folder: Path, user: str, since: dt.datetime, pages: list[str], loads: int) -> None:
    """Print how many questions of a user each page asked a load, as the access log has them."""
    time.sleep(access_log.FLUSH_SECONDS * 2)
    rows = Lake.open(config.Lake(url=str(folder))).read(ACCESS_LOG, since=since)
    mine = Counter(rows.filter(pc.equal(rows["principal"], user))["purpose"].to_pylist())
    print("questions a load: " + ", ".join(f"{name} {mine[f'dashboard: {name}'] / loads:.1f}" for name in pages))


def _loads(browser: Browser, server: psutil.Process, address: str, name: str, query: str, rounds: int) -> list[float]:
    """Return the seconds of each load of a page."""
    found, first, spent, requests = list[float](), 0.0, 0.0, 0
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(120_000)
    for turn in range(rounds + 1):
        page = context.new_page()
        made = _requests(page)
        began = time.monotonic()
        page.goto(f"{address.rstrip('/')}/{'' if name == 'overview' else name}?{query}", wait_until="commit")
        painted(page, name)
        seconds = time.monotonic() - began
        rest(page)
        if turn:
            found.append(seconds)
            requests += len(made)
        else:
            first, spent = seconds, cpu_seconds(server)
        page.close()
    context.close()
    load = f"load {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores"
    spent = (cpu_seconds(server) - spent) / rounds
    print(f"  {name}: first visit {first:.2f} s, then {spent:.2f} s of CPU and {requests / rounds:.0f} requests a load; {load}", flush=True)
    return found


def _requests(page: Page) -> list[Request]:
    """Return a list that grows with each request of a page."""
    made: list[Request] = []
    page.on("request", lambda request: made.append(request))  # Playwright cannot wrap a method of a built-in type
    return made


def _listening(port: int) -> psutil.Process:
    """Return the process that listens at a port of this machine."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return psutil.Process(connection.pid)
    sys.exit(f"no process listens at port {port}; give --pid")


if __name__ == "__main__":
    main()
