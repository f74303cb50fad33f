"""Time travel: the lake as it was known at an earlier time, by recorded time or, for a version of `flows`, by its files.

Rows record when the lake learned of them, and compaction and vacuum do not change that. A question as of an instant is always
answered by recorded time, so the answer is repeatable. A version of the table is exact: a flow not yet committed is not in it.
If vacuum has deleted files of the version, or a namespace's history was erased, the instant of its commit is used instead, and
the answer says so. Rows removed by retention or erasure are missing from every answer, except for a version whose files still exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from warehouse.errors import QueryError
from warehouse.schema import ERASURES, FINDINGS, FLOWS, Table

if TYPE_CHECKING:
    from warehouse.lake.tables import Lake


@dataclass(frozen=True, kw_only=True)
class AsOf:
    """A past state of the lake's knowledge."""

    instant: datetime
    version: int | None = None
    """The version of `flows` whose files are read; None if rows are selected by when they were recorded."""
    asked_version: int | None = None
    """The version that was requested, if any."""

    def __str__(self) -> str:
        text = f"as of {self.instant:%Y-%m-%d %H:%M:%S} UTC"
        if self.version is not None:
            return f"{text}, version {self.version} of flows"
        gone = f"; version {self.asked_version} of flows no longer has its files" if self.asked_version is not None else ""
        return f"{text}, by recorded time{gone}"


def at_instant(instant: datetime) -> AsOf:
    """Return the state that comprises everything recorded by an instant."""
    return AsOf(instant=instant.astimezone(UTC))


def at_version(lake: Lake, version: int) -> AsOf:
    """Return the state at a version of `flows`; rows of other tables count if they were recorded by its commit.

    Raises QueryError if the version does not exist yet, LakeError if the log no longer has it.
    """
    newest = lake.version(FLOWS)
    if version > newest:
        raise QueryError(f"there is no version {version} of flows: the newest is {newest}; give that or an earlier version, or a time")
    instant = lake.commit_time(FLOWS, version)
    kinds = lake.read(FINDINGS, ["kind"], since=instant)["kind"].to_pylist()
    exact = not set(ERASURES) & set(kinds) and lake.has_files_of(FLOWS, version)
    return AsOf(instant=instant, version=version if exact else None, asked_version=version)


def known(table: Table, column: str, as_of: AsOf | None) -> str:
    """Return the SQL that selects a column; null where it holds the end of a version that was recorded later."""
    if as_of is None or column not in table.ends:
        return f'"{column}"'
    return f"""CASE WHEN ended_recorded <= '{as_of.instant.isoformat()}'::TIMESTAMPTZ THEN "{column}" END AS "{column}\""""


def condition(table: Table, as_of: AsOf | None) -> str:
    """Return the SQL condition on a table's rows; empty if none is needed. A table without recorded times raises an error when read."""
    if as_of is None or (as_of.version is not None and table.name == FLOWS.name):
        return ""
    if not table.recorded:
        return f"error('{table.name} does not record when its rows were learned, so --as-of cannot be used: query flows instead')::BOOLEAN"
    return f"{table.recorded} <= '{as_of.instant.isoformat()}'::TIMESTAMPTZ"
