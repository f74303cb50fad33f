"""The DAG `lake_hourly`: every hour, the hours that have closed are compacted, a task for each cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronTriggerTimetable, dag, task

FLOWS = Asset(name="hindcast_flows_compacted", uri="hindcast://lake/flows/compacted")

DOC = """
### The lake, every hour

Turns the small files of each closed hour into few sorted ones (`hindcast maintain compact` does the same by hand).
An hour closes ten minutes after its end. A run that is missed, repeated or stopped costs nothing: the next one finds
whatever is loose. The configuration is the one that `HINDCAST_CONFIG` names.
"""


@dag(
    schedule=CronTriggerTimetable("12 * * * *", timezone="UTC", run_immediately=True),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["hindcast", "lake"],
    doc_md=DOC,
    default_args={"owner": "platform", "retries": 3, "retry_delay": timedelta(minutes=1), "execution_timeout": timedelta(minutes=30)},
)
def lake_hourly() -> None:
    """Compact what has closed."""

    @task
    def clusters() -> list[str]:
        """The clusters that have closed hours to compact."""
        from pipelines.compaction import clusters_to_compact
        from warehouse.config import load_config
        from warehouse.tables import Lake

        return clusters_to_compact(Lake.open(load_config().lake), now=datetime.now(UTC))

    @task(outlets=[FLOWS], map_index_template="{{ task.op_kwargs['cluster'] }}")
    def compact(cluster: str) -> int:
        """Compact a cluster's closed hours; gives how many."""
        from pipelines.compaction import compact_closed_hours
        from warehouse.config import load_config
        from warehouse.tables import Lake

        done = compact_closed_hours(Lake.open(load_config().lake), now=datetime.now(UTC), clusters=frozenset([cluster]))
        return len(done)

    compact.expand(cluster=clusters())


lake_hourly()
