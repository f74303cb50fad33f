"""What a table is: columns with their types, units and meaning. It does no I/O."""

from __future__ import annotations

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
    """A table of the lake: its columns in storage order, and the columns its folders are named by."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...]
    time_column: str = "time"
    """The timestamp by which a window of rows is read."""
    row_span: timedelta = timedelta(0)
    """How much time a row stands for, from its `time_column` on; 0 for a moment."""
    folded_by: tuple[str, ...] = ()
    """Columns that name a version, in tables where its row is appended again when it ends: the one with an end counts."""
    recorded: str = ""
    """When the lake learned of a row, as an SQL expression over its columns; empty where rows do not say."""
    ends: tuple[str, ...] = ()
    """Columns that tell of a row's end, which the lake learned of at its `ended_recorded`."""
    version: int = 1
    """Of the schema: to be raised with each column that is added, so that an older Hindcast leaves the table alone."""

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of a row, partition columns included."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])

    @property
    def file_schema(self) -> pa.Schema:
        """Arrow schema of a data file: without the partition columns, which its path holds."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns if column.name not in self.partition_by])


def column(name: str, type_: pa.DataType, doc: str, field: str = "", unit: str = "") -> Column:
    """A column; see Column."""
    return Column(name=name, type=type_, doc=doc, field=field, unit=unit)


def partition_columns(day_of: str = "time") -> tuple[Column, Column]:
    """The columns `cluster` and `date`, by which most tables are partitioned."""
    return (
        column("cluster", pa.string(), "Name of the cluster in Hindcast's configuration"),
        column("date", pa.date32(), f"Day of `{day_of}`, UTC"),
    )
