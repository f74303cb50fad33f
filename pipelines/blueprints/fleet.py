"""Plans, publishes and reverts the clusters of a fleet one by one. The steps within one cluster do not belong here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipelines.blueprints.model import BlueprintFile
from pipelines.blueprints.planning import Plan, plan_cluster
from pipelines.blueprints.publishing import LIMIT_WINDOW, Publication, new_run, publish_plan, record, revert, reverted_since
from pipelines.blueprints.selectors import matches_any
from warehouse import config
from warehouse.errors import ClusterError, ConfigError
from warehouse.lake.tables import Lake

if TYPE_CHECKING:  # the client of Kubernetes is not needed to import this
    from pipelines.cluster_access import ClusterAccess

Progress = Callable[[str, int, int], None]
"""Called with the progress: cluster, number of objects done, number of objects in total."""
Open = Callable[[config.Cluster], "ClusterAccess"]
"""Opens the API server of a cluster; raises ConfigError if that is not possible."""


def silent(_cluster: str, _done: int, _total: int) -> None:
    """Tell nobody of the progress."""


def canary_order(files: Sequence[BlueprintFile], clusters: Sequence[config.Cluster]) -> list[config.Cluster]:
    """Return canary clusters first, in the order of the blueprints; then the others, by name."""
    return sorted(clusters, key=lambda cluster: (_canary_rank(files, cluster), cluster.name))


def is_canary(files: Sequence[BlueprintFile], cluster: config.Cluster) -> bool:
    """Return whether a blueprint names the cluster as a canary."""
    return _canary_rank(files, cluster) < _NO_CANARY


_NO_CANARY = 1_000_000


def _canary_rank(files: Sequence[BlueprintFile], cluster: config.Cluster) -> int:
    ranks = [
        index
        for file in files
        if file.blueprint.clusters.selects(cluster.name, cluster.labels)
        for index, pattern in enumerate(file.blueprint.canary)
        if matches_any(cluster.name, [pattern])
    ]
    return min(ranks, default=_NO_CANARY)


def published_clusters(clusters: Sequence[config.Cluster]) -> list[config.Cluster]:
    """Return the clusters with an API server; a folder of manifests cannot be published to."""
    return [cluster for cluster in clusters if cluster.kubernetes is not None and cluster.kubernetes.manifests is None]


def open_as_configured(cluster: config.Cluster) -> ClusterAccess:
    """Open the API server of a cluster with the credentials of its `kubernetes`. Raises ConfigError."""
    try:
        from pipelines.cluster_access import ClusterAccess
    except ModuleNotFoundError as error:  # the dashboard is installed without it
        raise ConfigError(f"asking cluster {cluster.name} needs the extra pipelines: pip install 'hindcast-flows[pipelines]'") from error
    return ClusterAccess(_kubernetes(cluster), cluster=cluster.name)


def plan_fleet(
    files: Sequence[BlueprintFile],
    clusters: Sequence[config.Cluster],
    *,
    now: datetime,
    retired: Iterable[str] = (),
    progress: Progress = silent,
    opened: Open = open_as_configured,
) -> Iterator[Plan]:
    """Plan each cluster, in the order of publishing. Raises ConfigError if blueprints disagree."""
    retired = list(retired)
    for cluster in canary_order(files, clusters):
        try:
            with _access(cluster, opened) as api:
                yield plan_cluster(api, files, cluster, now=now, retired=retired, progress=_of(progress, cluster))
        except _NoAccess as error:
            yield Plan(cluster=cluster.name, problem=str(error))


def publish_fleet(
    lake: Lake,
    files: Sequence[BlueprintFile],
    clusters: Sequence[config.Cluster],
    *,
    now: datetime,
    actor: str,
    retired: Iterable[str] = (),
    wait: bool = True,
    progress: Progress = silent,
    run: str | None = None,
    canaries: Collection[str] = (),
    opened: Open = open_as_configured,
    check: Callable[[Plan], str] = lambda _plan: "",
) -> Iterator[tuple[Plan, Publication | None]]:
    """Publish cluster by cluster, canaries first, and stop at the first failure; results are recorded after each cluster.

    A plan with a problem is not started and also stops the run. A canary is planned again afterwards and must have no changes left.

    Args:
        lake: where the steps are recorded.
        files: the blueprints.
        clusters: the clusters to publish to.
        now: the time, UTC, for exceptions that expire.
        actor: who does it.
        retired: names of blueprints whose objects are removed.
        wait: whether helm waits until Cilium is ready.
        progress: told of each object.
        run: id of the publication; a new one by default.
        canaries: clusters that are treated as canaries beside those that the blueprints name.
        opened: opens the API server of a cluster.
        check: returns why a plan may not be executed, or nothing if it may.
    """
    retired, run = list(retired), run or new_run()
    for cluster in canary_order(files, clusters):
        try:
            with _access(cluster, opened) as api:
                plan = plan_cluster(api, files, cluster, now=now, retired=retired)
                if not plan.problems and (refusal := check(plan)):
                    plan = replace(plan, problem=refusal)
                if plan.problems:
                    yield plan, None
                    return
                done = publish_plan(api, plan, cluster.kubernetes, run=run, actor=actor, wait=wait, progress=_of(progress, cluster))
                record(lake, [done])
                if done.failure is None and (cluster.name in canaries or is_canary(files, cluster)):
                    plan = _looked_at_again(plan, plan_cluster(api, files, cluster, now=now, retired=retired))
        except _NoAccess as error:
            yield Plan(cluster=cluster.name, problem=str(error)), None
            return
        yield plan, done
        if done.failure is not None or plan.problems:
            return


def _looked_at_again(plan: Plan, again: Plan) -> Plan:
    left = [str(change.key) for change in again.changes if change.action != "unchanged"]
    if not left and not again.problems:
        return plan
    problem = "; ".join(again.problems) or f"{', '.join(left[:3])} is not as published a moment ago"
    return replace(plan, problem=f"canary {plan.cluster}: {problem}")


def revert_fleet(
    lake: Lake, files: Sequence[BlueprintFile], clusters: Sequence[config.Cluster], *, now: datetime, actor: str
) -> Iterator[tuple[Plan, Publication | None]]:
    """Revert drift from blueprints with `drift: revert`, within their limits, cluster by cluster; a cluster that fails does
    not stop the others."""
    run = new_run()
    for cluster in canary_order(files, clusters):
        if not any(file.blueprint.drift == "revert" and file.blueprint.clusters.selects(cluster.name, cluster.labels) for file in files):
            continue
        try:
            with _access(cluster, open_as_configured) as api:
                plan = plan_cluster(api, files, cluster, now=now)
                if plan.problem:
                    yield plan, None
                    continue
                before = reverted_since(lake, cluster.name, datetime.now(UTC) - LIMIT_WINDOW)
                done = revert(api, plan, files, reverted_last_hour=before, run=run, actor=actor)
                record(lake, [done])
        except _NoAccess as error:
            yield Plan(cluster=cluster.name, problem=str(error)), None
            continue
        yield plan, done


def revert_all(lake: Lake, files: Sequence[BlueprintFile], clusters: Sequence[config.Cluster], *, now: datetime, actor: str) -> list[str]:
    """Run revert_fleet to its end; return a line for each cluster. Raises ClusterError with all failures after the rest is done."""
    lines: list[str] = []
    failures: list[str] = []
    for plan, done in revert_fleet(lake, files, published_clusters(clusters), now=now, actor=actor):
        failures += plan.problems
        if done is not None:
            lines.append(f"{plan.cluster}: {done.count('done')} put back, {done.count('limited')} wait")
            failures += [done.failure] if done.failure else []
    if failures:
        raise ClusterError("\n".join(failures))
    return lines


class _NoAccess(Exception):
    """The cluster's API server cannot be used; the message says why."""


@contextmanager
def _access(cluster: config.Cluster, opened: Open) -> Iterator[ClusterAccess]:
    try:
        api = opened(cluster)
    except ConfigError as error:
        raise _NoAccess(str(error)) from error
    try:
        yield api
    finally:
        api.close()


def _kubernetes(cluster: config.Cluster) -> config.Kubernetes:
    if cluster.kubernetes is None or cluster.kubernetes.manifests is not None:
        raise ConfigError(f"cluster {cluster.name}: the configuration gives no API server, so nothing can be published to it")
    return cluster.kubernetes


def _of(progress: Progress, cluster: config.Cluster) -> Callable[[int, int], None]:
    return lambda done, total: progress(cluster.name, done, total)
