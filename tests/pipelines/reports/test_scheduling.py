"""A schedule makes a report once for each time and subject, sends it once to who may see it, and verifies the one before."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from pipelines.evidence.reports import making, scheduling
from pipelines.evidence.reports.asked import SETTLED, asked_again
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse.errors import ConfigError, HindcastError
from warehouse.questions import known_hours
from warehouse.schema import DELIVERIES, REPORTS

MONDAY = dt.datetime(2026, 3, 4, 0, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def scheduled(fleet: Any, **more: Any) -> Any:
    schedule = {"name": "daily", "report": "fleet", "cron": "0 6 * * *", "window": "1d", "formats": ["html"]} | more
    fleet.configured(
        reports={"schedules": [schedule]},
        deliveries=[
            {"name": "platform", "role": "platform-admin", "folder": {"url": "platform"}},
            {"name": "payments", "subjects": ["group:payments"], "folder": {"url": "payments"}},
        ],
    )
    return scheduling.schedule_of(fleet.settings, "daily")


def test_a_target_that_is_not_configured_is_refused_when_the_configuration_is_read(fleet: Any) -> None:
    with pytest.raises(ConfigError, match=r"reports\.schedules: daily: deliver_to: there is no delivery named 'nowhere'"):
        scheduled(fleet, deliver_to=["nowhere"])


def test_a_report_of_everything_does_not_go_to_an_owner(fleet: Any) -> None:
    schedule = scheduled(fleet, deliver_to=["payments"])
    with pytest.raises(HindcastError, match=r"not delivered: payments \(folder\): denied"):
        scheduling.run_batch(fleet.settings, schedule, [scheduling.PLATFORM], at=MONDAY)
    assert not (fleet.folder / "payments").exists()


def test_it_waits_until_what_was_received_in_its_window_is_committed(fleet: Any) -> None:
    end = MONDAY.replace(minute=0)
    assert scheduling.still_settling(end, end + dt.timedelta(seconds=5)) == 55
    assert scheduling.still_settling(end, end + SETTLED) == scheduling.still_settling(end, MONDAY) == 0
    scheduling.run_batch(fleet.settings, scheduled(fleet), [scheduling.PLATFORM], at=MONDAY)
    (row,) = fleet.lake.read(REPORTS).to_pylist()
    assert row["time"] - row["known"] == SETTLED


def test_it_is_made_and_sent_once_and_verified_when_the_next_is_made(fleet: Any) -> None:
    schedule = scheduled(fleet, subjects=["owners"], report="owner", deliver_to=["platform"])
    assert scheduling.subjects_of(fleet.settings, schedule) == ["group:payments", "nobody"]
    first = [scheduling.run_batch(fleet.settings, schedule, ["group:payments"], at=MONDAY) for _ in range(2)]
    assert first[0] == first[1]
    assert scheduling.verify_batch(fleet.settings, schedule, ["group:payments"], at=MONDAY) == [None]
    scheduling.run_batch(fleet.settings, schedule, ["group:payments"], at=MONDAY + DAY)
    assert scheduling.verify_batch(fleet.settings, schedule, ["group:payments"], at=MONDAY + DAY) == ["identical"]
    events = [(row["event"], row["made_by"]) for row in fleet.lake.read(REPORTS).sort_by("time").to_pylist()]
    assert events == [("made", "schedule daily"), ("made", "schedule daily"), ("identical", "schedule daily")]
    assert fleet.lake.read(DELIVERIES).num_rows == 2
    assert len(list((fleet.folder / "platform").rglob("owner-group-payments-2026-03-0*.html"))) == 2


def test_subjects_are_divided_among_two_workers_and_none_has_too_many() -> None:
    assert scheduling.batches([]) == []
    assert scheduling.batches(["a"]) == [["a"]]
    assert scheduling.batches(["a", "b", "c"]) == [["a", "c"], ["b"]]
    many = scheduling.batches([str(number) for number in range(60)])
    assert sorted(map(len, many)) == [20, 20, 20]


def test_a_report_that_cannot_be_made_does_not_keep_the_others_from_being_made(fleet: Any) -> None:
    schedule = scheduled(fleet, report="owner", subjects=["owners"])
    with pytest.raises(HindcastError, match=r"gone: --for gone: no grant names this user or group"):
        scheduling.run_batch(fleet.settings, schedule, ["gone", "group:payments"], at=MONDAY)
    assert [row["made_for"] for row in fleet.lake.read(REPORTS).to_pylist()] == ["group:payments"]


def test_reports_of_one_run_share_what_they_read_and_hold_what_they_hold_alone(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    roll_up_closed_hours(fleet.lake, fleet.settings.rollups, now=MONDAY + dt.timedelta(days=1))
    looked_up: list[Any] = []
    last_recorded = known_hours._last_recorded

    def noted(connection: Any, lake: Any, hours: Any) -> Any:
        looked_up.extend(hours)
        return last_recorded(connection, lake, hours)

    monkeypatch.setattr(known_hours, "_last_recorded", noted)
    schedule = scheduled(fleet, report="owner", subjects=["owners"])
    scheduling.run_batch(fleet.settings, schedule, ["nobody", "group:payments"], at=MONDAY)
    rows = fleet.lake.read(REPORTS).to_pylist()
    assert len({row["known"] for row in rows}) == 1
    assert len(looked_up) == len(set(looked_up)) > 0
    for row in rows:
        alone, _ = making.build(fleet.settings, fleet.lake, asked_again(json.loads(row["manifest"])["asked"]))
        assert [section.hash for section in alone.sections] == [one["hash"] for one in json.loads(row["manifest"])["sections"]]
