"""Rows of an answer as the content of a file: CSV, JSON (one object a line) or Parquet. The same rows always give the same bytes. Pure."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa

from warehouse.wording import counted

Form = Literal["csv", "json", "parquet"]
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - spreadsheets take the wide forms too
"""What a text begins with that a spreadsheet would run as a formula."""


def encode(rows: pa.Table, form: Form, *, is_cut: bool = False) -> bytes:
    """Return the rows as a file; one that was cut says so at its end (in Parquet in the metadata)."""
    note = f"cut at {counted(rows.num_rows, 'row')}: there are more"
    if form == "parquet":
        import pyarrow.parquet as pq  # here, since commands that write no Parquet start faster without it

        sink = pa.BufferOutputStream()
        described = rows.replace_schema_metadata({"hindcast": note}) if is_cut else rows
        pq.write_table(described, sink, compression="zstd")
        data: bytes = sink.getvalue().to_pybytes()
        return data
    text = io.StringIO()
    if form == "csv":
        writer = csv.writer(text)
        writer.writerow(rows.column_names)
        columns = [column.to_pylist() for column in rows.columns]
        writer.writerows([cell(value) for value in row] for row in zip(*columns, strict=True))
        if is_cut:
            writer.writerow([f"# {note}"])
    else:
        for row in rows.to_pylist():
            text.write(json.dumps(row, default=plain, ensure_ascii=False) + "\n")
        if is_cut:
            text.write(json.dumps({"_note": note}) + "\n")
    return text.getvalue().encode("utf-8", "backslashreplace")


def cell(value: Any) -> str:
    """Return a value as a cell of CSV; what a spreadsheet would run as a formula is made text by a quotation mark before it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULAS) else value
    return str(plain(value)) if isinstance(value, date | bytes | Decimal) else json.dumps(value, default=plain)


def plain(value: Any) -> Any:
    """Return a value that JSON has: times in RFC 3339 UTC, decimals as numbers, bytes in hexadecimal."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.hex() if isinstance(value, bytes) else str(value)
