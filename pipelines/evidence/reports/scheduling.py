"""Makes the reports of a schedule, delivers them, and verifies the ones before. The DAGs `report_weekly` and `report_NAME` run it.

A second run for the same time makes nothing anew: it delivers what has not arrived yet.
"""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from pipelines.evidence.reports import making, records, sending, verifying
from pipelines.evidence.reports.asked import SETTLED, ReportOf
from pipelines.evidence.reports.making import Made
from pipelines.evidence.reports.subjects import subject_of
from warehouse import config
from warehouse.access import grants
from warehouse.errors import ConfigError, HindcastError
from warehouse.lake.tables import Lake

log = structlog.stdlib.get_logger(__name__)
PLATFORM = ""
"""Stands for the platform among the subjects of a schedule."""
LOOK_BACK = timedelta(days=100)
"""How far back the report before is searched for."""


def schedule_of(settings: config.Config, name: str) -> config.Schedule:
    """Return the schedule of this name. Raises ConfigError if there is none."""
    for schedule in settings.reports.every_schedule:
        if schedule.name == name:
            return schedule
    raise ConfigError(f"reports.schedules has no schedule {name!r} any more")


def subjects_of(settings: config.Config, schedule: config.Schedule) -> list[str]:
    """Return for whom the reports of a schedule are made now: names of subjects, PLATFORM for the platform. Raises LakeError."""
    if not schedule.subjects:
        return [PLATFORM]
    found = [name for name in schedule.subjects if name != config.OWNERS]
    if config.OWNERS in schedule.subjects:
        known = grants.in_force(Lake.open(settings.lake), settings.ownership)
        now = datetime.now(UTC)
        found += sorted({one.subject for one in known if one.role == "namespace-owner" and not one.is_denial and one.holds(now)})
    return list(dict.fromkeys(found))


def run(settings: config.Config, schedule: config.Schedule, subject: str, *, at: datetime) -> str:
    """Make one report of a schedule for a time, unless it is made, and deliver it; return its id.

    Its window ends at the full hour before `at`; this waits until the rows of that window are committed. Raises HindcastError if it did
    not arrive everywhere, ConfigError, LakeError.
    """
    lake, by = Lake.open(settings.lake), f"schedule {schedule.name}"
    until = min(at, datetime.now(UTC)).replace(minute=0, second=0, microsecond=0)
    who = subject_of(settings, lake, subject) if subject else None
    name = None if who is None else who.user
    before = records.made_by(lake, by, name, since=until - LOOK_BACK)
    made = _made_already(schedule, until, before)
    if made is None:
        more, source = making.settings_of(settings, schedule.report)
        time.sleep(still_settling(until, datetime.now(UTC)))
        now = datetime.now(UTC)
        request = ReportOf(
            name=schedule.report,
            since=until - schedule.window,
            until=until,
            known=now - SETTLED,
            settings=more,
            source=source,
            **({} if who is None else {"subject": who}),
        )
        stem = "-".join(part for part in (schedule.report, _word(name), f"{until:%Y-%m-%d}") if part)
        made = making.make(settings, lake, request, formats=schedule.formats, stem=stem, by=by, made=now)
        making.record(lake, made)
    failures = sending.send(settings, lake, made, schedule.deliver_to, source=f"dag report_{schedule.name}")
    if failures:
        raise HindcastError(f"{made.manifest['title']}: not delivered: {'; '.join(failures)}")
    return str(made.manifest["id"])


def verify_before(settings: config.Config, schedule: config.Schedule, subject: str, *, at: datetime) -> str | None:
    """Verify the newest report that this schedule made for a subject before the one of `at`; return what that said, None without one.

    Raises LakeError.
    """
    lake, by = Lake.open(settings.lake), f"schedule {schedule.name}"
    until = min(at, datetime.now(UTC)).replace(minute=0, second=0, microsecond=0)
    who = None if not subject else subject_of(settings, lake, subject).user
    rows = [row for row in records.made_by(lake, by, who, since=until - LOOK_BACK) if row["until"] < until]
    if not rows:
        return None
    made = making.opened(json.loads(rows[-1]["manifest"]), rows[-1]["files"])
    with tempfile.TemporaryDirectory(prefix="hindcast-report-") as folder:
        making.write(made, Path(folder))
        file = next(name for name in made.files if name.endswith(verifying.SUFFIX))
        verdict = verifying.verify(settings, lake, Path(folder) / file)
    if verdict.is_recorded:
        records.record_verified(lake, verdict.manifest, verdict.differences, by=by)
    if not verdict.is_identical:
        log.warning("report differs", report=verdict.manifest["id"], differences=list(verdict.differences))
    return "identical" if verdict.is_identical else "differs"


def still_settling(until: datetime, now: datetime) -> float:
    """Return how many seconds it takes until a report of a window that ends at `until` can be made: known must be all of its window."""
    return max(0.0, (until + SETTLED - now).total_seconds())


def _made_already(schedule: config.Schedule, until: datetime, rows: list[dict[str, object]]) -> Made | None:
    for row in rows:
        if (row["report"], row["until"]) == (schedule.report, until) and isinstance(row["files"], bytes):
            return making.opened(json.loads(str(row["manifest"])), row["files"])
    return None


def _word(name: str | None) -> str:
    """Return a subject as a part of a file's name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name or "").strip("-")
