"""The DAG `lake_daily`: once a day, deletes expired rows and files no longer needed, and writes checkpoints of the logs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, CronPartitionTimetable, dag, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.alerts import FailureAlert, late

DAY = Asset(name="hindcast_lake_day", uri="hindcast://lake/day")
"""The asset published once per run, with the day as partition key and the tables' statistics."""

DOC = """
### The lake, every day

Each run is named by the day that has ended (`2026-03-02`, UTC).

- **retain**, one task per cluster: deletes rows that are older than the configuration's `retention` allows; legal
  holds take precedence. The configuration's `engine` does it, if there is one. Manually: `hindcast maintain retain`,
  with `--dry-run` to preview.
- **vacuum**: deletes files that left the tables longer than `retention.vacuum_after` ago, and files left by crashes.
  Manually: `hindcast maintain vacuum`.
- **checkpoint**: writes a checkpoint of each table's log, so that the lake opens fast. Manually: `hindcast maintain checkpoint`.
- **statistics**: publishes files, rows and bytes of each table with the asset `hindcast_lake_day`. Manually:
  `hindcast maintain statistics`.

**Safe to run again**, also at the same time as collectors, compaction and queries. **When it fails** (four tries) or has not
ended after six hours, a finding is written and a message is sent to the webhook in `alerts`.

**Owner:** platform.
"""


@dag(
    schedule=CronPartitionTimetable("40 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["hindcast", "lake"],
    doc_md=DOC,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(hours=6), callback=SyncCallback(late), name="lake_daily"
    ),
    default_args={
        "owner": "platform",
        "retries": 3,
        "retry_delay": timedelta(minutes=2),
        "retry_exponential_backoff": True,
        "execution_timeout": timedelta(hours=3),
        "on_failure_callback": [FailureAlert()],
    },
)
def lake_daily() -> None:
    """Apply retention, vacuum, write checkpoints, publish statistics."""

    @task
    def clusters() -> list[str]:
        """Return the clusters that may have expired rows."""
        from pipelines.maintenance.retention import due
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        settings = load_config()
        return sorted({one.cluster for one in due(Lake.open(settings.lake), settings.retention, now=datetime.now(UTC))})

    @task(max_active_tis_per_dagrun=2, map_index_template="{{ task.op_kwargs['cluster'] }}")
    def retain(cluster: str) -> dict[str, int]:
        """Delete a cluster's expired rows; return how many were deleted, and how many are held."""
        from pipelines.maintenance.retention import retain
        from warehouse.config import load_config
        from warehouse.engines.opening import usable
        from warehouse.lake.tables import Lake

        settings = load_config()
        on = usable(settings.engine)
        done = retain(Lake.open(settings.lake), settings.retention, now=datetime.now(UTC), clusters=frozenset([cluster]), on=on)
        return {"rows": sum(one.rows for one in done), "held": sum(one.held for one in done)}

    @task
    def vacuum() -> dict[str, int]:
        """Delete files that are no longer needed; return their number and size in bytes."""
        from pipelines.maintenance.upkeep import vacuum
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        settings = load_config()
        done = vacuum(Lake.open(settings.lake), older_than=settings.retention.vacuum_after)
        return {"files": sum(one.files for one in done), "bytes": sum(one.bytes for one in done)}

    @task
    def checkpoint() -> dict[str, int]:
        """Write a checkpoint of each table's log; return the versions."""
        from pipelines.maintenance.upkeep import checkpoint
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        return checkpoint(Lake.open(load_config().lake))

    @task(outlets=[DAY])
    def statistics(**context: Any) -> None:
        """Publish the statistics of the tables."""
        from pipelines.maintenance.upkeep import statistics
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        told = statistics(Lake.open(load_config().lake))
        tables = {one.table: {"files": one.files, "rows": one.rows, "bytes": one.bytes} for one in told}
        context["outlet_events"][DAY].extra = {"day": context.get("partition_key"), "tables": tables}

    # Retention and vacuum run in parallel, so that a cluster whose retention fails does not prevent freeing disk space.
    retain.expand(cluster=clusters())
    vacuum() >> checkpoint() >> statistics()


lake_daily()
