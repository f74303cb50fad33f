"""The lake on an S3 server: what its tables promise on a disk holds there too, and a question that is asked again fetches little."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from pipelines.maintenance import merging
from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.access.access_log import flush
from warehouse.access.principals import OPERATOR
from warehouse.errors import CommitConflictError
from warehouse.lake.tables import Lake
from warehouse.questions import flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import COVERAGE, FLOWS

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
MOST_REQUESTS = 10
pytestmark = pytest.mark.peers


class Store:
    """A running S3 server with an empty bucket."""

    def __init__(self, folder: Path, address: str, log: Path) -> None:
        self.folder, self._address, self._log = folder, address, log

    def settings(self, **more: Any) -> config.Lake:
        """A lake in the bucket."""
        options = {
            "AWS_ENDPOINT_URL": f"http://{self._address}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        return config.Lake(url="s3://bucket/lake", options=options, cache=self.folder / "copies", **more)

    def requests(self) -> int:
        """How many the server has answered."""
        return len(self._log.read_text().splitlines()) if self._log.exists() else 0


@pytest.fixture
def store(tmp_path: Path, object_store: ModuleType) -> Iterator[Store]:
    (tmp_path / "objects" / "bucket").mkdir(parents=True)
    log = tmp_path / "requests.log"
    with object_store.s3_server(tmp_path / "objects", tmp_path, log) as address:
        yield Store(tmp_path, address, log)
        flush()  # while there is a server to take it


def rows_of(begin: dt.datetime, count: int, *, name: str, cluster: str = "c1") -> pa.Table:
    rows = [
        {"cluster": cluster, "date": begin.date(), "time": begin + dt.timedelta(seconds=n), "uuid": f"{name}-{n}", "flow_count": 1,
         "verdict": "FORWARDED", "source_namespace": "shop", "destination_namespace": "bank", "node_name": f"{cluster}/n"}
        for n in range(count)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=FLOWS.schema)


def append(lake: Lake, begin: dt.datetime, count: int, *, name: str, version: int | None = None) -> None:
    transactions = {} if version is None else {"collect:c1": version}
    lake.commit(FLOWS, lake.write_files(FLOWS, rows_of(begin, count, name=name)), transactions=transactions, metadata={})


def uuids(lake: Lake) -> list[str]:
    return sorted(lake.read(FLOWS, ["uuid"])["uuid"].to_pylist())


def test_a_batch_is_stored_once_however_many_try(store: Store) -> None:
    lake, other = Lake.open(store.settings()), Lake.open(store.settings())
    append(lake, NOON, 3, name="a", version=1)
    with pytest.raises(CommitConflictError):
        append(other, NOON, 3, name="again", version=1)
    assert uuids(lake) == ["a-0", "a-1", "a-2"]
    assert uuids(Lake.open(store.settings())) == uuids(lake)


def test_two_that_replace_the_same_files_double_no_row(store: Store) -> None:
    lake, other = Lake.open(store.settings()), Lake.open(store.settings())
    for number in range(4):
        append(lake, NOON + dt.timedelta(minutes=number), 5, name=str(number))
    before, now = uuids(lake), NOON + dt.timedelta(minutes=10)
    planned = merging.plan(lake, FLOWS, now=now)
    assert [len(merge.files) for merge in planned] == [4]
    other.contents(FLOWS)
    assert merging.merge(lake, now=now)
    assert merging._all(other, FLOWS, planned, []).replaced == ()
    assert uuids(lake) == before
    assert len(lake.files(FLOWS)) == 1


def test_hours_are_compacted_and_rolled_up_and_their_old_files_leave_with_vacuum(store: Store) -> None:
    lake = Lake.open(store.settings())
    for number in range(3):
        append(lake, NOON + dt.timedelta(minutes=number), 5, name=str(number))
    before = uuids(lake)
    assert len(compact_closed_hours(lake, now=NOON + 3 * HOUR)) == 1
    roll_up_closed_hours(lake, config.Rollups(), now=NOON + 3 * HOUR)
    assert uuids(lake) == before
    asked = FlowFilter(since=NOON, until=NOON + HOUR)
    assert Door(lake, config.Ownership()).answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == len(before)
    lake.checkpoint(FLOWS)
    assert lake.vacuum(FLOWS, older_than=HOUR, dry_run=True) == {}, "nothing has been out of the table for an hour"


def test_repeating_a_question_over_forty_files_makes_few_requests(store: Store) -> None:
    lake = Lake.open(store.settings())
    for number in range(40):
        append(lake, NOON + dt.timedelta(minutes=number), 5, name=str(number))
    ledger = {"cluster": "c1", "date": NOON.date(), "from": NOON, "to": NOON + HOUR, "node_name": "c1/n", "state": "connected"}
    lake.commit(COVERAGE, lake.write_files(COVERAGE, pa.Table.from_pylist([ledger], schema=COVERAGE.schema)), transactions={}, metadata={})
    door, asked = Door(lake, config.Ownership()), FlowFilter(since=NOON, until=NOON + HOUR, namespaces=("shop",))
    assert door.answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == 200
    flush()
    before = store.requests()
    assert before > 40, "requests are counted"
    assert door.answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == 200
    assert store.requests() - before <= MOST_REQUESTS
    append(lake, NOON + dt.timedelta(minutes=50), 5, name="new")
    assert door.answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == 205, "copies never hide what is new"


def test_a_lake_that_keeps_no_copies_answers_the_same(store: Store) -> None:
    lake = Lake.open(store.settings(cache_bytes=0))
    append(lake, NOON, 5, name="a")
    asked = FlowFilter(since=NOON, until=NOON + HOUR)
    assert Door(lake, config.Ownership()).answer(OPERATOR, flow_questions.newest(asked)).rows.num_rows == 5
    assert not list((store.folder / "copies").rglob("*.parquet"))
