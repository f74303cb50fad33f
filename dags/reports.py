"""The DAGs `report_weekly` and `report_NAME`: make the reports of each schedule in the configuration, verify those before, deliver."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, CronTriggerTimetable, dag, get_current_context, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.alerts import FailureAlert, late
from warehouse.config import WEEKLY, Schedule, load_config, source_path

REPORTS = Asset(name="hindcast_reports", uri="hindcast://lake/reports")

DOC = """
### Reports, on schedule

- **subjects**: for whom reports are made: those that `reports.schedules` names, or the platform; divided into batches of up to 25.
- **make**: makes one report for each of a batch, which share what they read; records it in the table `reports` and delivers it to the
  targets of `deliver_to`, only where everyone who reads there may see all of it. One that fails does not keep the others from being
  made. Manually: `hindcast report`.
- **verify**: makes the report before again, as the lake was known then, and records whether it is identical. A report that differs does not
  fail the run: the page *Reports* shows it. Manually: `hindcast report verify`.

**Safe to run again**, at any time: what is made is not made again, what has arrived is not sent again.

**When it fails** (four tries) or has not ended four hours after it was queued, a finding `pipeline_failed` or `pipeline_late` is
written and a message is sent. `HINDCAST_CONFIG` names the configuration; a schedule that is added to it is a DAG within minutes.

**Owner:** platform.
"""


def made_of(schedule: Schedule) -> Any:
    """Return the DAG of a schedule."""
    name = f"report_{schedule.name.replace('-', '_')}"

    @dag(
        dag_id=name,
        schedule=CronTriggerTimetable(schedule.cron, timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags=["hindcast", "reports"],
        doc_md=DOC,
        deadline=DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(hours=4), callback=SyncCallback(late), name=name
        ),
        default_args={
            "owner": "platform",
            "retries": 3,
            "retry_delay": timedelta(minutes=2),
            "execution_timeout": timedelta(hours=1),
            "on_failure_callback": [FailureAlert()],
        },
    )
    def report() -> None:
        """Make the reports of the schedule, then verify those before."""

        @task
        def subjects() -> list[list[str]]:
            """Return for whom the reports are made, in batches; an empty name is the platform."""
            from pipelines.evidence.reports import scheduling

            settings = load_config()
            return scheduling.batches(scheduling.subjects_of(settings, scheduling.schedule_of(settings, schedule.name)))

        @task(outlets=[REPORTS], max_active_tis_per_dag=2)
        def make(batch: list[str]) -> list[str]:
            """Make and deliver the reports of a batch; return their ids."""
            from pipelines.evidence.reports import scheduling

            settings = load_config()
            return scheduling.run_batch(settings, scheduling.schedule_of(settings, schedule.name), batch, at=_time())

        @task(max_active_tis_per_dag=2)
        def verify(batch: list[str]) -> list[str | None]:
            """Verify the reports before; return identical, differs, or nothing without one, for each."""
            from pipelines.evidence.reports import scheduling

            settings = load_config()
            return scheduling.verify_batch(settings, scheduling.schedule_of(settings, schedule.name), batch, at=_time())

        wanted = subjects()
        make.expand(batch=wanted) >> verify.expand(batch=wanted)

    return report()


def _time() -> datetime:
    """The time that a run is for; that of its start if it was started by hand."""
    run = get_current_context()["dag_run"]
    found: datetime | None = run.logical_date or run.run_after
    return found or datetime.now(UTC)


for _schedule in load_config().reports.every_schedule if source_path().exists() else (WEEKLY,):
    globals()[f"report_{_schedule.name}"] = made_of(_schedule)
