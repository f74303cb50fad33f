"""The same kinds from a folder of manifests, as GitOps keeps them: one look without an API server.

Every `.yaml`, `.yml` and `.json` file below the folder is read, with all its documents and the items of Lists; kinds that
are not of configuration history are left alone. What is wrong names file and line, is kept out and does no harm to the
rest. While a file cannot be read, what was known and is not found is not taken for deleted: it may stand in that file.
Manifests say nothing of pods, of Cilium's agents, or of when and by whom something was changed; defaults that an API
server would add are not in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from pipelines.configuration import kinds
from pipelines.configuration.kinds import BY_NAME, Key, Observed
from pipelines.configuration.recording import Look, Recorder, note_looks
from pipelines.configuration.snapshot import TRIES, Snapshot, ledger_lines
from warehouse import config
from warehouse.errors import CommitConflictError, ConfigError
from warehouse.lake.tables import Lake

SOURCE = "manifests"
SUFFIXES = (".yaml", ".yml", ".json")
DEFAULT_NAMESPACE = "default"
"""Of an object that names none, as kubectl takes it."""
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """Something wrong in a file. `line` counts from 1."""

    file: str
    line: int
    text: str
    hides: bool
    """Whether objects that we know of may be behind it."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(kw_only=True)
class Folder:
    """What a folder of manifests holds."""

    objects: dict[Key, Observed] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    ambiguous: set[Key] = field(default_factory=set)
    """Objects that stand there more than once: which one counts is not for us to say."""
    left_alone: int = 0
    """Documents of other kinds."""


def read_folder(folder: Path) -> Folder:
    """Everything in a folder. Raises ConfigError if there is no such folder."""
    if not folder.is_dir():
        raise ConfigError(f"manifests: there is no folder {folder}")
    found = Folder()
    places: dict[Key, str] = {}
    for path in _files(folder):
        shown = str(path.relative_to(folder))
        for line, document in _documents(path, shown, found):
            _take(document, line, shown, found, places)
    for key in found.ambiguous:
        found.objects.pop(key, None)
    return found


def take(lake: Lake, cluster: config.Cluster, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> tuple[Snapshot, list[Mistake]]:
    """Look at a cluster's folder of manifests and record what is new; gives also what is wrong in the files.

    Raises LakeError, ConfigError if there is no such folder (the ledger says so, too).
    """
    for attempt in range(TRIES):
        try:
            return _record(lake, cluster, now)
        except CommitConflictError:
            if attempt == TRIES - 1:
                raise
    raise AssertionError("not reached")


def _record(lake: Lake, cluster: config.Cluster, now: Callable[[], datetime]) -> tuple[Snapshot, list[Mistake]]:
    settings = cluster.kubernetes
    if settings is None or settings.manifests is None:
        raise ConfigError(f"cluster {cluster.name}: no kubernetes.manifests is configured")
    begin = now()
    taken = Snapshot(cluster=cluster.name, begin=begin)
    try:
        folder = read_folder(settings.manifests)
    except ConfigError as error:
        taken.troubles.append(Look(state="unreachable", kinds=tuple(BY_NAME), detail=str(error)))
        note_looks(lake, cluster.name, taken.troubles, source=SOURCE, begin=begin, end=now(), recorded=now())
        raise
    recorder = Recorder(lake, cluster.name, source=SOURCE)
    for observed in folder.objects.values():
        recorder.saw(observed, at=begin)
    hidden = [mistake for mistake in folder.mistakes if mistake.hides]
    for kind in BY_NAME:
        taken.objects[kind] = sum(key[0] == kind for key in folder.objects)
        if not hidden:
            recorder.missed_others(kind, folder.objects.keys() | folder.ambiguous, at=begin)
    recorder.commit(recorded=now())
    taken.written = recorder.written
    looks = list(ledger_lines(taken))
    if folder.mistakes:
        shown = "; ".join(str(mistake) for mistake in folder.mistakes[:5])
        more = f"; and {len(folder.mistakes) - 5} more" if len(folder.mistakes) > 5 else ""
        partial = Look(
            state="partial",
            kinds=tuple(BY_NAME),
            objects=len(folder.objects),
            versions_written=taken.written.versions,
            detail=f"{len(folder.mistakes)} mistakes: {shown}{more}",
        )
        looks, taken.troubles = [partial], [partial]
    note_looks(lake, cluster.name, looks, source=SOURCE, begin=begin, end=now(), recorded=now())
    return taken, folder.mistakes


def _files(folder: Path) -> Iterator[Path]:
    """Files with manifests, in order; hidden folders such as .git are not looked into, and links are not followed out of the tree."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if name.endswith(SUFFIXES) and not name.startswith("."))


def _documents(path: Path, shown: str, found: Folder) -> Iterator[tuple[int, Any]]:
    """The documents of a file, each with the line it begins at; what is wrong with the file goes to `found`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found.mistakes.append(Mistake(file=shown, line=1, text=f"cannot be read: {error}", hides=True))
        return
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            yield node.start_mark.line + 1, loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        # What is missing at the end is told to be after it.
        line = min(error.problem_mark.line + 1, len(text.splitlines())) if error.problem_mark else 1
        found.mistakes.append(Mistake(file=shown, line=line, text=f"not valid YAML: {error.problem}", hides=True))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        found.mistakes.append(Mistake(file=shown, line=1, text=f"not valid YAML: {error}", hides=True))
    finally:
        loader.dispose()


def _take(document: Any, line: int, shown: str, found: Folder, places: dict[Key, str]) -> None:
    """One document, or each item of a List."""
    if document is None:
        return
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str) or not isinstance(document.get("apiVersion"), str):
        found.left_alone += 1  # values of a chart, a patch, ...: not a manifest
        return
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            _take(item, line, shown, found, places)
        return
    kind = BY_NAME.get(document["kind"])
    if kind is None or document["apiVersion"].rpartition("/")[0] not in kind.groups:
        found.left_alone += 1
        return
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str) or not name:
        found.mistakes.append(Mistake(file=shown, line=line, text=f"{kind.name} without metadata.name", hides=False))
        return
    for part in ("labels", "annotations"):
        given = metadata.get(part) or {}
        if not isinstance(given, dict) or not all(isinstance(text, str) for pair in given.items() for text in pair):
            text = f"{kind.name} {name}: metadata.{part} must be texts by name; quote numbers and true"
            found.mistakes.append(Mistake(file=shown, line=line, text=text, hides=True))
            return
    if kind.namespaced:
        document = {**document, "metadata": {**metadata, "namespace": metadata.get("namespace") or DEFAULT_NAMESPACE}}
    try:
        observed = kinds.observe(kind, document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        found.mistakes.append(Mistake(file=shown, line=line, text=f"{kind.name} {name} has not the form of its kind: {error}", hides=True))
        return
    if observed is None:
        found.left_alone += 1
        return
    here = f"{shown}:{line}"
    if observed.key in places:
        text = f"{kind.name} {name} stands also in {places[observed.key]}: keep one; neither is recorded"
        found.mistakes.append(Mistake(file=shown, line=line, text=text, hides=False))
        found.ambiguous.add(observed.key)
        return
    places[observed.key] = here
    found.objects[observed.key] = observed
