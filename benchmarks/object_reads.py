"""A question over files in object storage, read by the lake's file system (obstore) and by pyarrow's: CPU and wall time.

Run: AWS_ENDPOINT_URL=http://127.0.0.1:7070 AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... AWS_REGION=us-east-1
.venv/bin/python -m benchmarks.object_reads s3://BUCKET/PREFIX [FLOWS]. It writes a lake below the address, if there is none, and
asks DuckDB to sum a few columns of all flows, without copies on disk, five times each way in turn.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import sys
import time
from collections.abc import Callable

import duckdb
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from collectors.simulator import history
from collectors.simulator.fleet import build_fleet
from collectors.simulator.story import Story
from warehouse import config
from warehouse.lake import remote
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

SINCE = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)
HOURS, TIMES = 4, 5
SQL = "SELECT verdict, count(*), sum(destination_port), min(time), count(DISTINCT source_pod_name) FROM flows GROUP BY ALL ORDER BY ALL"


def main() -> None:
    """Measure and print."""
    url, flows = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    options = {name: config.read_secret(None, name) for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    options |= {"AWS_REGION": "us-east-1", "allow_http": "true"}
    lake = Lake.open(config.Lake(url=url, options=options))
    if not lake.rows(FLOWS):
        until = SINCE + HOURS * dt.timedelta(hours=1)
        rate = flows / HOURS / 3600 / 0.85
        history.backfill(
            lake, build_fleet(1, ("eu-central",)), Story.before(until), since=SINCE, until=until, flows_per_second=rate, seed=1
        )
    paths = [path.removeprefix(lake.address(FLOWS) + "/") for path in lake.files(FLOWS)]
    bucket = lake.address(FLOWS).removeprefix("s3://")
    s3 = pafs.S3FileSystem(
        endpoint_override=options["AWS_ENDPOINT_URL"],
        access_key=options["AWS_ACCESS_KEY_ID"],
        secret_key=options["AWS_SECRET_ACCESS_KEY"],
        region=options["AWS_REGION"],
    )
    ways = {"obstore": remote.files(lake.address(FLOWS), options), "pyarrow": pafs.SubTreeFileSystem(bucket, s3)}
    print(f"{lake.rows(FLOWS):,} flows in {len(paths)} files; load {os.getloadavg()[0]:.1f}")
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    answers = set()
    for _ in range(TIMES):
        for name, filesystem in ways.items():
            cost, answer = _cost(lambda filesystem=filesystem: _ask(paths, filesystem))  # type: ignore[misc]
            spent[name].append(cost)
            answers.add(answer)
    medians = {name: [statistics.median(values) for values in zip(*costs, strict=True)] for name, costs in spent.items()}
    for name, (cpu, wall) in medians.items():
        print(f"{name}: {cpu:.2f} s CPU, {wall:.2f} s wall")
    print(f"ratio: obstore {medians['obstore'][0] / medians['pyarrow'][0]:.2f} x the CPU of pyarrow, equal answers: {len(answers) == 1}")


def _ask(paths: list[str], filesystem: pafs.FileSystem) -> str:
    """Return the answer of DuckDB over a dataset of the files."""
    with duckdb.connect() as connection:
        connection.register("flows", ds.dataset(paths, format="parquet", filesystem=filesystem, schema=FLOWS.file_schema))
        return str(connection.sql(SQL).to_arrow_table().to_pylist())


def _cost(job: Callable[[], str]) -> tuple[tuple[float, float], str]:
    cpu, wall = time.process_time(), time.monotonic()
    answer = job()
    return (time.process_time() - cpu, time.monotonic() - wall), answer


if __name__ == "__main__":
    main()
