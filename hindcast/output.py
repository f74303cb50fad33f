"""Writes rows to standard output or a file, as a table, JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import json
import sys
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from hindcast.console import messages
from warehouse.errors import ConfigError

CELL_CHARACTERS = 60


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


OutputOption = Annotated[Format, typer.Option("--output", "-o", help="Output format.")]
FileOption = Annotated[Path | None, typer.Option("--file", help="File to write to instead of standard output.")]


def write_rows(rows: pa.Table, how: Format, file: Path | None = None) -> None:
    """Write rows; JSON is one object per line. Raises ConfigError if the file cannot be written."""
    if file is None:
        if how is Format.TABLE:
            _print_table(rows)
        elif how is Format.PARQUET:
            _write(rows, how, sys.stdout.buffer)
        else:
            sys.stdout.write(_text(rows, how))
        return
    try:
        with file.open("wb") as sink:
            _write(rows, Format.CSV if how is Format.TABLE else how, sink)
    except OSError as error:
        raise ConfigError(f"--file {file}: cannot be written: {error.strerror}") from error


def _write(rows: pa.Table, how: Format, sink: IO[bytes]) -> None:
    if how is not Format.PARQUET:
        sink.write(_text(rows, how).encode())
        return
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(rows, buffer, compression="zstd")
    sink.write(buffer.getvalue())


def _text(rows: pa.Table, how: Format) -> str:
    import io

    text = io.StringIO()
    if how is Format.JSON:
        for row in rows.to_pylist():
            text.write(json.dumps(row, default=_plain, ensure_ascii=False) + "\n")
    else:
        writer = csv.writer(text)
        writer.writerow(rows.column_names)
        for row in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _print_table(rows: pa.Table) -> None:
    console = Console(soft_wrap=False, highlight=False)
    if not sys.stdout.isatty():
        console.width = 100_000  # do not wrap lines in a pipe
    table = Table(box=None, pad_edge=False, header_style="bold")
    for field in rows.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(field.name, justify="right" if number else "left", overflow="ellipsis", no_wrap=True)
    for row in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        table.add_row(*[_shortened(_cell(value)) for value in row])
    console.print(table, markup=False) if rows.num_columns else messages.print("no columns")


def _shortened(text: str) -> str:
    from rich.markup import escape

    return escape(text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return str(_plain(value)) if isinstance(value, date | bytes | Decimal) else json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Convert values that JSON does not support: times to RFC 3339 in UTC, bytes to hexadecimal."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):  # the type of sums in SQL
        return int(value) if value == value.to_integral_value() else float(value)
    return value.hex() if isinstance(value, bytes) else str(value)
