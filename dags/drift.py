"""The DAG `drift`: every hour, each cluster is held against its blueprints and controls, and put back where one says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronTriggerTimetable, dag, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.alerts import FailureAlert, late

DRIFT = Asset(name="hindcast_drift", uri="hindcast://lake/drift")

DOC = """
### Drift, every hour

Holds what configuration history knows of each cluster against the blueprints of the configuration, evaluates the audit
controls, and records both (`hindcast blueprint drift` does the same by hand). Drift that is new becomes a finding
`drift`, and the webhook of the configuration's `alerts` is told; while the webhook is away the run fails, and the next
one tells it. Then what drifted from blueprints with `drift: revert` is put back, within their limits (`hindcast
blueprint revert`).

**Safe to run again**, at any time: a repeated run finds nothing new; one that is missed costs an hour of the record.

**When it fails** (four tries) or has not ended 60 minutes after it was queued, a finding `pipeline_failed` or `pipeline_late`
is written, and the webhook is told. The configuration is the one that `HINDCAST_CONFIG` names.

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
    """Find drift, record it, put back what may be."""

    @task(outlets=[DRIFT])
    def evaluate() -> int:
        """Judge every cluster and record what is found; gives the number of rows of drift that are new."""
        from pipelines.blueprints import evaluation, model, notifying
        from warehouse.config import load_config
        from warehouse.errors import HindcastError
        from warehouse.lake.tables import Lake

        settings, now = load_config(), datetime.now(UTC)
        lake = Lake.open(settings.lake)
        found = evaluation.evaluate_fleet(lake, model.load(settings.blueprints), settings.clusters, at=now)
        kept = evaluation.keep(lake, found, now=now, configured={cluster.name for cluster in settings.clusters})
        # What a run before could not tell is told now; so a retry after a failure does not lose the message.
        if failures := notifying.tell_opened(settings, lake, now=now, source="dag drift"):
            raise HindcastError("; ".join(failures))
        return kept.rows

    @task
    def revert() -> list[str]:
        """Put drifted objects back; gives a line a cluster, and fails if one could not be put back."""
        from pipelines.blueprints import fleet, model
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        settings = load_config()
        return fleet.revert_all(
            Lake.open(settings.lake), model.load(settings.blueprints), settings.clusters, now=datetime.now(UTC), actor="dag drift"
        )

    evaluate() >> revert()


drift()
