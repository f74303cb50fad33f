"""Configuration history is kept for a time after it ended; what is in force stays, and answers within the time stay the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.configuration.care import compact_configuration
from pipelines.maintenance import retention
from warehouse import config
from warehouse.errors import CommitConflictError
from warehouse.records.configuration_coverage import coverage_at
from warehouse.schema import CONFIG_COVERAGE, VERSION_TABLES

DAY = timedelta(days=1)
Policy = Callable[..., dict[str, Any]]


def keeps(time: str = "100d", **more: Any) -> config.Retention:
    return config.Retention.model_validate({"config": time, **more})


def retain(history: Any, kept: config.Retention, now: datetime, **more: Any) -> dict[str, tuple[int, int]]:
    """What went, and what a hold kept, by table."""
    gone = retention.retain(history.lake, kept, now=now, **more)
    return {one.table.name: (one.rows, one.held) for one in gone}


def test_every_table_of_configuration_has_the_retention_of_configuration() -> None:
    assert {table.name for table in (*VERSION_TABLES, CONFIG_COVERAGE)} == set(config.CONFIGURATION_TABLES)


def test_nothing_goes_of_an_empty_lake_or_before_its_time(history: Any, policy: Policy, noon: datetime) -> None:
    assert retain(history, keeps(), noon) == {}
    history.look(noon, policy())
    history.look(noon + DAY, policy(port=443))
    history.look(noon + 100 * DAY, policy(port=443))
    assert retain(history, keeps(), noon + 100 * DAY) == {}, "the day in which it ended is not older than that"
    assert len(history.all()) == 2


@pytest.mark.parametrize("compacted", [False, True])
def test_what_ended_goes_with_both_its_rows_and_what_is_in_force_stays(
    history: Any, policy: Policy, noon: datetime, compacted: bool
) -> None:
    history.look(noon, policy(), policy("other"), policy("gone"))
    history.look(noon + DAY, policy(port=443), policy("other"))
    history.look(noon + 90 * DAY, policy(port=8443), policy("other"))
    if compacted:
        compact_configuration(history.lake, loose_files=1)
    before, now = history.at(noon + 50 * DAY), noon + 110 * DAY
    assert retain(history, keeps(), now, dry_run=True)["policies"][0] == (2 if compacted else 4)
    assert len(history.all()) == 5
    assert retain(history, keeps(), now)["policies"][0] == (2 if compacted else 4)
    assert [(row["name"], row["valid_to"] is None) for row in history.all()] == [("other", True), ("web", False), ("web", True)]
    assert history.at(noon + 50 * DAY) == before
    assert [row["name"] for row in history.at(noon)] == ["other"]
    assert retain(history, keeps(), now) == {}, "a second run finds nothing"
    assert retain(history, keeps(), now + 9999 * DAY)["policies"][0] == (1 if compacted else 2)
    assert [row["name"] for row in history.at(now)] == ["other", "web"], "what is in force is never too old"


def test_clusters_and_namespaces_may_be_kept_otherwise(history: Any, policy: Policy, noon: datetime) -> None:
    for cluster in ("c1", "c2"):
        history.look(noon, policy("a", namespace="shop"), policy("b", namespace="lab"), cluster=cluster)
        history.look(noon + DAY, cluster=cluster)
    kept = keeps(overrides=[{"cluster": "c1", "namespace": "lab", "config": "10d"}])
    assert retain(history, kept, noon + 50 * DAY, clusters=frozenset(["c2"])) == {}
    assert retain(history, kept, noon + 50 * DAY)["policies"] == (2, 0)
    assert {(row["cluster"], row["name"]) for row in history.all()} == {("c1", "a"), ("c2", "a"), ("c2", "b")}
    assert retain(history, kept, noon + 150 * DAY, clusters=frozenset(["c2"]))["policies"] == (4, 0)
    assert {(row["cluster"], row["name"]) for row in history.all()} == {("c1", "a")}


def test_a_hold_keeps_what_was_in_force_in_its_window(history: Any, policy: Policy, noon: datetime) -> None:
    history.look(noon, policy("a", namespace="shop"), policy("b", namespace="lab"))
    history.look(noon + 10 * DAY, policy("a", namespace="shop", port=443))
    history.look(noon + 20 * DAY)
    hold = {"namespace": "shop", "since": (noon + DAY).isoformat(), "until": (noon + 2 * DAY).isoformat(), "reason": "case 4711"}
    assert retain(history, keeps(holds=[hold]), noon + 500 * DAY)["policies"] == (4, 1)
    (row,) = history.all()
    assert (row["name"], row["valid_to"]) == ("a", noon + 10 * DAY)
    assert retain(history, keeps(), noon + 500 * DAY)["policies"] == (2, 0)


def test_of_the_ledger_the_newest_rows_stay_so_that_what_is_in_force_was_seen(history: Any, policy: Policy, noon: datetime) -> None:
    for number in range(5):
        history.look(noon + number * DAY, policy())
    now = noon + 500 * DAY
    assert history.lake.rows(CONFIG_COVERAGE) == 5
    assert retain(history, keeps(), now)["config_coverage"] == (4, 0)
    assert {each.state for each in coverage_at(history.lake, now)} == {"observed"}
    assert {each.before for each in coverage_at(history.lake, now)} == {noon + 4 * DAY}
    assert retain(history, keeps(), now) == {}


def test_what_is_compacted_meanwhile_is_looked_at_again(
    history: Any, policy: Policy, noon: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.look(noon, policy())
    history.look(noon + DAY, policy(port=443))
    replace, met = history.lake.replace, []

    def raced(*arguments: Any, **more: Any) -> None:
        if not met:
            met.append(True)
            compact_configuration(
                type(history.lake).open(config.Lake(url=str(history.lake.address(CONFIG_COVERAGE).rpartition("/")[0]))), loose_files=1
            )
            raise CommitConflictError("another process was first")
        replace(*arguments, **more)

    monkeypatch.setattr(history.lake, "replace", raced)
    assert retain(history, keeps(), noon + 500 * DAY)["policies"] == (1, 0)
    assert [row["valid_to"] for row in history.all()] == [None]


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    looks=st.lists(st.tuples(st.sets(st.sampled_from("abc"), max_size=3), st.sampled_from([80, 443])), min_size=2, max_size=5),
    compacted=st.integers(0, 5),
    limit=st.integers(1, 6),
)
def test_within_the_time_every_answer_stays_the_same(
    new_history: Any, policy: Policy, noon: datetime, looks: list[tuple[set[str], int]], compacted: int, limit: int
) -> None:
    history = new_history()
    for number, (names, port) in enumerate(looks):
        history.look(noon + number * DAY, *(policy(name, port=port) for name in sorted(names)))
        if number == compacted:
            compact_configuration(history.lake, loose_files=1)
    now = noon + len(looks) * DAY
    since = now - limit * DAY
    times = [moment for number in range(4 * len(looks)) if (moment := noon + number * DAY / 4) >= since]
    before = [history.at(moment) for moment in times]
    retain(history, keeps(f"{limit}d"), now)
    assert [history.at(moment) for moment in times] == before
    assert all(row["valid_to"] is None or row["valid_to"] > since - 2 * DAY for row in history.all())
