"""Five questions over compacted flows, beside the same flows uncompacted and in ClickHouse (chdb) sorted as a vendor would.

Run: .venv/bin/python -m benchmarks.questions --lake DIR, where DIR-compacted is what benchmarks.compaction made of it. Needs
`pip install chdb` (not among the project's dependencies: 530 MB). CPU and wall time, medians of 3, two threads each; cold
means that the files are out of the page cache. Asked for a big, a middle and a small namespace, as its owner would: of
ours by two scans, of ClickHouse by OR and by two scans, whichever is better. The ratio is of CPU time, ClickHouse's to ours.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from warehouse import config
from warehouse.schema import FLOWS
from warehouse.tables import Lake

RUNS, THREADS = 3, 2
COLUMNS = (
    "time", "uuid", "verdict", "drop_reason_desc", "is_reply", "traffic_direction",
    "source_namespace", "source_workload_name", "source_pod_name", "source_ip", "source_port",
    "destination_namespace", "destination_workload_name", "destination_pod_name", "destination_ip", "destination_port",
    "l4_protocol", "flow_count", "cluster", "summary",
)  # fmt: skip
ENDS = ("source_namespace", "source_workload_name", "destination_namespace", "destination_workload_name")
ADDRESS = "10.0.3.20"
DAY = dt.timedelta(days=1)
Ask = Callable[[str], Any]


def main() -> None:
    """Measure and print."""
    try:
        from chdb.session import Session
    except ImportError:
        sys.exit("this benchmark compares with ClickHouse: .venv/bin/pip install chdb")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path, required=True)
    given = parser.parse_args()
    fresh, ours = (Lake.open(config.Lake(url=str(given.lake.with_name(given.lake.name + end)))) for end in ("", "-compacted"))
    until = ours.span(FLOWS)[1]
    assert until is not None
    folder = given.lake.with_name(given.lake.name + "-chdb")
    is_new = not folder.exists()
    session = Session(str(folder))
    session.query(f"SET max_threads = {THREADS}")
    if is_new:
        _fill(session, given.lake)
    session.query("USE bench")
    size = int(str(session.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'flows'")))
    rows = ours.rows(FLOWS)
    sizes = f"fresh {fresh.size(FLOWS)[0] / rows:.1f}, compacted {ours.size(FLOWS)[0] / rows:.1f}"
    print(f"{rows:,} flows; bytes each: {sizes}, ClickHouse by (namespace, time) {size / rows:.1f}")
    print("milliseconds            ours cpu  wall  cold |  fresh cpu  wall | ClickHouse cpu  wall  cold | ratio")

    def in_clickhouse(sql: str) -> Any:
        return session.query(sql.replace("starts_with", "startsWith"), "Arrow")

    for name, (since, end, make) in _questions(until).items():
        window = f"time >= '{since:%Y-%m-%d %H:%M:%S}' AND time < '{end:%Y-%m-%d %H:%M:%S}'"
        for label, namespace in _namespaces(ours, until).items():
            mine = _measure(_in_duckdb, make(_duckdb(ours, since, end, namespace)), ours.files(FLOWS, since=since, until=end))
            raw = _measure(_in_duckdb, make(_duckdb(fresh, since, end, namespace)), ())
            parts = [str(path) for path in folder.rglob("*.bin")]
            theirs = min(_measure(in_clickhouse, make(relation), parts) for relation in _clickhouse(window, namespace))
            print(
                f"{name:16}{label:7} {mine[0]:8.0f}{mine[1]:6.0f}{mine[2]:6.0f} |   {raw[0]:8.0f}{raw[1]:6.0f} |"
                f"       {theirs[0]:8.0f}{theirs[1]:6.0f}{theirs[2]:6.0f} | {theirs[0] / mine[0]:5.2f}",
                flush=True,
            )


def _questions(until: dt.datetime) -> Mapping[str, tuple[dt.datetime, dt.datetime, Callable[[str], str]]]:
    """Each question's window, and its text over a relation of the namespace's flows."""
    hour = until.replace(minute=0, second=0, microsecond=0)
    midnight = hour.replace(hour=0)
    picked, ends = ", ".join(COLUMNS), ", ".join(ENDS)
    week = until - 7 * DAY, until + dt.timedelta(seconds=1)
    last = "ORDER BY time DESC LIMIT 200"
    pod = "starts_with(source_pod_name, 'web-') OR starts_with(destination_pod_name, 'web-')"
    address = f"source_ip = '{ADDRESS}' OR destination_ip = '{ADDRESS}'"
    return {
        "q1 drops": (hour, hour + DAY / 24, lambda flows: f"SELECT {picked} FROM {flows} WHERE verdict = 'DROPPED' {last}"),
        "q2 timeline": (
            midnight - DAY,
            midnight,
            lambda flows: f"SELECT date_trunc('minute', time), verdict, sum(flow_count) FROM {flows} GROUP BY 1, 2",
        ),
        "q3 talkers": (*week, lambda flows: f"SELECT {ends}, sum(flow_count) AS n FROM {flows} GROUP BY {ends} ORDER BY n DESC LIMIT 50"),
        "q4 pod": (*week, lambda flows: f"SELECT {picked} FROM {flows} WHERE {pod} {last}"),
        "q4 address": (*week, lambda flows: f"SELECT {picked} FROM {flows} WHERE {address} {last}"),
        "q5 reasons": (
            *week,
            lambda flows: f"SELECT cluster, drop_reason_desc, sum(flow_count) FROM {flows} WHERE verdict = 'DROPPED' GROUP BY 1, 2",
        ),
    }


def _namespaces(lake: Lake, until: dt.datetime) -> dict[str, str]:
    """A big, a middle and a small one."""
    (file, *_) = lake.files(FLOWS, since=until - DAY)
    found = duckdb.sql(f"SELECT source_namespace FROM '{file}' WHERE source_namespace IS NOT NULL GROUP BY 1 ORDER BY count(*)").fetchall()
    names = [name for (name,) in found]
    return {"big": names[-1], "middle": names[len(names) // 2], "small": names[len(names) // 50]}


def _duckdb(lake: Lake, since: dt.datetime, until: dt.datetime, namespace: str) -> str:
    files = ", ".join(f"'{file}'" for file in lake.files(FLOWS, since=since, until=until))
    source = f"read_parquet([{files}], hive_partitioning = true)"
    within = f"time >= '{since.isoformat()}'::TIMESTAMPTZ AND time < '{until.isoformat()}'::TIMESTAMPTZ"
    return _two_scans(source, within, namespace)


def _two_scans(source: str, within: str, namespace: str) -> str:
    picked = ", ".join(COLUMNS)
    return f"""(SELECT {picked} FROM {source} WHERE {within} AND source_namespace = '{namespace}'
        UNION ALL SELECT {picked} FROM {source}
        WHERE {within} AND destination_namespace = '{namespace}' AND coalesce(source_namespace, '') <> '{namespace}')"""


def _clickhouse(window: str, namespace: str) -> list[str]:
    either = f"source_namespace = '{namespace}' OR destination_namespace = '{namespace}'"
    return [f"(SELECT {', '.join(COLUMNS)} FROM flows WHERE {window} AND ({either}))", _two_scans("flows", window, namespace)]


def _in_duckdb(sql: str) -> Any:
    """As the query door does: an engine of its own for each question."""
    with duckdb.connect(config={"threads": THREADS}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(sql).to_arrow_table()


def _measure(ask: Ask, text: str, paths: Iterable[str]) -> tuple[float, float, float]:
    """Milliseconds of CPU and of wall time once warm, and of wall time cold."""
    for path in paths:
        with Path(path).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.monotonic()
    ask(text)
    cold = time.monotonic() - began
    cpu, wall = [], []
    for _ in range(RUNS):
        at, began = time.process_time(), time.monotonic()
        ask(text)
        cpu.append(time.process_time() - at)
        wall.append(time.monotonic() - began)
    return statistics.median(cpu) * 1e3, statistics.median(wall) * 1e3, cold * 1e3


def _fill(session: Any, lake: Path) -> None:
    """The same rows in a MergeTree with the default codec."""
    source = f"file('{lake}/flows/cluster=*/date=*/*.parquet', Parquet)"
    session.query("CREATE DATABASE IF NOT EXISTS bench ENGINE = Atomic")
    session.query("USE bench")
    columns = ["extract(_path, 'cluster=([^/]+)') AS cluster", *map(_column, FLOWS.file_schema)]
    order = "ORDER BY (source_namespace, time) SETTINGS allow_nullable_key = 1"
    session.query(f"CREATE TABLE flows ENGINE = MergeTree {order} AS SELECT {', '.join(columns)} FROM {source}")
    session.query("OPTIMIZE TABLE flows FINAL")


def _column(field: pa.Field) -> str:
    """As a vendor would declare it."""
    if field.name == "uuid":
        return "toUUIDOrNull(uuid) AS uuid"
    return f"toLowCardinality({field.name}) AS {field.name}" if pa.types.is_string(field.type) else field.name


if __name__ == "__main__":
    main()
