"""History in bulk: what it holds, that it can be told from nothing a collector would store, and that it is stored once."""

import collections
import datetime as dt
import itertools
from pathlib import Path

import pytest

from collectors.decoding.decode import decode, rebuild
from collectors.simulator.fleet import build_fleet
from collectors.simulator.history import backfill
from collectors.simulator.story import CUT_OFF, NEW_HOST, Story
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records.coverage import node_coverage
from warehouse.schema import COVERAGE, FLOWS

NOW = dt.datetime(2026, 3, 3, 12, 30, tzinfo=dt.UTC)
SINCE = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
FLEET = build_fleet(1, clusters=("eu-central", "us-east"))
STORY = Story.before(NOW)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake.open(config.Lake(url=str(tmp_path_factory.mktemp("history"))))
    assert backfill(lake, FLEET, STORY, since=SINCE, until=NOW, flows_per_second=0.5, seed=1) > 50_000
    return lake


def test_a_second_run_adds_nothing(lake: Lake) -> None:
    before = lake.read(FLOWS, ["uuid"]).num_rows
    assert backfill(lake, FLEET, STORY, since=SINCE, until=NOW, flows_per_second=0.5, seed=1) == 0
    assert lake.read(FLOWS, ["uuid"]).num_rows == before == len(set(lake.read(FLOWS, ["uuid"])["uuid"].to_pylist()))


def test_the_same_seed_gives_the_same_history(lake: Lake, tmp_path: Path) -> None:
    again = Lake.open(config.Lake(url=str(tmp_path)))
    backfill(again, FLEET, STORY, since=SINCE, until=SINCE + dt.timedelta(hours=1), flows_per_second=0.5, seed=1)
    window = {"clusters": ["eu-central"], "since": SINCE, "until": SINCE + dt.timedelta(hours=1)}
    assert again.read(FLOWS, None, **window).sort_by("time").equals(lake.read(FLOWS, None, **window).sort_by("time"))


def test_a_row_is_what_a_collector_would_have_stored(lake: Lake) -> None:
    rows = lake.read(FLOWS, None, ["eu-central"], SINCE, SINCE + dt.timedelta(minutes=30))
    again = decode(rebuild(rows), cluster="eu-central", recorded=NOW, live=False).rows
    ours = ["recorded_lag_ms"]
    assert again.drop_columns(ours).equals(rows.drop_columns(ours).select(again.drop_columns(ours).schema.names))
    assert min(rows["recorded_lag_ms"].to_pylist()) > 0


def test_kinds_of_flows_are_as_frequent_as_in_live_traffic(lake: Lake) -> None:
    live = collections.Counter(
        (flow.event_type.type, str(flow.verdict)) for flow in itertools.islice(Traffic(FLEET, 5, SINCE, 10.0).flows(), 20_000)
    )
    rows = lake.read(FLOWS, ["event_type", "verdict"], until=STORY.deployment)
    history = collections.Counter(zip(rows["event_type"].to_pylist(), rows["verdict"].to_pylist(), strict=True))
    assert len(live) == len(history)
    for mine, theirs in zip(sorted(live.values()), sorted(history.values()), strict=True):
        assert abs(mine / 20_000 - theirs / rows.num_rows) < 0.05


def test_the_story_is_in_the_flows(lake: Lake) -> None:
    def of(column: str, value: str, since: dt.datetime, until: dt.datetime) -> list[dict[str, object]]:
        names = ["source_workload_name", "destination_workload_name", "verdict", "source_pod_name", "destination_names", "cluster"]
        rows: list[dict[str, object]] = lake.read(FLOWS, names, None, since, until).to_pylist()
        return [row for row in rows if row[column] == value]

    begin, end = STORY.incident
    quiet = of("destination_workload_name", CUT_OFF[1], SINCE, begin)
    broken = of("destination_workload_name", CUT_OFF[1], begin, end)
    assert {row["verdict"] for row in quiet} == {"FORWARDED"}
    assert {row["verdict"] for row in broken} >= {"DROPPED"}
    pods = [
        {row["source_pod_name"] for row in of("source_workload_name", "checkout-api", *span)}
        for span in ((SINCE, STORY.deployment), (STORY.deployment, NOW))
    ]
    assert pods[0]
    assert pods[1]
    assert not pods[0] & pods[1]
    hosts = [
        row
        for row in lake.read(FLOWS, ["time", "cluster", "destination_names"]).to_pylist()
        if NEW_HOST[1][0] in (row["destination_names"] or ())
    ]
    assert hosts
    assert {row["cluster"] for row in hosts} == {"us-east"}
    assert min(row["time"] for row in hosts) >= STORY.new_host


def test_the_ledger_shows_the_ten_minutes_that_are_missing(lake: Lake) -> None:
    rows = lake.read(COVERAGE)
    (gap,) = [row for row in rows.to_pylist() if row["state"] == "gap"]
    assert gap["to"] - gap["from"] == dt.timedelta(minutes=10)
    missing = lake.read(FLOWS, ["node_name"], None, gap["from"], gap["to"])["node_name"].to_pylist()
    assert missing
    assert gap["node_name"] not in missing
    shares = {node.node_name: node.covered for node in node_coverage(rows, SINCE, NOW)}
    assert sorted(shares) == sorted(FLEET.nodes)
    assert shares.pop(gap["node_name"]) < 1
    assert set(shares.values()) == {1.0}
