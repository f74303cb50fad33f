"""Five questions, asked at the query door over compacted and rolled-up flows, beside ClickHouse (chdb) over the same rows.

Run: .venv/bin/python -m benchmarks.questions --lake DIR [--uncompacted] [--our-order], where DIR-compacted is what
benchmarks.compaction made of it. Needs `pip install chdb` (not among the project's dependencies: 530 MB). CPU and wall time in
milliseconds, medians of 3, two threads each; cold means that the process and the page cache know nothing of the files. Asked for
a big, a middle and a small namespace, as an operator: ours by the door, with its coverage and its entry in the access log; of
ClickHouse the same columns by OR and by two scans, whichever is better. The ratio is of CPU time, ClickHouse's to ours.
ClickHouse is sorted as a vendor would, by namespace and time; with --our-order also as our hour files. By default it remembers
where a condition held (its query condition cache): "again" is with that, the columns before it without, so that warm means the
data and not the answer. --uncompacted asks DIR itself too.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config, engine
from warehouse.access.principals import OPERATOR
from warehouse.engine import Limits
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions, edge_questions, flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import FLOWS, ROLLUPS

RUNS, THREADS = 3, 2
COLUMNS = (
    "time", "uuid", "verdict", "drop_reason_desc", "is_reply", "traffic_direction",
    "source_namespace", "source_workload_name", "source_pod_name", "source_ip", "source_port",
    "destination_namespace", "destination_workload_name", "destination_pod_name", "destination_ip", "destination_port",
    "l4_protocol", "flow_count", "cluster", "summary",
)  # fmt: skip
ENDS = ("source_namespace", "source_workload_name", "destination_namespace", "destination_workload_name")
ORDERS = {
    "vendor": "(source_namespace, time)",
    "ours": """(source_namespace, destination_namespace, source_pod_name, destination_pod_name, node_name, traffic_direction,
        event_type, is_reply, summary, time)""",
}
POD, ADDRESS = "web-", "10.0.3.20"
DAY = dt.timedelta(days=1)
NEWEST = Limits(rows=200)
DROPPED = ("DROPPED",)
Measured = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One of the five questions, about a namespace."""

    name: str
    since: dt.datetime
    until: dt.datetime
    door: Callable[[Door, FlowFilter], Any]
    conditions: dict[str, tuple[str, ...]]
    """Further conditions of the filter."""
    of: tuple[str, ...]
    """Verdicts that a big namespace has many flows of."""
    clickhouse: Callable[[str], str]
    """Returns the same question in SQL over a relation of the namespace's flows in the window."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--uncompacted", action="store_true")
    parser.add_argument("--our-order", action="store_true")
    parser.add_argument("--alone", action="store_true", help="Without ClickHouse.")
    given = parser.parse_args()
    try:
        from chdb.session import Session
    except ImportError:
        if not given.alone:
            sys.exit("this benchmark compares with ClickHouse: .venv/bin/pip install chdb")
    fresh, ours = (Lake.open(config.Lake(url=str(given.lake.with_name(given.lake.name + end)))) for end in ("", "-compacted"))
    until = ours.span(FLOWS)[1]
    assert until is not None
    _roll_up(ours, until)
    rows = ours.rows(FLOWS)
    print(f"{rows:,} flows; bytes each: fresh {fresh.size(FLOWS)[0] / rows:.1f}, compacted {ours.size(FLOWS)[0] / rows:.1f}", flush=True)
    combinations = [
        (question, label, namespace) for question in _questions(until) for label, namespace in _namespaces(ours, until, question.of).items()
    ]
    # Hindcast first: once ClickHouse is loaded, it keeps working in threads of this process.
    mine, raw = {}, {}
    for question, label, namespace in combinations:
        files = ours.files(FLOWS, since=question.since, until=question.until)
        mine[question.name, label] = _measure(_at_door(ours, question, namespace), files, _forget)
    if given.uncompacted:
        for question, label, namespace in combinations:
            raw[question.name, label] = _measure(_at_door(fresh, question, namespace), (), _forget, runs=1)
    if given.alone:
        for (name, label), (cpu, wall, cold) in mine.items():
            print(f"{name:16}{label:7} {cpu:8.0f}{wall:6.0f}{cold:7.0f}")
        return
    folder = given.lake.with_name(given.lake.name + "-chdb")
    session = Session(str(folder))
    session.query(f"SET max_threads = {THREADS}")
    session.query("CREATE DATABASE IF NOT EXISTS bench ENGINE = Atomic")
    session.query("USE bench")
    orders = list(ORDERS) if given.our_order else ["vendor"]
    for order in orders:
        _fill(session, given.lake, order)
        size = int(str(session.query(f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'flows_{order}'")))
        print(f"ClickHouse in {order} order: {size / rows:.1f} bytes a flow", flush=True)
    print(
        "milliseconds            ours cpu  wall   cold | "
        + "".join(f"{order:>10} cpu  wall   cold  ratio  again  wall  ratio | " for order in orders)
    )
    for question, label, namespace in combinations:
        own = mine[question.name, label]
        line = f"{question.name:16}{label:7} {own[0]:8.0f}{own[1]:6.0f}{own[2]:7.0f} | "
        for order in orders:
            theirs = _best_of_clickhouse(session, folder, order, question, namespace, remembers=False)
            again = _best_of_clickhouse(session, folder, order, question, namespace, remembers=True)
            line += f"{theirs[0]:14.0f}{theirs[1]:6.0f}{theirs[2]:7.0f}{theirs[0] / own[0]:7.2f}"
            line += f"{again[0]:7.0f}{again[1]:6.0f}{again[0] / own[0]:7.2f} | "
        if raw:
            line += f"uncompacted {raw[question.name, label][0]:8.0f}{raw[question.name, label][1]:7.0f}"
        print(line, flush=True)


def _roll_up(lake: Lake, until: dt.datetime) -> None:
    began = time.process_time()
    done = roll_up_closed_hours(lake, config.Rollups(), now=until + DAY)
    flows = sum(one.flows for one in done)
    if flows:
        print(f"{flows:,} flows rolled up at {(time.process_time() - began) / flows * 1e6:.2f} us CPU each")
    size = lake.size(FLOWS)[0]
    print(
        "rollups: "
        + ", ".join(f"{table.name} {lake.rows(table):,} rows, 1/{size / lake.size(table)[0]:.0f} of the bytes" for table in ROLLUPS)
    )


def _questions(until: dt.datetime) -> list[Question]:
    hour = until.replace(minute=0, second=0, microsecond=0)
    midnight = hour.replace(hour=0)
    picked, ends = ", ".join(COLUMNS), ", ".join(ENDS)
    week = {"since": hour + DAY / 24 - 7 * DAY, "until": hour + DAY / 24}
    last = "ORDER BY time DESC LIMIT 200"
    pod = f"startsWith(source_pod_name, '{POD}') OR startsWith(destination_pod_name, '{POD}')"
    address = f"source_ip = '{ADDRESS}' OR destination_ip = '{ADDRESS}'"

    def newest(door: Door, wanted: FlowFilter) -> Any:
        return door.answer(OPERATOR, flow_questions.newest(wanted, columns=COLUMNS, limits=NEWEST))

    def question(name: str, door: Callable[[Door, FlowFilter], Any], clickhouse: Callable[[str], str], **more: Any) -> Question:
        window = {"since": more.pop("since"), "until": more.pop("until")}
        return Question(name=name, door=door, clickhouse=clickhouse, conditions=more, of=DROPPED if "drop" in name else (), **window)

    return [
        question(
            "q1 drops",
            newest,
            lambda flows: f"SELECT {picked} FROM {flows} WHERE verdict = 'DROPPED' {last}",
            since=hour,
            until=hour + DAY / 24,
            verdicts=DROPPED,
        ),
        question(
            "q2 timeline",
            lambda door, wanted: door.answer(OPERATOR, count_questions.timeline(wanted, buckets=1440)),
            lambda flows: f"SELECT date_trunc('minute', time), verdict, sum(flow_count) FROM {flows} GROUP BY 1, 2",
            since=midnight - DAY,
            until=midnight,
        ),
        question(
            "q3 talkers",
            lambda door, wanted: door.answer(OPERATOR, edge_questions.talkers(wanted)),
            lambda flows: f"SELECT {ends}, sum(flow_count) AS n FROM {flows} GROUP BY {ends} ORDER BY n DESC LIMIT 50",
            **week,
        ),
        question("q4 pod", newest, lambda flows: f"SELECT {picked} FROM {flows} WHERE {pod} {last}", **week, pods=(POD,)),
        question("q4 address", newest, lambda flows: f"SELECT {picked} FROM {flows} WHERE {address} {last}", **week, ips=(ADDRESS,)),
        question(
            "q5 drop reasons",
            lambda door, wanted: door.answer(OPERATOR, count_questions.drop_reasons(wanted)),
            lambda flows: f"SELECT cluster, drop_reason_desc, sum(flow_count) FROM {flows} WHERE verdict = 'DROPPED' GROUP BY 1, 2",
            **week,
        ),
    ]


def _namespaces(lake: Lake, until: dt.datetime, verdicts: tuple[str, ...]) -> dict[str, str]:
    """Return a big, a middle and a small namespace."""
    wanted = FlowFilter(since=until - DAY, until=until, verdicts=verdicts)
    names = (
        Door(lake, config.Ownership())
        .answer(OPERATOR, count_questions.values("source_namespace", wanted, limits=Limits(rows=1000)))
        .rows["value"]
        .to_pylist()
    )
    return {"big": names[0], "middle": names[len(names) // 2], "small": names[-1 - len(names) // 50]}


def _at_door(lake: Lake, question: Question, namespace: str) -> Callable[[], Any]:
    door = Door(lake, config.Ownership())
    wanted = FlowFilter(since=question.since, until=question.until, namespaces=(namespace,), **question.conditions)  # type: ignore[arg-type]
    return lambda: question.door(door, wanted)


def _forget() -> None:
    """Start an engine without any cached files."""
    engine._WARM = engine._Warm()


def _best_of_clickhouse(session: Any, folder: Path, order: str, question: Question, namespace: str, *, remembers: bool) -> Measured:
    window = f"time >= '{question.since:%Y-%m-%d %H:%M:%S}' AND time < '{question.until:%Y-%m-%d %H:%M:%S}'"
    picked, table = ", ".join(COLUMNS), f"flows_{order}"
    either = f"source_namespace = '{namespace}' OR destination_namespace = '{namespace}'"
    relations = (
        f"(SELECT {picked} FROM {table} WHERE {window} AND ({either}))",
        f"""(SELECT {picked} FROM {table} WHERE {window} AND source_namespace = '{namespace}'
        UNION ALL SELECT {picked} FROM {table}
        WHERE {window} AND destination_namespace = '{namespace}' AND coalesce(source_namespace, '') <> '{namespace}')""",
    )
    parts = [str(Path(inside, name)) for inside, _, names in os.walk(folder) for name in names if name.endswith(".bin")]

    def forget() -> None:
        session.query("SYSTEM DROP MARK CACHE")
        session.query("SYSTEM DROP UNCOMPRESSED CACHE")

    session.query(f"SET use_query_condition_cache = {int(remembers)}")
    return min(
        _measure(lambda relation=relation: session.query(question.clickhouse(relation), "Arrow"), parts, forget)  # type: ignore[misc]
        for relation in relations
    )


def _measure(ask: Callable[[], Any], paths: Iterable[str], forget: Callable[[], None], *, runs: int = RUNS) -> Measured:
    """Return milliseconds of CPU and of wall time once warm, and of wall time cold."""
    forget()
    for path in paths:
        with contextlib.suppress(FileNotFoundError), Path(path).open("rb") as file:  # ClickHouse removes parts that it has merged
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.monotonic()
    ask()
    cold = time.monotonic() - began
    cpu, wall = [], []
    for _ in range(runs):
        at, began = time.process_time(), time.monotonic()
        ask()
        cpu.append(time.process_time() - at)
        wall.append(time.monotonic() - began)
    return statistics.median(cpu) * 1e3, statistics.median(wall) * 1e3, cold * 1e3


def _fill(session: Any, lake: Path, order: str) -> None:
    """Store the same rows in a MergeTree with the default codec, once."""
    if str(session.query(f"EXISTS TABLE flows_{order}")).strip() == "1":
        return
    source = f"file('{lake}/flows/cluster=*/date=*/*.parquet', Parquet)"
    columns = ["extract(_path, 'cluster=([^/]+)') AS cluster", *map(_column, FLOWS.file_schema)]
    ordered = f"ORDER BY {ORDERS[order]} SETTINGS allow_nullable_key = 1"
    session.query(f"CREATE TABLE flows_{order} ENGINE = MergeTree {ordered} AS SELECT {', '.join(columns)} FROM {source}")
    session.query(f"OPTIMIZE TABLE flows_{order} FINAL")


def _column(field: pa.Field) -> str:
    """Return a column's declaration as a vendor would write it."""
    if field.name == "uuid":
        return "toUUIDOrNull(uuid) AS uuid"
    return f"toLowCardinality({field.name}) AS {field.name}" if pa.types.is_string(field.type) else field.name


if __name__ == "__main__":
    main()
