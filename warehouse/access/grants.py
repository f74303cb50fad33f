"""All grants in force: those of the configuration and those derived from recorded namespaces and RoleBindings.

Grants are recomputed whenever the recorded namespaces or RoleBindings or the configuration change, so a revoked grant is gone at
the next question. warehouse.access.principals defines what a grant means.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from warehouse import config
from warehouse.access.ownership import BindingVersion, NamespaceVersion, grants_of
from warehouse.access.principals import Grant
from warehouse.lake.tables import Lake
from warehouse.schema import NAMESPACES, ROLE_BINDINGS, Table

_COLUMNS = ("cluster", "kind", "namespace", "name", "uid", "valid_from", "valid_to", "manifest")
_Recorded = tuple[frozenset[str], frozenset[str]]
"""The files that hold the recorded namespaces and RoleBindings."""
_lock = threading.Lock()
_known: weakref.WeakKeyDictionary[Lake, tuple[_Recorded, dict[config.Ownership, tuple[Grant, ...]]]] = weakref.WeakKeyDictionary()


def in_force(lake: Lake, ownership: config.Ownership) -> tuple[Grant, ...]:
    """Return the grants in force now. Raises LakeError."""
    recorded = (_files(lake, NAMESPACES), _files(lake, ROLE_BINDINGS))
    with _lock:
        read, grants = _known.get(lake, (None, {}))
        if read != recorded:
            grants = {}
        if ownership not in grants:
            grants[ownership] = grants_of(ownership, _namespaces(lake), _bindings(lake) if _asks_bindings(ownership) else ())
            _known[lake] = (recorded, grants)
        return grants[ownership]


def _files(lake: Lake, table: Table) -> frozenset[str]:
    return frozenset(file.path for file in lake.contents(table))


def _asks_bindings(ownership: config.Ownership) -> bool:
    return any(source.kind == "role_bindings" for source in ownership.sources)


def _namespaces(lake: Lake) -> Iterator[NamespaceVersion]:
    for row in _versions(lake, NAMESPACES, "Namespace"):
        metadata = _mapping(json.loads(row["manifest"] or "{}"), "metadata")
        yield NamespaceVersion(
            cluster=row["cluster"],
            name=row["name"],
            uid=row["uid"] or "",
            labels=_mapping(metadata, "labels"),
            annotations=_mapping(metadata, "annotations"),
            valid_from=row["valid_from"],
            valid_to=row["valid_to"],
        )


def _bindings(lake: Lake) -> Iterator[BindingVersion]:
    for row in _versions(lake, ROLE_BINDINGS, "RoleBinding"):
        manifest = json.loads(row["manifest"] or "{}")
        yield BindingVersion(
            cluster=row["cluster"],
            namespace=row["namespace"] or "",
            name=row["name"],
            role=_mapping(manifest, "roleRef").get("name", ""),
            subjects=[(one.get("kind", ""), one.get("name", ""), one.get("namespace")) for one in manifest.get("subjects") or ()],
            valid_from=row["valid_from"],
            valid_to=row["valid_to"],
        )


def _versions(lake: Lake, table: Table, kind: str) -> Iterator[dict[str, Any]]:
    """Yield each version once; a version is stored when it begins, and again with its end when it ends."""
    versions: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in lake.read(table, _COLUMNS).to_pylist():
        key = tuple(row[name] for name in ("cluster", "kind", "namespace", "name", "valid_from"))
        if row["kind"] == kind and (key not in versions or row["valid_to"] is not None):
            versions[key] = row
    yield from sorted(versions.values(), key=lambda row: row["valid_from"])


def _mapping(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
