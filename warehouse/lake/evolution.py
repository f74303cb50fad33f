"""Schema evolution: tables of an older Hindcast get the columns they lack; tables of a newer Hindcast are refused.

Columns are only ever added, never renamed or given another meaning. Adding a column raises the table's `version`: an older process that
is still running may go on appending, but not rewrite files, which would lose the column. Whatever else changes in what files, their
names or the notes of commits mean raises FORMAT: an older process neither reads nor writes such a table any more.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from deltalake import DeltaTable, Field
from deltalake.exceptions import CommitFailedError

from warehouse.errors import LakeError
from warehouse.schema import Table

STATISTICS_COLUMNS = "delta.dataSkippingNumIndexedCols"
"""Table property with the number of columns that the log has statistics of. Without it, deltalake takes a file that lacks the statistics
of one of the first 32 columns to hold no value at all of that column, and leaves it out of filtered reads."""
VERSION = "hindcast.schemaVersion"
"""Table property that holds the version of its schema. A table without it has version 1."""
FORMAT = 1
"""The version of everything in a table that its columns do not tell; raised when an older Hindcast would misread or damage it."""
FORMAT_VERSION = "hindcast.format"
"""Table property that holds the FORMAT it was last opened for writing with. A table without it has format 1."""
COLUMNS_ADDED = "hindcast.columnsAdded"
"""Table property that is set once columns were added: some files may lack them."""
_TRIES = 5


def properties(table: Table) -> dict[str, str]:
    """Return the properties that a table must have."""
    return {VERSION: str(table.version), FORMAT_VERSION: str(FORMAT), STATISTICS_COLUMNS: str(table.statistics_columns)}


def refuse_newer(handle: DeltaTable, table: Table, *, where: str, rewrites: bool) -> None:
    """Raise LakeError if a newer Hindcast has changed the table since it was opened so that this one must not go on with it.

    `rewrites` says that files are to be written again, which needs to know all of their columns.
    """
    configuration = handle.metadata().configuration
    newer = [("format", _number(configuration, FORMAT_VERSION), FORMAT)]
    newer += [("schema", _number(configuration, VERSION), table.version)] if rewrites else []
    for what, stored, known in newer:
        if stored > known:
            raise LakeError(
                f"table {table.name} at {where} was written by a newer Hindcast: its {what} has version {stored}, this Hindcast knows "
                f"{known}. Nothing was changed. Upgrade this Hindcast, or use another lake"
            )


def bring_up_to_date(handle: DeltaTable, table: Table, *, where: str) -> None:
    """Add to a stored table the columns that its schema has gained since, and set its properties; safe in several processes at once.

    Raises LakeError if the table was created by a newer version, or cannot be written by this version. Errors of deltalake
    are passed on.
    """
    for tries_left in reversed(range(_TRIES)):
        missing = _missing(handle, table, where=where)
        marks = properties(table) | ({COLUMNS_ADDED: "true"} if missing else {})
        has_marks = not marks.items() - handle.metadata().configuration.items()
        if not missing and has_marks:
            return
        try:
            # The properties are set first: a reader must not assume that every file has the new columns.
            if not has_marks:
                handle.alter.set_table_properties(marks, raise_if_not_exists=False)
            if missing:
                handle.alter.add_columns(missing)
        except CommitFailedError:  # another process is changing the table, perhaps in the same way: look again
            if not tries_left:
                raise
        handle.update_incremental()


def files_may_lack_columns(handle: DeltaTable) -> bool:
    """Whether columns were added to the table after some of its files were written."""
    return COLUMNS_ADDED in handle.metadata().configuration


def _number(configuration: Mapping[str, str | None], name: str) -> int:
    text = configuration.get(name) or "1"
    return int(text) if text.isdigit() else 1


def _missing(handle: DeltaTable, table: Table, *, where: str) -> list[Field]:
    """Return the columns that the stored table lacks. Raises LakeError if the table cannot be used."""
    refuse_newer(handle, table, where=where, rewrites=True)
    place = f"table {table.name} at {where}"
    stored = {field.name: field.type for field in pa.schema(handle.schema().to_arrow())}
    strange = sorted(stored.keys() - set(table.schema.names))
    if strange:
        raise LakeError(
            f"{place} has columns that this Hindcast does not know: {', '.join(strange)}. Compaction would lose them. "
            "Nothing was changed. Upgrade this Hindcast, or drop the columns if they do not belong to it"
        )
    for field in table.schema:
        if field.name in stored and not _same(stored[field.name], field.type):
            raise LakeError(f"{place}: the column {field.name} has the type {stored[field.name]}, not {field.type}. Use another lake")
    if handle.metadata().partition_columns != list(table.partition_by):
        raise LakeError(
            f"{place} is partitioned by {', '.join(handle.metadata().partition_columns) or 'nothing'}, not by "
            f"{', '.join(table.partition_by)}. Use another lake"
        )
    return [Field.from_arrow(field) for field in table.schema if field.name not in stored]


def _same(stored: pa.DataType, known: pa.DataType) -> bool:
    """Whether two types hold the same values; deltalake names list items differently and may widen strings."""
    if pa.types.is_list(stored) or pa.types.is_large_list(stored):
        return pa.types.is_list(known) and _same(stored.value_type, known.value_type)
    if pa.types.is_struct(stored):
        return (
            pa.types.is_struct(known)
            and [field.name for field in stored] == [field.name for field in known]
            and all(_same(one.type, other.type) for one, other in zip(stored, known, strict=True))
        )
    narrow = {pa.large_string(): pa.string(), pa.string_view(): pa.string(), pa.large_binary(): pa.binary(), pa.binary_view(): pa.binary()}
    return bool(narrow.get(stored, stored) == known)
