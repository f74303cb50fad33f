"""How many requests an S3 store is asked, each of which it charges for. docs/capacity.md multiplies them by a fleet's size."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from collectors.streaming.claims import Claims
from collectors.streaming.publish import Publisher
from collectors.streaming.spool import Batch
from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.access.access_log import flush
from warehouse.access.principals import OPERATOR
from warehouse.lake.tables import Lake
from warehouse.questions import flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import COVERAGE, FLOWS, TABLES

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
FILES = 40
pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def lake(versitygw: Any) -> Lake:
    return Lake.open(versitygw.settings("counted"))


@pytest.fixture
def taken(versitygw: Any) -> Any:
    """A function that returns the requests since it was last called, those that are charged like writing and those like reading."""

    def split() -> tuple[int, int]:
        kinds: Counter[str] = versitygw.proxy.taken()
        dear = sum(kinds[kind] for kind in ("PUT", "POST", "LIST"))
        return dear, sum(kinds.values()) - dear

    return split


def publisher_of(lake: Lake, *clusters: str) -> Publisher:
    """A publisher that has claimed clusters that nobody else collects; a claim takes the first number of each."""
    publisher = Publisher(lake)
    Claims(lake, publisher, lambda instance: None).claim({cluster: cluster for cluster in clusters})
    return publisher


def batch(number: int, cluster: str, *, covered: bool = False) -> Batch:
    begin = NOON + number * MINUTE
    rows = [
        {"cluster": cluster, "date": begin.date(), "time": begin + dt.timedelta(seconds=n), "uuid": f"{number}-{n}", "flow_count": 1,
         "verdict": "FORWARDED", "source_namespace": "shop", "destination_namespace": "bank", "node_name": f"{cluster}/n"}
        for n in range(5)
    ]  # fmt: skip
    booked = {"cluster": cluster, "date": begin.date(), "from": begin, "to": begin + MINUTE, "node_name": f"{cluster}/n",
              "state": "connected", "recorded": begin}  # fmt: skip
    coverage = [{name: booked.get(name) for name in COVERAGE.schema.names}] if covered else []
    return Batch(cluster=cluster, sequence=number + 2, rows=pa.Table.from_pylist(rows, schema=FLOWS.schema), coverage=coverage)


def test_opening_a_lake_asks_a_few_times_a_table(versitygw: Any, lake: Lake, taken: Any) -> None:
    taken()
    Lake.open(versitygw.settings("counted"))
    dear, cheap = taken()
    assert dear <= 2 * len(TABLES) + 3
    assert cheap <= 4 * len(TABLES)


def test_a_flush_asks_as_often_after_many_commits_as_after_few_and_however_many_clusters_it_has(lake: Lake, taken: Any) -> None:
    clusters = ["f1", "f2", "f3"]
    publisher = publisher_of(lake, *clusters)
    publisher.publish([batch(0, cluster) for cluster in clusters])
    taken()
    counts = []
    for number in range(1, 31):
        publisher.publish([batch(number, cluster) for cluster in clusters])
        counts.append(taken())
    usual = sorted(counts)[len(counts) // 2]
    assert usual[0] <= 5 + len(clusters), "a file for each cluster, the commit, and four lists of the log"
    assert usual[1] <= 12
    assert max(sum(count) for count in counts) <= 30, "however long the log is"
    publisher.publish([batch(31, cluster, covered=True) for cluster in clusters])
    dear, cheap = taken()
    assert dear <= 10 + 4 * len(clusters), "the ledger's rows are another commit, and what it holds of each cluster is looked up before"
    assert cheap <= 40


def test_a_question_is_cheap_to_repeat_and_compaction_reads_each_file_once(lake: Lake, taken: Any) -> None:
    publisher, own = publisher_of(lake, "q"), frozenset(["q"])
    for number in range(FILES):
        publisher.publish([batch(number, "q", covered=number == 0)])
    door, asked = Door(lake, config.Ownership()), FlowFilter(since=NOON, until=NOON + HOUR, clusters=("q",), namespaces=("shop",))
    taken()
    assert door.answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == 5 * FILES
    flush()
    dear, cheap = taken()
    assert dear <= 60
    assert FILES < cheap <= 2 * FILES + 120, "every file is downloaded once"
    assert door.answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == 5 * FILES
    assert sum(taken()) <= 10, "the copies answer; only the logs are looked at"
    publisher.publish([batch(FILES, "q")])
    assert door.answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == 5 * FILES + 5, "copies never hide what is new"
    flush()
    taken()

    compact_closed_hours(lake, now=NOON + 3 * HOUR, clusters=own)
    dear, cheap = taken()
    assert dear <= 12
    assert cheap <= (FILES + 1) + 20
    roll_up_closed_hours(lake, config.Rollups(), now=NOON + 3 * HOUR, clusters=own)
    dear, cheap = taken()
    assert dear <= 60
    assert cheap <= 80
