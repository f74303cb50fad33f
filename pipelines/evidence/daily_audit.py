"""The standing audits of a fleet's policies, and standing recommendations, recorded as findings. The DAG `policy_daily` runs them."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from pipelines.audits.finding import Audited, Finding, Kind
from pipelines.evidence import findings
from pipelines.evidence.findings import Kept
from pipelines.recommend.recommendation import Recommendation, Subject
from pipelines.replay.auditing import AuditOf, NothingToAuditError, audit
from pipelines.replay.in_force import History
from pipelines.replay.observed_traffic import TrafficOf
from pipelines.replay.recommending import recommended
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.engine import Window
from warehouse.errors import ConfigError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.records.findings import open_findings

log = structlog.stdlib.get_logger(__name__)
_STANDING = (Kind.UNISOLATED_WORKLOAD.value, Kind.RECOMMENDED_POLICY.value)


def audit_fleet(settings: config.Config, *, now: datetime, window: timedelta, source: str) -> Kept:
    """Audit the policies of every cluster over a window that ends now, and record the findings.

    A lake without configuration history has nothing to audit. Raises CommitConflictError if an audit of a later time is recorded,
    LakeError, QueryError.
    """
    lake = Lake.open(settings.lake)
    try:
        report = audit(_history(settings, lake, source), AuditOf(window=Window(since=now - window, until=now)))
    except NothingToAuditError as error:
        log.info("nothing to audit", reason=str(error))
        return Kept()
    for result in report.results:
        if result.not_evaluated:
            log.warning("audit not evaluated", cluster=result.cluster, kind=result.kind.value, reason=result.not_evaluated)
    configured = {cluster.name for cluster in settings.clusters} or None
    return findings.keep(lake, report.recordable, now=now, source=source, configured=configured)


def recommend_for_open(settings: config.Config, *, now: datetime, window: timedelta, source: str) -> Kept:
    """Recommend policies for each namespace with an open finding about a workload that nothing isolates, and record them as findings.

    A namespace without recorded traffic gets none, and keeps the one it has. Raises what `audit_fleet` raises.
    """
    lake = Lake.open(settings.lake)
    history = _history(settings, lake, source)
    standing = open_findings(lake, kinds=_STANDING).to_pylist()
    wanted = sorted({(row["cluster"], row["namespace"]) for row in standing if row["kind"] == Kind.UNISOLATED_WORKLOAD})
    results = []
    for cluster in sorted({row["cluster"] for row in standing}):
        found: list[Finding] = []
        undecided: dict[str, str] = {}
        for namespace in (of for at, of in wanted if at == cluster):
            asked = TrafficOf(namespace=namespace, window=Window(since=now - window, until=now), clusters=(cluster,))
            try:
                recommendation = recommended(history, asked, Subject(namespace)).recommendation
            except ConfigError as error:
                undecided[_finding(cluster, namespace, window, None).key] = str(error)
                continue
            found.append(_finding(cluster, namespace, window, recommendation))
        results.append(
            Audited(cluster=cluster, kind=Kind.RECOMMENDED_POLICY, findings=tuple(found), checked=len(found), undecided=undecided)
        )
    return findings.keep(lake, results, now=now, source=source)


def _finding(cluster: str, namespace: str, window: timedelta, found: Recommendation | None) -> Finding:
    policies = found.policies if found is not None else ()
    return Finding(
        kind=Kind.RECOMMENDED_POLICY,
        severity="info",
        cluster=cluster,
        namespace=namespace,
        subject=f"Namespace/{namespace}",
        summary=f"namespace {namespace} has workloads that no policy isolates; policies that allow what was seen of them: "
        f"hindcast policy recommend {namespace} --cluster {cluster} --since {window.days}d",
        detail={"policies": [policy.manifest for policy in policies], "not_seen": list(found.not_seen) if found is not None else []},
    )


def _history(settings: config.Config, lake: Lake, source: str) -> History:
    return History(Door(lake, settings.ownership, settings.rollups, purpose=source, engine_settings=settings.engine), OPERATOR)
