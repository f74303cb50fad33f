"""Reads configuration history: the versions in force at a time or in a window, optionally as the lake knew them at another time.

The docstring of warehouse.schema.configuration describes how versions are stored. Writing them belongs to pipelines; access
control belongs to warehouse.access.principals.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from warehouse import engine, table_views
from warehouse.access.principals import Scope
from warehouse.engine import Limits
from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.schema import VERSION_TABLES, Table

CLOSED_PREFIX = "closed-"
"""Files named `closed-2026-03-...` hold versions that ended in that month, each once; all other files are searched together."""
BOOKKEEPING_KINDS = ("ManifestFile",)
"""Kinds that record where objects were read from, not the configuration of a cluster; returned only if requested by name."""
_MICROSECOND = timedelta(microseconds=1)
_UNLIMITED = Limits(rows=2**62, seconds=600)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which versions are wanted; None means any."""

    tables: Sequence[Table] = VERSION_TABLES
    clusters: Collection[str] | None = None
    kinds: Collection[str] | None = None
    """None means all except the bookkeeping kinds."""
    namespaces: Collection[str] | None = None
    """The namespaces and the objects in them, without cluster-scoped objects."""
    names: Collection[str] | None = None
    recorded: datetime | None = None
    """The versions as the lake knew them at that time: ends that it learned of later are null."""


EVERYTHING = Selection()


def in_force(lake: Lake, at: datetime, selection: Selection = EVERYTHING) -> pa.Table:
    """Return the versions that were in force at an instant; see `between`."""
    return between(lake, at, at + _MICROSECOND, selection)


def between(lake: Lake, since: datetime, until: datetime, selection: Selection = EVERYTHING) -> pa.Table:
    """Return the versions that were in force at some time in [since, until), by cluster, kind, namespace, name and start.

    Columns are those of a version table. Raises LakeError.
    """
    # With `recorded`, a version counts as in force if the lake did not yet know of its end, so no file can be skipped by age.
    begin = since if selection.recorded is None else None
    files = {table.name: _files(lake, table, begin, until, selection.clusters) for table in selection.tables}
    parts = [VERSION_TABLES[0].schema.empty_table()]
    if any(any(both) for both in files.values()):
        with engine.connect_warm() as connection:
            for table in selection.tables:
                if any(files[table.name]):
                    _add_views(connection, lake, table, *files[table.name])
                    parts.append(_read(connection, table, since, until, selection))
    order = [(name, "ascending") for name in VERSION_TABLES[0].folded_by]
    return pa.concat_tables(parts).sort_by(order)


def files_between(lake: Lake, table: Table, *, since: datetime, until: datetime, clusters: Collection[str] | None = None) -> list[str]:
    """Addresses of the files that may hold versions of a table in force at some time in [since, until). Raises LakeError."""
    closed, loose = _files(lake, table, since, until, clusters)
    return [*closed, *loose]


def folded(lake: Lake, table: Table, files: Iterable[StoredFile]) -> pa.Table:
    """Return the versions in these files, each once, with its end if any of the files has it. Raises LakeError."""
    with engine.connect_warm() as connection:
        table_views.add_view_of_files(
            connection, lake, table, [f"{lake.address(table)}/{file.path}" for file in files], "stored", as_stored=True
        )
        rows, _ = engine.run(connection, _fold(table, "SELECT * FROM stored"), (), _UNLIMITED)
    return rows.select(table.schema.names).cast(table.schema)


def is_shown(row: Mapping[str, Any], scope: Scope, since: datetime, until: datetime) -> bool:
    """Whether a scope shows a version: its namespace was owned at some time in [since, until) while the version was in force.

    For cluster-scoped objects, whether the whole cluster was seen then.
    """
    if scope.everything:
        return True
    cluster, namespace = row["cluster"], row["name"] if row["kind"] == "Namespace" else row["namespace"]
    begin, end = max(since, row["valid_from"]), min(until, row["valid_to"] or datetime.now(UTC))
    moments = {begin, *(grant.since for grant in scope.grants if grant.since and begin < grant.since < end)}
    moments |= {denial.until for denial in scope.denials if denial.until and begin < denial.until < end}
    if namespace is None:
        return any(scope.sees_whole(cluster, at) for at in moments)
    return any(scope.owns(cluster, namespace, at) for at in moments)


def _files(
    lake: Lake, table: Table, since: datetime | None, until: datetime, clusters: Collection[str] | None
) -> tuple[list[str], list[str]]:
    """Return the addresses of the files that may hold such versions: files of ended versions, and all others."""
    closed, loose = [], []
    for file in lake.contents(table):
        if (clusters is not None and file.partition["cluster"] not in clusters) or (file.first is not None and file.first >= until):
            continue
        address = f"{lake.address(table)}/{file.path}"
        if not file.name.startswith(CLOSED_PREFIX):
            loose.append(address)
        elif since is None or _month_end(file) > since:
            closed.append(address)
    return closed, loose


def _add_views(connection: Any, lake: Lake, table: Table, closed: list[str], loose: list[str]) -> None:
    table_views.add_view_of_files(connection, lake, table, closed, "closed_files", as_stored=True)
    table_views.add_view_of_files(connection, lake, table, loose, "loose_files", as_stored=True)


def _read(connection: Any, table: Table, since: datetime, until: datetime, selection: Selection) -> pa.Table:
    conditions: list[str] = ["valid_from < ?"]
    values: list[Any] = [until]
    columns = ("cluster", "kind", "namespace", "name")
    listed = (selection.clusters, selection.kinds, selection.namespaces, selection.names)
    for column, wanted in zip(columns, listed, strict=True):
        if wanted is not None:
            conditions.append(f"{column} IN ({', '.join('?' * len(wanted)) or 'NULL'})")
            values.extend(wanted)
    if selection.kinds is None:
        conditions.append(f"kind NOT IN ({', '.join('?' * len(BOOKKEEPING_KINDS))})")
        values.extend(BOOKKEEPING_KINDS)
    known = "*"
    if selection.recorded is not None:
        conditions.append("recorded <= ?")
        values.append(selection.recorded)
        ends = ("valid_to", "valid_to_source", "ended_how", "ended_by", "ended_recorded")
        known = f"* REPLACE ({', '.join(f'CASE WHEN ended_recorded <= ? THEN {name} END AS {name}' for name in ends)})"
        values = [selection.recorded] * len(ends) + values
    where = " AND ".join(conditions)
    lasting = "(valid_to IS NULL OR valid_to > ?)"
    # In the loose files, only the names and times of versions are searched for ends, not the manifests.
    keys = ", ".join(table.folded_by)
    matching = " AND ".join(f"loose.{name} IS NOT DISTINCT FROM ended.{name}" for name in table.folded_by)
    in_force_or_ended = f"{lasting} AND (valid_to IS NOT NULL OR NOT EXISTS (FROM ended WHERE {matching}))"
    sql = f"""
        WITH closed AS (SELECT {known} FROM closed_files WHERE {where}),
        loose AS (SELECT {known} FROM loose_files WHERE {where}),
        ended AS (SELECT DISTINCT {keys} FROM loose WHERE valid_to IS NOT NULL)
        SELECT * FROM closed WHERE {lasting}
        UNION ALL
        {_fold(table, f"SELECT * FROM loose WHERE {in_force_or_ended}")}"""
    rows, _ = engine.run(connection, sql, [*values, *values, since, since], _UNLIMITED)
    return rows.select(table.schema.names).cast(table.schema)


def _fold(table: Table, rows: str) -> str:
    return f"SELECT * FROM ({rows}) QUALIFY row_number() OVER (PARTITION BY {', '.join(table.folded_by)} ORDER BY valid_to NULLS LAST) = 1"


def _month_end(file: StoredFile) -> datetime:
    """Return the end of the month in which the versions of a closed file ended."""
    year, month = (int(part) for part in file.name.removeprefix(CLOSED_PREFIX).split("-")[:2])
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
