"""Makes the reports of a schedule, delivers them, and verifies the ones before. The DAGs `report_weekly` and `report_NAME` run it.

A second run for the same time makes nothing anew: it delivers what has not arrived yet.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import structlog

from pipelines.evidence.reports import making, records, sending, verifying
from pipelines.evidence.reports.asked import SETTLED, ReportOf
from pipelines.evidence.reports.making import Made
from pipelines.evidence.reports.subjects import subject_of
from warehouse import config
from warehouse.access import grants
from warehouse.errors import ConfigError, HindcastError
from warehouse.lake.tables import Lake
from warehouse.schema import EDGES_1H, FLOWS, TIMELINE_1M, WORKLOADS

log = structlog.stdlib.get_logger(__name__)
PLATFORM = ""
"""Stands for the platform among the subjects of a schedule."""
MOST_IN_BATCH = 25
"""The most reports that one worker makes."""
LOOK_BACK = timedelta(days=100)
"""How far back the report before is searched for."""
T = TypeVar("T")


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


def batches(subjects: Sequence[str]) -> list[list[str]]:
    """Divide subjects among the workers of a run: for at least two of them at once, and for at most MOST_IN_BATCH each."""
    number = max(min(2, len(subjects)), -(-len(subjects) // MOST_IN_BATCH))
    return [list(subjects[start::number]) for start in range(number)]


def run_batch(settings: config.Config, schedule: config.Schedule, subjects: Sequence[str], *, at: datetime) -> list[str]:
    """Make one report of a schedule for each subject and a time, unless it is made, and deliver it; return their ids.

    The window ends at the full hour before `at`; this waits until the rows of that window are committed. All reports hold what the lake
    knew at one moment, so what does not depend on the subject is read once. A report that fails does not keep the others from being made.
    Raises HindcastError after all were tried, which names those that were not made or did not arrive everywhere; ConfigError, LakeError.
    """
    return _each(subjects, _Run(settings, schedule, at).make)


def verify_batch(settings: config.Config, schedule: config.Schedule, subjects: Sequence[str], *, at: datetime) -> list[str | None]:
    """Verify the newest report that this schedule made for each subject before the one of `at`; return what that said, None without one.

    Raises as `run_batch`.
    """
    return _each(subjects, _Run(settings, schedule, at).verify)


class _Run:
    """One run of a schedule: its reports share the open lake and the moment of knowledge."""

    def __init__(self, settings: config.Config, schedule: config.Schedule, at: datetime) -> None:
        self._settings, self._schedule = settings, schedule
        self._lake, self._by = Lake.open(settings.lake), f"schedule {schedule.name}"
        self._until = min(at, datetime.now(UTC)).replace(minute=0, second=0, microsecond=0)

    @cached_property
    def _now(self) -> datetime:
        """When the reports of the run are made: what was received in their window is committed by then."""
        time.sleep(still_settling(self._until, datetime.now(UTC)))
        return datetime.now(UTC)

    @cached_property
    def _pinned(self) -> Lake:
        """The lake with flows, their rollups and workloads of one moment, so that what is learned for one report serves the others."""
        assert self._now  # noqa: S101 (what is received until then is part of it)
        return self._lake.pinned(FLOWS).pinned(EDGES_1H).pinned(TIMELINE_1M).pinned(WORKLOADS)

    def make(self, subject: str) -> str:
        """Make and deliver the report of a subject; return its id."""
        schedule = self._schedule
        who = subject_of(self._settings, self._lake, subject) if subject else None
        name = None if who is None else who.user
        made = _made_already(schedule, self._until, self._before(name))
        if made is None:
            more, source = making.settings_of(self._settings, schedule.report)
            request = ReportOf(
                name=schedule.report,
                since=self._until - schedule.window,
                until=self._until,
                known=self._now - SETTLED,
                settings=more,
                source=source,
                **({} if who is None else {"subject": who}),
            )
            stem = "-".join(part for part in (schedule.report, _word(name), f"{self._until:%Y-%m-%d}") if part)
            made = making.make(self._settings, self._pinned, request, formats=schedule.formats, stem=stem, by=self._by, made=self._now)
            making.record(self._lake, made)
        failures = sending.send(self._settings, self._lake, made, schedule.deliver_to, source=f"dag report_{schedule.name}")
        if failures:
            raise HindcastError(f"{made.manifest['title']}: not delivered: {'; '.join(failures)}")
        return str(made.manifest["id"])

    def verify(self, subject: str) -> str | None:
        """Verify the report of a subject before the one of this run; return what that said, None without one."""
        name = subject_of(self._settings, self._lake, subject).user if subject else None
        rows = [row for row in self._before(name) if row["until"] < self._until]
        if not rows:
            return None
        made = making.opened(json.loads(rows[-1]["manifest"]), rows[-1]["files"])
        with tempfile.TemporaryDirectory(prefix="hindcast-report-") as folder:
            making.write(made, Path(folder))
            file = next(name for name in made.files if name.endswith(verifying.SUFFIX))
            verdict = verifying.verify(self._settings, self._lake, Path(folder) / file)
        if verdict.is_recorded:
            records.record_verified(self._lake, verdict.manifest, verdict.differences, by=self._by)
        if not verdict.is_identical:
            log.warning("report differs", report=verdict.manifest["id"], differences=list(verdict.differences))
        return "identical" if verdict.is_identical else "differs"

    def _before(self, name: str | None) -> list[dict[str, Any]]:
        return records.made_by(self._lake, self._by, name, since=self._until - LOOK_BACK)


def _each(subjects: Sequence[str], act: Callable[[str], T]) -> list[T]:
    """Act for each subject; raise HindcastError with all failures at the end."""
    done: list[T] = []
    failures: list[str] = []
    for subject in subjects:
        try:
            done.append(act(subject))
        except HindcastError as error:
            failures.append(f"{subject or 'the platform'}: {error}")
    if failures:
        raise HindcastError("\n".join(failures))
    return done


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
