"""Takes one snapshot of a cluster's configuration from its source: its API server or a folder of manifests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from pipelines.cluster_access import ClusterAccess
from pipelines.configuration import manifests, snapshot
from pipelines.configuration.kinds import BY_NAME, KINDS, PODS
from pipelines.configuration.manifest_folder import read_manifests
from pipelines.configuration.recording import Look
from pipelines.configuration.snapshot import Progress, Snapshot
from warehouse import config
from warehouse.errors import ClusterError, ClusterForbiddenError, ClusterMissingError, ConfigError
from warehouse.lake.tables import Lake
from warehouse.wording import counted


def look(
    lake: Lake, cluster: config.Cluster, *, progress: Progress | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> tuple[Snapshot, list[str]]:
    """Take a snapshot of a cluster and record what is new; also return the mistakes found in manifests.

    Raises LakeError; every other failure is in the result and in the ledger.
    """
    if cluster.kubernetes is None or cluster.kubernetes.manifests is None:
        return snapshot.take(lake, cluster, progress=progress, now=now), []
    try:
        taken, mistakes = manifests.take(lake, cluster, now=now)
    except ConfigError as error:
        trouble = Look(state="unreachable", kinds=tuple(BY_NAME), detail=str(error))
        return Snapshot(cluster=cluster.name, begin=now(), troubles=[trouble]), []
    return taken, [str(mistake) for mistake in mistakes]


def look_and_insist(lake: Lake, cluster: config.Cluster) -> int:
    """Take a snapshot on behalf of a scheduler and return the number of versions written. Raises ClusterError if some part of
    the cluster could not be read, after recording everything that could be."""
    taken, _ = look(lake, cluster)
    lacking = [
        ": ".join(filter(None, (", ".join(each.kinds), each.state, each.detail))) for each in taken.troubles if each.state != "absent"
    ]
    if lacking:
        raise ClusterError(f"the configuration of cluster {cluster.name} was not read completely: {'; '.join(lacking)}")
    return taken.written.versions


def describe(cluster: config.Cluster) -> str:
    """Describe what can be read of a cluster's configuration. Raises ConfigError, or ClusterError, also if a kind is forbidden."""
    settings = cluster.kubernetes
    if settings is None:
        return "kubernetes is not configured, so no configuration history is recorded"
    if settings.manifests is not None:
        folder = read_manifests(settings)
        if folder.mistakes:
            more = f"; and {len(folder.mistakes) - 3} more" if len(folder.mistakes) > 3 else ""
            raise ConfigError(
                f"{counted(len(folder.mistakes), 'mistake')}: {'; '.join(str(mistake) for mistake in folder.mistakes[:3])}{more}"
            )
        return f"manifests: {counted(len(folder.objects), 'object')}"
    access = ClusterAccess(settings, cluster=cluster.name)
    try:
        version = access.request("GET", "/version").get("gitVersion")
        absent, forbidden = [], []
        for kind in (*KINDS, PODS):
            try:
                next(access.list_pages(kind.places[0], page=1, query=kind.query))
            except ClusterMissingError:
                absent.append(kind.name)
            except ClusterForbiddenError:
                forbidden.append(kind.name)
    finally:
        access.close()
    if forbidden:
        rights = "deploy/helm/hindcast/files/reader.yaml"
        raise ClusterForbiddenError(f"Kubernetes {version}: not allowed to read {', '.join(forbidden)}; {rights} has the rights needed")
    return f"Kubernetes {version}" + (f", without {', '.join(absent)}" if absent else "")
