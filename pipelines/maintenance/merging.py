"""Merging: while rows are still arriving, the small files of a partition are merged into larger ones within a minute or two.

It covers every table that is appended to in small pieces: the open hours of flows and of the ledger, access_log, posture, drift,
findings, saved views and policy changes. Closed hours and days of flows and the ledger belong to pipelines.maintenance.compaction,
configuration history to pipelines.configuration.care, and rollups have one file per partition anyway.

No row is changed, lost or duplicated: all merges of a table are one guarded commit. Files of similar size are merged, as in a
log-structured merge tree, so that a row is rewritten a bounded number of times and a partition never has more than a few files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from pipelines.evidence.findings import FLEET
from pipelines.maintenance import compaction_plan, layout
from pipelines.maintenance.compaction_plan import DAY, DAY_GRACE, GRACE, HOUR, is_loose, is_within
from warehouse.errors import CommitConflictError, LakeError
from warehouse.lake.dictionaries import CodedRows
from warehouse.lake.files import ROW_GROUP_ROWS, DataFile, StoredFile
from warehouse.lake.tables import Lake
from warehouse.schema import CONFIG_COVERAGE, COVERAGE, FLOWS, ROLLUPS, TABLES, VERSION_TABLES, Table
from warehouse.wording import counted

HOURLY = (FLOWS, COVERAGE)
"""Tables whose closed hours are compacted: only their open hours are merged here."""
MERGED: tuple[Table, ...] = tuple(table for table in TABLES.values() if table not in (*ROLLUPS, *VERSION_TABLES, CONFIG_COVERAGE))
RATIO = 16.0
"""A file is merged with smaller ones if together they have at least its rows divided by this. A greater ratio leaves fewer files and
rewrites a row more often: with 16, a cluster of 20 flows/s has at most five files in an open hour, and a row is written about 14 times,
which costs little because the cost of merging such small files is that of opening them."""
LEAST_FILES = 2
"""Fewer files than this are not merged while more may arrive."""
PLAIN_ROWS = 20_000
"""Up to so many rows are merged without dictionaries, which takes about half the time of CodedRows."""
MOST_ROWS = {table.name: ROW_GROUP_ROWS for table in HOURLY}
"""Files of an open hour are merged up to this many rows: larger files are read fast enough until their hour is compacted."""
MOST_ROWS_OF_OTHERS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Files of one partition that are to be merged into one."""

    table: Table
    files: tuple[StoredFile, ...]

    @property
    def guard(self) -> str:
        """The guard of the partition, so that only one process replaces its files at a time."""
        return guard(self.files[0].partition)


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What was merged in one table."""

    table: Table
    replaced: tuple[StoredFile, ...]
    files_after: int

    def __str__(self) -> str:
        return f"{self.table.name}: {counted(len(self.replaced), 'file')} became {self.files_after}"


def guard(partition: Mapping[str, str]) -> str:
    """Return the guard of a partition of any table, the same that compaction, retention and erasure commit under."""
    if "date" in partition:
        return compaction_plan.guard(partition.get("cluster", FLEET), partition["date"])
    return "compact:" + "/".join(partition.values())


def plan(lake: Lake, table: Table, *, now: datetime, clusters: Collection[str] | None = None) -> list[Merge]:
    """Return what is to be merged in a table, optionally of some clusters. Raises LakeError."""
    hourly = table in HOURLY
    files = lake.contents(table, clusters=clusters, since=now - HOUR - GRACE if hourly else None)
    groups: dict[tuple[str, ...], list[StoredFile]] = {}
    for file in files:
        begin = _hour_of(file, now) if hourly else None
        if not hourly or begin is not None:
            groups.setdefault((*file.partition.values(), str(begin)), []).append(file)
    merges = (
        choose(listed, is_closed=not hourly and _is_closed(listed[0], now), most_rows=_most_rows(table)) for listed in groups.values()
    )
    return [Merge(table=table, files=tuple(chosen)) for chosen in merges if chosen]


def choose(files: Iterable[StoredFile], *, is_closed: bool, most_rows: int) -> list[StoredFile]:
    """Choose the files of a partition to merge into one of at most `most_rows`; empty if nothing should be merged.

    Takes the smallest, and each further file whose rows are at most RATIO times those of the smaller ones together. Takes all
    files where no more rows are expected.
    """
    chosen: list[StoredFile] = []
    rows = 0
    for file in sorted(files, key=lambda file: (file.rows, file.path)):
        if rows + file.rows > most_rows or (not is_closed and len(chosen) >= LEAST_FILES and file.rows > RATIO * rows):
            break
        if not is_closed and chosen and len(chosen) < LEAST_FILES and file.rows > RATIO * max(rows, 1):
            chosen, rows = [], 0  # too few of this size: try whether there are enough larger ones
        chosen.append(file)
        rows += file.rows
    return chosen if len(chosen) >= (2 if is_closed else LEAST_FILES) else []


def merge(lake: Lake, *, now: datetime, clusters: Collection[str] | None = None, tables: Sequence[Table] = MERGED) -> list[Merged]:
    """Merge what is due in these tables; files that another process replaces at the same time are skipped.

    Raises LakeError naming the first file or table that failed, after all others have been merged.
    """
    done: list[Merged] = []
    failures: list[LakeError] = []
    for table in tables:
        try:
            planned = plan(lake, table, now=now, clusters=clusters if "cluster" in table.partition_by else None)
            result = _all(lake, table, planned, failures)
        except LakeError as error:
            failures.append(error)
            continue
        done += [result] if result.replaced else []
    if failures:
        others = f" (and {len(failures) - 1} more failures)" if len(failures) > 1 else ""
        raise LakeError(f"{failures[0]}{others}; everything else was merged") from failures[0]
    return done


def _all(lake: Lake, table: Table, merges: Sequence[Merge], failures: list[LakeError]) -> Merged:
    """Do the merges of a table in one commit, or in several if another process replaces some of the files meanwhile.

    A merge whose files cannot be read is skipped and added to `failures`.
    """
    written: list[DataFile] = []
    readable: list[Merge] = []
    for one in merges:
        try:
            written += write_merged(lake, one)
            readable.append(one)
        except LakeError as error:
            failures.append(error)
    if not readable:
        return Merged(table=table, replaced=(), files_after=0)
    old = [file for one in readable for file in one.files]
    try:
        lake.replace(table, old, written, guard=[one.guard for one in readable])
    except CommitConflictError:
        if len(readable) == 1:
            return Merged(table=table, replaced=(), files_after=0)
        half = len(readable) // 2
        first, second = (_all(lake, table, part, failures) for part in (readable[:half], readable[half:]))
        return Merged(table=table, replaced=first.replaced + second.replaced, files_after=first.files_after + second.files_after)
    return Merged(table=table, replaced=tuple(old), files_after=len(written))


def write_merged(lake: Lake, merge: Merge) -> list[DataFile]:
    """Write one file, which is not committed, with the rows of the merge in the order that compaction gives an hour. Raises LakeError."""
    table = merge.table
    if sum(file.rows for file in merge.files) <= PLAIN_ROWS:
        return lake.write_file(table, merge.files[0].partition, [_sorted(lake, merge)])
    rows = CodedRows(table.file_schema, (part for file in merge.files for part in lake.coded_rows(table, file.path)))
    keys = _keys(table)
    order = layout.ordered(rows, keys, table.time_column)
    groups = (rows.take(group) for group in layout.row_groups(order, ROW_GROUP_ROWS))
    return lake.write_file(table, merge.files[0].partition, groups)


def _sorted(lake: Lake, merge: Merge) -> pa.Table:
    """Return the rows of a merge of small files, in the same order as `layout.ordered` gives."""
    table = merge.table
    empty = table.file_schema.empty_table()
    parts = pa.concat_tables([empty, *(lake.plain_rows(table, file.path) for file in merge.files)], promote_options="permissive")
    rows = parts.select(table.file_schema.names).cast(table.file_schema)
    return rows.sort_by([(name, "ascending") for name in (*_keys(table), table.time_column)])


def _keys(table: Table) -> tuple[str, ...]:
    return layout.LAYOUTS[table.name].hour if table.name in layout.LAYOUTS else ()


def _hour_of(file: StoredFile, now: datetime) -> datetime | None:
    """Return the open hour that all of a loose file's rows belong to, or None for any other file."""
    if not is_loose(file) or file.first is None:
        return None
    begin = file.first.replace(minute=0, second=0, microsecond=0)
    return begin if begin + HOUR + GRACE > now and is_within(file, begin) else None


def _is_closed(file: StoredFile, now: datetime) -> bool:
    """Return whether no more rows are expected in a file's partition."""
    day = file.partition.get("date")
    return day is not None and datetime.fromisoformat(day).replace(tzinfo=UTC) + DAY + DAY_GRACE <= now


def _most_rows(table: Table) -> int:
    return MOST_ROWS.get(table.name, MOST_ROWS_OF_OTHERS)
