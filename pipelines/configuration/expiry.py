"""Retention of configuration history: versions that ended before the retention period are removed, with their coverage rows.

Versions in force stay, however old. The newest coverage row of each kind stays too, since otherwise the versions in force
would appear never to have been observed. A version may be stored both without and with its end: both rows are removed in one
commit, since otherwise the version would be in force again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from pipelines.maintenance import removal
from pipelines.maintenance.removal import Mask, Removal, matches
from warehouse import config
from warehouse.errors import CommitConflictError
from warehouse.lake.files import StoredFile
from warehouse.lake.log import REMOVAL
from warehouse.lake.tables import Lake
from warehouse.schema import CONFIG_COVERAGE, VERSION_TABLES, Table

Keep = Callable[[Table, str, str | None], timedelta]
"""How long rows of a table, a cluster and a namespace (None: cluster-scoped) are retained."""
Key = tuple[Any, ...]
_LEDGER_KEY = ("from", "to", "state", "source", "recorded")
_TRIES = 4


@dataclass(frozen=True, kw_only=True)
class _Expired:
    """The expired rows of one cluster in a table, identified by some columns."""

    names: tuple[str, ...]
    going: frozenset[Key]
    held: int
    """Versions that are under a legal hold and must stay."""

    def mask(self, rows: pa.Table) -> Mask:
        """Return a mask that is True for each row to remove."""
        return np.array([key in self.going for key in _keys(rows, self.names)], bool)


def retain_configuration(
    lake: Lake,
    settings: config.Retention,
    keep: Keep,
    *,
    now: datetime,
    clusters: frozenset[str] | None = None,
    dry_run: bool = False,
) -> list[Removal]:
    """Remove expired rows, one commit for each table and cluster; return what was removed or, with `dry_run`, would be.

    Raises LakeError.
    """
    done = []
    for table in (*VERSION_TABLES, CONFIG_COVERAGE):
        for cluster in lake.clusters(table):
            if clusters is not None and cluster not in clusters:
                continue
            gone = _retain(lake, table, cluster, settings, keep, now, dry_run=dry_run)
            if gone.rows or gone.held:
                done.append(gone)
    return done


@retry(retry=retry_if_exception_type(CommitConflictError), stop=stop_after_attempt(_TRIES), reraise=True)
def _retain(lake: Lake, table: Table, cluster: str, settings: config.Retention, keep: Keep, now: datetime, *, dry_run: bool) -> Removal:
    files = [file for file in lake.contents(table) if file.partition["cluster"] == cluster]
    find = _expired_ledger if table is CONFIG_COVERAGE else _expired_versions
    expired = find(lake, table, cluster, files, settings, keep, now)
    found = _found(lake, table, cluster, files, expired, now)
    if dry_run or not found.rows:
        return found
    new = [data for file in found.partly for data in removal.write_without(lake, table, file, expired.mask)]
    # The same guard as compaction takes, so that neither brings back what the other removed.
    lake.replace(table, [*found.whole, *found.partly], new, guard=f"compact:{cluster}", metadata={REMOVAL: "retention"})
    return found


def _found(lake: Lake, table: Table, cluster: str, files: Sequence[StoredFile], expired: _Expired, now: datetime) -> Removal:
    whole, partly, rows = list[StoredFile](), list[StoredFile](), 0
    for file in files if expired.going else ():
        going = int(expired.mask(_read(lake, table, [file], expired.names)).sum())
        rows += going
        if going:
            (whole if going == file.rows else partly).append(file)
    return Removal(table=table, cluster=cluster, day=now.date(), whole=tuple(whole), partly=tuple(partly), rows=rows, held=expired.held)


def _expired_versions(
    lake: Lake, table: Table, cluster: str, files: Sequence[StoredFile], settings: config.Retention, keep: Keep, now: datetime
) -> _Expired:
    going, held, times = set[Key](), set[Key](), dict[str | None, timedelta]()
    for row in _read(lake, table, files, (*table.folded_by, "valid_to")).to_pylist():
        namespace, end = row["namespace"], row["valid_to"]
        if namespace not in times:
            times[namespace] = keep(table, cluster, namespace)
        if end is None or _end_of_day(end) + times[namespace] > now:
            continue
        is_held = any(_holds(hold, cluster, row["valid_from"], end) and _means(hold, namespace) for hold in settings.holds)
        (held if is_held else going).add(tuple(row[name] for name in table.folded_by))
    return _Expired(names=table.folded_by, going=frozenset(going - held), held=len(held))


def _expired_ledger(
    lake: Lake, table: Table, cluster: str, files: Sequence[StoredFile], settings: config.Retention, keep: Keep, now: datetime
) -> _Expired:
    going, held, seen = set[Key](), set[Key](), set[tuple[str, bool]]()
    time_kept = keep(table, cluster, None)
    rows = _read(lake, table, files, (*_LEDGER_KEY, "kinds")).to_pylist()
    for row in sorted(rows, key=lambda row: (row["from"], row["to"]), reverse=True):
        covered = {(kind, observed) for kind in row["kinds"] or () for observed in {False, row["state"] == "observed"}}
        is_newest, key = bool(covered - seen), tuple(row[name] for name in _LEDGER_KEY)
        seen |= covered
        if is_newest or _end_of_day(row["to"]) + time_kept > now:
            continue
        (held if any(_holds(hold, cluster, row["from"], row["to"]) for hold in settings.holds) else going).add(key)
    staying = {tuple(row[name] for name in _LEDGER_KEY) for row in rows} - going
    return _Expired(names=_LEDGER_KEY, going=frozenset(going - staying), held=len(held))


def _holds(hold: config.Hold, cluster: str, begin: datetime, end: datetime) -> bool:
    """Return whether a hold covers the state of a cluster between `begin` and `end`."""
    return matches(hold.cluster, cluster) and (hold.since is None or end > hold.since) and (hold.until is None or begin < hold.until)


def _means(hold: config.Hold, namespace: str | None) -> bool:
    return hold.namespace == "*" or (namespace is not None and matches(hold.namespace, namespace))


def _end_of_day(moment: datetime) -> datetime:
    return datetime.combine(moment.astimezone(UTC).date(), time(), UTC) + timedelta(days=1)


def _read(lake: Lake, table: Table, files: Sequence[StoredFile], names: Sequence[str]) -> pa.Table:
    return lake.dataset(table, [f"{lake.address(table)}/{file.path}" for file in files]).to_table(list(names))


def _keys(rows: pa.Table, names: Sequence[str]) -> Iterator[Key]:
    return zip(*(rows[name].to_pylist() for name in names), strict=True)
