"""All grants in force: the configuration's, with what the lake has recorded of namespaces and RoleBindings.

Read anew every 20 seconds, so that what is taken away is gone within a minute. What a grant means is warehouse.access.principals' work.
"""

from __future__ import annotations

import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from warehouse import config
from warehouse.access.ownership import BindingVersion, NamespaceVersion, grants_of
from warehouse.access.principals import Grant
from warehouse.lake.tables import Lake
from warehouse.schema import TABLES

FRESH_SECONDS = 20.0
_COLUMNS = ("cluster", "kind", "namespace", "name", "uid", "valid_from", "valid_to", "manifest")
_lock = threading.Lock()
_read: weakref.WeakKeyDictionary[Lake, tuple[float, dict[config.Ownership, tuple[Grant, ...]]]] = weakref.WeakKeyDictionary()


def in_force(lake: Lake, ownership: config.Ownership, *, now: Callable[[], float] = time.monotonic) -> tuple[Grant, ...]:
    """The grants of now. Raises LakeError."""
    with _lock:
        since, known = _read.get(lake, (float("-inf"), {}))
        if now() - since > FRESH_SECONDS:
            since, known = now(), {}
        if ownership not in known:
            known[ownership] = grants_of(ownership, _namespaces(lake), _bindings(lake) if _asks_bindings(ownership) else ())
        _read[lake] = (since, known)
        return known[ownership]


def _asks_bindings(ownership: config.Ownership) -> bool:
    return any(source.kind == "role_bindings" for source in ownership.sources)


def _namespaces(lake: Lake) -> Iterator[NamespaceVersion]:
    for row in _versions(lake, "namespaces", "Namespace"):
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
    for row in _versions(lake, "role_bindings", "RoleBinding"):
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


def _versions(lake: Lake, table: str, kind: str) -> Iterator[dict[str, Any]]:
    """Each version once: it is written when it begins, and again, with its end, when it ends."""
    if table not in TABLES:
        return
    versions: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in lake.read(TABLES[table], _COLUMNS).to_pylist():
        key = tuple(row[name] for name in ("cluster", "kind", "namespace", "name", "valid_from"))
        if row["kind"] == kind and (key not in versions or row["valid_to"] is not None):
            versions[key] = row
    yield from sorted(versions.values(), key=lambda row: row["valid_from"])


def _mapping(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
