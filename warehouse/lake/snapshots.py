"""The files of one version of a table, from the add actions of its log. Pure: reading the log is warehouse.lake.tables'."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from urllib.parse import unquote

import pyarrow as pa

from warehouse.lake.files import StoredFile
from warehouse.schema import Table


class Snapshot:
    """One version of a table. What is worked out of it is kept, so that a question need not read the log again."""

    def __init__(self, table: Table, version: int, actions: pa.Table) -> None:
        """`actions` are as deltalake flattens them, one row a file."""
        self._table = table
        self.version = version
        paths = pa.array([unquote(path) for path in actions["path"].to_pylist()], pa.string())
        self.actions = actions.set_column(actions.schema.get_field_index("path"), "path", paths)
        """The same with decoded paths."""

    @functools.cached_property
    def files(self) -> tuple[StoredFile, ...]:
        """One for each action."""
        table, actions = self._table, self.actions
        names = [f"{bound}.{table.time_column}" for bound in ("min", "max")]
        bounds = [actions[name].to_pylist() if name in actions.column_names else [None] * actions.num_rows for name in names]
        keys = [actions[f"partition.{name}"].cast(pa.string()).to_pylist() for name in table.partition_by]
        columns = (actions[name].to_pylist() for name in ("path", "size_bytes", "num_records"))
        return tuple(
            StoredFile(
                path=path,
                partition=dict(zip(table.partition_by, values, strict=True)),
                size=size,
                rows=rows,
                first=as_utc(first),
                last=as_utc(last),
            )
            for path, size, rows, first, last, *values in zip(*columns, *bounds, *keys, strict=True)
        )


def as_utc(moment: datetime | None) -> datetime | None:
    """Statistics come without a zone in some versions of the log."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
