"""The DAG `config_history`: records the network configuration of each cluster every hour, and compacts its tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronTriggerTimetable, dag, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.alerts import FailureAlert, late

CONFIGURATION = Asset(name="hindcast_configuration", uri="hindcast://lake/configuration")

DOC = """
### Configuration history, every hour

Reads each cluster's API server, or its folder of manifests, and records what has changed (`hindcast config snapshot` does the
same manually, and `--watch` within seconds). A run that is missed, repeated or stopped loses nothing but time: the next one
records everything that has changed since. A cluster that cannot be read is recorded in the table `config_coverage` and fails its
task; the others continue. Then tables with many small files are compacted. `HINDCAST_CONFIG` names the configuration.

**Safe to run again.** **When it fails** permanently, or has not ended 45 minutes after it was queued, a finding is written and
a message is sent to the webhook in `alerts`. **Owner:** platform.
"""


@dag(
    schedule=CronTriggerTimetable("0 * * * *", timezone="UTC", run_immediately=True),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["hindcast", "configuration"],
    doc_md=DOC,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(minutes=45), callback=SyncCallback(late), name="config_history"
    ),
    default_args={
        "owner": "platform",
        "retries": 2,
        "retry_delay": timedelta(minutes=2),
        "execution_timeout": timedelta(minutes=15),
        "on_failure_callback": [FailureAlert()],
    },
)
def config_history() -> None:
    """Record what has changed."""

    @task
    def clusters() -> list[str]:
        """Return the clusters that have a source of configuration."""
        from warehouse.config import load_config

        return [cluster.name for cluster in load_config().clusters if cluster.kubernetes is not None]

    @task(outlets=[CONFIGURATION], map_index_template="{{ task.op_kwargs['cluster'] }}")
    def snapshot(cluster: str) -> int:
        """Record a cluster's configuration; return how many versions began or ended."""
        from pipelines.configuration.looking import look_and_insist
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        settings = load_config()
        (chosen,) = (each for each in settings.clusters if each.name == cluster)
        return look_and_insist(Lake.open(settings.lake), chosen)

    @task(trigger_rule="all_done")
    def compact() -> int:
        """Compact the tables; return how many files were replaced."""
        from pipelines.configuration.care import compact_configuration
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        return sum(done.files_before for done in compact_configuration(Lake.open(load_config().lake)))

    snapshot.expand(cluster=clusters()) >> compact()


config_history()
