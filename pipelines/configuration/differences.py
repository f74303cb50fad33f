"""What differs between two states of a configuration, as people mean it: objects added, removed and changed, path by path. Pure.

Order is compared where it has a meaning. In a policy it has none: rules, peers, ports, CIDRs and selectors are sets, so
a list that holds the same in another order is the same. Lists of things with a name are compared by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.configuration.kinds import canonical

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
_ABSENT: Any = object()
Row = dict[str, Any]
"""A row of a version table."""


@dataclass(frozen=True, kw_only=True)
class PathChange:
    """One place of a manifest that changed; `before` or `after` is None where it was not there. Values are JSON texts."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class ObjectChange:
    """An object that differs."""

    how: str
    cluster: str
    kind: str
    namespace: str | None
    name: str
    recreated: bool
    """Whether it was deleted and made anew in between."""
    at: Any
    """When the later state began; of one that was removed, when it ended. None if there is no telling."""
    by: str | None
    paths: tuple[PathChange, ...]
    before: str | None
    """The manifest before, JSON."""
    after: str | None


def compare_states(before: Iterable[Row], after: Iterable[Row]) -> list[ObjectChange]:
    """What differs between the versions in force at two times, by cluster, kind, namespace and name."""
    olds, news = ({_key(row): row for row in rows} for rows in (before, after))
    found = []
    for key in sorted(olds.keys() | news.keys(), key=lambda key: tuple(part or "" for part in key)):
        old, new = olds.get(key), news.get(key)
        change = _compare(old, new)
        if change is not None:
            found.append(change)
    return found


def compare_manifests(before: Any, after: Any, *, path: str = "") -> Iterator[PathChange]:
    """The places in which two JSON values differ in meaning."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            step = f"{path}.{name}" if path and _is_plain(name) else (name if _is_plain(name) else f"{path}[{json.dumps(name)}]")
            yield from compare_manifests(before.get(name, _ABSENT), after.get(name, _ABSENT), path=step)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _compare_lists(before, after, path)
    elif _meaning(before) != _meaning(after):
        yield PathChange(path=path, before=_text(before), after=_text(after))


def _compare_lists(before: Sequence[Any], after: Sequence[Any], path: str) -> Iterator[PathChange]:
    if _have_names(before) and _have_names(after):
        names = list(dict.fromkeys(item["name"] for item in [*before, *after]))
        by_name = [{item["name"]: item for item in items} for items in (before, after)]
        for name in names:
            old, new = (items.get(name, _ABSENT) for items in by_name)
            yield from compare_manifests(old, new, path=f"{path}[name={name}]")
        return
    gone, new = _unmatched(before, after), _unmatched(after, before)
    if len(gone) == len(new) == 1 and isinstance(gone[0][1], dict) and isinstance(new[0][1], dict):
        yield from compare_manifests(gone[0][1], new[0][1], path=f"{path}[{new[0][0]}]")
        return
    for index, item in gone:
        yield PathChange(path=f"{path}[{index}]", before=_text(item), after=None)
    for index, item in new:
        yield PathChange(path=f"{path}[{index}]", before=None, after=_text(item))


def _unmatched(items: Sequence[Any], others: Sequence[Any]) -> list[tuple[int, Any]]:
    """Items, with their places, that have no equal among others; an item that is there twice needs two equals."""
    left = [_meaning(item) for item in others]
    found = []
    for index, item in enumerate(items):
        meaning = _meaning(item)
        if meaning in left:
            left.remove(meaning)
        else:
            found.append((index, item))
    return found


def _meaning(value: Any) -> str | None:
    """A text that is equal for values that differ in the order of lists alone."""
    return None if value is _ABSENT else canonical(_sorted(value))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(each) for name, each in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(each) for each in value), key=canonical)
    return value


def _compare(old: Row | None, new: Row | None) -> ObjectChange | None:
    one = new or old
    assert one is not None  # noqa: S101 - for the type checker
    manifests = [None if row is None else json.loads(row["manifest"]) for row in (old, new)]
    statuses = [None if row is None or row["status"] is None else json.loads(row["status"]) for row in (old, new)]
    recreated = old is not None and new is not None and old["uid"] != new["uid"] and None not in (old["uid"], new["uid"])
    paths: tuple[PathChange, ...] = ()
    if old is not None and new is not None:
        paths = tuple(compare_manifests(*manifests)) + tuple(
            compare_manifests(*(_ABSENT if each is None else each for each in statuses), path="status")
        )
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


def _have_names(items: Sequence[Any]) -> bool:
    """Whether items have names that tell them apart."""
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _is_plain(name: str) -> bool:
    return name.replace("_", "").replace("-", "").isalnum()


def _text(value: Any) -> str | None:
    return None if value is _ABSENT else json.dumps(value, sort_keys=True, ensure_ascii=False)
