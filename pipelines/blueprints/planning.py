"""Plans what publishing would do to a cluster: each object created, changed, removed or unchanged, by the API server's dry run.

Every change is tried as a server-side dry run, so refusals by a schema, an admission policy or missing permissions are
reported before anything is changed. Executing a plan belongs in `publishing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.blueprints import helm, objects
from pipelines.blueprints.model import BlueprintFile, Helm
from pipelines.blueprints.render import BLUEPRINT_LABEL, Wanted, WantedObject, render
from pipelines.objects.canonical import Manifest
from pipelines.objects.compare import Difference, Verdict, compare
from pipelines.objects.names import Key
from warehouse import config
from warehouse.errors import ClusterConflictError, ClusterError, ConfigError, HindcastError

if TYPE_CHECKING:  # the client of Kubernetes is not needed to import this
    from pipelines.cluster_access import ClusterAccess

THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Change:
    """The planned change of one object."""

    key: Key
    action: str
    """create, update, delete or unchanged."""
    blueprint: str | None
    blueprint_version: str | None
    manifest: Manifest | None
    """The wanted object; None for a removal."""
    before: Manifest | None
    """The live object; None if there is none."""
    differences: tuple[Difference, ...] = ()
    note: str | None = None
    """Further information, e.g. whose fields are taken over."""
    problem: str | None = None
    """Why the API server would refuse the change."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The planned changes of one cluster."""

    cluster: str
    changes: tuple[Change, ...] = ()
    release: helm.Release | None = None
    chart: tuple[Helm, Path] | None = None
    """Cilium's chart, and the folder that its path is relative to."""
    left: tuple[Key, ...] = ()
    """Objects that carry Hindcast's label but belong to blueprints that were not given: they are left unchanged."""
    problem: str | None = None
    """Why no plan can be made for the cluster."""

    @property
    def touched_namespaces(self) -> tuple[str, ...]:
        return tuple(sorted({change.key.namespace for change in self.changes if change.key.namespace and change.action != "unchanged"}))

    @property
    def problems(self) -> tuple[str, ...]:
        own = [self.problem] if self.problem else []
        return (*own, *(f"{self.cluster}: {change.key}: {change.problem}" for change in self.changes if change.problem))


def plan_cluster(
    api: ClusterAccess,
    files: Sequence[BlueprintFile],
    cluster: config.Cluster,
    *,
    now: datetime,
    retired: Iterable[str] = (),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Plan:
    """Plan one cluster. Objects of blueprints in `retired`, and objects the given blueprints no longer want, are removed.

    Failures of the cluster are the plan's `problem`. Raises ConfigError if blueprints disagree.
    """
    try:
        namespaces = objects.read_namespaces(api)
        wanted = render(files, cluster=cluster.name, labels=cluster.labels, namespaces=namespaces, now=now)
        _refuse_to_lock_out(api, files, cluster)
        owned = objects.read_owned(api, needed={key.kind for key in wanted.objects})
        ordered = sorted(wanted.objects.items(), key=lambda item: (order(item[1].manifest), item[0].kind, str(item[0])))
        total = len(ordered)
        changes: list[Change] = []
        with ThreadPoolExecutor(THREADS) as pool:
            for change in pool.map(lambda item: _change(api, item[0], item[1], owned), ordered):
                changes.append(change)
                progress(len(changes), total)
        named = {file.blueprint.name for file in files} | set(retired)
        stray = {key: live for key, live in owned.items() if key not in wanted.objects}
        changes += [_removal(api, key, live) for key, live in sorted(stray.items(), key=lambda item: str(item[0])) if owner(live) in named]
        left = tuple(key for key, live in stray.items() if owner(live) not in named)
        chart = _chart(wanted, files)
        release = helm.plan_release(chart[0], _settings(cluster), folder=chart[1]) if chart else None
    except ConfigError:
        raise
    except HindcastError as error:
        return Plan(cluster=cluster.name, problem=str(error))
    return Plan(cluster=cluster.name, changes=tuple(changes), release=release, chart=chart, left=left)


def order(manifest: Manifest) -> int:
    """Order objects that open traffic before those that close it, so that nothing is cut off between the two."""
    if manifest["apiVersion"].startswith("admissionregistration"):
        return 3
    if manifest["kind"] == "CiliumCIDRGroup":
        return 0
    spec = manifest.get("spec") or {}
    return 1 if any(rule not in ({}, None) for name in ("ingress", "egress") for rule in spec.get(name) or []) else 2


def owner(manifest: Manifest) -> str | None:
    """Return the blueprint whose label an object carries."""
    label = (manifest["metadata"].get("labels") or {}).get(BLUEPRINT_LABEL)
    return None if label is None else str(label)


def _settings(cluster: config.Cluster) -> config.Kubernetes:
    if cluster.kubernetes is None:
        raise ConfigError(f"cluster {cluster.name}: has no `kubernetes` in the configuration, so nothing can be published to it")
    return cluster.kubernetes


def _refuse_to_lock_out(api: ClusterAccess, files: Sequence[BlueprintFile], cluster: config.Cluster) -> None:
    """Check that admission policies name our own account, since otherwise they would lock us out."""
    for file in files:
        blueprint = file.blueprint
        if blueprint.block is None or not blueprint.clusters.selects(cluster.name, cluster.labels):
            continue
        user = objects.whoami(api)
        if user not in blueprint.block.accounts:
            where = file.document.where(["block", "accounts"])
            raise ClusterError(
                f"{where}: cluster {cluster.name} knows us as {user!r}, which block.accounts does not name: it would lock us out"
            )


def _change(api: ClusterAccess, key: Key, wanted: WantedObject, owned: Mapping[Key, Manifest]) -> Change:
    def change(action: str, before: Manifest | None, **more: object) -> Change:
        return Change(
            key=key,
            action=action,
            blueprint=wanted.blueprint,
            blueprint_version=wanted.version,
            manifest=wanted.manifest,
            before=before,
            **more,  # type: ignore[arg-type]
        )

    before: Manifest | None = owned.get(key)
    try:
        before = before or objects.read(api, wanted.manifest)
        found = compare(wanted.manifest, before)
        action = "create" if before is None else "unchanged" if found.verdict is not Verdict.DRIFT else "update"
        note = None
        try:
            after = objects.apply(api, wanted.manifest, dry_run=True, force=False)
        except ClusterConflictError as error:
            note = f"takes over fields of others: {str(error).partition(': 409: ')[2] or error}"
            after = objects.apply(api, wanted.manifest, dry_run=True)
        if compare(wanted.manifest, after).verdict is Verdict.DRIFT:
            note = "replaces the object, because applying does not remove fields that others added"
        return change(action, before, differences=found.differences if action == "update" else (), note=note)
    except ClusterError as error:
        if objects.namespace_is_gone(api, key.namespace, error):
            return change("unchanged", before, note="its namespace is gone")
        return change("create" if before is None else "update", before, problem=str(error))


def _removal(api: ClusterAccess, key: Key, live: Manifest) -> Change:
    problem = None
    try:
        objects.delete(api, live, dry_run=True)
    except ClusterError as error:
        problem = str(error)
    return Change(key=key, action="delete", blueprint=owner(live), blueprint_version=None, manifest=None, before=live, problem=problem)


def _chart(wanted: Wanted, files: Sequence[BlueprintFile]) -> tuple[Helm, Path] | None:
    for file in files:
        cilium = wanted.cilium.get(file.blueprint.name)
        if cilium is not None and cilium.helm is not None:
            return cilium.helm, file.source.resolve().parent
    return None
