"""Recognises sources of manifests: Helm charts, kustomizations, and what Flux or Argo CD changes on delivery.

The objects in such files differ from those in the cluster, because names, namespaces and labels are set later. They are
reported with the command that renders them, and none of their objects is recorded. A kustomization that only lists resources
changes nothing, so the files it lists are ordinary manifests.
"""

from __future__ import annotations

import os.path
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.objects.kubernetes_yaml import read_documents

CHART_FILE = "Chart.yaml"
KUSTOMIZATION_FILES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_PLAIN_KEYS = frozenset({"apiVersion", "kind", "metadata", "resources", "bases", "images", "replicas", "sortOptions", "secretGenerator"})
"""Keys of a kustomization that do not affect what is recorded."""
_FLUX_KEYS = ("targetNamespace", "namePrefix", "nameSuffix", "patches", "patchesStrategicMerge", "patchesJson6902", "components")
_DELIVERIES = re.compile(r"kustomize\.toolkit\.fluxcd\.io|argoproj\.io")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*([:=?+\-/#%^,@][^}]*)?\}")
_REPOSITORY_LEVELS = 6
"""How many levels above the folder the root of its repository is searched for."""


@dataclass(kw_only=True)
class Source:
    """Files from which manifests are rendered."""

    file: str
    """The file that identifies the source, relative to the folder."""
    line: int
    text: str
    """What the source is, and how to render it."""


@dataclass(kw_only=True)
class Sources:
    """The sources of a folder, by the files that belong to them, and the namespaces that files are given from outside."""

    of_file: dict[Path, Source] = field(default_factory=dict)
    namespace_given: dict[Path, str] = field(default_factory=dict)
    """Files whose objects get a namespace if they name none, with what assigns it."""


def find_sources(folder: Path, files: Iterable[Path]) -> Sources:
    """Return the sources among the files of a folder. Unreadable files are skipped; the folder reader reports them."""
    files = list(files)
    found = Sources()
    _add_charts(folder, files, found)
    _add_kustomizations(folder, files, found)
    _add_deliveries(folder, files, found)
    return found


def template_problem(text: str) -> str | None:
    """Return what to do about text that contains template placeholders, or None if it contains none."""
    if "{{" in text or "{%" in text:
        return "is a template that was not rendered; render first, for a Helm chart: helm template NAME CHART-FOLDER > manifests.yaml"
    found = _VARIABLE.search(text)
    if found is not None:
        command = "flux build kustomization NAME --path FOLDER > manifests.yaml"
        return f"holds the variable {found[0]}, which was not substituted; render first, for Flux: {command}"
    return None


def texts_of(value: Any, *, skip: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield every key and string of a JSON value, except below the keys to skip."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            if key not in skip:
                yield key
                yield from texts_of(child, skip=skip)
    elif isinstance(value, list):
        for child in value:
            yield from texts_of(child, skip=skip)


def _add_charts(folder: Path, files: list[Path], found: Sources) -> None:
    for chart in sorted({path.parent for path in files if path.name == CHART_FILE}, key=lambda place: len(place.parts)):
        inside = [path for path in files if path.is_relative_to(chart) and path not in found.of_file]
        shown = _shown(folder, chart)
        name = chart.name if chart != folder else "NAME"
        command = f"helm template {shlex.quote(name)} {shlex.quote(shown)} > manifests.yaml"
        text = f"is a Helm chart, whose templates are not manifests; render first: {command}"
        source = Source(file=str((chart / CHART_FILE).relative_to(folder)), line=1, text=text)
        found.of_file.update(dict.fromkeys(inside, source))


def _add_kustomizations(folder: Path, files: list[Path], found: Sources) -> None:
    known = set(files)
    kustomizations = {path.parent: (path, _first_mapping(path)) for path in files if path.name in KUSTOMIZATION_FILES}
    for place, (path, given) in sorted(kustomizations.items()):
        if path in found.of_file or given is None:
            continue
        line, value = given
        changing = sorted(key for key in value if key not in _PLAIN_KEYS)
        if not changing:
            continue
        command = f"kubectl kustomize {shlex.quote(_shown(folder, place))} > manifests.yaml"
        text = f"is a kustomization that sets {', '.join(changing)}, which is not applied here; render first: {command}"
        source = Source(file=str(path.relative_to(folder)), line=line, text=text)
        for member in _members(place, kustomizations, known, set()):
            found.of_file.setdefault(member, source)


def _members(place: Path, kustomizations: Mapping[Path, tuple[Path, Any]], known: set[Path], visited: set[Path]) -> Iterator[Path]:
    """Return the files a kustomization builds from: those beside it, and everything it refers to, recursively."""
    if place in visited:
        return
    visited.add(place)
    yield from (path for path in known if path.parent == place)
    given = kustomizations.get(place, (None, None))[1]
    for reference in _references(given[1] if given else {}):
        target = Path(_normal(place / reference))
        if target in known:
            yield target
        else:
            yield from _members(target, kustomizations, known, visited)


def _references(kustomization: Mapping[str, Any]) -> Iterator[str]:
    for key in ("resources", "bases", "components", "patchesStrategicMerge", "crds", "configurations", "generators", "transformers"):
        entries = kustomization.get(key)
        yield from (each for each in entries if isinstance(each, str) and "\n" not in each) if isinstance(entries, list) else ()
    patches = kustomization.get("patches")
    for patch in patches if isinstance(patches, list) else ():
        if isinstance(patch, Mapping) and isinstance(patch.get("path"), str):
            yield patch["path"]


def _add_deliveries(folder: Path, files: list[Path], found: Sources) -> None:
    """Find what Flux Kustomizations and Argo CD Applications of the folder do to its files."""
    for path in files:
        text = _text_of(path)
        if text is None or not _DELIVERIES.search(text):
            continue
        for document in read_documents(text):
            if isinstance(document.value, dict) and document.problem is None:
                _add_delivery(folder, files, found, f"{path.relative_to(folder)}:{document.line}", document.value)


def _add_delivery(folder: Path, files: list[Path], found: Sources, where: str, value: Mapping[str, Any]) -> None:
    group, spec = str(value.get("apiVersion", "")).partition("/")[0], value.get("spec")
    name = str((value.get("metadata") or {}).get("name", "")) if isinstance(value.get("metadata"), dict) else ""
    if not isinstance(spec, Mapping):
        return
    if group == "kustomize.toolkit.fluxcd.io" and value.get("kind") == "Kustomization":
        changing = [key for key in _FLUX_KEYS if spec.get(key)]
        place = _delivered(folder, spec.get("path"))
        if not changing or place is None:
            return
        command = f"flux build kustomization {shlex.quote(name or 'NAME')} --path {shlex.quote(_shown(folder, place))} > manifests.yaml"
        text = f"is delivered by the Flux Kustomization {name} ({where}), which sets {', '.join(changing)}; render first: {command}"
        for path in files:
            if path.is_relative_to(place) and path not in found.of_file:
                shown = str(path.relative_to(folder))
                if shown != where.rpartition(":")[0]:
                    found.of_file[path] = Source(file=shown, line=1, text=text)
    if group == "argoproj.io" and value.get("kind") == "Application":
        destination, sources = spec.get("destination"), spec.get("sources") or [spec.get("source")]
        namespace = destination.get("namespace") if isinstance(destination, Mapping) else None
        for each in sources if isinstance(namespace, str) and isinstance(sources, list) else ():
            place = _delivered(folder, each.get("path")) if isinstance(each, Mapping) else None
            if place is not None:
                origin = f"the Argo CD Application {name} ({where}) puts it into {namespace}"
                found.namespace_given.update({path: origin for path in files if path.is_relative_to(place)})


def _delivered(folder: Path, path: Any) -> Path | None:
    """Return the path within the folder that a path of the repository refers to, or None if it lies outside."""
    if not isinstance(path, str) or path.strip("./") == "":
        return None
    for base in (folder, *folder.absolute().parents[:_REPOSITORY_LEVELS]):
        place = Path(_normal(base / path.lstrip("/")))
        if place.is_dir() and place.is_relative_to(folder.absolute()):
            return folder / place.relative_to(folder.absolute())
        if place.is_dir() and place.is_relative_to(folder):
            return place
        if (base / ".git").exists():
            return None
    return None


def _first_mapping(path: Path) -> tuple[int, dict[str, Any]] | None:
    """Return the line and the value of a file's first mapping."""
    text = _text_of(path)
    documents = read_documents(text) if text is not None else iter(())
    return next(((each.line, each.value) for each in documents if isinstance(each.value, dict) and each.problem is None), None)


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None


def _shown(folder: Path, place: Path) -> str:
    return str(place.relative_to(folder)) if place != folder else "."


def _normal(path: Path) -> str:
    """Return the path without `..`, even if it does not exist."""
    return os.path.normpath(path)
