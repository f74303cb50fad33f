"""Removes rows from the lake's tables: files are dropped from the table, or rewritten without some rows.

The caller (retention, erasure) decides which rows go; legal holds are applied here, so that no caller can bypass them.
Only vacuum deletes files from disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.evidence.findings import FLEET
from pipelines.maintenance import compaction_plan, elsewhere, engine_removal
from pipelines.maintenance.engine_removal import Names
from warehouse import config
from warehouse.access import principals
from warehouse.engines.opening import Engine
from warehouse.errors import CommitConflictError, LakeError
from warehouse.lake.files import DataFile, StoredFile
from warehouse.lake.log import REMOVAL
from warehouse.lake.tables import Lake
from warehouse.schema import ROLLUPS, TIMESTAMP, Table

GROUP_ROWS = 64 * 1024
"""Rows of a row group, which are in memory at once, where a file is rewritten."""
NAMESPACE_COLUMNS = ("source_namespace", "destination_namespace", "namespace", "peer_namespace")
"""The columns that name a row's namespaces, in any table."""
_UNIQUE_NAME = len("00000000-0000-0000-0000-000000000000.parquet")
_TRIES = 4
Mask = npt.NDArray[np.bool_]


class Selection(Protocol):
    """Selects rows of a table to be removed."""

    @property
    def columns(self) -> Sequence[str]:
        """Columns that `mask` reads; if empty, every row is removed."""

    def mask(self, rows: pa.Table) -> Mask:
        """Return a mask that is True for each row to remove."""

    def condition(self, names: Names) -> str:
        """Return the same as SQL, never null, for files whose columns have the distinct values that `names` returns."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What is removed from one partition."""

    table: Table
    cluster: str
    day: date
    whole: tuple[StoredFile, ...] = ()
    """Files all of whose rows are removed."""
    partly: tuple[StoredFile, ...] = ()
    """Files that are rewritten without the removed rows."""
    rows: int = 0
    held: int = 0
    """Rows that would be removed if they were not under a hold."""

    @property
    def size(self) -> int:
        """Bytes of the files that leave the table."""
        return sum(file.size for file in (*self.whole, *self.partly))


def find(
    lake: Lake,
    table: Table,
    selection: Selection,
    holds: Iterable[config.Hold],
    files: Sequence[StoredFile],
    on: Engine | None = None,
) -> list[Removal]:
    """Return what would be removed from these files, one removal per partition, oldest first; `on` counts if given. Raises LakeError."""
    partitions: dict[tuple[date, str], list[StoredFile]] = {}
    for file in files:
        partitions.setdefault(partition_of(file), []).append(file)
    found = []
    for (day, cluster), listed in sorted(partitions.items(), key=lambda item: item[0]):
        here = Holds(holds, table, cluster, day)
        removal = _Found(table=table, cluster=cluster, day=day)
        for counted, going, held in _counts(lake, table, selection, here, listed, on):
            removal.add(counted, going, held)
        if removal.rows or removal.held:
            found.append(removal.done())
    return found


def remove(
    lake: Lake,
    removal: Removal,
    selection: Selection,
    holds: Sequence[config.Hold],
    *,
    why: str,
    again: Callable[[], list[Removal]],
    on: Engine | None = None,
) -> Removal | None:
    """Remove the rows in one commit; return what was removed, or None if another process left nothing to do.

    If another process replaces the partition's files meanwhile, `again` must return what is to be removed now. `on` writes the
    remaining rows if given; they are committed here in any case. Raises LakeError.
    """
    for tries_left in reversed(range(_TRIES)):
        table, cluster = removal.table, removal.cluster
        here = Holds(holds, table, cluster, removal.day)
        rewritten = _remaining(lake, removal, selection, here, on)
        old = [*removal.whole, *removal.partly]
        if not old:
            return removal
        try:
            # data_change stays unset: with it a concurrent append would fail and be retried, and collectors take precedence.
            lake.replace(table, old, rewritten, guard=guard(removal), metadata={REMOVAL: why})
            return removal
        except CommitConflictError:
            if not tries_left:
                raise
        current = [one for one in again() if (one.cluster, one.day) == (removal.cluster, removal.day)]
        if not current:
            return None
        removal = current[0]
    raise AssertionError("unreachable")


def guard(removal: Removal) -> str:
    """Return the guard that compaction and rollups also use for the partition, so that only one replaces its files at a time."""
    day = removal.day.isoformat()
    return f"rollup:{removal.cluster}/{day}" if removal.table in ROLLUPS else compaction_plan.guard(removal.cluster, day)


class Holds:
    """The holds that cover one partition."""

    def __init__(self, holds: Iterable[config.Hold], table: Table, cluster: str, day: date) -> None:
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        end = begin + timedelta(days=1)
        # A ledger row may extend a day beyond its partition.
        reach = end + timedelta(days=1) if "to" in table.schema.names else end
        self._table = table
        self._named = [name for name in NAMESPACE_COLUMNS if name in table.schema.names]
        self._holds = [
            hold
            for hold in holds
            if matches(hold.cluster, cluster) and (hold.until is None or hold.until > begin) and (hold.since is None or hold.since < reach)
        ]

    def __bool__(self) -> bool:
        return bool(self._holds)

    @property
    def columns(self) -> list[str]:
        """Columns that `mask` reads; empty without holds."""
        if not self._holds:
            return []
        reach = ["to"] if "to" in self._table.schema.names else []
        return [*self._named, self._table.time_column, *reach]

    def mask(self, rows: pa.Table) -> Mask:
        """Return a mask that is True for each row under a hold."""
        held = np.zeros(rows.num_rows, bool)
        if not self._holds:
            return held
        begin = _microseconds(rows[self._table.time_column])
        end = _microseconds(rows["to"]) if "to" in rows.column_names else begin + self._table.row_span // _MICROSECOND
        for hold in self._holds:
            inside = np.ones(rows.num_rows, bool)
            if hold.since is not None:
                since = _us(hold.since)
                inside &= (begin >= since) | (end > since)
            if hold.until is not None:
                inside &= begin < _us(hold.until)
            if hold.namespace != "*" and self._named:
                named = np.zeros(rows.num_rows, bool)
                for name in self._named:
                    named |= each_name(rows[name], lambda text, hold=hold: matches(hold.namespace, text), none=False)  # type: ignore[misc]
                inside &= named
            held |= inside
        return held

    def condition(self, names: Names) -> str:
        """Return `mask` as SQL, never null; see Selection.condition."""
        time, held = f'"{self._table.time_column}"', []
        for hold in self._holds:
            parts = []
            if hold.since is not None:
                began = f"{time} >= {engine_removal.moment(hold.since)}"
                lasted = f'"to" > {engine_removal.moment(hold.since)}' if "to" in self._table.schema.names else "false"
                if self._table.row_span:
                    lasted = f"{time} > {engine_removal.moment(hold.since - self._table.row_span)}"
                parts.append(f"coalesce({began} OR {lasted}, false)")
            if hold.until is not None:
                parts.append(f"{time} < {engine_removal.moment(hold.until)}")
            if hold.namespace != "*" and self._named:
                matching = {name: [text for text in names(name) if matches(hold.namespace, text)] for name in self._named}
                named = " OR ".join(engine_removal.one_of(name, texts, none=False) for name, texts in matching.items())
                parts.append(f"({named})")
            held.append(f"({' AND '.join(parts) or 'true'})")
        return f"({' OR '.join(held) or 'false'})"


def partition_of(file: StoredFile) -> tuple[date, str]:
    """Return the day and the cluster of a file; a table without clusters covers the whole fleet."""
    return date.fromisoformat(file.partition["date"]), file.partition.get("cluster", FLEET)


def matches(pattern: str, name: str) -> bool:
    """Return whether a name pattern, which may contain * and ?, matches a name."""
    return fnmatchcase(name, principals.glob(pattern))


def each_name(column: pa.ChunkedArray, predicate: Callable[[str], bool], *, none: bool) -> Mask:
    """Apply `predicate` once to each distinct name of a column and return the result for each row; `none` is the result for nulls."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    results = np.array([*(predicate(name) if name is not None else none for name in encoded.dictionary.to_pylist()), none], bool)
    codes: npt.NDArray[np.int64] = encoded.indices.cast(pa.int64()).fill_null(len(results) - 1).to_numpy(zero_copy_only=False)
    answer: Mask = results[codes]
    return answer


@dataclass(kw_only=True)
class _Found:
    """A removal being put together."""

    table: Table
    cluster: str
    day: date
    whole: list[StoredFile] = field(default_factory=list)
    partly: list[StoredFile] = field(default_factory=list)
    rows: int = 0
    held: int = 0

    def add(self, file: StoredFile, going: int, held: int) -> None:
        self.rows += going
        self.held += held
        if going:
            (self.whole if going == file.rows else self.partly).append(file)

    def done(self) -> Removal:
        return Removal(
            table=self.table,
            cluster=self.cluster,
            day=self.day,
            whole=tuple(self.whole),
            partly=tuple(self.partly),
            rows=self.rows,
            held=self.held,
        )


def _count(lake: Lake, table: Table, selection: Selection, holds: Holds, file: StoredFile) -> tuple[int, int]:
    """Count how many rows of a file are removed, and how many more would be without the holds."""
    columns = dict.fromkeys([*selection.columns, *holds.columns])
    if not columns:
        return file.rows, 0
    going = held = 0
    for rows in _batches(lake, table, file, list(columns)):
        wanted = selection.mask(rows)
        held_back = wanted & holds.mask(rows)
        going += int((wanted & ~held_back).sum())
        held += int(held_back.sum())
    return going, held


def _write_remaining(lake: Lake, table: Table, selection: Selection, holds: Holds, file: StoredFile) -> list[DataFile]:
    return write_without(lake, table, file, lambda rows: selection.mask(rows) & ~holds.mask(rows))


def _counts(
    lake: Lake, table: Table, selection: Selection, holds: Holds, files: Sequence[StoredFile], on: Engine | None
) -> list[tuple[StoredFile, int, int]]:
    """Return each file with the counts of `_count`, made by an engine elsewhere if given."""
    if on is None or not (selection.columns or holds.columns):
        return [(file, *_count(lake, table, selection, holds, file)) for file in files]

    def there(on: Engine) -> list[tuple[StoredFile, int, int]]:
        with on.connect() as connection:
            found = engine_removal.Files(connection, lake, table, files)
            return found.counts(selection.condition(found.names), holds.condition(found.names))

    return elsewhere.tried(on, there, lambda: _counts(lake, table, selection, holds, files, None))


def _remaining(lake: Lake, removal: Removal, selection: Selection, holds: Holds, on: Engine | None) -> list[DataFile]:
    """Write the remaining rows of a removal's files; on an engine elsewhere if given."""
    if on is None or not removal.partly:
        return [data for file in removal.partly for data in _write_remaining(lake, removal.table, selection, holds, file)]

    def there(on: Engine) -> list[DataFile]:
        with on.connect() as connection:
            found = engine_removal.Files(connection, lake, removal.table, removal.partly)
            goes = f"({selection.condition(found.names)} AND NOT {holds.condition(found.names)})"
            return found.write_without(goes, [file.name[:-_UNIQUE_NAME] for file in removal.partly])

    return elsewhere.tried(on, there, lambda: _remaining(lake, removal, selection, holds, None))


def write_without(lake: Lake, table: Table, file: StoredFile, goes: Callable[[pa.Table], Mask]) -> list[DataFile]:
    """Write the remaining rows of a file, in order and under the same kind of name, a row group at a time. Raises LakeError."""

    def groups() -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        for rows in _batches(lake, table, file, table.schema.names):
            stays = ~goes(rows)
            waiting.append(rows.filter(pa.array(stays)).select(table.file_schema.names))
            if sum(part.num_rows for part in waiting) >= GROUP_ROWS:
                yield pa.concat_tables(waiting)
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting)

    return lake.write_file(table, file.partition, groups(), prefix=file.name[:-_UNIQUE_NAME])


def _batches(lake: Lake, table: Table, file: StoredFile, columns: Sequence[str]) -> Iterator[pa.Table]:
    address = f"{lake.address(table)}/{file.path}"
    try:
        for batch in lake.dataset(table, [address]).to_batches(columns=list(columns)):
            yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        raise LakeError(f"table {table.name}: {address} cannot be read, so none of its rows was removed: {error}") from error


_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _microseconds(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    numbers: npt.NDArray[np.int64] = column.cast(TIMESTAMP).cast(pa.int64()).to_numpy()
    return numbers
