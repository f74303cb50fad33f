"""Computes the differences between two states of a configuration, path by path: objects added, removed, changed or recreated.

It does no I/O. Two states of one object are compared by `pipelines.objects.compare`, the same code that drift uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipelines.objects.canonical import Manifest
from pipelines.objects.compare import ABSENT, Difference, changes, status_changes

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
Row = dict[str, Any]
"""A row of a version table."""


@dataclass(frozen=True, kw_only=True)
class PathChange:
    """One path of a manifest that changed; `before` or `after` is None where the path was absent. Values are JSON text."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class ObjectChange:
    """An object that differs between the two states."""

    how: str
    cluster: str
    kind: str
    namespace: str | None
    name: str
    recreated: bool
    """Whether the object was deleted and recreated in between."""
    at: Any
    """When the later state began; for a removed object, when it ended. None if unknown."""
    by: str | None
    paths: tuple[PathChange, ...]
    before: str | None
    """The earlier manifest, as JSON."""
    after: str | None


def compare_states(before: Iterable[Row], after: Iterable[Row]) -> list[ObjectChange]:
    """Return the differences between the versions in force at two times, by cluster, kind, namespace and name."""
    olds, news = ({_key(row): row for row in rows} for rows in (before, after))
    found = []
    for key in sorted(olds.keys() | news.keys(), key=lambda key: tuple(part or "" for part in key)):
        old, new = olds.get(key), news.get(key)
        change = _compare(old, new)
        if change is not None:
            found.append(change)
    return found


def compare_manifests(before: Manifest, after: Manifest) -> list[PathChange]:
    """Return the paths at which two states of an object differ in meaning."""
    return [_path_change(each) for each in changes(before, after)]


def _path_change(difference: Difference) -> PathChange:
    return PathChange(path=difference.path, before=_text(difference.before), after=_text(difference.after))


def _compare(old: Row | None, new: Row | None) -> ObjectChange | None:
    one = new or old
    assert one is not None  # noqa: S101 - for the type checker
    recreated = old is not None and new is not None and old["uid"] != new["uid"] and None not in (old["uid"], new["uid"])
    paths: tuple[PathChange, ...] = ()
    if old is not None and new is not None:
        statuses = [None if row["status"] is None else json.loads(row["status"]) for row in (old, new)]
        found = (*changes(json.loads(old["manifest"]), json.loads(new["manifest"])), *status_changes(*statuses))
        paths = tuple(_path_change(each) for each in found)
        if not paths and not recreated:
            return None
    how = CHANGED if old is not None and new is not None else ADDED if new is not None else REMOVED
    return ObjectChange(
        how=how,
        cluster=one["cluster"],
        kind=one["kind"],
        namespace=one["namespace"],
        name=one["name"],
        recreated=recreated,
        at=new["valid_from"] if new is not None else one["valid_to"],
        by=new["changed_by"] if new is not None else one["ended_by"],
        paths=paths,
        before=None if old is None else old["manifest"],
        after=None if new is None else new["manifest"],
    )


def _key(row: Row) -> tuple[str | None, ...]:
    return (row["cluster"], row["kind"], row["namespace"], row["name"])


def _text(value: Any) -> str | None:
    return None if value is ABSENT else json.dumps(value, sort_keys=True, ensure_ascii=False)
