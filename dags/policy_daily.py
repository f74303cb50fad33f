"""The DAG `policy_daily`: audits the policies of each cluster over the last 30 days, and recommends policies where there are none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Asset, CronTriggerTimetable, dag, task
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags.alerts import FailureAlert, late

FINDINGS = Asset(name="hindcast_policy_findings", uri="hindcast://lake/policy-findings")

DOC = """
### Policies, every day

- **audit**: audits the policies in force against the workloads that exist and the traffic of the last 30 days, and records what is
  found in the table `findings`: each finding opens once, stays, and closes when it is no longer found. Manually:
  `hindcast policy audit`.
- **recommend**: for each namespace with a workload that no policy isolates, keeps a finding `recommended_policy` with the
  policies that the traffic of the last 30 days would need, until the namespace is isolated. Manually: `hindcast policy recommend`.

**Safe to run again**, at any time: a repeated run finds nothing new. What cannot be evaluated neither opens nor closes a finding.

**When it fails** (four tries) or has not ended four hours after it was queued, a finding `pipeline_failed` or `pipeline_late` is
written and a message is sent to the webhook in `alerts`. `HINDCAST_CONFIG` names the configuration.

**Owner:** platform.
"""
WINDOW = timedelta(days=30)


@dag(
    schedule=CronTriggerTimetable("10 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    tags=["hindcast", "policy"],
    doc_md=DOC,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(hours=4), callback=SyncCallback(late), name="policy_daily"
    ),
    default_args={
        "owner": "platform",
        "retries": 3,
        "retry_delay": timedelta(minutes=2),
        "execution_timeout": timedelta(hours=2),
        "on_failure_callback": [FailureAlert()],
    },
)
def policy_daily() -> None:
    """Audit policies and record the findings; then recommend policies where none isolates a workload."""

    @task(outlets=[FINDINGS])
    def audit() -> dict[str, int]:
        """Audit every cluster; return how many findings opened, changed and closed."""
        from dataclasses import asdict

        from pipelines.evidence.daily_audit import audit_fleet
        from warehouse.config import load_config

        return asdict(audit_fleet(load_config(), now=datetime.now(UTC), window=WINDOW, source="dag policy_daily"))

    @task(outlets=[FINDINGS])
    def recommend() -> dict[str, int]:
        """Recommend policies for namespaces with open workloads; return how many findings opened, changed and closed."""
        from dataclasses import asdict

        from pipelines.evidence.daily_audit import recommend_for_open
        from warehouse.config import load_config

        return asdict(recommend_for_open(load_config(), now=datetime.now(UTC), window=WINDOW, source="dag policy_daily"))

    audit() >> recommend()


policy_daily()
