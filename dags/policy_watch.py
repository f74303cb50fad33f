"""The DAG `policy_watch`: every five minutes, looks for flows that recent changes of policies drop, and rolls back where a rule says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronTriggerTimetable, dag, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.alerts import FailureAlert, late

DOC = """
### Applied proposals and published changes of blueprints, every five minutes

- **proposals**: for the time after a proposal was applied that `proposals.watch` says, records new drops that it causes in
  `policy_changes`, and rolls it back, as the user who applied it, where `proposals.roll_back_at` says so. Manually:
  `hindcast policy proposals watch`.
- **blueprints**: the same for changes of blueprints, published to canaries first or at once; they are rolled back in every cluster, as
  whoever published them. Manually: `hindcast blueprint changes watch`.

**Safe to run again**, at any time: the same drops are recorded once, and what is rolled back is watched no more.

One that cannot be judged does not keep the others from being looked at.

**When it fails** (three tries), a proposal or a change cannot be judged or rolled back, or it has not ended half an hour after it was
queued, a finding `pipeline_failed` or `pipeline_late` is written and a message is sent to the webhook in `alerts`. `HINDCAST_CONFIG`
names the configuration.

**Owner:** platform.
"""


@dag(
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["hindcast", "policy"],
    doc_md=DOC,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(minutes=30), callback=SyncCallback(late), name="policy_watch"
    ),
    default_args={
        "owner": "platform",
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(minutes=15),
        "on_failure_callback": [FailureAlert()],
    },
)
def policy_watch() -> None:
    """Watch applied proposals, and published changes of blueprints."""

    @task
    def proposals() -> dict[str, int]:
        """Look at every proposal that is being watched; return how many there are, how many drop flows and how many were rolled back."""
        from pipelines.proposals.watching_all import watch_fleet
        from warehouse.config import load_config

        return watch_fleet(load_config())

    @task
    def blueprints() -> dict[str, int]:
        """Look at every change of a blueprint that is being watched; return the same of those."""
        from pipelines.central.watching_all import watch_fleet
        from warehouse.config import load_config

        return watch_fleet(load_config())

    proposals()
    blueprints()


policy_watch()
