"""The page about the lake's tables, made from their schemas: `python -m warehouse.schema.tables_doc > docs/tables.md`.

The page is never edited by hand; a test compares it with what this prints.
"""

from __future__ import annotations

import sys

import pyarrow as pa

from warehouse.schema import TABLES, Column, Table
from warehouse.wording import counted

_INTRODUCTION = """\
# Tables of the lake

Generated from `warehouse/schema/` by `make docs`; edit it there.

The tables are Delta Lake tables, so any engine that reads Delta can open them. Times are UTC with
microseconds. A column's *Hubble field* is the path in `flow.Flow` that it holds; without one the value is
Hindcast's own."""


def type_name(type_: pa.DataType) -> str:
    """Name of a column's type as the page writes it, e.g. `list<string>`."""
    if pa.types.is_list(type_):
        return f"list<{type_name(type_.value_type)}>"
    if pa.types.is_struct(type_):
        return "struct<" + ", ".join(f"{field.name}: {type_name(field.type)}" for field in type_) + ">"
    return str(type_)


def _cell(text: str) -> str:
    """Text that stays within one cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _row(column: Column) -> str:
    field = f"`{column.field}`" if column.field else ""
    cells = [f"`{column.name}`", f"`{type_name(column.type)}`", column.unit, column.doc, field]
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _section(table: Table) -> str:
    folders = ", ".join(f"`{name}`" for name in table.partition_by)
    return "\n".join(
        [
            f"## {table.name}",
            "",
            table.doc,
            "",
            f"Partitioned by {folders}; {counted(len(table.columns), 'column')}."
            if folders
            else f"Not partitioned; {counted(len(table.columns), 'column')}.",
            "",
            "| column | type | unit | meaning | Hubble field |",
            "|---|---|---|---|---|",
            *map(_row, table.columns),
        ]
    )


def page() -> str:
    """The whole page, as Markdown."""
    return "\n\n".join([_INTRODUCTION, *map(_section, TABLES.values())]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
