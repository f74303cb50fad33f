"""What Flight SQL clients ask about the server and its tables: catalogs, schemas, tables with their columns' meaning, and abilities."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from warehouse.access import scoping
from warehouse.access.principals import Scope
from warehouse.schema import ACCESS_LOG, TABLES, Table

CATALOG, SCHEMA, TABLE_TYPE = "hindcast", "main", "TABLE"
_TEXT = pa.string()


def _required(name: str, type_: pa.DataType = _TEXT) -> pa.Field:
    return pa.field(name, type_, nullable=False)


_CATALOGS = pa.schema([_required("catalog_name")])
_SCHEMAS = pa.schema([pa.field("catalog_name", _TEXT), _required("db_schema_name")])
_TABLES = pa.schema([*_SCHEMAS.set(1, pa.field("db_schema_name", _TEXT)), _required("table_name"), _required("table_type")])
_WITH_SCHEMA = _TABLES.append(_required("table_schema", pa.binary()))
_TYPES = pa.schema([_required("table_type")])
_PRIMARY_KEYS = pa.schema(
    [*_TABLES.remove(3), _required("column_name"), pa.field("key_name", _TEXT), _required("key_sequence", pa.int32())]
)
_KEYS = pa.schema(
    [
        *(
            pa.field(f"{end}_{name}", _TEXT, nullable=name in ("catalog_name", "db_schema_name"))
            for end in ("pk", "fk")
            for name in ("catalog_name", "db_schema_name", "table_name", "column_name")
        ),
        _required("key_sequence", pa.int32()),
        pa.field("fk_key_name", _TEXT),
        pa.field("pk_key_name", _TEXT),
        _required("update_rule", pa.uint8()),
        _required("delete_rule", pa.uint8()),
    ]
)
_NUMBER = pa.int32()
_TYPE_INFO = pa.schema(
    [
        _required("type_name"),
        _required("data_type", _NUMBER),
        pa.field("column_size", _NUMBER),
        pa.field("literal_prefix", _TEXT),
        pa.field("literal_suffix", _TEXT),
        pa.field("create_params", pa.list_(_required("item"))),
        _required("nullable", _NUMBER),
        _required("case_sensitive", pa.bool_()),
        _required("searchable", _NUMBER),
        pa.field("unsigned_attribute", pa.bool_()),
        _required("fixed_prec_scale", pa.bool_()),
        pa.field("auto_increment", pa.bool_()),
        pa.field("local_type_name", _TEXT),
        pa.field("minimum_scale", _NUMBER),
        pa.field("maximum_scale", _NUMBER),
        _required("sql_data_type", _NUMBER),
        pa.field("datetime_subcode", _NUMBER),
        pa.field("num_prec_radix", _NUMBER),
        pa.field("interval_precision", _NUMBER),
    ]
)
_INFO_VALUES = (
    ("string_value", _TEXT),
    ("bool_value", pa.bool_()),
    ("bigint_value", pa.int64()),
    ("int32_bitmask", pa.int32()),
    ("string_list", pa.list_(pa.string())),
    ("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
)
_ABILITIES: Mapping[int, str | bool | int] = {
    0: "hindcast",
    1: importlib.metadata.version("hindcast-flows"),
    2: pa.__version__,
    3: True,  # only reads
    4: True,  # takes SQL
    5: False,  # takes no Substrait
    8: 0,  # has no transactions
    9: False,  # cancelling is closing the stream, not a call
    504: '"',  # quotes names
}
"""Flight SQL's numbers of abilities, and what holds here."""


def answer(name: str, command: Any, scope: Scope) -> pa.Table:
    """Return the rows of a metadata command, of what the scope may know. Raises KeyError for another command."""
    return _ANSWERS[name](command, scope)


def columns_of(table: Table) -> pa.Schema:
    """Return a table's schema, with the meaning of each column where clients look for remarks."""
    fields = []
    for column in table.columns:
        remarks = column.doc + (f" ({column.unit})" if column.unit else "")
        metadata = {"ARROW:FLIGHT:SQL:REMARKS": remarks, "ARROW:FLIGHT:SQL:TABLE_NAME": table.name, "comment": remarks}
        fields.append(pa.field(column.name, column.type, metadata=metadata))
    return pa.schema(fields, metadata={"comment": table.doc})


def _catalogs(_command: Any, _scope: Scope) -> pa.Table:
    return pa.Table.from_pylist([{"catalog_name": CATALOG}], schema=_CATALOGS)


def _schemas(command: Any, _scope: Scope) -> pa.Table:
    there = _is_catalog(command) and _is_like(command, "db_schema_filter_pattern", SCHEMA)
    return pa.Table.from_pylist([{"catalog_name": CATALOG, "db_schema_name": SCHEMA}] if there else [], schema=_SCHEMAS)


def _tables(command: Any, scope: Scope) -> pa.Table:
    there = _is_catalog(command) and _is_like(command, "db_schema_filter_pattern", SCHEMA)
    there = there and (not command.table_types or TABLE_TYPE in command.table_types)
    rows = [
        {"catalog_name": CATALOG, "db_schema_name": SCHEMA, "table_name": table.name, "table_type": TABLE_TYPE}
        | ({"table_schema": columns_of(table).serialize().to_pybytes()} if command.include_schema else {})
        for table in (_offered(scope) if there else ())
        if _is_like(command, "table_name_filter_pattern", table.name)
    ]
    return pa.Table.from_pylist(rows, schema=_WITH_SCHEMA if command.include_schema else _TABLES)


def _offered(scope: Scope) -> Iterable[Table]:
    """Return the tables in which the scope may see rows."""
    found = [table for table in TABLES.values() if scope.everything or scoping.is_shared(table) or table is ACCESS_LOG]
    return sorted(found, key=lambda table: table.name)


def _types(_command: Any, _scope: Scope) -> pa.Table:
    return pa.Table.from_pylist([{"table_type": TABLE_TYPE}], schema=_TYPES)


def _abilities(command: Any, _scope: Scope) -> pa.Table:
    wanted = {number: value for number, value in _ABILITIES.items() if not command.info or number in command.info}
    held: list[list[Any]] = [[] for _ in _INFO_VALUES]
    kinds, offsets = [], []
    for value in wanted.values():
        kind = 0 if isinstance(value, str) else 1 if isinstance(value, bool) else 3
        kinds.append(kind)
        offsets.append(len(held[kind]))
        held[kind].append(value)
    values = pa.UnionArray.from_dense(
        pa.array(kinds, pa.int8()),
        pa.array(offsets, pa.int32()),
        [pa.array(values, type_) for values, (_, type_) in zip(held, _INFO_VALUES, strict=True)],
        [name for name, _ in _INFO_VALUES],
    )
    schema = pa.schema([_required("info_name", pa.uint32()), _required("value", values.type)])
    return pa.Table.from_arrays([pa.array(list(wanted), pa.uint32()), values], schema=schema)


def _empty(schema: pa.Schema) -> Callable[[Any, Scope], pa.Table]:
    return lambda _command, _scope: schema.empty_table()


_ANSWERS: Mapping[str, Callable[[Any, Scope], pa.Table]] = {
    "CommandGetCatalogs": _catalogs,
    "CommandGetDbSchemas": _schemas,
    "CommandGetTables": _tables,
    "CommandGetTableTypes": _types,
    "CommandGetSqlInfo": _abilities,
    "CommandGetPrimaryKeys": _empty(_PRIMARY_KEYS),
    "CommandGetExportedKeys": _empty(_KEYS),
    "CommandGetImportedKeys": _empty(_KEYS),
    "CommandGetCrossReference": _empty(_KEYS),
    "CommandGetXdbcTypeInfo": _empty(_TYPE_INFO),
}
COMMANDS = frozenset(_ANSWERS)
"""The commands that ask for metadata."""


def _is_catalog(command: Any) -> bool:
    return not command.HasField("catalog") or command.catalog in ("", CATALOG)


def _is_like(command: Any, field: str, name: str) -> bool:
    """Whether a name matches a pattern of SQL's LIKE, if the command has one."""
    if not command.HasField(field):
        return True
    parts = (".*" if sign == "%" else "." if sign == "_" else re.escape(sign) for sign in getattr(command, field))
    return re.fullmatch("".join(parts), name, re.DOTALL) is not None
