"""Executes plans, canary clusters first, and stops at the first failure; every step is recorded.

Reverting drift is the same with an hourly limit, so that Hindcast and another automation that undo each other's changes do so
rarely and visibly.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.blueprints import helm, objects
from pipelines.blueprints.model import BlueprintFile
from pipelines.blueprints.planning import Change, Plan
from pipelines.objects.canonical import Manifest
from warehouse import config
from warehouse.errors import ClusterError, HindcastError
from warehouse.lake.tables import Lake
from warehouse.schema import POLICY_CHANGES
from warehouse.wording import counted

if TYPE_CHECKING:  # the client of Kubernetes is not needed to import this
    from pipelines.cluster_access import ClusterAccess


@dataclass(frozen=True, kw_only=True)
class Step:
    """What was done to one object: a row of `policy_changes`."""

    change: Change | None
    action: str
    result: str
    time: datetime
    after: Manifest | None = None
    detail: str | None = None
    release: helm.Release | None = None


@dataclass(kw_only=True)
class Publication:
    """What was done to one cluster."""

    cluster: str
    run: str
    cause: str
    actor: str
    steps: list[Step] = field(default_factory=list)

    @property
    def failure(self) -> str | None:
        """The failure that stopped it; None if there was none."""
        return next((step.detail for step in self.steps if step.result == "failed"), None)

    def count(self, result: str) -> int:
        return sum(step.result == result for step in self.steps)

    def rows(self) -> pa.Table:
        """Rows of `policy_changes`."""
        return pa.Table.from_pylist([self._row(step) for step in self.steps], schema=POLICY_CHANGES.schema)

    def _row(self, step: Step) -> dict[str, Any]:
        change, release = step.change, step.release
        about: dict[str, Any] = {"kind": "HelmRelease", "namespace": None, "name": None, "blueprint": None, "blueprint_version": None}
        if change is not None:
            about = {
                "kind": change.key.kind,
                "namespace": change.key.namespace,
                "name": change.key.name,
                "blueprint": change.blueprint,
                "blueprint_version": change.blueprint_version,
                "before": _text(change.before),
            }
        elif release is not None:
            about |= {"namespace": release.namespace, "name": release.name}
        return {
            "cluster": self.cluster,
            "date": step.time.date(),
            "time": step.time,
            "run": self.run,
            "cause": self.cause if change is not None else "helm",
            "actor": self.actor,
            "action": step.action,
            "result": step.result,
            "after": _text(step.after),
            "detail": step.detail,
            **about,
        }


def _text(manifest: Manifest | None) -> str | None:
    """Return the object without fields that only the server uses."""
    if manifest is None:
        return None
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    return json.dumps({**manifest, "metadata": metadata}, sort_keys=True)


def new_run() -> str:
    """Return an id for a publication."""
    return uuid.uuid4().hex


def publish_plan(
    api: ClusterAccess,
    plan: Plan,
    settings: config.Kubernetes | None,
    *,
    run: str,
    actor: str,
    wait: bool = True,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Publication:
    """Execute a plan. After the first failure the rest is skipped. A namespace deleted meanwhile is not a failure.

    `settings` are the credentials that helm uses; without a chart none are needed.
    """
    done = Publication(cluster=plan.cluster, run=run, cause="publish", actor=actor)
    if settings is not None and plan.chart is not None and plan.release is not None and plan.release.action != "unchanged":
        done.steps.append(_helm(plan, settings, wait))
    todo = [change for change in plan.changes if change.action != "unchanged"]
    _work(api, done, todo, progress)
    return done


def revert(api: ClusterAccess, plan: Plan, files: Sequence[BlueprintFile], *, reverted_last_hour: int, run: str, actor: str) -> Publication:
    """Revert objects of blueprints with `drift: revert` that a plan would create or update, within the hourly limit."""
    limits = {file.blueprint.name: file.blueprint.revert.max_per_hour for file in files if file.blueprint.drift == "revert"}
    done = Publication(cluster=plan.cluster, run=run, cause="revert", actor=actor)
    todo = [change for change in plan.changes if change.action in {"create", "update"} and change.blueprint in limits]
    allowed, over, used = [], [], reverted_last_hour
    for change in todo:
        if used < limits[str(change.blueprint)]:
            used += 1
            allowed.append(change)
        else:
            over.append(change)
    _work(api, done, allowed, lambda _done, _total: None)
    for change in over:
        detail = f"{limits[str(change.blueprint)]} objects an hour are put back in a cluster: this one waits"
        done.steps.append(Step(change=change, action=change.action, result="limited", time=datetime.now(UTC), detail=detail))
    return done


def reverted_since(lake: Lake, cluster: str, since: datetime) -> int:
    """Count the objects of a cluster that were reverted since a time. Raises LakeError."""
    rows = lake.read(POLICY_CHANGES, ["cause", "result"], clusters=[cluster], since=since).to_pylist()
    return sum(row["cause"] == "revert" and row["result"] == "done" for row in rows)


LIMIT_WINDOW = timedelta(hours=1)


def record(lake: Lake, publications: Sequence[Publication]) -> None:
    """Append the steps to `policy_changes`. Raises LakeError."""
    rows = pa.concat_tables([POLICY_CHANGES.schema.empty_table(), *(publication.rows() for publication in publications)])
    if rows.num_rows:
        lake.commit(POLICY_CHANGES, lake.write_files(POLICY_CHANGES, rows), transactions={}, metadata={})


def _helm(plan: Plan, settings: config.Kubernetes, wait: bool) -> Step:
    chart, release = plan.chart, plan.release
    assert chart is not None  # noqa: S101 (the caller has looked)
    assert release is not None  # noqa: S101
    try:
        release = helm.publish_release(chart[0], settings, folder=chart[1], wait=wait)
        detail = f"{release.chart}: {counted(len(release.changed), 'object')}"
        return Step(change=None, action=release.action, result="done", time=datetime.now(UTC), detail=detail, release=release)
    except HindcastError as error:
        return Step(change=None, action=release.action, result="failed", time=datetime.now(UTC), detail=str(error), release=release)


def _work(api: ClusterAccess, done: Publication, todo: Sequence[Change], progress: Callable[[int, int], None]) -> None:
    for number, step in enumerate(_steps(api, done, todo), start=1):
        done.steps.append(step)
        progress(number, len(todo))


def _steps(api: ClusterAccess, done: Publication, todo: Sequence[Change]) -> Iterator[Step]:
    has_failed = done.failure is not None
    for change in todo:
        if has_failed:
            detail = "not tried, after the failure before it"
            yield Step(change=change, action=change.action, result="skipped", time=datetime.now(UTC), detail=detail)
        else:
            step = _step(api, change)
            has_failed = step.result == "failed"
            yield step


def _step(api: ClusterAccess, change: Change) -> Step:
    after: Manifest | None = None
    try:
        if change.manifest is not None:
            after = objects.put_right(api, change.manifest)
        elif change.before is not None:
            objects.delete(api, change.before)
    except ClusterError as error:
        gone = objects.namespace_is_gone(api, change.key.namespace, error)
        detail = f"the namespace {change.key.namespace} is gone: nothing to do there any more" if gone else f"{change.key}: {error}"
        result = "skipped" if gone else "failed"
        return Step(change=change, action=change.action, result=result, time=datetime.now(UTC), detail=detail)
    return Step(change=change, action=change.action, result="done", time=datetime.now(UTC), after=after, detail=change.note)
