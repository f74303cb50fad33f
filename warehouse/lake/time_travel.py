"""The lake as it was known at an earlier moment: by when each row was recorded or, for a version of `flows`, by its very files.

Rows know when the lake learned of them, whatever compaction and vacuum did since; so an instant is always answered by that,
and the same way each time. A version of the table is exact: a flow that was on its way is not in it. Once vacuum has
deleted files of it, or a namespace's history was erased, the instant of its commit is asked for instead, and said so.
What retention or erasure has taken out is gone from every answer but a version's whose files still stand.
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
    """A moment of the lake's knowledge."""

    instant: datetime
    version: int | None = None
    """The version of `flows` whose files are read; None if rows are told apart by when they were recorded."""
    asked_version: int | None = None
    """The version that was asked for, if one was."""

    def __str__(self) -> str:
        said = f"as of {self.instant:%Y-%m-%d %H:%M:%S} UTC"
        if self.version is not None:
            return f"{said}, version {self.version} of flows"
        gone = f"; version {self.asked_version} of flows no longer has its files" if self.asked_version is not None else ""
        return f"{said}, by recorded time{gone}"


def at_instant(instant: datetime) -> AsOf:
    """What was recorded by then."""
    return AsOf(instant=instant.astimezone(UTC))


def at_version(lake: Lake, version: int) -> AsOf:
    """What that version of `flows` held, and of other tables what was recorded by its commit.

    Raises QueryError if there is no such version yet, LakeError if the log no longer has it.
    """
    newest = lake.version(FLOWS)
    if version > newest:
        raise QueryError(f"there is no version {version} of flows: the newest is {newest}; give one up to it, or a time")
    instant = lake.commit_time(FLOWS, version)
    kinds = lake.read(FINDINGS, ["kind"], since=instant)["kind"].to_pylist()
    exact = not set(ERASURES) & set(kinds) and lake.has_files_of(FLOWS, version)
    return AsOf(instant=instant, version=version if exact else None, asked_version=version)


def known(table: Table, column: str, as_of: AsOf | None) -> str:
    """A column as SQL selects it: empty where it tells of an end that was recorded later."""
    if as_of is None or column not in table.ends:
        return f'"{column}"'
    return f"""CASE WHEN ended_recorded <= '{as_of.instant.isoformat()}'::TIMESTAMPTZ THEN "{column}" END AS "{column}\""""


def condition(table: Table, as_of: AsOf | None) -> str:
    """What SQL has to ask of a table's rows; empty for nothing. A table that cannot tell answers with an error."""
    if as_of is None or (as_of.version is not None and table.name == FLOWS.name):
        return ""
    if not table.recorded:
        return f"error('{table.name} does not say when its rows were recorded, so it has no --as-of: ask flows instead')::BOOLEAN"
    return f"{table.recorded} <= '{as_of.instant.isoformat()}'::TIMESTAMPTZ"
