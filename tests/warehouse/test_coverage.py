"""How much of a window counts as observed."""

import datetime as dt
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from warehouse.records.coverage import cluster_shares, node_coverage
from warehouse.schema import COVERAGE

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)


def at(seconds: float) -> dt.datetime:
    return NOON + dt.timedelta(seconds=seconds)


def row(first: float, last: float, state: str = "connected", node: str | None = "n1", **more: Any) -> dict[str, Any]:
    return {"cluster": "c1", "date": at(first).date(), "from": at(first), "to": at(last), "node_name": node, "state": state, **more}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=COVERAGE.schema)


def test_a_ledger_without_rows_covers_nothing() -> None:
    assert node_coverage(table(), at(0), at(60)) == []
    assert cluster_shares([]) == {}


def test_time_that_no_row_speaks_of_is_not_covered() -> None:
    (node,) = node_coverage(table(row(0, 30)), at(0), at(120))
    assert node.covered == 0.25


def test_a_gap_wins_over_connected_and_an_outage_that_was_caught_up_with_does_not() -> None:
    rows = table(row(0, 60), row(10, 20, "gap"), row(30, 40, "disconnected"), row(30, 40, "node_unavailable"))
    (node,) = node_coverage(rows, at(0), at(60))
    assert node.covered == 5 / 6


def test_rows_that_overlap_or_reach_beyond_the_window_count_once_and_only_inside() -> None:
    (node,) = node_coverage(table(row(-100, 20), row(10, 30), row(50, 500)), at(0), at(60))
    assert node.covered == 40 / 60


def test_losses_are_added_up_where_they_touch_the_window() -> None:
    rows = table(row(0, 60, flows_received=5), row(10, 11, "lost", flows_lost=7), row(70, 71, "lost", flows_lost=100))
    (node,) = node_coverage(rows, at(0), at(60))
    assert (node.flows_lost, node.flows_received) == (7, 5)


def test_observed_since_is_the_start_of_the_unbroken_end() -> None:
    (node,) = node_coverage(table(row(0, 10), row(20, 30), row(30.5, 40), row(22, 23, "gap")), at(0), at(60))
    assert (node.connected_since, node.last) == (at(23), at(40))


def test_a_cluster_is_the_mean_of_its_nodes() -> None:
    shares = cluster_shares(node_coverage(table(row(0, 60), row(0, 30, node="n2")), at(0), at(60)))
    assert shares == {"c1": 0.75}


_INTERVALS = st.lists(st.tuples(st.integers(-20, 80), st.integers(1, 30), st.sampled_from(["connected", "gap", "lost"])), max_size=12)


@given(_INTERVALS)
def test_the_share_is_what_counting_second_by_second_gives(intervals: list[tuple[int, int, str]]) -> None:
    rows = table(row(-50, -49), *[row(first, first + length, state) for first, length, state in intervals])
    seconds = [
        any(first <= second < first + length and state == "connected" for first, length, state in intervals)
        and not any(first <= second < first + length and state == "gap" for first, length, state in intervals)
        for second in range(60)
    ]
    (node,) = node_coverage(rows, at(0), at(60))
    assert abs(node.covered - sum(seconds) / 60) < 1e-9
