"""The cost and gain of rollups: CPU per flow, their size beside the flows', and three questions beside the same over flows.

Run: .venv/bin/python -m benchmarks.rollup [FLOWS]. History of two clusters, compacted; medians of 5; CPU time, since
machines are shared. The questions are those of an operator: q2 flows per minute by verdict of a namespace, q3 who talks most
with a namespace, q5 drop reasons by cluster; each over all of the history.
"""

from __future__ import annotations

import datetime as dt
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from benchmarks import units
from collectors.simulator import history
from collectors.simulator.fleet import build_fleet
from collectors.simulator.story import Story
from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.engine import Limits, Window
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions, edge_questions
from warehouse.questions.answers import Answer
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import FLOWS, ROLLUPS

FLOWS_WANTED = 1_000_000
HOURS = 12
CLUSTERS = ("eu-central", "us-east")
NAMESPACE = "payments"
COST_GOAL_US = 5.0
EVERYTHING = Limits(rows=1_000_000)
HOUR = dt.timedelta(hours=1)


def main() -> None:
    """Measure and print."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else FLOWS_WANTED
    since = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)
    until = since + HOURS * HOUR
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(config.Lake(url=folder))
        rate = wanted / len(CLUSTERS) / HOURS / 3600 / 0.85  # the average of these hours is 0.85 of the busiest hour's rate
        history.backfill(lake, build_fleet(1, CLUSTERS), Story.before(until), since=since, until=until, flows_per_second=rate, seed=1)
        compact_closed_hours(lake, now=until + 24 * HOUR)
        began = time.process_time()
        done = roll_up_closed_hours(lake, config.Rollups(), now=until + 24 * HOUR)
        cost = (time.process_time() - began) / sum(one.flows for one in done) * 1e6
        _print_sizes(lake, cost)
        _print_questions(Door(lake, config.Ownership()), since, until)
        _print_open_hour(lake, until)


def _print_sizes(lake: Lake, cost: float) -> None:
    flows = lake.rows(FLOWS)
    size = lake.size(FLOWS)[0]
    print(f"{flows:,} flows, {size / flows:.1f} bytes each; rolled up at {cost:.2f} us CPU a flow, {cost / COST_GOAL_US:.2f} of the goal")
    units.note("rollup_cpu_us_per_flow", cost, "us of CPU", f"{flows:,} flows of two clusters in {HOURS} hours")
    rolled = sum(lake.size(table)[0] for table in ROLLUPS)
    units.note("rollup_bytes_per_flow", rolled / flows, "bytes", f"all rollups of {flows:,} flows of two clusters in {HOURS} hours")
    for table in ROLLUPS:
        own = lake.size(table)[0]
        print(f"  {table.name:12} {lake.rows(table):9,} rows {own:10,} bytes, 1/{size / own:.0f} of the flows'")


def _print_questions(door: Door, since: dt.datetime, until: dt.datetime) -> None:
    wanted = FlowFilter(since=since, until=until)
    mine = FlowFilter(since=since, until=until, namespaces=(NAMESPACE,))
    window = Window(since=since, until=until)
    either = f"(source_namespace = '{NAMESPACE}' OR destination_namespace = '{NAMESPACE}')"
    minutes = int((until - since) / dt.timedelta(minutes=1))
    questions: dict[str, tuple[Callable[[], Answer], str]] = {
        "q2 timeline": (
            lambda: door.answer(OPERATOR, count_questions.timeline(mine, buckets=minutes)),
            f"SELECT date_trunc('minute', time) AS start, verdict, sum(flow_count) FROM flows WHERE {either} GROUP BY ALL",
        ),
        "q3 talkers": (
            lambda: door.answer(OPERATOR, edge_questions.talkers(mine, limits=EVERYTHING)),
            f"""SELECT source_namespace, source_workload_name, destination_namespace, destination_workload_name, sum(flow_count) AS flows
                FROM flows WHERE {either} GROUP BY ALL ORDER BY flows DESC""",
        ),
        "q5 drop reasons": (
            lambda: door.answer(OPERATOR, count_questions.drop_reasons(wanted)),
            "SELECT cluster, drop_reason_desc, sum(flow_count) FROM flows WHERE verdict = 'DROPPED' GROUP BY ALL",
        ),
    }
    for name, (ask, text) in questions.items():
        assert "flows" not in ask().source
        rolled = _median_ms(ask)
        plain = _median_ms(lambda text=text: door.answer(OPERATOR, OwnSql(text=text, window=window, limits=EVERYTHING)))  # type: ignore[misc]
        print(
            f"{name:16} rollup {rolled[0]:7.0f} ms ({rolled[1]:.0f} CPU)   flows {plain[0]:7.0f} ms ({plain[1]:.0f} CPU)"
            f"   {plain[1] / rolled[1]:.1f} x less CPU"
        )


def _print_open_hour(lake: Lake, until: dt.datetime) -> None:
    """Measure the last hour as if it were open: its edges are summed up from flows."""
    edges = next(table for table in ROLLUPS if table.name == "edges_1h")
    lake.replace(edges, lake.contents(edges), [], guard="benchmark", data_change=True)
    door, wanted = Door(lake, config.Ownership()), FlowFilter(since=until - HOUR, until=until)
    answer = door.answer(OPERATOR, edge_questions.edges(wanted))
    flows = sum(answer.rows["flows"].to_pylist())
    rolled = _median_ms(lambda: door.answer(OPERATOR, edge_questions.edges(wanted)))
    print(f"an open hour of {flows:,} flows: its edges in {rolled[0]:.0f} ms, {rolled[1] * 1000 / flows:.2f} us CPU a flow")


def _median_ms(ask: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU time."""
    measured = []
    for _ in range(5):
        began = time.monotonic(), time.process_time()
        ask()
        measured.append((1000 * (time.monotonic() - began[0]), 1000 * (time.process_time() - began[1])))
    walls, cpus = zip(*measured, strict=True)
    return statistics.median(walls), statistics.median(cpus)


if __name__ == "__main__":
    main()
