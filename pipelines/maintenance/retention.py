"""Retention: rows leave the lake when they are older than their table, cluster and namespace is kept. Running it again changes nothing.

Days are the unit: a day's rows go when the end of the day is older than that. A flow between two namespaces is kept as long
as the longer of them; what has no namespace as long as the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa

from pipelines.configuration import expiry
from pipelines.maintenance import removal, rollup
from pipelines.maintenance.removal import NAMESPACE_COLUMNS, Mask, Removal, each_name, matches, partition_of
from warehouse import config
from warehouse.errors import CommitConflictError
from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS, TABLES, Table

DAY = timedelta(days=1)
_TRIES = 4


@dataclass(frozen=True, kw_only=True)
class Due:
    """A partition some of whose rows may have had their time."""

    table: Table
    cluster: str
    day: date
    files: tuple[StoredFile, ...]
    selection: Expired


@dataclass(frozen=True, kw_only=True)
class Expired:
    """The rows of one partition that have had their time."""

    settings: config.Retention
    table: Table
    cluster: str
    age: timedelta
    """Since the end of the partition's day."""

    @property
    def columns(self) -> Sequence[str]:
        """The namespaces, unless all are kept no longer than this."""
        return [] if self.age >= max(kept_for(self.settings, self.table, self.cluster)) else self._named

    def mask(self, rows: pa.Table) -> Mask:
        """True for each row none of whose namespaces is kept longer."""
        if not self.columns:
            return np.ones(rows.num_rows, bool)
        without_any = np.ones(rows.num_rows, bool)
        expired = np.ones(rows.num_rows, bool)
        for name in self._named:
            without_any &= rows[name].is_null().to_numpy(zero_copy_only=False) if rows.num_rows else without_any
            expired &= each_name(rows[name], self._has_expired, none=True)
        expired[without_any] = self._has_expired(None)
        return expired

    @property
    def _named(self) -> list[str]:
        return [name for name in NAMESPACE_COLUMNS if name in self.table.schema.names]

    def _has_expired(self, namespace: str | None) -> bool:
        return self.age >= keep(self.settings, self.table, self.cluster, namespace)


def keep(settings: config.Retention, table: Table, cluster: str, namespace: str | None) -> timedelta:
    """How long rows of a table are kept; `namespace` is None for what has none."""
    for override in settings.overrides:
        time = override.time_of(table.name)
        of_namespace = override.namespace == "*" or (namespace is not None and matches(override.namespace, namespace))
        if time is not None and of_namespace and matches(override.cluster, cluster):
            return time
    return settings.time_of(table.name)


def kept_for(settings: config.Retention, table: Table, cluster: str) -> list[timedelta]:
    """All the times for which rows of a cluster may be kept, whatever their namespace."""
    times = [override.time_of(table.name) for override in settings.overrides if matches(override.cluster, cluster)]
    return [*(time for time in times if time is not None), settings.time_of(table.name)]


def due(
    lake: Lake, settings: config.Retention, *, now: datetime, clusters: frozenset[str] | None = None, tables: Iterable[Table] | None = None
) -> list[Due]:
    """The partitions that may hold rows which have had their time, oldest first, by the log alone. Raises LakeError."""
    found: list[Due] = []
    for table in TABLES.values() if tables is None else tables:
        if "date" not in table.partition_by:
            continue  # its rows belong to no day: versions of what is configured, which pipelines.configuration.expiry takes out
        partitions: dict[tuple[date, str], list[StoredFile]] = {}
        for file in lake.contents(table):
            day, cluster = partition_of(file)
            if clusters is None or cluster in clusters:
                partitions.setdefault((day, cluster), []).append(file)
        for (day, cluster), files in sorted(partitions.items(), key=lambda item: item[0]):
            age = now - datetime(day.year, day.month, day.day, tzinfo=UTC) - DAY
            if age >= min(kept_for(settings, table, cluster)):
                expired = Expired(settings=settings, table=table, cluster=cluster, age=age)
                found.append(Due(table=table, cluster=cluster, day=day, files=tuple(files), selection=expired))
    return found


def retain(
    lake: Lake,
    settings: config.Retention,
    *,
    now: datetime,
    clusters: frozenset[str] | None = None,
    dry_run: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> list[Removal]:
    """Take out what has had its time, partition by partition; gives what went or, with `dry_run`, would go. Raises LakeError."""
    done: list[Removal] = []
    for planned in due(lake, settings, now=now, clusters=clusters):
        selection = planned.selection

        def current(planned: Due = planned) -> list[Removal]:
            files = [file for file in lake.contents(planned.table) if partition_of(file) == (planned.day, planned.cluster)]
            return removal.find(lake, planned.table, planned.selection, settings.holds, files)

        for found in removal.find(lake, planned.table, selection, settings.holds, planned.files):
            if planned.table is FLOWS and found.rows and not dry_run:
                _seal(lake, planned)
            gone = found if dry_run else removal.remove(lake, found, selection, settings.holds, why="retention", again=current)
            if gone:
                done.append(gone)
        progress()
    kept = partial(keep, settings)
    return [*done, *expiry.retain_configuration(lake, settings, kept, now=now, clusters=clusters, dry_run=dry_run)]


def _seal(lake: Lake, planned: Due) -> None:
    """Let the day's rollups stand: they were made of all its flows, and must not be made again of those that stay or come late."""
    for tries_left in reversed(range(_TRIES)):
        try:
            rollup.seal(lake, planned.cluster, datetime(planned.day.year, planned.day.month, planned.day.day, tzinfo=UTC))
            return
        except CommitConflictError:
            if not tries_left:
                raise
