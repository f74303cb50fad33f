"""What a file proves about coverage, and how flows without uuid are counted."""

from __future__ import annotations

import collections
import datetime as dt
import itertools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.importing import importer
from collectors.importing.evidence import Evidence
from collectors.importing.occurrences import Occurrences
from warehouse import config, schema
from warehouse.lake.tables import Lake

DAY = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
RECORDED = DAY + dt.timedelta(days=60)
NOTHING = schema.COVERAGE.schema.empty_table()


def proven(seconds: list[float], *, node: str = "n") -> list[tuple[dt.datetime, dt.datetime, int]]:
    """The observed intervals and the flows in each, of flows so many seconds after the day's start."""
    evidence = Evidence(recorded=RECORDED)
    times = pa.array([DAY + dt.timedelta(seconds=second) for second in seconds], schema.TIMESTAMP)
    skewed = pa.nulls(len(times), pa.bool_())
    rows = pa.table({"node_name": [node] * len(times), "time": times, "flow_count": [1] * len(times), "clock_skew": skewed})
    evidence.add_flows(rows, np.ones(len(times), bool))
    return sorted((row["from"], row["to"], row["flows_received"]) for row in evidence.ledger_rows("c", "file", NOTHING))


@pytest.mark.parametrize(
    ("seconds", "rows"),
    [
        ([0, 3 * 86_400], 2),  # two flows prove nothing of what lies between
        ([*range(10), *range(7200, 7210)], 2),
        ([*range(0, 3600, 30), *range(7200, 10_800, 30)], 2),
        ([*range(0, 3600, 600), *range(4 * 3600, 5 * 3600, 600)], 2),
        ([*range(0, 3600, 30)], 1),
        ([*range(0, 20 * 86_400, 4 * 3600)], 20),  # a row a day, though pauses are long
        ([86_399, 86_401], 2),
    ],
)
def test_a_long_pause_and_midnight_end_a_row(seconds: list[float], rows: int) -> None:
    assert len(proven(seconds)) == rows


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 12 * 86_400), min_size=1, max_size=40))
def test_rows_hold_all_flows_do_not_overlap_and_stay_within_a_day(seconds: list[int]) -> None:
    rows = proven([float(second) for second in seconds])
    assert sum(count for _, _, count in rows) == len(seconds)
    for second in seconds:
        assert any(begin <= DAY + dt.timedelta(seconds=second) < end for begin, end, _ in rows)
    for (begin, end, _), (following, _, _) in itertools.pairwise(rows):
        assert end <= following
        assert begin < end
    for begin, end, _ in rows:
        assert (end - dt.timedelta(microseconds=1)).date() == begin.date()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(-5, 20), st.integers(0, 3)), max_size=12), max_size=12), st.sampled_from([1, 5, 1000]))
def test_occurrences_are_counted_whatever_is_in_memory(batches: list[list[tuple[int, int]]], in_memory: int) -> None:
    seen: collections.Counter[tuple[int, int]] = collections.Counter()
    with Occurrences(in_memory) as occurrences:
        for batch in batches:
            wanted = []
            for one in batch:
                seen[one] += 1
                wanted.append(seen[one])
            times = np.array([time for time, _ in batch], np.int64)
            hashes = np.array([content for _, content in batch], np.uint64)
            assert occurrences.count(times, hashes).tolist() == wanted


def test_of_the_flows_of_a_long_file_only_the_newest_are_in_memory() -> None:
    flows, of_a_batch = 100_000, 500
    hashes = np.zeros(of_a_batch, np.uint64)
    with Occurrences(1_000) as occurrences:
        tracemalloc.start()
        try:
            for first in range(0, flows, of_a_batch):
                assert set(occurrences.count(np.arange(first, first + of_a_batch), hashes)) == {1}
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < flows * 4, "a flow is represented by 16 bytes"
        assert set(occurrences.count(np.arange(of_a_batch), hashes)) == {2}, "those that are no longer in memory still count"


def flow_at(seconds: float, node: str = "prod/n1") -> str:
    time = (DAY + dt.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    flow = {"uuid": f"{node} {seconds}", "time": time, "node_name": node, "verdict": "FORWARDED"}
    return json.dumps({"flow": flow, "node_name": node, "time": time}) + "\n"


def loss_of(count: int, node: str = "n1", **fields: Any) -> str:
    return json.dumps({"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": str(count)}, "node_name": node} | fields) + "\n"


def lost_rows(folder: Path, *files: str) -> list[dict[str, Any]]:
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    for number, text in enumerate(files):
        path = folder / f"{number}.log"
        path.write_text(text)
        importer.import_file(importer.Target(lake=lake, cluster="c1", recorded=RECORDED), path)
    return sorted((row for row in lake.read(schema.COVERAGE).to_pylist() if "lost" in row["state"]), key=lambda row: row["from"])


def test_a_loss_without_a_time_is_of_an_unknown_time_among_the_flows_of_its_node(tmp_path: Path) -> None:
    text = flow_at(0, "prod/n2") + flow_at(10) + loss_of(7) + flow_at(60) + flow_at(100, "prod/n2")
    (row,) = lost_rows(tmp_path, text)
    assert (row["state"], row["node_name"], row["flows_lost"]) == ("lost_undated", "prod/n1", 7)
    assert (row["from"], row["to"]) == (DAY + dt.timedelta(seconds=10), DAY + dt.timedelta(seconds=60, microseconds=1))
    assert "7 flows were lost at an unknown time between 2026-10-01 00:00:10 and 2026-10-01 00:01:00 UTC" in row["detail"]


def test_a_loss_without_a_time_and_without_a_node_is_of_the_whole_file(tmp_path: Path) -> None:
    (row,) = lost_rows(tmp_path, flow_at(0, "prod/n2") + flow_at(10) + loss_of(7, node="") + flow_at(100, "prod/n2"))
    assert (row["node_name"], row["from"], row["to"]) == (None, DAY, DAY + dt.timedelta(seconds=100, microseconds=1))


def test_losses_without_a_time_over_several_days_have_a_row_a_day_that_a_second_run_does_not_add_again(tmp_path: Path) -> None:
    text = flow_at(0) + loss_of(3) + loss_of(4) + flow_at(2 * 86_400 + 5)
    rows = lost_rows(tmp_path, text, text, "\n" + text)
    assert [(row["date"].day, row["flows_lost"]) for row in rows] == [(1, 7), (2, 7), (3, 7)]


def test_a_loss_in_a_file_without_any_time_is_set_aside(tmp_path: Path) -> None:
    assert lost_rows(tmp_path, loss_of(7)) == []
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    outcome = importer.import_file(importer.Target(lake=lake, cluster="c1", recorded=RECORDED), tmp_path / "0.log")
    assert [problem.reason for problem in outcome.problems] == ["lost_events: 7 flows were lost at an unknown time"]


def test_losses_with_a_time_keep_it(tmp_path: Path) -> None:
    (row,) = lost_rows(tmp_path, flow_at(0) + loss_of(7, time="2026-10-01T00:00:05Z") + flow_at(60))
    assert (row["state"], row["from"]) == ("lost", DAY + dt.timedelta(seconds=5))
