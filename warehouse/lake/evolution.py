"""Tables that another version of Hindcast made: an older one's get the columns they lack, a newer one's are refused.

A column is only ever added, never renamed or given another meaning; whoever adds one raises the table's `version`.
"""

from __future__ import annotations

import pyarrow as pa
from deltalake import DeltaTable, Field
from deltalake.exceptions import CommitFailedError

from warehouse.errors import LakeError
from warehouse.schema import Table

VERSION = "hindcast.schemaVersion"
"""Property of a table: the version of its schema. One that has none was made at version 1."""
COLUMNS_ADDED = "hindcast.columnsAdded"
"""Property of a table that has got columns: some of its files may lack them."""
_TRIES = 5


def properties(table: Table) -> dict[str, str]:
    """What a new table is marked with."""
    return {VERSION: str(table.version)}


def bring_up_to_date(handle: DeltaTable, table: Table, *, where: str) -> None:
    """Add to a stored table what its schema has got since; safe to do in several processes at once.

    Raises LakeError if the table was made by a newer version, or is not one that this version can write. What deltalake
    raises is passed on.
    """
    for tries_left in reversed(range(_TRIES)):
        missing = _missing(handle, table, where=where)
        version = _version(handle)
        if not missing and version == table.version:
            return
        try:
            # What marks the table comes first: a reader must not take the new columns for ones that every file has.
            marks = properties(table) | ({COLUMNS_ADDED: "true"} if missing else {})
            if marks.items() - handle.metadata().configuration.items():
                handle.alter.set_table_properties(marks, raise_if_not_exists=False)
            if missing:
                handle.alter.add_columns(missing)
        except CommitFailedError:  # another process changes the table, perhaps in the same way: look again
            if not tries_left:
                raise
        handle.update_incremental()


def files_may_lack_columns(handle: DeltaTable) -> bool:
    """Whether columns were added to the table after files were."""
    return COLUMNS_ADDED in handle.metadata().configuration


def _version(handle: DeltaTable) -> int:
    text = handle.metadata().configuration.get(VERSION, "1")
    return int(text) if text.isdigit() else 1


def _missing(handle: DeltaTable, table: Table, *, where: str) -> list[Field]:
    """The columns that the stored table lacks. Raises LakeError for what cannot be gone on with."""
    place = f"table {table.name} at {where}"
    version = _version(handle)
    if version > table.version:
        raise LakeError(
            f"{place} was written by a newer Hindcast: its schema has version {version}, this Hindcast knows {table.version}. "
            "Nothing was changed. Upgrade this Hindcast, or give another lake"
        )
    stored = {field.name: field.type for field in pa.schema(handle.schema().to_arrow())}
    strange = sorted(stored.keys() - set(table.schema.names))
    if strange:
        raise LakeError(
            f"{place} has columns that this Hindcast does not know: {', '.join(strange)}. It would lose them when it compacts. "
            "Nothing was changed. Upgrade this Hindcast, or drop the columns if they are none of its"
        )
    for field in table.schema:
        if field.name in stored and not _same(stored[field.name], field.type):
            raise LakeError(f"{place}: the column {field.name} has the type {stored[field.name]}, not {field.type}. Give another lake")
    if handle.metadata().partition_columns != list(table.partition_by):
        raise LakeError(
            f"{place} is partitioned by {', '.join(handle.metadata().partition_columns) or 'nothing'}, not by "
            f"{', '.join(table.partition_by)}. Give another lake"
        )
    return [Field.from_arrow(field) for field in table.schema if field.name not in stored]


def _same(stored: pa.DataType, known: pa.DataType) -> bool:
    """Whether two types hold the same values; deltalake names the items of lists otherwise, and may widen strings."""
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
