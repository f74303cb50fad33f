"""What Arrow Flight SQL costs: rows a second to an ADBC client for the operator, and a warm `SELECT 1` for the owner of a namespace.

Run: .venv/bin/python -m benchmarks.flight [--lake DIR] [--flows N] [--namespace NAME]. Without a lake one of 1 M flows is generated and
compacted. Prints ratios to the goals, and the CPU time of the server and its workers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import psutil

from benchmarks import stand
from benchmarks.generate import compacted
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

ROWS_A_SECOND, WARM_MS, OWNER = 1_000_000.0, 30.0, "owner"
STATEMENTS = {
    "6 columns": "SELECT time, source_namespace, destination_namespace, verdict, l4_protocol, destination_port FROM flows",
    "all columns": "SELECT * FROM flows",
}
CALLS = 30


@contextlib.contextmanager
def serving(lake: Path, folder: Path, namespace: str, *more: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run the command; yield the address of Flight SQL and the process."""
    file = folder / "hindcast.yaml"
    grants = [{"subject": OWNER, "role": "namespace-owner", "namespaces": [namespace]}]
    file.write_text(json.dumps({"lake": {"url": str(lake.resolve())}, "ownership": {"grants": grants}}))
    command = [sys.executable, "-u", "-m", "hindcast", "serve", "--plaintext", "--config", str(file), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen([*command, "--flight-listen", "127.0.0.1:0", *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split()[-1]
        process.stdout.readline()
        yield f"grpc://{address}", psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def cpu(process: psutil.Process) -> float:
    """Return the CPU seconds that a process and those below it have used."""
    used = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            used += sum(one.cpu_times()[:2])
    return used


def rows(address: str, process: psutil.Process, limit: int) -> None:
    """Measure how fast the operator's rows come, batch by batch."""
    with flight_sql.connect(address) as connection, connection.cursor() as cursor:
        for label, statement in STATEMENTS.items():
            rates, costs = [], []
            for _ in range(stand.RUNS):
                before, began = cpu(process), time.monotonic()
                cursor.execute(f"{statement} LIMIT {limit}")
                count = sum(batch.num_rows for batch in cursor.fetch_record_batch())
                rates.append(count / (time.monotonic() - began))
                costs.append((cpu(process) - before) / count * 1e6)
            rate = stand.median(rates)
            print(f"operator, {label}: {count:,} rows, {rate:,.0f} rows/s, {stand.median(costs):.2f} us CPU a row in the server")
            print(f"ratio: {rate / ROWS_A_SECOND:.2f} of the goal of {ROWS_A_SECOND:,.0f} rows/s")


def warm(address: str, process: psutil.Process) -> None:
    """Measure SELECT 1 for an owner whose worker has been started."""
    with flight_sql.connect(address) as connection, connection.cursor() as cursor:
        times, before = [], 0.0
        for number in range(CALLS + 1):
            before = before or (cpu(process) if number else 0.0)
            began = time.monotonic()
            cursor.execute("SELECT 1")
            assert cursor.fetchall() == [(1,)]
            times.append((time.monotonic() - began) * 1000)
        usual, cost = stand.median(times[1:]), (cpu(process) - before) / CALLS * 1000
    print(f"owner, SELECT 1: the first time {times[0]:.0f} ms, then {usual:.1f} ms, {cost:.1f} ms CPU in the server")
    print(f"ratio: {usual / WARM_MS:.2f} of the limit of {WARM_MS:.0f} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path)
    parser.add_argument("--flows", type=int, default=1_000_000)
    parser.add_argument("--namespace", default="cart-00")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake = given.lake or compacted(folder / "lake", given.flows)
        print(f"{Lake.open(config.Lake(url=str(lake))).rows(FLOWS):,} flows in the lake")
        with serving(lake, folder, given.namespace) as (address, process):
            rows(address, process, given.flows)
        with serving(lake, folder, given.namespace, "--as", OWNER) as (address, process):
            warm(address, process)


if __name__ == "__main__":
    main()
