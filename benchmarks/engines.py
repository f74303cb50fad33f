"""Compaction, rollups and the edges of replay on other engines beside the embedded one: CPU and wall time, and whether the rows are equal.

Run: .venv/bin/python -m benchmarks.engines [FLOWS] [sail] [spark] [sc://HOST:PORT]. Both servers have this machine's cores; Sail is
started from this environment, Apache Spark with local[2] from the folder in HINDCAST_TEST_SPARK (docs/engines.md). A server that runs
already is given by its address; its CPU is not counted. The lakes are copies of each other: two clusters, 12 hours, compacted into hours
and days, rolled up, and their distinct edges read. CPU is that of this process and of the server together.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import structlog

from collectors.simulator import history
from collectors.simulator.fleet import build_fleet
from collectors.simulator.story import Story
from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config, table_views
from warehouse import engine as duck
from warehouse.access import access_log
from warehouse.access.principals import OPERATOR
from warehouse.engine import Limits
from warehouse.engines import opening
from warehouse.engines.opening import Engine
from warehouse.errors import EngineError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.replay_questions import DistinctEdges
from warehouse.schema import FLOWS, ROLLUPS, Table

FLOWS_WANTED, HOURS = 200_000, 12
CLUSTERS = ("eu-central", "us-east")
SINCE = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
NEXT_DAY = SINCE + 48 * HOUR
LIMITS = Limits(rows=duck.EVERY_ROW, seconds=3600)


def main() -> None:
    """Measure and print."""
    wanted = next((int(word) for word in sys.argv[1:] if word.isdigit()), FLOWS_WANTED)
    servers = [word for word in sys.argv[1:] if not word.isdigit()] or ["sail"]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base")
        rate = wanted / len(CLUSTERS) / HOURS / 3600 / 0.85
        lake, until = Lake.open(config.Lake(url=str(base))), SINCE + HOURS * HOUR
        history.backfill(lake, build_fleet(1, CLUSTERS), Story.before(until), since=SINCE, until=until, flows_per_second=rate, seed=1)
        print(f"{lake.rows(FLOWS):,} flows in {lake.size(FLOWS)[1]} files; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        embedded = _copy(base, "embedded")
        costs = _work(embedded, None, None, {})
        for name in servers:
            with _server(name, Path(folder)) as (on, process):
                there = _copy(base, "elsewhere-" + name.split("/")[-1].replace(":", "-"))
                _work(there, on, process, costs)
                for table in (FLOWS, *ROLLUPS):
                    print(f"  {table.name:12} {there.rows(table):9,} rows, equal: {_are_equal(embedded, there, table)}")
                mine, theirs = _edges(embedded, None), _edges(there, on)
                print(f"  distinct edges {mine.num_rows:9,} rows, equal: {_in_order(mine).equals(_in_order(theirs))}")


def _work(lake: Lake, on: Engine | None, process: psutil.Process | None, embedded: dict[str, float]) -> dict[str, float]:
    """Do the work and print what it cost; return the CPU seconds by kind of work."""
    jobs: dict[str, Callable[[], object]] = {
        "compact": lambda: compact_closed_hours(lake, now=NEXT_DAY, on=on),
        "roll up": lambda: roll_up_closed_hours(lake, config.Rollups(), now=NEXT_DAY, on=on),
        "replay": lambda: _edges(lake, on),
    }
    costs: dict[str, float] = {}
    for name, job in jobs.items():
        cpu, wall = _cpu(process), time.monotonic()
        with structlog.testing.capture_logs() as logged:
            job()
        if any(entry["event"].startswith("the engine failed") for entry in logged):
            sys.exit(f"{on} did not {name}: {logged}")
        costs[name] = _cpu(process) - cpu
        ratio = f", {costs[name] / embedded[name]:.1f} x the embedded engine's CPU" if embedded else ""
        print(f"{on or 'embedded'!s:18} {name}: {costs[name]:7.1f} s CPU, {time.monotonic() - wall:7.1f} s wall{ratio}", flush=True)
    return costs


def _edges(lake: Lake, on: Engine | None) -> pa.Table:
    """Return the edges that policies are replayed over."""
    settings = config.Engine() if on is None else on.settings.model_copy(update={"questions_over_bytes": 0})
    door = Door(lake, config.Ownership(), engine_settings=settings)
    wanted = FlowFilter(since=SINCE, until=SINCE + HOURS * HOUR)
    found = door.answer(OPERATOR, DistinctEdges(wanted=wanted, limits=LIMITS)).plain()
    access_log.flush()
    return found


def _in_order(rows: pa.Table) -> pa.Table:
    """Return rows in an order that depends on nothing but themselves."""
    kept = pa.table({name: column.combine_chunks().cast(pa.string()) for name, column in zip(rows.column_names, rows.columns, strict=True)
                     if not pa.types.is_nested(column.type)})  # fmt: skip
    return kept.sort_by([(name, "ascending") for name in kept.column_names]).combine_chunks()


def _cpu(process: psutil.Process | None) -> float:
    """CPU seconds of this process and of a server with its children."""
    used = [process, *process.children(recursive=True)] if process else []
    return time.process_time() + sum(sum(one.cpu_times()[:2]) for one in used)


def _copy(base: Path, name: str) -> Lake:
    shutil.copytree(base, base.with_name(name))
    return Lake.open(config.Lake(url=str(base.with_name(name))))


def _are_equal(one: Lake, other: Lake, table: Table) -> bool:
    """Whether two lakes have the same rows of a table, each as often: as many, and the same sum of the rows' hashes of 64 bits."""
    found = []
    for lake in (one, other):
        with duck.connect(LIMITS) as connection:
            table_views.add_view_of_files(connection, lake, table, lake.files(table), "rows")
            sql = "SELECT count(*) AS rows, sum(hash(rows)::HUGEINT) AS hashes FROM rows"
            found.append(duck.run(connection, sql, (), LIMITS)[0].to_pylist())
    return bool(found[0] == found[1])


@contextlib.contextmanager
def _server(name: str, folder: Path) -> Iterator[tuple[Engine, psutil.Process | None]]:
    """Run a server, unless the name is the address of one that runs already."""
    if name.startswith("sc://"):
        yield _awaited(config.Engine(spark=name)), None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    if name == "sail":
        command = [str(Path(sys.executable).with_name("sail")), "spark", "server", "--ip", "127.0.0.1", "--port", port]
    else:
        home = config.read_secret(None, "HINDCAST_TEST_SPARK")
        names = {"spark.connect.grpc.binding.address": "127.0.0.1", "spark.connect.grpc.binding.port": port, "spark.ui.enabled": "false"}
        command = [f"{home}/bin/spark-submit", "--master", "local[2]", "--driver-memory", "2g"]
        command += [word for key, value in (names | {"spark.sql.shuffle.partitions": "2"}).items() for word in ("--conf", f"{key}={value}")]
        command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    with Path(folder, f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=config.environment(RUST_LOG="error"), start_new_session=True
        )
    try:
        yield _awaited(config.Engine(spark=f"sc://127.0.0.1:{port}")), psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _awaited(settings: config.Engine) -> Engine:
    """Return the engine as soon as it answers."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return opening.checked(settings)
        except EngineError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


if __name__ == "__main__":
    main()
