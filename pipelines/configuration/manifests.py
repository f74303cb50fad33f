"""Reads a folder of manifests, as GitOps keeps them, or the output of a renderer, once; no API server is needed.

A file that cannot be read affects nothing else: objects last seen in it stay as they were, and all others begin, change and
end as the manifests say. The file that defines an object is itself recorded, as a version of the kind ManifestFile. Manifests
contain no pods, no Cilium agents, no times or authors of changes, and none of the defaults an API server would add.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime

from pipelines.configuration.kinds import BY_NAME, MANIFEST_FILE, Observed, observed
from pipelines.configuration.manifest_folder import Folder, Mistake, read_manifests
from pipelines.configuration.manifest_folder import read_folder as read_folder
from pipelines.configuration.recording import Look, Recorder, note_looks
from pipelines.configuration.snapshot import Snapshot, again_on_conflict, ledger_lines
from pipelines.objects.names import Key
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.lake.tables import Lake
from warehouse.records import versions
from warehouse.wording import counted

SOURCE = "manifests"
_SHOWN = 5
_ALWAYS = datetime(9999, 1, 1, tzinfo=UTC)


def take(lake: Lake, cluster: config.Cluster, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> tuple[Snapshot, list[Mistake]]:
    """Read a cluster's manifests and record what is new; also return the mistakes in the files.

    Raises LakeError, and ConfigError if the folder does not exist or cannot be rendered (the ledger records that too).
    """
    return again_on_conflict(lambda: _record(lake, cluster, now))


def _record(lake: Lake, cluster: config.Cluster, now: Callable[[], datetime]) -> tuple[Snapshot, list[Mistake]]:
    settings = cluster.kubernetes
    if settings is None or settings.manifests is None:
        raise ConfigError(f"cluster {cluster.name}: no kubernetes.manifests is configured")
    begin = now()
    taken = Snapshot(cluster=cluster.name, begin=begin)
    try:
        folder = read_manifests(settings)
    except ConfigError as error:
        taken.troubles.append(Look(state="unreachable", kinds=tuple(BY_NAME), detail=str(error)))
        note_looks(lake, cluster.name, taken.troubles, source=SOURCE, begin=begin, end=now(), recorded=now())
        raise
    recorder = Recorder(lake, cluster.name, source=SOURCE)
    seen_before = _objects_by_file(lake, cluster.name)
    may_stand = {key for file in folder.unreadable for key in seen_before.get(file, ())}
    # A file that mentions no recorded kind and never defined a recorded object is not ours: nothing is missing.
    mistakes = folder.mistakes + [each for each in folder.doubtful if each.file in seen_before and _is_news(each, folder)]
    for each in folder.objects.values():
        recorder.saw(each, at=begin)
    present = folder.objects.keys() | folder.ambiguous | may_stand
    for kind in BY_NAME:
        taken.objects[kind] = sum(key.kind == kind for key in folder.objects)
        recorder.missed_others(kind, present, at=begin)
    _record_files(recorder, folder, seen_before, at=begin)
    recorder.commit(recorded=now())
    taken.written = recorder.written
    detail = _detail(mistakes, len(may_stand - folder.objects.keys())) if mistakes else None
    looks = [Look(**{**vars(look), "detail": detail}) for look in ledger_lines(taken)]
    note_looks(lake, cluster.name, looks, source=SOURCE, begin=begin, end=now(), recorded=now())
    if mistakes:
        taken.troubles.append(Look(state="partial", kinds=(), objects=len(folder.objects), detail=detail))
    return taken, mistakes


def _is_news(doubt: Mistake, folder: Folder) -> bool:
    """Return whether a doubtful file is not already explained by a mistake of the same file or of the source it belongs to."""
    return not any(mistake.file == doubt.file or doubt.text.startswith(f"belongs to {mistake.file},") for mistake in folder.mistakes)


def _record_files(recorder: Recorder, folder: Folder, seen_before: dict[str, set[Key]], *, at: datetime) -> None:
    """Record which file defines each object; a file that could not be read completely keeps its previous objects."""
    seen: set[Key] = set()
    for file in sorted(folder.files.keys() | (folder.unreadable & seen_before.keys())):
        keys = folder.files.get(file, set())
        if file in folder.unreadable:
            elsewhere = {key for other, of_other in folder.files.items() if other != file for key in of_other}
            keys = keys | (seen_before.get(file, set()) - elsewhere)
        if keys:
            of_file = _file_object(file, keys)
            recorder.saw(of_file, at=at)
            seen.add(of_file.key)
    recorder.missed_others(MANIFEST_FILE, seen, at=at)


def _file_object(file: str, keys: Collection[Key]) -> Observed:
    objects = [list(key) for key in sorted(keys, key=lambda key: tuple(part or "" for part in key))]
    return observed({"apiVersion": "hindcast/v1", "kind": MANIFEST_FILE, "metadata": {"name": file}, "spec": {"objects": objects}})


def _objects_by_file(lake: Lake, cluster: str) -> dict[str, set[Key]]:
    """Return the objects last seen in each file. Raises LakeError."""
    table = BY_NAME["ConfigMap"].table
    rows = versions.in_force(lake, _ALWAYS, versions.Selection(tables=[table], clusters=[cluster], kinds=[MANIFEST_FILE]))
    return {
        name: {Key(*key) for key in json.loads(manifest)["spec"]["objects"]}
        for name, manifest in zip(rows["name"].to_pylist(), rows["manifest"].to_pylist(), strict=True)
    }


def _detail(mistakes: Iterable[Mistake], unchanged: int) -> str:
    found = list(mistakes)
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    stays = f"; {counted(unchanged, 'object')} last seen in these files: left as before" if unchanged else ""
    return f"{counted(len(found), 'mistake')} in manifests: {'; '.join(str(each) for each in found[:_SHOWN])}{more}{stays}"
