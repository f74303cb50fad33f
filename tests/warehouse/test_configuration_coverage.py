"""One reader says how well a cluster's configuration was known: for snapshots, differences and drift alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.blueprints.state import read_coverage
from pipelines.configuration.recording import Look, last_looks, note_looks
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records.configuration_coverage import coverage_at

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KIND = "CiliumNetworkPolicy"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(config.Lake(url=str(tmp_path)))


def note(lake: Lake, state: str, hour: float, *, hours: float = 0.1, source: str = "snapshot") -> None:
    begin = NOON + hour * HOUR
    look = Look(state=state, kinds=(KIND,))
    note_looks(lake, "c1", [look], source=source, begin=begin, end=begin + hours * HOUR, recorded=begin + hours * HOUR)


def test_a_cluster_never_looked_at_is_known_to_nobody(lake: Lake) -> None:
    assert coverage_at(lake, NOON) == []
    assert read_coverage(lake, ["c1"], NOON) == {}
    assert last_looks(lake, "c1") == {}


@pytest.mark.parametrize(
    ("looks", "known_until"),
    [
        ([("observed", 0, "snapshot")], 0),
        ([("observed", 0, "watch")], 1),
        ([("absent", 0, "snapshot")], 0),
        ([("observed", 0, "snapshot"), ("absent", 2, "snapshot")], 2),
        ([("observed", 0, "snapshot"), ("forbidden", 2, "snapshot")], 0),
        ([("absent", 0, "snapshot"), ("unreachable", 2, "snapshot")], 0),
        ([("partial", 0, "manifests")], None),
    ],
)
def test_snapshots_drift_and_the_door_say_the_same_of_until_when_a_kind_was_known(
    lake: Lake, looks: list[tuple[str, int, str]], known_until: int | None
) -> None:
    for state, hour, source in looks:
        note(lake, state, hour, hours=1, source=source)
    expected = None if known_until is None else NOON + known_until * HOUR
    late = NOON + 9 * HOUR
    (of_door,) = coverage_at(lake, late)
    assert of_door.before == expected
    assert of_door.state == looks[-1][0]
    assert read_coverage(lake, ["c1"], late)["c1"][KIND].observed == expected
    assert last_looks(lake, "c1").get(KIND) == expected


def test_what_came_later_says_nothing_of_the_time_before(lake: Lake) -> None:
    note(lake, "observed", 0)
    note(lake, "forbidden", 2)
    (then,) = coverage_at(lake, NOON + HOUR)
    assert (then.state, then.before, then.after, then.is_known) == ("observed", NOON, None, True)
    note(lake, "observed", 4)
    (between,) = coverage_at(lake, NOON + 3 * HOUR)
    assert (between.state, between.before, between.after, between.is_known) == ("forbidden", NOON, NOON + 4 * HOUR, False)
    (before,) = coverage_at(lake, NOON - HOUR)
    assert (before.state, before.before, before.after, before.tried) == ("never", None, NOON, None)
    assert read_coverage(lake, ["c1"], NOON - HOUR) == {}
