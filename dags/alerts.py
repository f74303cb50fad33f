"""Alerts of the DAGs when a task fails permanently or a run is late: a finding, and a message to the configured webhook.

DAG files import it as `dags.alerts`, from the installed package: Airflow calls it by that name in other processes too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseNotifier
from airflow.sdk.definitions.context import Context


class FailureAlert(BaseNotifier):
    """For `on_failure_callback`: reports that a task has failed in all tries."""

    def notify(self, context: Context) -> None:
        """Report the failure."""
        from pipelines.evidence import alerts
        from warehouse.config import load_config

        task = context["ti"]
        mapped = task.map_index is not None and task.map_index >= 0
        place = f"{task.dag_id}.{task.task_id}" + (f"[{task.map_index}]" if mapped else "")
        error = context.get("exception")
        reason = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error or "no reason is known")
        alerts.send(
            load_config(),
            kind=alerts.FAILED,
            severity="high",
            subject=f"task/{place}",
            summary=f"{place} failed after {task.try_number} tries: {reason.splitlines()[0][:300]}",
            source=f"dag {task.dag_id}",
            detail={"run_id": task.run_id, "partition_key": context.get("partition_key"), "tries": task.try_number, "error": reason[:2000]},
        )


def late(context: Mapping[str, Any] | None = None, **_: Any) -> None:
    """For a `DeadlineAlert`: reports that a run has not ended by its deadline. Airflow passes the run as in its API."""
    from pipelines.evidence import alerts
    from warehouse.config import load_config

    run = (context or {}).get("dag_run", {})
    deadline = (context or {}).get("deadline", {})
    name = run.get("dag_id", "a DAG")
    when = deadline.get("deadline_time", "unknown")
    alerts.send(
        load_config(),
        kind=alerts.LATE,
        severity="medium",
        subject=f"dag/{name}",
        summary=f"{name} has not ended by its deadline, {when}; the run is {run.get('dag_run_id', 'unknown')}",
        source=f"dag {name}",
        detail={"run_id": run.get("dag_run_id"), "partition_key": run.get("partition_key"), "state": run.get("state")},
    )
