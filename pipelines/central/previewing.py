"""What a change of a blueprint would do in each cluster: the plan of the API server, the simulation, and what is wrong with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pipelines.blueprints import fleet, model
from pipelines.blueprints.checking import check
from pipelines.blueprints.foreseeing import Foreseen, foresee
from pipelines.blueprints.model import BlueprintFile
from pipelines.blueprints.planning import Plan
from pipelines.blueprints.volume import LOOK_BACK
from pipelines.central import rights
from pipelines.central.editing import Edited
from pipelines.policy.policy_set import READERS
from pipelines.policy.reading import Document
from pipelines.proposals import applying, guard_rails, judging
from pipelines.proposals.desk import Desk
from pipelines.replay.in_force import History
from warehouse import config
from warehouse.engine import Window
from warehouse.errors import LakeError, QueryError
from warehouse.questions.record_questions import Configuration
from warehouse.schema import NAMESPACES

_INSTANT = timedelta(microseconds=1)
_DIGITS = 24
Labels = Mapping[str, Mapping[str, str]]
"""Labels of namespaces by name."""


@dataclass(frozen=True, kw_only=True)
class ClusterPreview:
    """What a change would do in one cluster."""

    plan: Plan
    foreseen: Foreseen
    refused: tuple[str, ...] = ()
    """What the agents would refuse although the API server takes it."""
    against_rails: tuple[str, ...] = ()
    """What guard-rails of blueprints forbid to owners, and this change does all the same."""

    @property
    def cluster(self) -> str:
        return self.plan.cluster

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that keeps it from being published in the cluster."""
        return (*self.plan.problems, *self.refused)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a change would do."""

    edited: Edited
    clusters: tuple[ClusterPreview, ...]
    mistakes: tuple[str, ...] = ()
    """Why it may not be published anywhere."""
    warnings: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[str, ...]:
        """Everything that keeps it from being published."""
        return (*self.mistakes, *(problem for one in self.clusters for problem in one.problems))

    @property
    def changes_nothing(self) -> bool:
        """Whether every cluster already is as the changed file wants it."""
        return not any(change.action != "unchanged" for one in self.clusters for change in one.plan.changes)


def digests(plan: Plan) -> list[str]:
    """Return a hash of each planned change: of the object as it is, without what only the API server writes, and as it is to be."""
    parts = [
        [*change.key, change.action, None if change.before is None else applying.plain(change.before), change.manifest]
        for change in plan.changes
        if change.action != "unchanged"
    ]
    return sorted(hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:_DIGITS] for part in parts)


def files_with(settings: config.Config, file: BlueprintFile) -> list[BlueprintFile]:
    """Return the configured blueprints, with a changed one in the place of that of its name. Raises ConfigError."""
    others = model.load(settings.blueprints) if settings.blueprints else []
    return [*(one for one in others if one.blueprint.name != file.blueprint.name), file]


def whole(settings: config.Config, file: BlueprintFile, clusters: Sequence[str]) -> Edited:
    """Return a file as it is as a change of the configured one, which may be the same file. Raises ConfigError."""
    configured = model.load(settings.blueprints) if settings.blueprints else []
    before = next((one.document.text for one in configured if one.blueprint.name == file.blueprint.name), "")
    selected = [one.name for one in settings.clusters if file.blueprint.clusters.selects(one.name, one.labels)]
    return Edited(file=file, before=before, left=tuple(name for name in selected if name not in clusters))


def folder_of(settings: config.Config) -> Path:
    """Return the folder in which the file of a new blueprint belongs: that of the first configured one."""
    return settings.blueprints[0].parent if settings.blueprints else Path()


def preview(desk: Desk, edited: Edited, clusters: Sequence[str]) -> Preview:
    """Return what a change would do in clusters, for a platform-admin of each. Nothing is changed.

    Raises AccessDeniedError for anybody else, ConfigError, LakeError.
    """
    chosen = rights.check(desk, clusters, edited.name)
    if edited.file.blueprint.cilium.helm is not None:
        where = edited.file.document.where(["cilium", "helm"])
        said = f"{where}: Cilium's chart is published by `hindcast blueprint publish` without --canary: take it into a blueprint of its own"
        return Preview(edited=edited, clusters=(), mistakes=(said,))
    files, now = files_with(desk.settings, edited.file), desk.now
    labels = {one.name: _labels(desk, one.name, now) for one in chosen}
    found = check(files, desk.settings.clusters, desk.door.grants(), now=now, namespaces=labels)
    warnings = [*found.warnings, *_of_drift(edited, files)]
    if found.mistakes:
        return Preview(edited=edited, clusters=(), mistakes=found.mistakes, warnings=tuple(warnings))
    plans = fleet.plan_fleet([edited.file], chosen, now=now, opened=rights.opener(desk))
    previews = []
    for plan in plans:
        refused, against_rails = _judged(desk, files, plan, labels[plan.cluster])
        refused += _taken(edited, plan)
        previews.append(ClusterPreview(plan=plan, foreseen=foreseen(desk, plan), refused=refused, against_rails=against_rails))
    return Preview(edited=edited, clusters=tuple(previews), warnings=tuple(warnings))


def foreseen(desk: Desk, plan: Plan) -> Foreseen:
    """Return what a plan would have done to the traffic of the last days, as far as the user may see; or why that is not known."""
    now = desk.now
    try:
        return foresee(History(desk.door, desk.who), plan, Window(since=now - LOOK_BACK, until=now))
    except (LakeError, QueryError) as error:
        return Foreseen(unknown=f"recorded traffic cannot be replayed: {error}")


def _of_drift(edited: Edited, files: Sequence[BlueprintFile]) -> list[str]:
    """What happens until the changed file is where the configuration reads it."""
    name = edited.name
    if not edited.before:
        return [f"blueprint {name} is not in the configuration yet: its drift is looked for once {edited.file.source.name} is there"]
    if edited.before == edited.text:
        return []
    said = [f"until the changed file of blueprint {name} is in its place, what is published counts as drift from the old one"]
    if next(file for file in files if file.blueprint.name == name).blueprint.drift == "revert":
        said = [f"blueprint {name} has drift: revert: what is published is put back within the hour unless its file is changed first"]
    if edited.left:
        said.append(f"blueprint {name} is also for {', '.join(edited.left)}: these drift from the changed file until it is published there")
    return said


def _labels(desk: Desk, cluster: str, now: datetime) -> dict[str, dict[str, str]]:
    """The namespaces of a cluster with their labels, as configuration history has them now."""
    window = Window(since=now - _INSTANT, until=now)
    rows = desk.door.answer(desk.who, Configuration(window=window, tables=(NAMESPACES,), clusters=(cluster,))).rows.to_pylist()
    return {row["name"]: json.loads(row["manifest"]).get("metadata", {}).get("labels") or {} for row in rows if row["valid_to"] is None}


def _taken(edited: Edited, plan: Plan) -> tuple[str, ...]:
    """Refuse a new blueprint whose name objects already carry: publishing it would delete those that it does not have."""
    theirs = [str(change.key) for change in plan.changes if change.action == "delete"]
    if not edited.is_new or not theirs:
        return ()
    said = f"objects carry the name of a blueprint {edited.name} that the configuration does not have, and would be deleted"
    return (f"{plan.cluster}: {said} ({', '.join(theirs[:3])}): take its file into `blueprints`, or choose another name",)


def _judged(desk: Desk, files: Sequence[BlueprintFile], plan: Plan, labels: Labels) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the agents would refuse of the policies that change, and what guard-rails forbid of them."""
    wanted = [change.manifest for change in plan.changes if change.action != "unchanged" and change.key.kind in READERS]
    manifests = [manifest for manifest in wanted if manifest is not None]
    if not manifests:
        return (), ()
    period, cluster = judging.period_now(desk, plan.cluster), desk.cluster(plan.cluster)
    refused: dict[str, None] = {}
    against: dict[str, None] = {}
    for manifest in manifests:
        namespace = manifest["metadata"].get("namespace")
        known = {"kubernetes.io/metadata.name": namespace or "", **labels.get(namespace or "", {})}
        after = judging.compiled(period, [Document(manifest)])
        refused |= {
            f"{plan.cluster}: {one.kind} {one.name}: {one.path}: {one.reason} (the {one.by} would refuse it)": None
            for one in after.refusals
        }
        against |= dict.fromkeys(one.text for one in guard_rails.check(files, cluster, namespace, known, after))
    return tuple(refused), tuple(against)
