"""Writes reports into clusters by server-side apply, and removes those that nothing is left for. Safe to run again.

A cluster that cannot be written to does not keep the others from being written to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from pipelines.cluster_access import ClusterAccess
from pipelines.evidence.findings import AUDITS
from pipelines.evidence.open_reports import reports
from pipelines.evidence.open_reports.reports import API, MANAGED_BY, NAME
from pipelines.objects.canonical import Manifest
from warehouse import config
from warehouse.errors import (
    ClusterError,
    ClusterForbiddenError,
    ClusterMissingError,
    ClusterRefusedError,
    ClusterUnreachableError,
    HindcastError,
)
from warehouse.lake.tables import Lake
from warehouse.records import findings as findings_records
from warehouse.records import posture
from warehouse.schema import FINDINGS

FIELD_MANAGER = "hindcast-reports"
PATIENCE_SECONDS = 10.0
_PLURALS = {"Report": "reports", "ClusterReport": "clusterreports"}
_OWN = ("source", "scope", "configuration", "summary", "results")
"""Fields of a report that are ours to write."""
Place = tuple[str, str | None]
"""Kind and namespace of a report."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was done to one report."""

    cluster: str
    kind: str
    namespace: str | None
    action: str
    """created, updated, unchanged, removed, skipped or failed."""
    results: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What was done in one cluster."""

    cluster: str
    written: tuple[Written, ...] = ()
    problem: str = ""
    """Why nothing, or not everything, was written."""

    @property
    def problems(self) -> tuple[str, ...]:
        own = (self.problem,) if self.problem else ()
        return (*own, *(f"{self.cluster}: {one.note}" for one in self.written if one.action == "failed"))


def publish_fleet(
    settings: config.Config, lake: Lake, *, clusters: Sequence[str] = (), dry_run: bool = False, now: datetime | None = None
) -> Iterator[Published]:
    """Write the reports of every cluster with `open_reports`, or of the named ones, one cluster after the other. Raises LakeError."""
    for cluster in settings.clusters:
        if cluster.open_reports is None or (clusters and cluster.name not in clusters):
            continue
        wanted = wanted_reports(settings, lake, cluster.name, now=now or datetime.now(UTC))
        try:
            access = ClusterAccess(cluster.open_reports.access, cluster=cluster.name, patience_seconds=PATIENCE_SECONDS)
            with closing(access) as api:
                yield publish(api, wanted, dry_run=dry_run)
        except HindcastError as error:
            yield Published(cluster=cluster.name, problem=_in_words(error))


def publish_all(settings: config.Config, lake: Lake) -> dict[str, int]:
    """Write the reports of every cluster with `open_reports`; return how many there are, by what was done to them.

    Raises ClusterError with all failures after the rest is done, LakeError.
    """
    done = list(publish_fleet(settings, lake))
    if problems := [problem for one in done for problem in one.problems]:
        raise ClusterError("\n".join(problems))
    return dict(Counter(one.action for each in done for one in each.written))


def wanted_reports(settings: config.Config, lake: Lake, cluster: str, *, now: datetime) -> list[Manifest]:
    """Return the reports that a cluster should have. Raises LakeError."""
    standing = findings_records.findings(lake, at=now, clusters=[cluster], states=findings_records.STANDING)
    evaluations = [row["evaluated"] for row in posture.evaluations(lake, at=now, clusters=[cluster]).to_pylist()]
    return reports.of_cluster(
        standing.to_pylist(),
        posture.open_drift(lake, at=now, clusters=[cluster]).to_pylist(),
        evaluated=max(evaluations, default=None),
        is_audited=lake.transaction_version(FINDINGS, AUDITS) is not None,
        now=now,
        dashboard_url=settings.alerts.dashboard_url,
    )


def publish(api: ClusterAccess, wanted: Sequence[Manifest], *, dry_run: bool = False) -> Published:
    """Make the reports of a cluster what is wanted. One that is refused does not keep the others from being written.

    Raises ClusterError if the cluster has no such kinds, does not let us write them, or is away.
    """
    found = _read(api)
    written = [_put(api, report, found.pop(_place(report), None), dry_run) for report in wanted]
    written += [_remove(api, place, live, dry_run) for place, live in sorted(found.items(), key=lambda item: item[0][1] or "")]
    return Published(cluster=api.cluster, written=tuple(written))


def _read(api: ClusterAccess) -> dict[Place, Manifest]:
    """Return the reports of Hindcast that the cluster has."""
    found: dict[Place, Manifest] = {}
    label = "=".join(*MANAGED_BY.items())
    for kind, plural in _PLURALS.items():
        of_kind: dict[Place, Manifest] = {}
        for page in api.list_pages(f"/apis/{API}/{plural}", query={"labelSelector": label}):
            if page.begins:
                of_kind.clear()
            ours = (item for item in page.items if item["metadata"]["name"] == NAME)
            of_kind |= {(kind, item["metadata"].get("namespace")): item for item in ours}
        found |= of_kind
    return found


def _put(api: ClusterAccess, report: Manifest, live: Manifest | None, dry_run: bool) -> Written:
    if live is not None and _is_as_wanted(report, live):
        return _done(api, report, "unchanged")
    query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
    try:
        api.request("PATCH", _path(report), query=query, body=report, content_type="application/apply-patch+yaml", retry=True)
    except (ClusterForbiddenError, ClusterRefusedError, ClusterUnreachableError):
        raise
    except ClusterMissingError:
        return _done(api, report, "skipped", note="the namespace does not exist any more")
    except ClusterError as error:
        return _done(api, report, "failed", note=str(error))
    return _done(api, report, "created" if live is None else "updated")


def _is_as_wanted(report: Manifest, live: Manifest) -> bool:
    has_marks = all((live["metadata"].get("labels") or {}).get(name) == value for name, value in MANAGED_BY.items())
    ours, theirs = (one["metadata"].get("annotations") or {} for one in (report, live))
    is_marked = ours.get(reports.LEFT_OUT) == theirs.get(reports.LEFT_OUT)
    return has_marks and is_marked and all(report.get(name) == live.get(name) for name in _OWN)


def _remove(api: ClusterAccess, place: Place, live: Manifest, dry_run: bool) -> Written:
    kind, namespace = place
    report = {"kind": kind, "metadata": {"name": NAME, "namespace": namespace}, "results": ()}
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": live["metadata"]["uid"]}}
    if dry_run:
        body["dryRun"] = ["All"]
    try:
        api.request("DELETE", _path(report), body=body)
    except ClusterMissingError:
        return _done(api, report, "removed", note="it was gone already")
    return _done(api, report, "removed")


def _done(api: ClusterAccess, report: Manifest, action: str, *, note: str = "") -> Written:
    kind, namespace = _place(report)
    return Written(cluster=api.cluster, kind=kind, namespace=namespace, action=action, results=len(report["results"]), note=note)


def _place(report: Manifest) -> Place:
    return report["kind"], report["metadata"].get("namespace")


def _path(report: Manifest) -> str:
    kind, namespace = _place(report)
    segments = ["apis", *API.split("/"), *(["namespaces", namespace] if namespace else []), _PLURALS[kind], NAME]
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def _in_words(error: HindcastError) -> str:
    """Say what to do, where that is known."""
    if isinstance(error, ClusterMissingError):
        advice = f"the API {API} is not installed: install its CRDs (github.com/openreports/reports-api), or take open_reports out"
        return f"{error}. {advice}"
    if isinstance(error, ClusterForbiddenError):
        return f"{error}. deploy/helm/hindcast/files/open-reports.yaml has the rights that are needed"
    return str(error)
