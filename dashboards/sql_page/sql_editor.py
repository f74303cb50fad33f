"""The SQL page's editor, which completes the names of tables and columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dashboards.frame.editor import Editor
from warehouse.schema import TABLES

EDITOR = Editor(name="sql", language="sql", label="Query, in DuckDB's SQL; Ctrl + Enter runs it", height=220)


def draw(on_run: Callable[[], None]) -> None:
    """Draw it; `on_run` is called for Ctrl + Enter."""
    EDITOR.draw(on_run, {"tables": _tables()})


def _tables() -> dict[str, list[tuple[str, str, str]]]:
    return {table.name: [(column.name, type_name(column.type), column.doc) for column in table.columns] for table in TABLES.values()}


def type_name(arrow: Any) -> str:
    """A type as DuckDB calls it."""
    name = str(arrow)
    if name.startswith("list<"):
        return f"{type_name(arrow.value_type)}[]"
    if name.startswith("struct<"):
        return "STRUCT"
    if name.startswith("timestamp"):
        return "TIMESTAMPTZ"
    known = {
        "string": "VARCHAR", "bool": "BOOLEAN", "double": "DOUBLE", "float": "FLOAT", "date32[day]": "DATE", "binary": "BLOB",
        "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
        "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
    }  # fmt: skip
    return known.get(name, name.upper())
