"""Where policies are written: the file and line of each, for clusters whose configuration is read from manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.policy.reading import Document
    from pipelines.replay.in_force import History
    from warehouse import config
    from warehouse.engine import Window

_FILES = "ManifestFile"
Name = tuple[str, str, str, str]
"""Cluster, kind, namespace and name of an object; the namespace is empty for a cluster-scoped one."""


@dataclass(frozen=True)
class Places:
    """The files of objects, as configuration history has them, and the folders that they are in."""

    files: Mapping[Name, str] = field(default_factory=dict)
    """Paths below the cluster's folder."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    """By cluster. A renderer's output has no files, so its cluster has none."""
    _read: dict[Path, dict[tuple[str, str, str], Document]] = field(default_factory=dict, repr=False)

    def location(self, name: Name, path: str) -> dict[str, Any] | None:
        """Return the SARIF physical location of a path in an object; None where its file is not known.

        The line is missing if the file cannot be read, or no longer holds the object.
        """
        file = self.files.get(name)
        if file is None:
            return None
        where = self.folders[name[0]] / file if name[0] in self.folders else Path(file)
        found: dict[str, Any] = {"artifactLocation": {"uri": _below_here(where)}}
        document = self._documents(where).get(name[1:])
        line = None if document is None else document.line(path)
        return found | ({"region": {"startLine": line}} if line else {})

    def _documents(self, file: Path) -> dict[tuple[str, str, str], Document]:
        from hindcast.policy_files import text_of
        from pipelines.policy.documents import read_documents
        from pipelines.replay.candidates import identity

        if file not in self._read:
            try:
                documents = read_documents(text_of(file), str(file))
            except ConfigError:
                documents = []
            self._read[file] = {identity(document): document for document in documents}
        return self._read[file]


def places_of(history: History, window: Window, clusters: Sequence[config.Cluster]) -> Places:
    """Return the places of all objects in force at the end of a window that the principal may see. Raises as `Door.answer`."""
    from warehouse.questions.record_questions import Configuration
    from warehouse.schema import CLUSTER_SETTINGS

    rows = history.answer(Configuration(window=window, tables=(CLUSTER_SETTINGS,), kinds=(_FILES,))).rows.to_pylist()
    current = [row for row in rows if row["valid_to"] is None or (window.until is not None and row["valid_to"] >= window.until)]
    files = {
        (row["cluster"], kind, namespace or "", name): row["name"]
        for row in current
        for kind, namespace, name in json.loads(row["manifest"])["spec"]["objects"]
    }
    sources = {cluster.name: cluster.kubernetes for cluster in clusters}
    folders = {name: one.manifests for name, one in sources.items() if one is not None and one.manifests is not None and not one.render}
    return Places(files, folders)


def _below_here(file: Path) -> str:
    """Return a path as SARIF names it: below the current folder if it is there, which is where code hosts look."""
    try:
        return file.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return file.as_posix()
