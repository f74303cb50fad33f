"""What a file proves about coverage, and how flows without uuid are counted."""

from __future__ import annotations

import collections
import datetime as dt
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.importing.evidence import Evidence
from collectors.importing.occurrences import Occurrences
from warehouse import schema

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
