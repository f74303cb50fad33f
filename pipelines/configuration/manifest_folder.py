"""Reads every object of a folder of manifests, or of a renderer's output. Mistakes name the file, the line and the remedy.

A file that cannot be read completely does not affect the other files. Its path is reported, because it may still define
objects that were last seen in it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipelines.configuration import kinds, rendering
from pipelines.configuration.kinds import BY_NAME, Kind, Observed
from pipelines.configuration.manifest_sources import CHART_FILE, KUSTOMIZATION_FILES, find_sources, template_problem, texts_of
from pipelines.objects.kubernetes_yaml import Document, read_documents
from pipelines.objects.names import Key, labels_problem, name_problem, namespace_problem
from pipelines.objects.yaml_nodes import MAX_OBJECT_BYTES
from warehouse import config
from warehouse.errors import ConfigError

SUFFIXES = (".yaml", ".yml", ".json")
DEFAULT_NAMESPACE = "default"
"""The namespace of an object that names none, as in kubectl."""
MAX_FILE_BYTES = 64 * 1024 * 1024
RENDERED = "(rendered)"
"""Used in place of the file name when a command produced the manifests."""
_MENTIONS = re.compile(rf"""["']?kind["']?\s*:\s*[\[{{"']*\s*({"|".join(sorted(BY_NAME, key=len, reverse=True))})(List)?\b""")
_NOT_RENDERED = frozenset({"annotations"})
"""Annotations may contain any text, so braces in them are not evidence of a template."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A mistake in a file. `line` counts from 1."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(kw_only=True)
class Folder:
    """The contents of a folder of manifests."""

    objects: dict[Key, Observed] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    doubtful: list[Mistake] = field(default_factory=list)
    """Unreadable files that mention no recorded kind: they matter only if a recorded object was last seen in them."""
    ambiguous: set[Key] = field(default_factory=set)
    """Objects that are defined more than once, so it is unknown which definition applies."""
    left_alone: int = 0
    """The number of documents of kinds that are not recorded."""
    files: dict[str, set[Key]] = field(default_factory=dict)
    """The keys of the objects of each file, for files that define any."""

    @property
    def unreadable(self) -> set[str]:
        """Files that could not be read completely: objects last seen in them may still be defined there."""
        return {mistake.file for mistake in (*self.mistakes, *self.doubtful)}

    def note_file(self, shown: str, line: int, text: str, *, names_kinds: bool) -> None:
        """Record a mistake in a document."""
        (self.mistakes if names_kinds else self.doubtful).append(Mistake(file=shown, line=line, text=text))


def read_manifests(settings: config.Kubernetes) -> Folder:
    """Read all configured manifests: the folder as it is, or the output of its renderer.

    Raises ConfigError if the folder does not exist or the renderer fails.
    """
    folder = settings.manifests
    if folder is None or not folder.is_dir():
        raise ConfigError(f"manifests: the folder {folder} does not exist")
    if settings.render:
        found, places = Folder(), dict[Key, str]()
        _read_text(rendering.render(settings.render, folder, settings.render_timeout), RENDERED, found, places, None)
        return _settled(found)
    return read_folder(folder, exclude=settings.exclude)


def read_folder(folder: Path, *, exclude: Iterable[str] = ()) -> Folder:
    """Read a folder, except files whose path matches one of the patterns. Raises ConfigError if the folder does not exist."""
    if not folder.is_dir():
        raise ConfigError(f"manifests: the folder {folder} does not exist")
    patterns = tuple(exclude)
    paths = [path for path in _files(folder) if not _is_excluded(path.relative_to(folder), patterns)]
    sources = find_sources(folder, paths)
    found, places = Folder(), dict[Key, str]()
    reported = dict[int, int]()
    for path in paths:
        shown = str(path.relative_to(folder))
        text = _text_of(path, shown, found)
        if text is None:
            continue
        source = sources.of_file.get(path)
        if source is None:
            if path.name not in KUSTOMIZATION_FILES:
                _read_text(text, shown, found, places, sources.namespace_given.get(path))
        elif _MENTIONS.search(text):
            # The source is reported once; its files are remembered because recorded objects may come from them.
            reported[id(source)] = reported.get(id(source), 0) + 1
            if reported[id(source)] == 1:
                found.mistakes.append(Mistake(file=source.file, line=source.line, text=source.text))
            found.doubtful.append(Mistake(file=shown, line=1, text=f"belongs to {source.file}, which has to be rendered"))
    return _settled(found)


def _settled(found: Folder) -> Folder:
    for key in found.ambiguous:
        found.objects.pop(key, None)
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Return manifest files in order. Hidden folders such as .git are skipped, and links that leave the tree are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if (name.endswith(SUFFIXES) and not name.startswith(".")) or name in (CHART_FILE, *KUSTOMIZATION_FILES):
                yield Path(place, name)


def _is_excluded(path: Path, patterns: Iterable[str]) -> bool:
    """Return whether a pattern matches the path or one of its parent folders."""
    names = [str(path), *(str(parent) for parent in path.parents if str(parent) != ".")]
    return any(fnmatchcase(name, pattern.rstrip("/").removeprefix("./")) for pattern in patterns for name in names)


def _text_of(path: Path, shown: str, found: Folder) -> str | None:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            text = f"too large: {size:,} bytes, but at most {MAX_FILE_BYTES:,} are read; split it, or exclude it with kubernetes.exclude"
            found.mistakes.append(Mistake(file=shown, line=1, text=text))
            return None
        data = path.read_bytes()
    except OSError as error:
        found.mistakes.append(Mistake(file=shown, line=1, text=f"cannot be read: {error.strerror or error}"))
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = (
            "UTF-16; save it as UTF-8" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"not UTF-8: {error.reason} at byte {error.start}"
        )
        line = data.count(b"\n", 0, error.start) + 1
        found.mistakes.append(Mistake(file=shown, line=line, text=f"cannot be read: it is {encoding}"))
        return None


def _read_text(text: str, shown: str, found: Folder, places: dict[Key, str], namespace_given: str | None) -> None:
    for document in read_documents(text):
        if document.problem is None:
            _take(document, shown, found, places, namespace_given)
            continue
        head = document.value if isinstance(document.value, dict) else {}
        if head and not _is_recorded(head):
            found.left_alone += 1  # too large, but its kind is not recorded anyway
            continue
        problem = template_problem(document.text) or document.problem.text
        mentions = _MENTIONS.search(document.text) is not None or document.problem.is_cut_off or bool(head)
        found.note_file(shown, document.problem.line, problem, names_kinds=mentions)


def _is_recorded(head: dict[str, Any]) -> bool:
    return (
        _kind_of(head) is not None
        or _kind_of({**head, "kind": str(head.get("kind")).removesuffix("List")}) is not None
        or head.get("kind") == "List"
    )


def _kind_of(document: dict[str, Any]) -> Kind | None:
    kind = BY_NAME.get(str(document.get("kind")))
    return kind if kind is not None and str(document.get("apiVersion")).rpartition("/")[0] in kind.groups else None


def _take(document: Document, shown: str, found: Folder, places: dict[Key, str], namespace_given: str | None) -> None:
    """Read one document, or each item of a List."""
    for line, value in _objects(document.value, document.line, document.item_lines):
        if not isinstance(value, dict) or not isinstance(value.get("kind"), str) or not isinstance(value.get("apiVersion"), str):
            found.left_alone += value is not None  # values of a chart, a patch and the like are not manifests
            continue
        kind = _kind_of(value)
        if kind is None:
            found.left_alone += 1
            continue
        try:
            observed = _observe(kind, value, namespace_given)
        except _NotAManifestError as error:
            found.mistakes.append(Mistake(file=shown, line=line, text=str(error)))
            continue
        if observed is None:
            found.left_alone += 1
        else:
            _put(observed, f"{shown}:{line}", found, places)


def _objects(value: Any, line: int, item_lines: tuple[int, ...]) -> Iterator[tuple[int, Any]]:
    """Yield the objects of a document with their lines: the document itself, or the items of a List (which may omit their kind)."""
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str) or not value["kind"].endswith("List"):
        yield line, value
        return
    items = value.get("items")
    if not isinstance(items, list):
        yield line, value
        return
    implied = {} if value["kind"] == "List" else {"apiVersion": value.get("apiVersion"), "kind": value["kind"].removesuffix("List")}
    for index, item in enumerate(items):
        at = item_lines[index] if index < len(item_lines) else line
        if isinstance(item, dict):
            given = {name: each for name, each in implied.items() if not item.get(name)}
            yield from _objects({**item, **given}, at, ())
        else:
            yield at, item


class _NotAManifestError(Exception):
    """An object is not a valid manifest; the message says why."""


def _observe(kind: Kind, value: dict[str, Any], namespace_given: str | None) -> Observed | None:
    """Reduce an object to what is recorded, or return None. Raises _NotAManifestError if no API server would accept it."""
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        made_up = isinstance(metadata, dict) and metadata.get("generateName")
        why = "; with generateName the API server chooses the name, so its history cannot be followed" if made_up else ""
        raise _NotAManifestError(f"{kind.name} without metadata.name{why}")
    name = metadata["name"]
    for part in ("labels", "annotations"):
        given = metadata.get(part) or {}
        if not isinstance(given, dict) or not all(isinstance(text, str) for pair in given.items() for text in pair):
            raise _NotAManifestError(f"{kind.name} {name}: metadata.{part} must map names to strings; quote numbers and true")
    namespace = metadata.get("namespace")
    if namespace is not None and not isinstance(namespace, str):
        raise _NotAManifestError(f"{kind.name} {name}: metadata.namespace must be a string; quote it")
    if kind.namespaced and not namespace:
        if namespace_given is not None:
            raise _NotAManifestError(
                f"{kind.name} {name} names no namespace, and {namespace_given}: write metadata.namespace, or render first"
            )
        value = {**value, "metadata": {**metadata, "namespace": DEFAULT_NAMESPACE}}
    try:
        observed = kinds.observe(kind, value)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _NotAManifestError(f"{kind.name} {name} does not have the structure of its kind: {error}") from error
    if observed is not None:
        _check(kind, observed, value)
    return observed


def _check(kind: Kind, observed: Observed, value: dict[str, Any]) -> None:
    """Raise _NotAManifestError for unrendered templates, and for names and labels that no API server accepts."""
    what = f"{kind.name} {observed.name}"
    manifest = json.loads(observed.manifest)
    problem = next(filter(None, map(template_problem, texts_of(manifest, skip=_NOT_RENDERED))), None)
    if problem is not None:
        raise _NotAManifestError(f"{what} {problem}")
    if (problem := name_problem(kind.name, observed.name)) is not None:
        raise _NotAManifestError(f"{what}: the name {observed.name!r} {problem}")
    namespace = value["metadata"].get("namespace") if kind.namespaced else None
    if namespace and (problem := namespace_problem(namespace)) is not None:
        raise _NotAManifestError(f"{what}: the namespace {namespace!r} {problem}")
    if (problem := labels_problem(value["metadata"].get("labels") or {})) is not None:
        raise _NotAManifestError(f"{what}: the label {problem}")
    if len(observed.manifest) > MAX_OBJECT_BYTES:
        raise _NotAManifestError(f"{what} is too large: an API server accepts at most {MAX_OBJECT_BYTES:,} bytes per object")


def _put(observed: Observed, here: str, found: Folder, places: dict[Key, str]) -> None:
    if observed.key in places:
        file, _, line = here.rpartition(":")
        text = f"{observed.kind} {observed.name} is also defined in {places[observed.key]}: keep one; neither is recorded"
        found.mistakes.append(Mistake(file=file, line=int(line), text=text))
        found.ambiguous.add(observed.key)
        return
    places[observed.key] = here
    found.objects[observed.key] = observed
    found.files.setdefault(here.rpartition(":")[0], set()).add(observed.key)
