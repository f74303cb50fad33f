"""Compacts the version tables: the files appended by snapshots and watches are merged, for each cluster, into one file a month
of versions that have ended and one file of the versions in force. Scheduling does not belong here.

Rows are unchanged, except that a version stored both without and with its end keeps only the row with the end. Questions
about any time, including what the lake knew at an earlier time, therefore have the same answer before and after. A second
run finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.errors import CommitConflictError
from warehouse.lake.files import DataFile, StoredFile
from warehouse.lake.tables import Lake
from warehouse.records import versions
from warehouse.records.versions import CLOSED_PREFIX
from warehouse.schema import CONFIG_COVERAGE, VERSION_TABLES, Table

OPEN_PREFIX, MONTH_PREFIX = "open-", "month-"
LOOSE_FILES = 8
"""A cluster's table is compacted only once it has this many appended files, because each run rewrites all versions in force."""


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """The result of compacting one cluster's files of one table."""

    table: str
    cluster: str
    files_before: int
    files_after: int


def compact_configuration(lake: Lake, *, clusters: frozenset[str] | None = None, loose_files: int = LOOSE_FILES) -> list[Tidied]:
    """Compact the version tables and their coverage ledger, for all clusters or the given ones. A table that another process
    is compacting is skipped. Raises LakeError."""
    done = [_compact_versions(lake, table, cluster, files, loose_files) for table, cluster, files in _by_cluster(lake, clusters)]
    done += _compact_ledger(lake, CONFIG_COVERAGE, clusters, loose_files)
    return [each for each in done if each is not None]


def _by_cluster(lake: Lake, clusters: frozenset[str] | None) -> Iterable[tuple[Table, str, list[StoredFile]]]:
    for table in VERSION_TABLES:
        by_cluster: dict[str, list[StoredFile]] = {}
        for file in lake.contents(table):
            by_cluster.setdefault(file.partition["cluster"], []).append(file)
        yield from ((table, cluster, files) for cluster, files in sorted(by_cluster.items()) if clusters is None or cluster in clusters)


def _compact_versions(lake: Lake, table: Table, cluster: str, files: list[StoredFile], loose_files: int) -> Tidied | None:
    loose = [file for file in files if not file.name.startswith((CLOSED_PREFIX, OPEN_PREFIX))]
    if len(loose) < loose_files:
        return None
    changing = [file for file in files if not file.name.startswith(CLOSED_PREFIX)]
    rows = versions.folded(lake, table, changing)
    ended = rows.filter(pc.is_valid(rows["valid_to"]))
    months = pc.strftime(ended["valid_to"], format="%Y-%m").unique().to_pylist()
    # Versions that ended are merged with those of their month, so a month stays one file however often this runs.
    joined = [file for file in files if file.name.startswith(tuple(f"{CLOSED_PREFIX}{month}-" for month in months))]
    if joined:
        ended = versions.folded(lake, table, [*changing, *joined])
        ended = ended.filter(pc.is_valid(ended["valid_to"]))
    written = _write(lake, table, rows.filter(pc.is_null(rows["valid_to"])), OPEN_PREFIX)
    for month in months:
        part = ended.filter(pc.equal(pc.strftime(ended["valid_to"], format="%Y-%m"), month))
        written += _write(lake, table, part.sort_by([("valid_to", "ascending")]), f"{CLOSED_PREFIX}{month}-")
    return _replace(lake, table, cluster, [*changing, *joined], written, guard=f"compact:{cluster}")


def _compact_ledger(lake: Lake, table: Table, clusters: frozenset[str] | None, loose_files: int) -> list[Tidied | None]:
    """Merge a table's appended files into the files of their months."""
    by_cluster: dict[str, list[StoredFile]] = {}
    for file in lake.contents(table):
        by_cluster.setdefault(file.partition["cluster"], []).append(file)
    done = []
    for cluster, files in sorted(by_cluster.items()):
        loose = [file for file in files if not file.name.startswith(MONTH_PREFIX)]
        if len(loose) < loose_files or (clusters is not None and cluster not in clusters):
            continue
        months = _months(_rows(lake, table, loose), table)
        joined = [file for file in files if file.name.startswith(tuple(f"{MONTH_PREFIX}{month}-" for month in months))]
        rows, written = _rows(lake, table, [*loose, *joined]).sort_by([("from", "ascending")]), list[DataFile]()
        for month in months:
            part = rows.filter(pc.equal(pc.strftime(rows[table.time_column], format="%Y-%m"), month))
            written += _write(lake, table, part, f"{MONTH_PREFIX}{month}-")
        done.append(_replace(lake, table, cluster, [*loose, *joined], written, guard=f"compact:{cluster}"))
    return done


def _rows(lake: Lake, table: Table, files: list[StoredFile]) -> pa.Table:
    return lake.dataset(table, [f"{lake.address(table)}/{file.path}" for file in files]).to_table()


def _months(rows: pa.Table, table: Table) -> list[str]:
    return sorted(pc.strftime(rows[table.time_column], format="%Y-%m").unique().to_pylist())


def _write(lake: Lake, table: Table, rows: pa.Table, prefix: str) -> list[DataFile]:
    return lake.write_files(table, rows, prefix=prefix)


def _replace(lake: Lake, table: Table, cluster: str, old: list[StoredFile], new: list[DataFile], *, guard: str) -> Tidied | None:
    try:
        lake.replace(table, old, new, guard=guard)
    except CommitConflictError:
        return None
    return Tidied(table=table.name, cluster=cluster, files_before=len(old), files_after=len(new))
