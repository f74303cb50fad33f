"""The DAG `drift`: evaluates each cluster against its blueprints and controls every hour, and reverts drift if a blueprint says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronTriggerTimetable, dag, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.alerts import FailureAlert, late

DRIFT = Asset(name="hindcast_drift", uri="hindcast://lake/drift")

DOC = """
### Drift, every hour

Compares the recorded configuration of each cluster with the blueprints in the configuration, evaluates the audit
controls, and records both (`hindcast blueprint drift` does the same manually). New drift becomes a finding
`drift`, and a message is sent to the webhook in `alerts`; while the webhook is unavailable the run fails, and the next
one sends the message. Then objects that drifted from blueprints with `drift: revert` are restored, within their limits
(`hindcast blueprint revert`). Where a cluster of the configuration has `open_reports`, open findings and drift are written into
it as OpenReports (`hindcast findings publish`).

**Safe to run again**, at any time: a repeated run finds nothing new; one that is missed costs an hour of the record.

**When it fails** (four tries) or has not ended 60 minutes after it was queued, a finding `pipeline_failed` or `pipeline_late`
is written and a message is sent to the webhook. `HINDCAST_CONFIG` names the configuration.

**Owner:** platform.
"""


@dag(
    schedule=CronTriggerTimetable("25 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["hindcast", "drift"],
    doc_md=DOC,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(minutes=60), callback=SyncCallback(late), name="drift"
    ),
    default_args={
        "owner": "platform",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(minutes=30),
        "on_failure_callback": [FailureAlert()],
    },
)
def drift() -> None:
    """Find drift, record it, revert it where allowed, and write it into the clusters that want it."""

    @task(outlets=[DRIFT])
    def evaluate() -> int:
        """Evaluate every cluster and record the results; return the number of new rows of drift."""
        from pipelines.blueprints import evaluation, model, notifying
        from warehouse.config import load_config
        from warehouse.errors import HindcastError
        from warehouse.lake.tables import Lake

        settings, now = load_config(), datetime.now(UTC)
        lake = Lake.open(settings.lake)
        found = evaluation.evaluate_fleet(lake, model.load(settings.blueprints), settings.clusters, at=now)
        kept = evaluation.store(lake, found, now=now, configured={cluster.name for cluster in settings.clusters})
        # Messages that an earlier run could not send are sent now, so a retry after a failure does not lose them.
        if failures := notifying.notify_opened(settings, lake, now=now, source="dag drift"):
            raise HindcastError("; ".join(failures))
        return kept.rows

    @task
    def revert() -> list[str]:
        """Restore drifted objects; return one line per cluster, and fail if an object could not be restored."""
        from pipelines.blueprints import fleet, model
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        settings = load_config()
        return fleet.revert_all(
            Lake.open(settings.lake), model.load(settings.blueprints), settings.clusters, now=datetime.now(UTC), actor="dag drift"
        )

    @task
    def publish_reports() -> dict[str, int]:
        """Write findings and drift into the clusters that want them as OpenReports; return the number of reports by what was done."""
        from pipelines.evidence.open_reports.publishing import publish_all
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        settings = load_config()
        return publish_all(settings, Lake.open(settings.lake))

    evaluate() >> [revert(), publish_reports()]


drift()
