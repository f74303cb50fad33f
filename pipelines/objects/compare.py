"""Compares two states of an object by meaning, path by path: the one comparison for history, drift and publishing.

Complete objects are compared in canonical form, so a default that is written out is no difference, but a field that somebody
added is one. `changes` compares two states of one object. `compare` checks whether a live object is what was applied: labels
and annotations that others added are then ignored, and only the applied ones must be present.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pipelines.objects.canonical import Body, Manifest, as_text, canonical_body, canonical_metadata, unordered

ABSENT = "(absent)"


class Verdict(StrEnum):
    """The result of a comparison."""

    EQUAL = "equal"
    ORDER_ONLY = "order-only"
    """Lists are in another order, or contain an entry twice, where that has no meaning."""
    DRIFT = "drift"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One path at which two states differ. ABSENT means no value. Before is the earlier state, or what was applied."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The verdict and the differing paths: values for drift, lists for order-only."""

    verdict: Verdict
    differences: tuple[Difference, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(difference.path for difference in self.differences)


def changes(before: Manifest, after: Manifest) -> tuple[Difference, ...]:
    """Return every difference between two states of one object, including labels and annotations."""
    kind = str(after.get("kind", before.get("kind")))
    old, new = canonical_body(before), canonical_body(after)
    found = _differences(kind, ("metadata",), "metadata", canonical_metadata(before), canonical_metadata(after))
    if old.text != new.text:
        found += _differences(kind, (), "", *_comparable(before, after, old, new))
    return tuple(found)


def status_changes(before: Any, after: Any) -> tuple[Difference, ...]:
    """Return every difference between two statuses; None means no status."""
    return tuple(_differences("", ("status",), "status", *(ABSENT if each is None else each for each in (before, after))))


def compare(applied: Manifest | None, live: Manifest | None, *, bodies: tuple[Body, Body] | None = None) -> Comparison:
    """Compare an applied manifest with the live object (None if it does not exist). `bodies` may supply canonical bodies."""
    if applied is None or live is None:
        if applied is live:
            return Comparison(verdict=Verdict.EQUAL)
        return Comparison(verdict=Verdict.DRIFT, differences=(Difference(path="$", before=_or_absent(applied), after=_or_absent(live)),))
    kind = str(applied.get("kind", live.get("kind")))
    wanted_metadata, found_metadata = _applied_metadata(applied, live)
    wanted_body, found_body = bodies or (canonical_body(applied), canonical_body(live))
    if wanted_body.text == found_body.text and wanted_metadata == found_metadata:
        return Comparison(verdict=Verdict.EQUAL)
    differences = _differences(kind, ("metadata",), "metadata", wanted_metadata, found_metadata)
    if wanted_body.text == found_body.text:
        moved = _moved(kind, ("metadata",), "metadata", wanted_metadata, found_metadata) if not differences else []
    else:
        wanted, found = _comparable(applied, live, wanted_body, found_body)
        differences += _differences(kind, (), "", wanted, found)
        moved = _moved(kind, (), "", wanted, found) if not differences else []
    if differences:
        return Comparison(verdict=Verdict.DRIFT, differences=tuple(differences))
    return Comparison(verdict=Verdict.ORDER_ONLY if moved else Verdict.EQUAL, differences=tuple(moved))


def _comparable(before: Manifest, after: Manifest, old: Body, new: Body) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both bodies; without API versions if both have the same group, since the server converts between them."""
    left_out = {"apiVersion"} if _group(before) == _group(after) else set()
    one, other = ({key: value for key, value in body.value.items() if key not in left_out} for body in (old, new))
    return one, other


def _or_absent(value: Any) -> Any:
    return ABSENT if value is None else value


def _applied_metadata(applied: Manifest, live: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both sides' metadata without what others may legitimately add, and without fields of the request alone."""
    wanted, found = canonical_metadata(applied), canonical_metadata(live)
    for name in ("labels", "annotations"):
        given = wanted.get(name)
        given = given if isinstance(given, Mapping) else {}
        if isinstance(found.get(name), Mapping):
            found[name] = {key: value for key, value in found[name].items() if key in given}
    for name in ("finalizers", "ownerReferences"):
        if isinstance(found.get(name), list):
            found[name] = [item for item in found[name] if item in (wanted.get(name) or [])]
    for side in (wanted, found):
        for name in ("labels", "annotations", "finalizers", "ownerReferences"):
            if side.get(name) in ({}, []):
                del side[name]
    for name in ("namespace", "name"):
        if name not in wanted:
            found.pop(name, None)
    return wanted, found


def _group(manifest: Manifest) -> str:
    return str(manifest.get("apiVersion", "")).rpartition("/")[0]


def _differences(kind: str, keys: tuple[str, ...], path: str, wanted: Any, found: Any) -> list[Difference]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        out: list[Difference] = []
        for key in (*wanted, *(key for key in found if key not in wanted)):
            where = _step(path, str(key))
            if key not in found:
                out.append(Difference(path=where, before=wanted[key], after=ABSENT))
            elif key not in wanted:
                out.append(Difference(path=where, before=ABSENT, after=found[key]))
            else:
                out += _differences(kind, (*keys, str(key)), where, wanted[key], found[key])
        return out
    if isinstance(wanted, list) and isinstance(found, list):
        if unordered(kind, keys) and _have_names(wanted) and _have_names(found) and (wanted or found):
            by_name = ({item["name"]: item for item in items} for items in (wanted, found))
            return _differences_by_name(kind, keys, path, *by_name)
        pairs = _paired(kind, keys, wanted, found) if unordered(kind, keys) else _side_by_side(wanted, found)
        out = []
        for left, right in pairs:
            if left is None and right is not None:
                out.append(Difference(path=f"{path}[{right}]", before=ABSENT, after=found[right]))
            elif right is None and left is not None:
                out.append(Difference(path=f"{path}[{left}]", before=wanted[left], after=ABSENT))
            elif left is not None and right is not None:
                out += _differences(kind, keys, f"{path}[{left}]", wanted[left], found[right])
        if (wanted == []) != (found == []):  # report an emptied list as such rather than by its first entry
            return [Difference(path=path, before=wanted, after=found)]
        return out
    return [] if _key(kind, keys, wanted) == _key(kind, keys, found) else [Difference(path=path, before=wanted, after=found)]


def _differences_by_name(
    kind: str, keys: tuple[str, ...], path: str, wanted: Mapping[str, Any], found: Mapping[str, Any]
) -> list[Difference]:
    """Compare two lists whose entries have names: entries with the same name are compared with each other."""
    out: list[Difference] = []
    for name in dict.fromkeys([*wanted, *found]):
        where = f"{path}[name={name}]"
        if name not in found or name not in wanted:
            out.append(Difference(path=where, before=wanted.get(name, ABSENT), after=found.get(name, ABSENT)))
        else:
            out += _differences(kind, keys, where, wanted[name], found[name])
    return out


def _have_names(items: list[Any]) -> bool:
    """Return whether every entry has a unique name."""
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _side_by_side(wanted: list[Any], found: list[Any]) -> list[tuple[int | None, int | None]]:
    longest = max(len(wanted), len(found))
    return [(index if index < len(wanted) else None, index if index < len(found) else None) for index in range(longest)]


def _paired(kind: str, keys: tuple[str, ...], wanted: list[Any], found: list[Any]) -> list[tuple[int | None, int | None]]:
    """Return indexes of entries to compare: equal ones are left out, similar ones are paired, the rest is unpaired."""
    left_keys, right_keys = [_key(kind, keys, item) for item in wanted], [_key(kind, keys, item) for item in found]
    left = _first_of_each(left_keys, exclude=set(right_keys))
    right = _first_of_each(right_keys, exclude=set(left_keys))
    pairs: list[tuple[int | None, int | None]] = []
    for index in left:
        alike = max(right, key=lambda other: _likeness(wanted[index], found[other]), default=None)
        if alike is not None and _likeness(wanted[index], found[alike]) > 0:
            right.remove(alike)
            pairs.append((index, alike))
        else:
            pairs.append((index, None))
    return [*pairs, *((None, index) for index in right)]


def _first_of_each(keys: list[str], *, exclude: set[str]) -> list[int]:
    seen: set[str] = set()
    return [index for index, key in enumerate(keys) if key not in exclude and not (key in seen or seen.add(key))]  # type: ignore[func-returns-value]


def _likeness(one: Any, other: Any) -> int:
    """Return how many leaves two mappings share; values other than mappings share none."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return 0
    shared = _leaves(one) & _leaves(other)
    return 2 * sum(shared.values()) + len(one.keys() & other.keys())


def _leaves(value: Any, path: str = "") -> Counter[str]:
    if isinstance(value, dict):
        return sum((_leaves(child, f"{path}.{key}") for key, child in value.items()), Counter({f"{path}.{{}}": 1} if not value else {}))
    if isinstance(value, list):
        return sum((_leaves(child, f"{path}[]") for child in value), Counter())
    return Counter({f"{path}={json.dumps(value, default=str)}": 1})


def _key(kind: str, keys: tuple[str, ...], value: Any) -> str:
    """Return text that is equal for values that mean the same."""
    return as_text(_sorted(kind, keys, value))


def _sorted(kind: str, keys: tuple[str, ...], value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _sorted(kind, (*keys, str(key)), child) for key, child in value.items()}
    if isinstance(value, list):
        if not unordered(kind, keys):
            return [_sorted(kind, keys, child) for child in value]
        return sorted({_key(kind, keys, child) for child in value})
    return value


def _moved(kind: str, keys: tuple[str, ...], path: str, wanted: Any, found: Any) -> list[Difference]:
    """Return the lists of two equal objects that are in a different order; of nested ones, the outermost."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            difference for key in wanted for difference in _moved(kind, (*keys, str(key)), _step(path, str(key)), wanted[key], found[key])
        ]
    if isinstance(wanted, list) and isinstance(found, list):
        if [_key(kind, keys, item) for item in wanted] != [_key(kind, keys, item) for item in found]:
            return [Difference(path=path, before=wanted, after=found)]
        return [
            difference
            for index, (left, right) in enumerate(zip(wanted, found, strict=True))
            for difference in _moved(kind, keys, f"{path}[{index}]", left, right)
        ]
    return []


def _step(path: str, key: str) -> str:
    plain = key.replace("_", "").replace("-", "").isalnum()
    if not plain:
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key
