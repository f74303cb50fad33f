"""Is a live object what was applied? One verdict, and the paths that differ.

The complete object is compared in its canonical form, not only the fields the applier owns: a field that somebody added
beside them can open what they close. Labels and annotations are others' too: of those, only the applied ones must stand.
Pure: no I/O.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pipelines.blueprints.canonical import Body, Manifest, as_text, canonical_body, canonical_metadata, unordered

ABSENT = "(absent)"


class Verdict(StrEnum):
    """What a comparison says."""

    EQUAL = "equal"
    ORDER_ONLY = "order-only"
    """Lists are in another order, or hold an entry twice, where that means nothing."""
    DRIFT = "drift"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One place where the live object is not what was applied. ABSENT stands for no value."""

    path: str
    applied: Any
    live: Any


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The verdict, and where the objects differ: values for drift, lists for order-only."""

    verdict: Verdict
    differences: tuple[Difference, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(difference.path for difference in self.differences)


def compare(applied: Manifest | None, live: Manifest | None, *, bodies: tuple[Body, Body] | None = None) -> Comparison:
    """Compare an applied manifest with the live object; None for one that does not exist. `bodies` spares working them out."""
    if applied is None or live is None:
        if applied is live:
            return Comparison(verdict=Verdict.EQUAL)
        return Comparison(verdict=Verdict.DRIFT, differences=(Difference(path="$", applied=_or_absent(applied), live=_or_absent(live)),))
    kind = str(applied.get("kind", live.get("kind")))
    wanted_metadata, found_metadata = _applied_metadata(applied, live)
    wanted_body, found_body = bodies or (canonical_body(applied), canonical_body(live))
    if wanted_body.text == found_body.text and wanted_metadata == found_metadata:
        return Comparison(verdict=Verdict.EQUAL)
    differences = _differences(kind, ("metadata",), "metadata", wanted_metadata, found_metadata)
    if wanted_body.text == found_body.text:
        moved = _moved(kind, ("metadata",), "metadata", wanted_metadata, found_metadata) if not differences else []
    else:
        # A group's versions are the same object, converted by the server.
        left_out = {"apiVersion"} if _group(applied) == _group(live) else set()
        wanted, found = ({key: value for key, value in body.value.items() if key not in left_out} for body in (wanted_body, found_body))
        differences += _differences(kind, (), "", wanted, found)
        moved = _moved(kind, (), "", wanted, found) if not differences else []
    if differences:
        return Comparison(verdict=Verdict.DRIFT, differences=tuple(differences))
    return Comparison(verdict=Verdict.ORDER_ONLY if moved else Verdict.EQUAL, differences=tuple(moved))


def _or_absent(value: Any) -> Any:
    return ABSENT if value is None else value


def _applied_metadata(applied: Manifest, live: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata of both sides, without what others may rightly add to it, and what the request alone says."""
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
                out.append(Difference(path=where, applied=wanted[key], live=ABSENT))
            elif key not in wanted:
                out.append(Difference(path=where, applied=ABSENT, live=found[key]))
            else:
                out += _differences(kind, (*keys, str(key)), where, wanted[key], found[key])
        return out
    if isinstance(wanted, list) and isinstance(found, list):
        pairs = _paired(kind, keys, wanted, found) if unordered(kind, keys) else _side_by_side(wanted, found)
        out = []
        for left, right in pairs:
            if left is None and right is not None:
                out.append(Difference(path=f"{path}[{right}]", applied=ABSENT, live=found[right]))
            elif right is None and left is not None:
                out.append(Difference(path=f"{path}[{left}]", applied=wanted[left], live=ABSENT))
            elif left is not None and right is not None:
                out += _differences(kind, keys, f"{path}[{left}]", wanted[left], found[right])
        if (wanted == []) != (found == []):  # an emptied list is worth more than the name of its first entry
            return [Difference(path=path, applied=wanted, live=found)]
        return out
    return [] if _key(kind, keys, wanted) == _key(kind, keys, found) else [Difference(path=path, applied=wanted, live=found)]


def _side_by_side(wanted: list[Any], found: list[Any]) -> list[tuple[int | None, int | None]]:
    longest = max(len(wanted), len(found))
    return [(index if index < len(wanted) else None, index if index < len(found) else None) for index in range(longest)]


def _paired(kind: str, keys: tuple[str, ...], wanted: list[Any], found: list[Any]) -> list[tuple[int | None, int | None]]:
    """Indexes of entries that belong together: equal ones are left out, alike ones paired, the rest stands alone."""
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
    """How many leaves two mappings share; what is no mapping is alike to nothing."""
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
    """A text that is the same for values that mean the same."""
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
    """Lists of two equal objects that are written in another order; the outermost of nested ones."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            difference for key in wanted for difference in _moved(kind, (*keys, str(key)), _step(path, str(key)), wanted[key], found[key])
        ]
    if isinstance(wanted, list) and isinstance(found, list):
        if [_key(kind, keys, item) for item in wanted] != [_key(kind, keys, item) for item in found]:
            return [Difference(path=path, applied=wanted, live=found)]
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
