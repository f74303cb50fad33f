"""A collector in a thread, simulated nodes to collect from, and what the lake holds afterwards."""

import contextlib
import datetime as dt
import itertools
import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from playwright.sync_api import Browser, sync_playwright

from collectors.hubble_api.flow import flow_pb2
from collectors.streaming.collect import Collector
from tests.peers import object_store, running
from warehouse import config, schema
from warehouse.access.access_log import flush
from warehouse.lake.tables import Lake

CHROMIUM = "/usr/bin/chromium"
PATIENCE_SECONDS = 300.0
"""How long a test waits for an event: far longer than a machine at ten times the usual load takes."""
_LATE = ("slow", "installs", "peers", "airflow", "browser")
_SLOW = (
    "access/test_attacks.py", "access/test_commands.py", "access/test_doors.py", "access/test_noted_questions.py", "access/test_order.py",
    "access/test_peers_without_namespace.py", "access/test_reports.py", "access/test_scoping.py", "access/test_workers.py", "api",
    "collectors/importing", "collectors/simulator/test_history.py", "collectors/simulator/test_node.py",
    "collectors/simulator/test_verdicts.py", "collectors/test_arrivals.py", "collectors/test_collect.py", "collectors/test_collect_gaps.py",
    "collectors/test_collect_sharing.py", "collectors/test_collect_spool.py", "collectors/test_import.py",
    "collectors/test_json_lines.py", "collectors/test_known_flows.py", "collectors/test_last_losses.py", "collectors/test_lossless.py",
    "collectors/test_unreported_losses.py", "dags", "dashboards", "engines", "hindcast", "pipelines/audits/test_rules.py",
    "pipelines/blueprints/test_evaluation.py", "pipelines/blueprints/test_notifying.py", "pipelines/configuration/test_expiry.py",
    "pipelines/configuration/test_recording.py", "pipelines/evidence/test_alert_messages.py", "pipelines/evidence/test_alert_rules.py",
    "pipelines/evidence/test_delivery.py",
    "pipelines/evidence/test_finding_life.py", "pipelines/proposals", "pipelines/recommend/test_merging.py",
    "pipelines/recommend/test_properties.py", "pipelines/replay/test_explaining.py", "pipelines/replay/test_observed_traffic.py",
    "pipelines/reports", "pipelines/test_compaction.py", "pipelines/test_daily_audit.py", "pipelines/test_erasure.py",
    "pipelines/test_merging.py", "pipelines/test_retention.py", "pipelines/test_rollup.py", "pipelines/test_rollup_contents.py",
    "pipelines/test_upkeep.py", "test_packaging.py",
    "warehouse/test_edge_rule.py", "warehouse/test_flow_filter.py", "warehouse/test_log.py", "warehouse/test_newest.py",
    "warehouse/test_part_sums.py", "warehouse/test_query.py", "warehouse/test_rollup_sums.py", "warehouse/test_tables_pruning.py",
    "warehouse/test_time_travel.py",
)  # fmt: skip
"""Files and folders whose tests take long, alone or together: they are marked slow, and `make test-fast` leaves them out."""
hypothesis.settings.register_profile("hindcast", deadline=None)  # machines are shared: how long an example takes says nothing
hypothesis.settings.load_profile("hindcast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests, and sort: quick tests run first, those that start whole programs of others last, in this order."""
    tests = Path(__file__).parent
    slow = tuple(tests / name for name in _SLOW)
    for item in items:
        if any(item.path.is_relative_to(path) for path in slow):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: max((_LATE.index(name) + 1 for name in _LATE if item.get_closest_marker(name)), default=0))


def wait_for(condition: Callable[[], Any], *, what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until `condition` gives something true, and give that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} after {seconds} s")
        time.sleep(0.05)
    return found


class Flows:
    """Makes flows of one node, each with a uuid and a time of its own."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.made: list[str] = []
        self._numbers = itertools.count()

    def __call__(self, count: int = 1, *, at: dt.datetime | None = None, **fields: Any) -> list[flow_pb2.Flow]:
        """Flows of now, or of `at` on, a microsecond apart."""
        flows = []
        begin = time.time_ns() if at is None else int(at.timestamp() * 1_000_000) * 1_000
        for number in range(count):
            flow = flow_pb2.Flow(uuid=str(uuid.uuid4()), node_name=self.node, verdict=flow_pb2.FORWARDED, **fields)
            flow.time.FromNanoseconds(begin + number * 1_000)
            flow.source.namespace, flow.source.ID = "shop", next(self._numbers)
            self.made.append(flow.uuid)
            flows.append(flow)
        return flows


class Stand:
    """A lake in a folder, and collectors on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = Lake.open(config.Lake(url=str(folder / "lake")))

    def settings(self, *addresses: str, cluster: str = "c1", collect: dict[str, Any] | None = None, **hubble: Any) -> config.Config:
        """One cluster, collected from these nodes; the same is written to hindcast.yaml."""
        options = {"nodes": addresses, "plaintext": True, "silent_after": "1h", "poll_every": "200ms"} | hubble
        document = {
            "lake": {"url": str(self.folder / "lake")},
            "clusters": [{"name": cluster, "hubble": options}],
            "collect": {"flush_every": "300ms", "spool": str(self.folder / "spool"), "listen": "", **(collect or {})},
        }
        file = self.folder / "hindcast.yaml"
        file.write_text(json.dumps(document, default=str))
        return config.load_config(file)

    @contextlib.contextmanager
    def collecting(self, settings: config.Config) -> Iterator[Collector]:
        """A collector that runs inside the `with` block, and has stored everything after it."""
        collector, stop = Collector(settings), threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                collector.run(stop)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield collector
        finally:
            stop.set()
            thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
        assert not failures

    def uuids(self) -> list[str]:
        """Of every stored flow, once for each time it is stored."""
        stored: list[str] = self.lake.read(schema.FLOWS, ["uuid"])["uuid"].to_pylist()
        return stored

    def coverage(self, *states: str) -> list[dict[str, Any]]:
        """Rows of the ledger, of these states, in order of time."""
        rows = [row for row in self.lake.read(schema.COVERAGE).to_pylist() if row["state"] in states or not states]
        return sorted(rows, key=lambda row: (row["from"], row["to"]))

    def wait_for_flows(self, count: int, *, seconds: float = PATIENCE_SECONDS) -> list[str]:
        """Wait until at least so many flows are stored."""
        return wait_for(lambda: stored if len(stored := self.uuids()) >= count else None, what=f"{count} flows", seconds=seconds)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    """An empty lake and a way to collect into it."""
    return Stand(tmp_path)


@pytest.fixture
def flows_of() -> type[Flows]:
    """Makes flows of a node of that name."""
    return Flows


@pytest.fixture
def wait() -> Callable[..., Any]:
    """Waits until a condition gives something true."""
    return wait_for


@dataclass(frozen=True)
class Place:
    """Where a test's lake lies: in a folder, or in a bucket of an S3 server."""

    settings: config.Lake
    folder: Path
    """The folder with the lake's files, also with those in the bucket."""

    def open(self) -> Lake:
        """Open the lake, as another process would."""
        return Lake.open(self.settings)

    def stored(self, address: str) -> Path:
        """Where a file or folder of the lake is on this machine, given its address."""
        return Path(str(self.folder) + address.removeprefix(self.settings.url))


@dataclass(frozen=True)
class Buckets:
    """A running S3 server."""

    objects: Path
    """The folder whose folders are its buckets."""
    address: str
    secret: str
    key: str

    def settings(self, bucket: str, cache: Path) -> config.Lake:
        """A lake in a bucket, with local copies in a folder."""
        options = {"AWS_ENDPOINT_URL": f"http://{self.address}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
        options |= {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}
        return config.Lake(url=f"s3://{bucket}/lake", options=options, cache=cache)


@pytest.fixture(scope="session")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buckets]:
    """A running S3 server, with a bucket `empty` that holds a lake without rows; skips where versitygw is not built."""
    folder = tmp_path_factory.mktemp("buckets")
    try:
        running.program("versitygw")
    except running.PeerMissing as missing:
        pytest.skip(str(missing))
    (folder / "objects" / "empty").mkdir(parents=True)
    with object_store.s3_server(folder / "objects", folder, folder / "requests.log") as running_store:
        server = Buckets(folder / "objects", running_store.address, object_store.SECRET, object_store.KEY)
        Lake.open(server.settings("empty", folder / "copies"))
        yield server


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.peers)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place for a lake. Tests that use it run in a folder and, where the server is built, on S3; those of programs of their own are
    limited to the folder by `pytest.mark.parametrize("place", ["folder"], indirect=True)`."""
    if request.param == "folder":
        yield Place(config.Lake(url=str(tmp_path / "lake")), tmp_path / "lake")
        return
    server: Buckets = request.getfixturevalue("buckets")
    bucket = f"test-{uuid.uuid4().hex}"
    shutil.copytree(server.objects / "empty", server.objects / bucket)  # creating the tables takes seconds
    yield Place(server.settings(bucket, tmp_path / "copies"), server.objects / bucket / "lake")
    flush()  # while there is a server to take it


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. There is one for all tests of a process: Playwright can be started only once in a thread."""
    if not Path(CHROMIUM).exists():
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
