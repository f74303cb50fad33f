"""Takes one snapshot of a cluster: reads each kind completely, in pages, and writes what is new with one ledger row.

A kind that cannot be read is reported in the ledger, and none of its objects counts as deleted; the other kinds continue.
Running it again without changes writes only the ledger row. Scheduling does not belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from pipelines.cluster_access import ClusterAccess
from pipelines.configuration import kinds
from pipelines.configuration.audit_log import AuditLog
from pipelines.configuration.kinds import CILIUM_AGENTS, CLUSTER_VERSION, KINDS, MANIFEST_FILE, POD_LABELS, PODS, Kind, Observed
from pipelines.configuration.pods import PodSets
from pipelines.configuration.recording import Look, Recorder, Written, note_looks
from pipelines.objects.canonical import Manifest
from pipelines.objects.names import Key
from warehouse import config
from warehouse.errors import (
    ClusterError,
    ClusterForbiddenError,
    ClusterMissingError,
    ClusterRefusedError,
    ClusterUnreachableError,
    CommitConflictError,
    ConfigError,
)
from warehouse.lake.tables import Lake

SOURCE = "snapshot"
TRIES = 3
"""How often a snapshot is repeated because another process wrote the same cluster's history meanwhile."""
ALL_KINDS = (*(kind.name for kind in KINDS), POD_LABELS, CILIUM_AGENTS, CLUSTER_VERSION)


@dataclass(kw_only=True)
class Snapshot:
    """The result of a snapshot of one cluster."""

    cluster: str
    begin: datetime
    objects: dict[str, int] = field(default_factory=dict)
    """The number of objects, for each kind that was read completely."""
    troubles: list[Look] = field(default_factory=list)
    """The kinds that could not be read or do not exist, by reason."""
    written: Written = field(default_factory=Written)
    pods: PodSets = field(default_factory=PodSets)
    watchable: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Where a watch of each kind (Pod for pods) continues: the path of the list and its resource version."""

    @property
    def is_whole(self) -> bool:
        """Whether everything the cluster has was read."""
        return all(look.state == "absent" for look in self.troubles)


Result = TypeVar("Result")
Progress = Callable[[str, str, int], None]
"""Called with the progress of each kind: cluster, kind, number of objects so far."""


def take(
    lake: Lake, cluster: config.Cluster, *, now: Callable[[], datetime] = lambda: datetime.now(UTC), progress: Progress | None = None
) -> Snapshot:
    """Take a snapshot of a cluster's API server and record what is new. Raises LakeError; every other failure is in the
    result and in the ledger."""
    return again_on_conflict(lambda: _take(lake, cluster, now, progress or (lambda _cluster, _kind, _objects: None)))


def again_on_conflict(look: Callable[[], Result]) -> Result:
    """Take a snapshot, repeating it while another process writes the same history; finally raises CommitConflictError."""
    return Retrying(retry=retry_if_exception_type(CommitConflictError), stop=stop_after_attempt(TRIES), reraise=True)(look)


def _take(lake: Lake, cluster: config.Cluster, now: Callable[[], datetime], progress: Progress) -> Snapshot:
    settings = cluster.kubernetes
    if settings is None:
        raise ConfigError(f"cluster {cluster.name}: kubernetes is not configured, so its configuration cannot be read")
    begin = now()
    taken = Snapshot(cluster=cluster.name, begin=begin)
    try:
        access = ClusterAccess(settings, cluster=cluster.name)
    except ConfigError as error:
        taken.troubles.append(Look(state="refused", kinds=ALL_KINDS, detail=str(error)))
        note_looks(lake, cluster.name, taken.troubles, source=SOURCE, begin=begin, end=now(), recorded=now())
        return taken
    try:
        recorder = Recorder(lake, cluster.name, source=SOURCE, find_change=AuditLog.of(settings).find)
        look_at(access, recorder, taken, at=begin, progress=progress)
        recorder.missed_others(MANIFEST_FILE, (), at=begin)  # the configuration is no longer read from files
        recorder.commit(recorded=now())
    finally:
        access.close()
    taken.written = recorder.written
    note_looks(lake, cluster.name, ledger_lines(taken), source=SOURCE, begin=begin, end=now(), recorded=now())
    return taken


def ledger_lines(taken: Snapshot) -> Iterator[Look]:
    """Return a snapshot as ledger rows: what was observed, and one row for each reason that something was not."""
    if taken.objects:
        yield Look(
            state="observed", kinds=tuple(taken.objects), objects=sum(taken.objects.values()), versions_written=taken.written.versions
        )
    yield from taken.troubles


def look_at(access: ClusterAccess, recorder: Recorder, taken: Snapshot, *, at: datetime, progress: Progress) -> None:
    """Read every kind, pass its objects to the recorder, and store the outcome in `taken`."""
    daemonsets: list[Manifest] = []
    away: ClusterError | None = None
    for kind in (*KINDS, PODS):
        name = POD_LABELS if kind is PODS else kind.name
        if away is not None:  # the next request would only wait as long for nothing
            _trouble(taken, name, away)
            continue
        with _failures_recorded(taken, name):
            try:
                if kind is PODS:
                    _read_pods(access, recorder, taken, at, progress)
                else:
                    keep = daemonsets if kind.name == "DaemonSet" else None
                    _read_kind(access, recorder, taken, kind, at, progress, keep)
            except (ClusterUnreachableError, ClusterRefusedError) as error:
                away = error
                raise
    if away is not None:
        _trouble(taken, CILIUM_AGENTS, away)
        _trouble(taken, CLUSTER_VERSION, away)
        return
    with _failures_recorded(taken, CILIUM_AGENTS):
        if "DaemonSet" not in taken.objects:
            raise ClusterForbiddenError(f"cluster {taken.cluster}: DaemonSets could not be read")
        _record_all(recorder, taken, CILIUM_AGENTS, [cilium_agents(each) for each in daemonsets], at)
    with _failures_recorded(taken, CLUSTER_VERSION):
        _record_all(recorder, taken, CLUSTER_VERSION, [cluster_version(access.request("GET", "/version"))], at)


def cilium_agents(daemonset: Manifest) -> Observed:
    """Record CiliumAgents: image, version and readiness of Cilium's DaemonSet."""
    containers = daemonset["spec"]["template"]["spec"].get("containers") or []
    agent = next((each for each in containers if each["name"] == "cilium-agent"), containers[0] if containers else {})
    image, status = agent.get("image", ""), daemonset.get("status") or {}
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    manifest = {
        "apiVersion": "hindcast/v1",
        "kind": CILIUM_AGENTS,
        "metadata": {"name": daemonset["metadata"]["name"], "namespace": daemonset["metadata"]["namespace"]},
        "spec": {"image": image, "version": tag.removeprefix("v") or None},
    }
    counts = {"nodes": "desiredNumberScheduled", "ready": "numberReady", "updated": "updatedNumberScheduled"}
    return kinds.observed(
        manifest,
        namespace=daemonset["metadata"]["namespace"],
        uid=daemonset["metadata"].get("uid"),
        status={name: status.get(counted, 0) for name, counted in counts.items()},
    )


def cluster_version(version: Manifest) -> Observed:
    """Record ClusterVersion: the version of Kubernetes."""
    manifest = {
        "apiVersion": "hindcast/v1",
        "kind": CLUSTER_VERSION,
        "metadata": {"name": "kubernetes"},
        "spec": {"version": version.get("gitVersion")},
    }
    return kinds.observed(manifest)


def is_cilium(daemonset: Manifest) -> bool:
    """Return whether a DaemonSet is that of the Cilium agents."""
    metadata = daemonset["metadata"]
    return (metadata["name"], metadata.get("namespace")) == (kinds.CILIUM_DAEMONSET, kinds.CILIUM_NAMESPACE)


def _read_kind(
    access: ClusterAccess, recorder: Recorder, taken: Snapshot, kind: Kind, at: datetime, progress: Progress, cilium: list[Manifest] | None
) -> None:
    """Read one kind from the first list path that the cluster serves; Cilium's DaemonSet is also put into `cilium`."""
    for last, place in ((place == kind.places[-1], place) for place in kind.places):
        seen: dict[Key, Observed] = {}
        objects, version = 0, ""
        try:
            for page in access.list_pages(place, query=kind.query):
                if page.begins:
                    seen, objects = {}, 0
                    if cilium is not None:
                        cilium.clear()
                for item in page.items:
                    objects += 1
                    observed = kinds.observe(kind, {"apiVersion": kinds.api_version(place), **item})
                    if observed is not None:
                        seen[observed.key] = observed
                    if cilium is not None and is_cilium(item):
                        cilium.append({"apiVersion": "apps/v1", "kind": "DaemonSet", **item})
                version = page.resource_version
                progress(taken.cluster, kind.name, objects)
        except ClusterMissingError as error:
            if not kind.is_optional:  # every cluster has this kind: whatever answered is not a complete API server
                raise ClusterError(str(error)) from error
            if not last:
                continue
            if "Namespace" in taken.objects:  # without their definition, the objects are gone too
                recorder.missed_others(kind.name, (), at=at)
            raise
        # Recorded only now: a list that expires and is restarted may show another state.
        for observed in seen.values():
            recorder.saw(observed, at=at)
        recorder.missed_others(kind.name, seen, at=at)
        taken.objects[kind.name] = objects
        taken.watchable[kind.name] = (place, version)
        return


def _read_pods(access: ClusterAccess, recorder: Recorder, taken: Snapshot, at: datetime, progress: Progress) -> None:
    sets, objects, version = PodSets(), 0, ""
    for page in access.list_pages(PODS.places[0]):
        if page.begins:
            sets, objects = PodSets(), 0
        for pod in page.items:
            objects += 1
            sets.put(pod)
        version = page.resource_version
        progress(taken.cluster, PODS.name, objects)
    _record_all(recorder, taken, POD_LABELS, list(sets.sets.values()), at)
    taken.objects[POD_LABELS] = objects
    taken.pods = sets
    taken.watchable[PODS.name] = (PODS.places[0], version)


def _record_all(recorder: Recorder, taken: Snapshot, kind: str, seen: list[Observed], at: datetime) -> None:
    for each in seen:
        recorder.saw(each, at=at)
    recorder.missed_others(kind, {each.key for each in seen}, at=at)
    taken.objects[kind] = len(seen)


@contextmanager
def _failures_recorded(taken: Snapshot, kind: str) -> Iterator[None]:
    """Record a failure to read a kind as a ledger row."""
    try:
        yield
    except ClusterError as error:
        _trouble(taken, kind, error)


def _trouble(taken: Snapshot, kind: str, error: ClusterError) -> None:
    states: dict[type[ClusterError], str] = {
        ClusterMissingError: "absent",
        ClusterForbiddenError: "forbidden",
        ClusterRefusedError: "refused",
        ClusterUnreachableError: "unreachable",
    }
    state = states.get(type(error), "failed")
    detail: Any = "the cluster does not have this kind" if state == "absent" else str(error)
    for index, look in enumerate(taken.troubles):
        if look.state == state and (state != "failed" or look.detail == detail):  # kinds with the same failure share a row
            taken.troubles[index] = Look(state=state, kinds=(*look.kinds, kind), detail=look.detail)
            return
    taken.troubles.append(Look(state=state, kinds=(kind,), detail=detail))
