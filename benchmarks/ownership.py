"""The cost of ownership: five questions for an owner of 3 of 200 namespaces beside the same unscoped, own SQL, 50 concurrent people.

Run: .venv/bin/python -m benchmarks.ownership [--lake DIR] [--flows 2000000] [--people 50]. Prints ratios: scoped to unscoped CPU
time of each question (the goal is below 1), a worker's start to 500 ms, its warm answer to 300 ms, all people's memory to 4 GB.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks import generate
from benchmarks.questions import COLUMNS
from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Limits, Window
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions, edge_questions, flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import FLOWS
from warehouse.sql.workers import WORKERS

RUNS = 3
DAY = dt.timedelta(days=1)
START_MS, WARM_MS, MEMORY_BYTES = 500.0, 300.0, 4 * 1024**3
SQL = (
    "SELECT verdict, count(*) FROM flows GROUP BY ALL",
    "SELECT destination_namespace, count(*) AS n FROM flows GROUP BY ALL ORDER BY n DESC LIMIT 10",
    "SELECT time_bucket(INTERVAL 1 HOUR, time) AS hour, count(*) FROM flows GROUP BY ALL ORDER BY ALL",
    "SELECT source_workload_name, destination_port, count(*) FROM flows WHERE verdict = 'DROPPED' GROUP BY ALL ORDER BY 3 DESC LIMIT 20",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path, help="A lake of benchmarks.generate; generated if absent.")
    parser.add_argument("--flows", type=int, default=2_000_000)
    parser.add_argument("--people", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.lake is None:
            generate.fill(Path(folder) / "lake", given.flows)
        lake = Lake.open(config.Lake(url=str(given.lake or Path(folder) / "lake")))
        _, last = lake.span(FLOWS)
        assert last is not None
        # The usual state of history: hour files of the newest day, other days in final layout, all of it rolled up.
        compact_closed_hours(lake, now=last + dt.timedelta(hours=1))
        roll_up_closed_hours(lake, config.Rollups(), now=last + DAY)
        names = _namespaces(lake, last)
        _questions(lake, names, last)
        if given.people:
            _people(lake, names, last, given.people)
        WORKERS.close()


def _namespaces(lake: Lake, last: dt.datetime) -> list[str]:
    """Return all namespaces, busiest first."""
    answer = Door(lake, config.Ownership()).answer(
        OPERATOR, count_questions.values("source_namespace", FlowFilter(since=last - DAY, until=last), limits=Limits(rows=1000))
    )
    found: list[str] = answer.rows["value"].to_pylist()
    print(f"{len(found)} namespaces")
    return found


def _owner(number: int, names: list[str]) -> dict[str, object]:
    """Return three namespaces spread over the busy and the quiet ones."""
    third = len(names) // 3
    mine = [names[(number + 7 * part) % third + part * third] for part in range(3)]
    return {"subject": f"owner-{number}", "role": "namespace-owner", "namespaces": mine}


def _questions(lake: Lake, names: list[str], last: dt.datetime) -> None:
    door = Door(lake, config.Ownership.model_validate({"grants": [_owner(5, names)]}))
    end = last.replace(minute=0, second=0, microsecond=0) + DAY / 24
    hour, day, week = (FlowFilter(since=end - back, until=end) for back in (DAY / 24, DAY, 7 * DAY))
    newest = Limits(rows=200)
    pod, address = (
        door.answer(Principal(user="owner-5"), count_questions.values(f"source_{name}", hour)).rows["value"][0].as_py()
        for name in ("pod_name", "ip")
    )
    questions: dict[str, Callable[[Principal], object]] = {
        "q1 drops of an hour": lambda who: door.answer(
            who, flow_questions.newest(replace(hour, verdicts=("DROPPED",)), columns=COLUMNS, limits=newest)
        ),
        "q2 timeline of a day": lambda who: door.answer(who, count_questions.timeline(day, buckets=1440)),
        "q3 talkers of a week": lambda who: door.answer(who, edge_questions.talkers(week)),
        "q4 own pods of a week": lambda who: door.answer(
            who, flow_questions.newest(replace(week, pods=(pod[:-6],)), columns=COLUMNS, limits=newest)
        ),
        "q4 an address of a week": lambda who: door.answer(
            who, flow_questions.newest(replace(week, ips=(address,)), columns=COLUMNS, limits=newest)
        ),
        "q5 drop reasons of a week": lambda who: door.answer(who, count_questions.drop_reasons(week)),
        "a port's timeline of a day": lambda who: door.answer(who, count_questions.timeline(replace(day, ports=(5432,)))),
        "pods that talk, a day": lambda who: door.answer(who, count_questions.values("source_pod_name", day)),
        "drop reasons of a week, a port": lambda who: door.answer(who, count_questions.drop_reasons(replace(week, ports=(443,)))),
    }
    for name, question in questions.items():
        scoped, whole = (_cpu(functools.partial(question, who)) for who in (Principal(user="owner-5"), OPERATOR))
        print(f"{name:30} owner of 3 {scoped * 1e3:6.0f} ms CPU, unscoped {whole * 1e3:6.0f} ms: ratio {scoped / whole:.2f}", flush=True)


def _cpu(work: Callable[[], object]) -> float:
    """Return the median CPU seconds of this process and its threads; the first run warms up."""
    taken = []
    for _ in range(RUNS + 1):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken[1:])


def _people(lake: Lake, names: list[str], last: dt.datetime, count: int) -> None:
    grants = [_owner(number, names) for number in range(count)]
    door = Door(lake, config.Ownership.model_validate({"grants": grants}))
    window = Window(since=last - DAY, until=last)
    door.answer(Principal(user="owner-0"), OwnSql(text="SELECT 1 AS one", window=window))  # starts the parent of all
    began = time.monotonic()
    door.answer(Principal(user="owner-1"), OwnSql(text="SELECT 1 AS one", window=window))
    start = (time.monotonic() - began) * 1e3
    began = time.monotonic()
    door.answer(Principal(user="owner-1"), OwnSql(text=SQL[0], window=window))
    load = (time.monotonic() - began) * 1e3
    warm = []
    for _ in range(RUNS):
        for text in SQL:
            began = time.monotonic()
            door.answer(Principal(user="owner-1"), OwnSql(text=text, window=window))
            warm.append((time.monotonic() - began) * 1e3)
    print(f"a worker: start {start:.0f} ms: ratio to {START_MS:.0f} ms {start / START_MS:.2f}; rows of a day read in {load:.0f} ms")
    print(f"a warm answer: median {statistics.median(warm):.0f} ms: ratio to {WARM_MS:.0f} ms {statistics.median(warm) / WARM_MS:.2f}")
    failures: list[BaseException] = []

    def ask(number: int) -> None:
        try:
            for text in SQL:
                door.answer(Principal(user=f"owner-{number}"), OwnSql(text=text, window=window, limits=Limits(seconds=300)))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    began, most = time.monotonic(), 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, _memory())
        time.sleep(0.5)
    most = max(most, _memory())
    took = time.monotonic() - began
    print(
        f"{count} people at once, {len(SQL)} questions each: {took:.0f} s, {len(failures)} failures; "
        f"{most / 1024**2:.0f} MiB in all: ratio to 4 GiB {most / MEMORY_BYTES:.2f}"
    )
    if failures:
        raise failures[0]


def _memory() -> int:
    """Return the memory of this process and all its children; shared memory counts once."""
    total = 0
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.Error, OSError):
            continue
    return total


if __name__ == "__main__":
    main()
