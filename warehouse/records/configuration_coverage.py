"""Reads the ledger of configuration history: which kinds of a cluster were known at a time, and how well.

This is its only reader, used by snapshots, differences, drift and the query door.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from warehouse.lake.tables import Lake
from warehouse.schema import CONFIG_COVERAGE

_KNOWING = frozenset({"observed", "absent"})
STATES_OF_LACK = ("partial", "forbidden", "unreachable", "refused", "failed")


@dataclass(frozen=True, kw_only=True)
class KindCoverage:
    """How well one kind of a cluster was known at a time."""

    cluster: str
    kind: str
    before: datetime | None
    """The last time, up to the time asked about, at which the kind was fully known: it was read completely, or the cluster did not
    have it. None if there was no such time."""
    after: datetime | None
    """The first such time afterwards. What is the same before and after was in force; what differs changed in between."""
    state: str
    """observed, or why it was not observed in the last attempt up to then: absent (the cluster has no such kind), forbidden,
    unreachable, refused, partial, failed; never if there was no attempt."""
    tried: datetime | None
    """When that attempt ended, at most the time asked about; None if there was none."""
    detail: str | None
    """Why it was not observed; for manifests also the files that could not be read although everything else was observed."""

    @property
    def is_known(self) -> bool:
        """Whether the state at the time is known rather than guessed."""
        return self.state in _KNOWING and self.before is not None


def coverage_at(
    lake: Lake, at: datetime, *, clusters: Collection[str] | None = None, recorded: datetime | None = None
) -> list[KindCoverage]:
    """Return the coverage of every kind that was ever observed, by cluster and kind; as the lake knew it at `recorded`, if given.

    A snapshot covers the moment at which it began, a watch all the time until its end. Raises LakeError.
    """
    return _coverage_at(_read(lake, clusters), at, recorded)


def coverage_at_each(
    lake: Lake, moments: Collection[datetime], *, clusters: Collection[str] | None = None
) -> dict[datetime, list[KindCoverage]]:
    """Return what `coverage_at` returns for each of several times, from one reading. Raises LakeError."""
    rows = _read(lake, clusters)
    return {at: _coverage_at(rows, at, None) for at in moments}


def _read(lake: Lake, clusters: Collection[str] | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.read(CONFIG_COVERAGE, None, None if clusters is None else list(clusters)).to_pylist()
    return rows


def _coverage_at(rows: list[dict[str, Any]], at: datetime, recorded: datetime | None) -> list[KindCoverage]:
    found: dict[tuple[str, str], KindCoverage] = {}
    for row in sorted(rows, key=lambda row: (row["from"], row["to"], row["recorded"] or row["to"])):
        if recorded is not None and (row["recorded"] or row["to"]) > recorded:
            continue
        for kind in row["kinds"] or ():
            key = (row["cluster"], kind)
            found[key] = _with(found.get(key) or _never(*key), row, at)
    return [found[key] for key in sorted(found)]


def _never(cluster: str, kind: str) -> KindCoverage:
    return KindCoverage(cluster=cluster, kind=kind, before=None, after=None, state="never", tried=None, detail=None)


def _with(known: KindCoverage, row: Mapping[str, Any], at: datetime) -> KindCoverage:
    """Return the coverage updated with one more row; rows must come in the order of their start."""
    begin = row["from"]
    end = row["to"] if row["source"] == "watch" else begin
    before, after = known.before, known.after
    if row["state"] in _KNOWING:
        if begin <= at:
            before = max(min(end, at), before or begin)
        if end > at and after is None:
            after = max(begin, at + timedelta(microseconds=1))
    if begin > at:
        return replace(known, before=before, after=after)
    return replace(known, before=before, after=after, state=row["state"], tried=min(row["to"], at), detail=row["detail"])
