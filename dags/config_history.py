"""The DAG `config_history`: every hour, the network configuration of each cluster is recorded, and its tables kept compact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronTriggerTimetable, dag, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.alerts import FailureAlert, late

CONFIGURATION = Asset(name="hindcast_configuration", uri="hindcast://lake/configuration")

DOC = """
### Configuration history, every hour

Looks at each cluster's API server, or its folder of manifests, and records what is new (`hindcast config snapshot` does the
same by hand, and `--watch` within seconds). A run that is missed, repeated or stopped costs nothing but time: the next one
records what is new since. A cluster that cannot be read is noted in the table `config_coverage` and fails its task; the
others go on. Then the tables are compacted, where they have become many files. The configuration is the one that `HINDCAST_CONFIG` names.

**Safe to run again.** **When it fails** for good, or has not ended 45 minutes after it was queued, a finding is written and
the webhook of `alerts` is told. **Owner:** platform.
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
    """Record what is new."""

    @task
    def clusters() -> list[str]:
        """The clusters whose configuration can be read."""
        from warehouse.config import load_config

        return [cluster.name for cluster in load_config().clusters if cluster.kubernetes is not None]

    @task(outlets=[CONFIGURATION], map_index_template="{{ task.op_kwargs['cluster'] }}")
    def snapshot(cluster: str) -> int:
        """Record a cluster's configuration; gives how many versions began or ended."""
        from pipelines.configuration.looking import look_and_insist
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        settings = load_config()
        (chosen,) = (each for each in settings.clusters if each.name == cluster)
        return look_and_insist(Lake.open(settings.lake), chosen)

    @task(trigger_rule="all_done")
    def compact() -> int:
        """Compact the tables; gives how many files were replaced."""
        from pipelines.configuration.care import compact_configuration
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        return sum(done.files_before for done in compact_configuration(Lake.open(load_config().lake)))

    snapshot.expand(cluster=clusters()) >> compact()


config_history()
