"""How much of a window counts as observed."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.records.coverage import cluster_shares, flows_lost, flows_lost_undated, gaps, node_coverage
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


def test_time_without_a_row_is_not_covered() -> None:
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


def test_losses_that_name_no_node_or_one_that_has_left_are_added_up_too() -> None:
    unknown = [row(10, 11, "lost", None, flows_lost=7), row(20, 21, "lost", "n2", flows_lost=30), row(0, 5, "left", "n2")]
    rows = table(row(0, 60), row(1, 2, "lost", flows_lost=500), *unknown, row(70, 71, "lost", None, flows_lost=9000))
    undated = table(row(0, 60, "lost_undated", None, flows_lost=60_000))
    assert flows_lost(pa.concat_tables([rows, undated]), at(0), at(60)) == {"c1": 537}
    assert [node.node_name for node in node_coverage(rows, at(6), at(60))] == ["n1"]
    assert flows_lost(table(row(0, 60)), at(0), at(60)) == {}


def test_a_loss_of_unknown_time_counts_apart_and_once_in_each_window_that_it_may_belong_to() -> None:
    undated = [
        row(first, last, "lost_undated", node, flows_lost=7, detail=node) for node in ("n1", None) for first, last in ((0, 60), (60, 90))
    ]
    rows = table(row(0, 60), row(10, 11, "lost", flows_lost=5), *undated)
    (node,) = node_coverage(rows, at(0), at(90))
    assert (node.flows_lost, node.covered) == (5, 60 / 90)
    assert [flows_lost_undated(rows, at(first), at(last)) for first, last in ((0, 90), (60, 61), (90, 200))] == [14, 14, 0]


def test_observed_since_is_the_start_of_the_unbroken_end() -> None:
    (node,) = node_coverage(table(row(0, 10), row(20, 30), row(30.5, 40), row(22, 23, "gap")), at(0), at(60))
    assert (node.connected_since, node.last) == (at(23), at(40))


def test_a_cluster_is_the_mean_of_its_nodes() -> None:
    shares = cluster_shares(node_coverage(table(row(0, 60), row(0, 30, node="n2")), at(0), at(60)))
    assert shares == {"c1": 0.75}


def test_a_cluster_weighs_its_nodes_by_the_time_they_existed() -> None:
    rows = table(row(0, 60), row(0, 10, node="n2"), row(10, 11, "left", node="n2"), row(11, 12, "lost", node="n2"))
    assert cluster_shares(node_coverage(rows, at(0), at(60))) == {"c1": 1.0}


# Nodes that come and go ----------------------------------------------------------------------------------------


def test_a_node_that_left_is_not_missed_afterwards_and_is_missed_before() -> None:
    rows = table(row(0, 30), row(40, 50, "left"))
    (node,) = node_coverage(rows, at(0), at(100))
    assert (node.covered, node.expected) == (0.75, dt.timedelta(seconds=40))
    assert [(gap.since, gap.until) for gap in gaps(rows, at(0), at(100))] == [(at(30), at(40))]
    assert node_coverage(rows, at(60), at(100)) == []
    assert gaps(rows, at(60), at(100)) == []


def test_a_node_that_comes_back_is_expected_again_from_then_on() -> None:
    rows = table(row(0, 20), row(20, 30, "left"), row(60, 61, "joined"), row(70, 100))
    (node,) = node_coverage(rows, at(0), at(100))
    assert node.expected == dt.timedelta(seconds=50)
    assert node.covered == 1.0


def test_a_node_that_joined_is_not_missed_before() -> None:
    rows = table(row(60, 61, "joined"), row(65, 100))
    (node,) = node_coverage(rows, at(0), at(100))
    assert (node.covered, node.expected) == (35 / 40, dt.timedelta(seconds=40))


def test_a_node_of_which_nothing_says_that_it_joined_is_missed_from_the_start_of_the_window() -> None:
    (node,) = node_coverage(table(row(50, 100)), at(0), at(100))
    assert node.covered == 0.5


# The end of a window that ends now ----------------------------------------------------------------------------


def test_what_a_living_collector_has_not_stored_yet_is_neither_a_gap_nor_observed() -> None:
    rows = table(row(0, 80, source="stream", recorded=at(81)))
    found = gaps(rows, at(0), at(100), now=at(100))
    assert found == []
    assert found.observed == {("c1", "n1"): [(at(0), at(80))]}
    (node,) = node_coverage(rows, at(0), at(100), now=at(100))
    assert (node.covered, node.expected) == (1.0, dt.timedelta(seconds=80))


def test_the_time_after_the_last_row_of_a_dead_collector_is_a_gap() -> None:
    rows = table(row(0, 80, source="stream", recorded=at(81)))
    (gap,) = gaps(rows, at(0), at(400), now=at(400))
    assert (gap.since, gap.until) == (at(80), at(400))
    (node,) = node_coverage(rows, at(0), at(400), now=at(400))
    assert node.covered == 0.2


def test_a_collector_that_a_busy_machine_holds_up_for_four_minutes_is_not_called_dead() -> None:
    rows = table(row(0, 80, source="stream", recorded=at(81)))
    found = gaps(rows, at(0), at(320), now=at(320))
    assert found == []
    assert found.observed == {("c1", "n1"): [(at(0), at(80))]}


def test_a_file_that_was_imported_just_now_makes_no_collector_alive() -> None:
    (gap,) = gaps(table(row(0, 80, source="import", recorded=at(99))), at(0), at(100), now=at(100))
    assert gap.since == at(80)


def test_a_silent_node_is_pending_while_its_collector_says_that_it_is_at_work() -> None:
    rows = table(
        row(0, 100, source="stream", recorded=at(101)), row(940, 999, "collecting", node=None, source="heartbeat", recorded=at(999))
    )
    assert gaps(rows, at(0), at(1000), now=at(1000)) == []
    (node,) = node_coverage(rows, at(0), at(1000), now=at(1000))
    assert node.covered == 1.0


@pytest.mark.parametrize(("state", "node"), [("node_unavailable", "n1"), ("disconnected", None)])
def test_a_node_that_was_away_when_the_ledger_spoke_last_is_missed_until_now(state: str, node: str | None) -> None:
    rows = table(row(0, 80, source="stream"), row(80, 95, state, node=node, source="relay", recorded=at(95), detail="it is away"))
    (gap,) = gaps(rows, at(0), at(100), now=at(100))
    assert (gap.since, gap.until, gap.cause) == (at(80), at(100), "it is away")


def test_a_window_that_has_ended_has_nothing_pending() -> None:
    rows = table(row(0, 80, source="stream"), row(0, 500, "collecting", node=None, source="heartbeat", recorded=at(599)))
    (gap,) = gaps(rows, at(0), at(100), now=at(600))
    assert gap.since == at(80)


def test_a_window_without_any_row_has_nothing_observed() -> None:
    found = gaps(table(), at(0), at(60), now=at(60))
    assert (found, found.observed) == ([], {})


def test_a_row_about_the_whole_cluster_gives_the_cause_of_its_nodes_gaps() -> None:
    rows = table(row(0, 50), row(40, 100, "gap", node=None, source="spool_unreadable", detail="a batch could not be read"))
    (gap,) = gaps(rows, at(0), at(100))
    assert (gap.since, gap.cause) == (at(50), "a batch could not be read")


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
