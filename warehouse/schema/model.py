"""The model of a table: its columns with types, units and meaning. No I/O."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")
STRINGS = pa.list_(pa.string())


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    `field` is the dotted path of the Hubble `flow.Flow` field it holds, empty where the value is ours.
    """

    name: str
    type: pa.DataType
    doc: str
    field: str = ""
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the lake: its columns in storage order, and the columns it is partitioned by."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...]
    time_column: str = "time"
    """The timestamp column by which rows of a window are selected."""
    row_span: timedelta = timedelta(0)
    """The time span that a row covers, starting at its `time_column`; 0 for a single moment."""
    folded_by: tuple[str, ...] = ()
    """The columns that identify a version, in tables where its row is appended again when it ends; the row with the end counts."""
    recorded: str = ""
    """SQL expression over the columns for when the lake learned of a row; empty if rows do not record it."""
    ends: tuple[str, ...] = ()
    """Columns about a row's end, which the lake learned of at `ended_recorded`."""
    statistics_columns: int = 32
    """How many columns, counted as leaves without the partition columns, the log has statistics of. Each costs the log about 80 bytes a file."""
    version: int = 1
    """Schema version; raised whenever a column is added, so that an older Hindcast refuses the table."""

    def __hash__(self) -> int:
        """Return the hash of the name, which is unique; hashing every column would take longer than what is looked up by it."""
        return hash(self.name)

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """Arrow schema of a row, including partition columns."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])

    @functools.cached_property
    def file_schema(self) -> pa.Schema:
        """Arrow schema of a data file, without the partition columns, which are in its path."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns if column.name not in self.partition_by])


def column(name: str, type_: pa.DataType, doc: str, field: str = "", unit: str = "") -> Column:
    """Return a Column."""
    return Column(name=name, type=type_, doc=doc, field=field, unit=unit)


def partition_columns(day_of: str = "time") -> tuple[Column, Column]:
    """Return the columns `cluster` and `date`, by which most tables are partitioned."""
    return (
        column("cluster", pa.string(), "Name of the cluster in Hindcast's configuration"),
        column("date", pa.date32(), f"Day of `{day_of}`, UTC"),
    )
