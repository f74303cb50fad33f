"""Retention: removes rows older than the retention of their table, cluster and namespace. Running it again changes nothing.

The unit is a day: a day's rows expire when the end of the day is older than the retention. A flow between two namespaces has
the longer of their retentions; a row without a namespace has the cluster's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from pipelines.configuration import expiry
from pipelines.maintenance import removal, rollup
from pipelines.maintenance.engine_removal import Names, one_of
from pipelines.maintenance.removal import NAMESPACE_COLUMNS, Mask, Removal, each_name, matches, partition_of
from warehouse import config
from warehouse.engines.opening import Engine
from warehouse.errors import CommitConflictError
from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS, TABLES, Table

DAY = timedelta(days=1)
_TRIES = 4


@dataclass(frozen=True, kw_only=True)
class Due:
    """A partition that may contain expired rows."""

    table: Table
    cluster: str
    day: date
    files: tuple[StoredFile, ...]
    selection: Expired


@dataclass(frozen=True, kw_only=True)
class Expired:
    """The expired rows of one partition."""

    settings: config.Retention
    table: Table
    cluster: str
    age: timedelta
    """Age of the partition, from the end of its day."""

    @property
    def columns(self) -> Sequence[str]:
        """The namespace columns, or none if no namespace has a longer retention than this age."""
        return [] if self.age >= max(retentions_of(self.settings, self.table, self.cluster)) else self._named

    def mask(self, rows: pa.Table) -> Mask:
        """Return a mask that is True for each row none of whose namespaces has a longer retention."""
        if not self.columns:
            return np.ones(rows.num_rows, bool)
        without_any = np.ones(rows.num_rows, bool)
        expired = np.ones(rows.num_rows, bool)
        for name in self._named:
            without_any &= rows[name].is_null().to_numpy(zero_copy_only=False) if rows.num_rows else without_any
            expired &= each_name(rows[name], self._has_expired, none=True)
        expired[without_any] = self._has_expired(None)
        return expired

    def condition(self, names: Names) -> str:
        """Return the same as SQL; see removal.Selection."""
        if not self.columns:
            return "true"
        without_any = " AND ".join(f'"{name}" IS NULL' for name in self._named)
        expired = " AND ".join(one_of(name, [text for text in names(name) if self._has_expired(text)], none=True) for name in self._named)
        return f"(CASE WHEN {without_any} THEN {str(self._has_expired(None)).lower()} ELSE {expired} END)"

    @property
    def _named(self) -> list[str]:
        return [name for name in NAMESPACE_COLUMNS if name in self.table.schema.names]

    def _has_expired(self, namespace: str | None) -> bool:
        return self.age >= keep(self.settings, self.table, self.cluster, namespace)


def keep(settings: config.Retention, table: Table, cluster: str, namespace: str | None) -> timedelta:
    """Return the retention of rows of a table; `namespace` is None for rows without one."""
    for override in settings.overrides:
        time = override.time_of(table.name)
        of_namespace = override.namespace == "*" or (namespace is not None and matches(override.namespace, namespace))
        if time is not None and of_namespace and matches(override.cluster, cluster):
            return time
    return settings.time_of(table.name)


def retentions_of(settings: config.Retention, table: Table, cluster: str) -> list[timedelta]:
    """Return all retentions that apply to rows of a cluster, whatever their namespace."""
    times = [override.time_of(table.name) for override in settings.overrides if matches(override.cluster, cluster)]
    return [*(time for time in times if time is not None), settings.time_of(table.name)]


def due(
    lake: Lake, settings: config.Retention, *, now: datetime, clusters: frozenset[str] | None = None, tables: Iterable[Table] | None = None
) -> list[Due]:
    """Return the partitions that may contain expired rows, oldest first, from the log alone. Raises LakeError."""
    found: list[Due] = []
    for table in TABLES.values() if tables is None else tables:
        if "date" not in table.partition_by:
            continue  # its rows belong to no day: configuration versions, which pipelines.configuration.expiry removes
        partitions: dict[tuple[date, str], list[StoredFile]] = {}
        for file in lake.contents(table):
            day, cluster = partition_of(file)
            if clusters is None or cluster in clusters:
                partitions.setdefault((day, cluster), []).append(file)
        for (day, cluster), files in sorted(partitions.items(), key=lambda item: item[0]):
            age = now - datetime(day.year, day.month, day.day, tzinfo=UTC) - DAY
            if age >= min(retentions_of(settings, table, cluster)):
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
    on: Engine | None = None,
) -> list[Removal]:
    """Remove expired rows, partition by partition; return what was removed or, with `dry_run`, would be. Raises LakeError.

    `on` reads and writes the rows if given.
    """
    done: list[Removal] = []
    for planned in due(lake, settings, now=now, clusters=clusters):
        selection = planned.selection

        def current(planned: Due = planned) -> list[Removal]:
            files = [file for file in lake.contents(planned.table) if partition_of(file) == (planned.day, planned.cluster)]
            return removal.find(lake, planned.table, planned.selection, settings.holds, files, on)

        for found in removal.find(lake, planned.table, selection, settings.holds, planned.files, on):
            if planned.table is FLOWS and found.rows and not dry_run:
                _seal(lake, planned)
            gone = found if dry_run else removal.remove(lake, found, selection, settings.holds, why="retention", again=current, on=on)
            if gone:
                done.append(gone)
        progress()
    keep_time = partial(keep, settings)
    return [*done, *expiry.retain_configuration(lake, settings, keep_time, now=now, clusters=clusters, dry_run=dry_run)]


@retry(retry=retry_if_exception_type(CommitConflictError), stop=stop_after_attempt(_TRIES), reraise=True)
def _seal(lake: Lake, planned: Due) -> None:
    """Freeze the day's rollups: they were computed from all its flows, and must not be recomputed from those that remain."""
    rollup.seal(lake, planned.cluster, datetime(planned.day.year, planned.day.month, planned.day.day, tzinfo=UTC))
