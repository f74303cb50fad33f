"""The DAG `alert_rules`: evaluates the alert rules of the configuration every five minutes, and sends their alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronTriggerTimetable, dag, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.alerts import FailureAlert, late

ALERTS = Asset(name="hindcast_alerts", uri="hindcast://lake/alerts")

DOC = """
### Alert rules, every five minutes

Evaluates the rules in `alerts.rules` over windows that end a minute ago, keeps the state of their alerts in the table `alerts`, and sends
them to Alertmanager and to deliveries (`hindcast alerts run` does the same manually). Without rules nothing is done.

**Safe to run again**, at any time: a run of a time that was evaluated changes and sends nothing; what a run could not send is sent by the
next one. A rule with a mistake is not evaluated, all others are; its owner is told. A window that was not observed says nothing: the rule
is recorded as `not_covered`, and its alerts stay as they are.

**When it fails** (three tries) or has not ended 15 minutes after it was queued, a finding `pipeline_failed` or `pipeline_late` is written
and the targets in `alerts` are told. `HINDCAST_CONFIG` names the configuration.

**Owner:** platform.
"""


@dag(
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["hindcast", "evidence"],
    doc_md=DOC,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(minutes=15), callback=SyncCallback(late), name="alert_rules"
    ),
    default_args={
        "owner": "platform",
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "execution_timeout": timedelta(minutes=10),
        "on_failure_callback": [FailureAlert()],
    },
)
def alert_rules() -> None:
    """Evaluate the rules and send their alerts."""

    @task(outlets=[ALERTS])
    def evaluate() -> dict[str, int]:
        """Evaluate every rule; return how many there are, how many alerts changed and are live, and how many rules of subjects are wrong.

        Fails if a rule of the operator is wrong. Those of subjects are told to their owners.
        """
        from pipelines.evidence.rules import running
        from warehouse.config import load_config
        from warehouse.errors import HindcastError
        from warehouse.lake.tables import Lake

        settings = load_config()
        if not settings.alerts.rules:
            return {}
        done = running.run(settings, Lake.open(settings.lake), now=datetime.now(UTC), source="dag alert_rules")
        if problems := [*done.problems(of_subjects=False), *done.failures]:
            raise HindcastError("; ".join(problems))
        wrong = len(done.problems(of_subjects=True))
        return {"rules": len(done.evaluations), "changed": len(done.changed), "live": len(done.live), "wrong": wrong}

    evaluate()


alert_rules()
