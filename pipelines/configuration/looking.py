"""One look at a cluster, whatever its configuration is read from: its API server or a folder of manifests."""

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


def look(
    lake: Lake, cluster: config.Cluster, *, progress: Progress | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> tuple[Snapshot, list[str]]:
    """Look at a cluster and record what is new; gives also the mistakes in manifests, as file, line and text.

    Raises LakeError; whatever else goes wrong is in the result and in the ledger.
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
    """The same for schedulers; gives how many versions were written. Raises ClusterError, after all was recorded that could be,
    if something of the cluster could not be read."""
    taken, _ = look(lake, cluster)
    lacking = [
        ": ".join(filter(None, (", ".join(each.kinds), each.state, each.detail))) for each in taken.troubles if each.state != "absent"
    ]
    if lacking:
        raise ClusterError(f"cluster {cluster.name} is not covered whole: {'; '.join(lacking)}")
    return taken.written.versions


def describe(cluster: config.Cluster) -> str:
    """What can be read of a cluster's configuration, for people. Raises ConfigError, ClusterError; also if a kind may not be read."""
    settings = cluster.kubernetes
    if settings is None:
        return "no kubernetes is configured: no configuration history"
    if settings.manifests is not None:
        folder = read_manifests(settings)
        if folder.mistakes:
            more = f"; and {len(folder.mistakes) - 3} more" if len(folder.mistakes) > 3 else ""
            raise ConfigError(f"{len(folder.mistakes)} mistakes: {'; '.join(str(mistake) for mistake in folder.mistakes[:3])}{more}")
        return f"manifests: {len(folder.objects):,} objects"
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
        raise ClusterForbiddenError(f"Kubernetes {version}: may not read {', '.join(forbidden)}: see deploy/kubernetes-reader.yaml")
    return f"Kubernetes {version}" + (f", without {', '.join(absent)}" if absent else "")
