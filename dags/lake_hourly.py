"""The DAG `lake_hourly`: for each hour that has closed, compacts and rolls up its flows, with clusters in parallel."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from airflow.sdk import Asset, CronPartitionTimetable, TriggerRule, dag, get_current_context, task, task_group
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.alerts import FailureAlert, late

HOUR = Asset(name="hindcast_lake_hour", uri="hindcast://lake/hour")
"""The asset published once per run, with the hour as partition key; schedules work that depends on closed hours."""

DOC = """
### The lake, every hour

Each run is named by the hour that has closed, ten minutes after its end (`2026-03-02T14`, UTC). For each group of clusters
the small files of closed hours are compacted into a few sorted ones, without duplicate flows, and rolled up. In parallel,
small files of all other tables are merged. Then the asset `hindcast_lake_hour` is published with the hour as its partition key.

If the configuration names an `engine`, that server compacts and rolls up, and the task only submits and commits.

**Safe to run again**, at any time and twice at once: a run does whatever is left to do for closed hours, so a run that was
missed, stopped or failed loses nothing, and late flows are processed by the next one. Manually: `hindcast maintain compact` and
`hindcast maintain rollup`.

**When it fails** (six tries) or has not ended 45 minutes after it was queued, a finding `pipeline_failed` or `pipeline_late`
is written to the table `findings`, and a message is sent to the webhook in `alerts`. `HINDCAST_CONFIG` names the
configuration.

**Owner:** platform.
"""


@dag(
    schedule=CronPartitionTimetable("12 * * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%dT%H", run_immediately=True),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["hindcast", "lake"],
    doc_md=DOC,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(minutes=45), callback=SyncCallback(late), name="lake_hourly"
    ),
    default_args={
        "owner": "platform",
        "retries": 5,  # the first within seconds: while Airflow starts, its tasks may come before its API
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": True,
        "execution_timeout": timedelta(minutes=40),
        "on_failure_callback": [FailureAlert()],
    },
)
def lake_hourly() -> None:
    """Compact and roll up closed hours, then publish the asset."""

    @task
    def groups() -> list[list[str]]:
        """Return the clusters that have closed hours to process, in groups."""
        from pipelines.maintenance.compaction import clusters_to_compact
        from pipelines.maintenance.rollup import clusters_to_roll_up
        from pipelines.maintenance.upkeep import in_groups
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        lake, now = Lake.open(load_config().lake), datetime.now(UTC)
        return in_groups(sorted({*clusters_to_compact(lake, now=now), *clusters_to_roll_up(lake, now=now)}))

    @task(max_active_tis_per_dagrun=2, map_index_template="{{ cluster_names }}")
    def compact(clusters: list[str]) -> int:
        """Compact the closed hours of a group of clusters; return how many."""
        from pipelines.maintenance.compaction import compact_closed_hours
        from warehouse.config import load_config
        from warehouse.engines.opening import usable
        from warehouse.lake.tables import Lake

        cast("dict[str, Any]", get_current_context())["cluster_names"] = ", ".join(clusters)
        settings, now = load_config(), datetime.now(UTC)
        on = usable(settings.engine)
        return len(compact_closed_hours(Lake.open(settings.lake), now=now, clusters=frozenset(clusters), on=on))

    @task(max_active_tis_per_dagrun=2, map_index_template="{{ cluster_names }}")
    def roll_up(clusters: list[str]) -> int:
        """Roll up the closed hours of a group of clusters whose flows have changed; return how many."""
        from pipelines.maintenance.rollup import roll_up_closed_hours
        from warehouse.config import load_config
        from warehouse.engines.opening import usable
        from warehouse.lake.tables import Lake

        cast("dict[str, Any]", get_current_context())["cluster_names"] = ", ".join(clusters)
        settings, now = load_config(), datetime.now(UTC)
        on = usable(settings.engine)
        done = roll_up_closed_hours(Lake.open(settings.lake), settings.rollups, now=now, clusters=frozenset(clusters), on=on)
        return sum(one.hours for one in done)

    @task
    def merge() -> int:
        """Merge the small files of all tables; return how many were replaced. A running collector also does this every half minute."""
        from pipelines.maintenance.merging import merge
        from warehouse.config import load_config
        from warehouse.lake.tables import Lake

        return sum(len(one.replaced) for one in merge(Lake.open(load_config().lake), now=datetime.now(UTC)))

    @task_group
    def care(clusters: list[str]) -> None:
        """Process one group of clusters, independently of the others. Rolling up follows compaction, or it would be done twice."""
        compact(clusters) >> roll_up(clusters)

    @task(outlets=[HOUR], trigger_rule=TriggerRule.NONE_FAILED)
    def publish(**context: Any) -> None:
        """Publish that the hour has been processed, even if there was nothing to do."""
        context["outlet_events"][HOUR].extra = {"hour": context.get("partition_key")}

    care.expand(clusters=groups()) >> publish()
    merge()


lake_hourly()
