"""A small lake twice, and a Sail server: a Spark Connect server without a JVM, which runs as a process of its own."""

import dataclasses
import datetime as dt
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from collectors.decoding.decode import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.access.access_log import flush
from warehouse.engines import opening
from warehouse.engines.opening import Engine
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS, Table

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def sail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A Sail server."""
    yield from _sail(tmp_path_factory.mktemp("sail"))


@pytest.fixture(scope="session")
def sail_on_s3(tmp_path_factory: pytest.TempPathFactory, buckets: Any) -> Iterator[Engine]:
    """A Sail server that has the credentials of the buckets in its environment."""
    options = buckets.settings("empty", tmp_path_factory.mktemp("unused")).options
    yield from _sail(tmp_path_factory.mktemp("sail"), **{name: value for name, value in options.items() if name.startswith("AWS_")})


def _sail(folder: Path, **environment: str) -> Iterator[Engine]:
    pytest.importorskip("pysail", reason="Sail is not installed: install the extra dev")
    port = free_port()
    command = [str(Path(sys.executable).with_name("sail")), "spark", "server", "--ip", "127.0.0.1", "--port", str(port)]
    yield from _running(command, port, folder, RUST_LOG="error", **environment)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Apache Spark's own server, from the folder that HINDCAST_TEST_SPARK names, with delta-spark if its jars are there."""
    home = config.environment().get("HINDCAST_TEST_SPARK")
    if not home or shutil.which("java") is None:
        pytest.skip("HINDCAST_TEST_SPARK does not name a folder of Apache Spark 4 (docs/engines.md), or there is no Java")
    port, folder = free_port(), tmp_path_factory.mktemp("spark")
    conf = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
    }
    command = [f"{home}/bin/spark-submit", "--master", "local[2]", "--driver-memory", "2g"]
    command += [word for name, value in conf.items() for word in ("--conf", f"{name}={value}")]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    yield from _running(command, port, folder, SPARK_LOCAL_IP="127.0.0.1", SPARK_HOME=home)


def _running(command: list[str], port: int, folder: Path, **environment: str) -> Iterator[Engine]:
    """Start a server in a folder, yield it when it listens, and end it."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=config.environment(**environment), cwd=folder, start_new_session=True
        )
    try:
        wait_until_it_listens(port, process, log)
        yield opening.checked(config.Engine(spark=f"sc://127.0.0.1:{port}"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = 300) -> None:
    """Wait until a server accepts connections; fails with its log if it ends before."""
    deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    while dt.datetime.now(dt.UTC) < deadline and process.poll() is None:
        with socket.socket() as tried:
            tried.settimeout(0.2)
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
    pytest.fail(f"the server does not listen: {log.read_text(errors='replace')[-2000:]}")


@dataclasses.dataclass
class Twins:
    """Two lakes with the same files: one for the embedded engine, one for the engine under test."""

    here: Lake
    there: Lake

    def append(self, count: int, begin: dt.datetime = NOON, *, seed: int = 1, rate: float = 0.6) -> pa.Table:
        """Append the same flows of a simulated cluster to both; returns them."""
        some = itertools.islice(Traffic(build_fleet(1, clusters=("c1",)), seed, begin, rate).flows(), count)
        rows = decode([flow.SerializeToString() for flow in some], cluster="c1", recorded=begin + HOUR, live=False).rows
        self.append_rows(rows)
        return rows

    def append_rows(self, rows: pa.Table) -> None:
        """Append rows to both."""
        for lake in (self.here, self.there):
            lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})

    @property
    def folder_there(self) -> Path:
        """The folder of the second lake."""
        return Path(self.there.address(FLOWS))

    def assert_equal(self, *tables: Table) -> None:
        """Both lakes have the same rows, the same number of times."""
        for table in tables:
            mine, theirs = (in_order(lake.read(table)) for lake in (self.here, self.there))
            assert mine.num_rows == theirs.num_rows, table.name
            for name in mine.column_names:
                assert mine[name].equals(theirs[name]), f"{table.name}.{name}"


def in_order(rows: pa.Table) -> pa.Table:
    """Rows in an order that depends on nothing but themselves."""
    keys = [pa.array([str(list(row.values())) for row in rows.to_pylist()], pa.string())]
    return rows.append_column("_all", keys[0]).sort_by("_all").drop_columns("_all").combine_chunks()


@pytest.fixture(params=["sail", pytest.param("spark", marks=pytest.mark.peers)])
def server(request: pytest.FixtureRequest) -> Engine:
    """Each server that is tried: Sail everywhere, Apache Spark where there is one."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    return Twins(*(Lake.open(config.Lake(url=str(tmp_path / name))) for name in ("here", "there")))


@pytest.fixture
def twins_on_s3(tmp_path: Path, buckets: Any) -> Iterator[Twins]:
    """The same, but the lake of the engine under test is in a bucket."""
    bucket = f"engine-{uuid.uuid4().hex}"
    shutil.copytree(buckets.objects / "empty", buckets.objects / bucket)  # creating the tables takes seconds
    yield Twins(Lake.open(config.Lake(url=str(tmp_path / "here"))), Lake.open(buckets.settings(bucket, tmp_path / "copies")))
    flush()  # while there is a server to take it


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was logged as a warning about engines."""
    found: list[Any] = []
    for module in ("warehouse.engines.opening", "warehouse.questions.large_questions", "pipelines.maintenance.elsewhere"):
        monkeypatch.setattr(f"{module}._log.warning", lambda event, **values: found.append((event, values)), raising=False)
    return found
