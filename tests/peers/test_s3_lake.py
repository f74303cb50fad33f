"""The lake on two S3 servers: what its tables promise on a disk holds there too. Tests of the lake that take `place` run on one."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pyarrow as pa
import pytest

from pipelines.maintenance import erasure, merging, retention
from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.access.access_log import flush
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.errors import CommitConflictError
from warehouse.lake import time_travel
from warehouse.lake.tables import Lake
from warehouse.questions import flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import ACCESS_LOG, EDGES_1H, FLOWS

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
pytestmark = pytest.mark.peers
_numbers = itertools.count()


@pytest.fixture(scope="module")
def lake(bucket: Any) -> Lake:
    return Lake.open(bucket.settings())


@pytest.fixture
def cluster() -> str:
    """A cluster of the test's own: its rows in the lake are no other's."""
    return f"c{next(_numbers)}"


def append(
    lake: Lake, begin: dt.datetime, count: int, *, cluster: str, name: str = "f", version: int | None = None, source: str = "shop"
) -> None:
    rows = [
        {"cluster": cluster, "date": begin.date(), "time": begin + dt.timedelta(seconds=n), "uuid": f"{name}-{n}", "flow_count": 1,
         "verdict": "FORWARDED", "source_namespace": source, "destination_namespace": "bank", "node_name": f"{cluster}/n",
         "recorded_lag_ms": 0}
        for n in range(count)
    ]  # fmt: skip
    files = lake.write_files(FLOWS, pa.Table.from_pylist(rows, schema=FLOWS.schema))
    lake.commit(FLOWS, files, transactions={} if version is None else {f"collect:{cluster}": version}, metadata={})


def uuids(lake: Lake, cluster: str) -> list[str]:
    return sorted(lake.read(FLOWS, ["uuid"], clusters=[cluster])["uuid"].to_pylist())


def test_a_batch_is_stored_once_however_many_try(bucket: Any, lake: Lake, cluster: str) -> None:
    other = Lake.open(bucket.settings())
    append(lake, NOON, 3, cluster=cluster, version=1)
    with pytest.raises(CommitConflictError):
        append(other, NOON, 3, cluster=cluster, name="again", version=1)
    assert uuids(lake, cluster) == ["f-0", "f-1", "f-2"]
    assert uuids(Lake.open(bucket.settings()), cluster) == uuids(lake, cluster)


def test_two_that_replace_the_same_files_double_no_row(bucket: Any, lake: Lake, cluster: str) -> None:
    other, own = Lake.open(bucket.settings()), frozenset([cluster])
    for number in range(4):
        append(lake, NOON + dt.timedelta(minutes=number), 5, cluster=cluster, name=str(number))
    before, now = uuids(lake, cluster), NOON + dt.timedelta(minutes=10)
    planned = [merge for merge in merging.plan(lake, FLOWS, now=now) if merge.files[0].partition["cluster"] == cluster]
    assert [len(merge.files) for merge in planned] == [4]
    other.contents(FLOWS)
    assert merging.merge(lake, now=now, clusters=own)
    assert merging._all(other, FLOWS, planned, []).replaced == ()
    assert uuids(lake, cluster) == before
    assert len(lake.files(FLOWS, clusters=own)) == 1


def test_an_hours_flows_are_compacted_rolled_up_asked_about_erased_and_retained_as_on_a_disk(lake: Lake, cluster: str) -> None:
    own, now = frozenset([cluster]), NOON + 3 * HOUR
    for number in range(3):
        append(lake, NOON + dt.timedelta(minutes=number), 5, cluster=cluster, name=str(number))
    append(lake, NOON, 2, cluster=cluster, name="pay", source="pay")
    version, before = lake.version(FLOWS), uuids(lake, cluster)
    assert len(compact_closed_hours(lake, now=now, clusters=own)) == 1
    roll_up_closed_hours(lake, config.Rollups(), now=now, clusters=own)
    assert uuids(lake, cluster) == before
    assert sum(lake.read(EDGES_1H, ["flows"], clusters=own)["flows"].to_pylist()) == 17

    door, asked = Door(lake, config.Ownership()), FlowFilter(since=NOON, until=NOON + HOUR, clusters=(cluster,))
    assert door.answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == 17
    earlier = FlowFilter(since=NOON, until=NOON + HOUR, clusters=(cluster,), as_of=time_travel.at_version(lake, version))
    assert door.answer(OPERATOR, flow_questions.newest(earlier)).rows.num_rows == 17
    assert {edge.rows for edge in erasure.erase(lake, _erase(cluster), (), now=now) if edge.table is FLOWS} == {2}
    assert door.answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == 15
    retention.retain(lake, config.Retention(flows=dt.timedelta(days=1)), now=NOON + dt.timedelta(days=9), clusters=own)
    assert uuids(lake, cluster) == []
    lake.checkpoint(FLOWS)
    assert lake.vacuum(FLOWS, older_than=HOUR, dry_run=True) == {}, "nothing has been out of the table for an hour"


def _erase(cluster: str) -> erasure.Request:
    return erasure.Request(cluster=cluster, namespace="pay", reason="request 7")


def test_a_tenants_own_sql_holds_her_rows_alone_and_is_noted(lake: Lake, cluster: str) -> None:
    append(lake, NOON, 5, cluster=cluster)
    append(lake, NOON, 2, cluster=cluster, name="other", source="bank")
    grant = config.Grant(subject="tina", role="namespace-owner", clusters=(cluster,), namespaces=("shop",))
    door = Door(lake, config.Ownership(grants=(grant,)))
    text = f"SELECT count(*) AS n, count(*) FILTER (source_namespace = 'bank') AS b FROM flows WHERE cluster = '{cluster}'"
    asked = OwnSql(text=text, window=Window(since=NOON, until=NOON + HOUR))
    assert door.answer(Principal(user="tina"), asked).rows.to_pylist() == [{"n": 5, "b": 0}]
    flush()
    assert "tina" in lake.read(ACCESS_LOG)["principal"].to_pylist()


def test_a_lake_that_keeps_no_copies_answers_the_same(bucket: Any, lake: Lake, cluster: str) -> None:
    append(lake, NOON, 5, cluster=cluster)
    without = Lake.open(bucket.settings(cache_bytes=0))
    before = set(bucket.copies.rglob("*.parquet"))
    asked = FlowFilter(since=NOON, until=NOON + HOUR, clusters=(cluster,))
    assert Door(without, config.Ownership()).answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == 5
    assert set(bucket.copies.rglob("*.parquet")) == before


def test_copies_leave_this_machine_with_the_files_that_vacuum_deletes(bucket: Any, lake: Lake, cluster: str) -> None:
    append(lake, NOON, 5, cluster=cluster)
    (old,) = [file for file in lake.contents(FLOWS) if file.partition["cluster"] == cluster]
    door, asked = Door(lake, config.Ownership()), FlowFilter(since=NOON, until=NOON + HOUR, clusters=(cluster,))
    door.answer(OPERATOR, flow_questions.newest(asked))
    (copy,) = bucket.copies.rglob(old.name)
    lake.replace(FLOWS, [old], [], guard=f"compact:{cluster}")
    lake.delete_replaced(FLOWS, [old.path])
    assert not copy.exists()
