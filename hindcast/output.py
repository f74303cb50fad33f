"""Writes rows to standard output or a file, as a table, JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
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
from warehouse.questions.exports import plain

CELL_CHARACTERS = 60


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


OutputOption = Annotated[
    Format, typer.Option("--output", "-o", help="Output format. jsonl is one JSON object a line, and json is another name for it.")
]
FileOption = Annotated[
    Path | None, typer.Option("--file", help="File to write to instead of standard output; it appears when it is complete.")
]


def write_rows(rows: pa.Table, how: Format, file: Path | None = None) -> None:
    """Write rows; JSON is one object per line. Raises ConfigError if the file cannot be written."""
    if file is None and how is Format.TABLE:
        _print_table(rows)
    else:
        write_stream(rows.to_reader(), how, file)


def write_stream(rows: pa.RecordBatchReader, how: Format, file: Path | None = None, *, most: int | None = None) -> tuple[int, bool]:
    """Write rows as they come, at most `most`; return how many were written, and whether there were more.

    A table is written as CSV. A file appears only once it is complete, so one that was there stays if the rows end with an error.
    Raises ConfigError if the file cannot be written, and what reading the rows raises.
    """
    if file is None:
        sys.stdout.flush()
        with _writer(rows.schema, how, sys.stdout.buffer) as write:
            return _copy(rows, write, most)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as sink, _writer(rows.schema, how, sink) as write:
            written = _copy(rows, write, most)
        partial.replace(file)
    except OSError as error:
        raise ConfigError(f"--file {file}: cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return written


def _copy(rows: Iterable[pa.RecordBatch], write: Callable[[pa.RecordBatch], None], most: int | None) -> tuple[int, bool]:
    count = 0
    for batch in rows:
        left = batch.num_rows if most is None else min(batch.num_rows, most - count)
        write(batch.slice(0, left))
        count += left
        if left < batch.num_rows:
            return count, True
    return count, False


@contextmanager
def _writer(schema: pa.Schema, how: Format, sink: IO[bytes]) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Context with a function that writes one batch after another in a format."""
    if how is Format.PARQUET:
        import pyarrow.parquet as pq

        with pq.ParquetWriter(_Counting(sink), schema, compression="zstd") as parquet:
            yield parquet.write_batch
        return
    text = io.TextIOWrapper(sink, encoding="utf-8", newline="", write_through=True)
    try:
        if how in (Format.JSON, Format.JSONL):
            yield lambda batch: text.writelines(json.dumps(row, default=plain, ensure_ascii=False) + "\n" for row in batch.to_pylist())
        else:
            lines = csv.writer(text)
            lines.writerow(schema.names)
            yield lambda batch: lines.writerows(
                [_cell(value) for value in row] for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
            )
        text.flush()
    finally:
        text.detach()


class _Counting(io.RawIOBase):
    """Writes to a stream that may not know its own position, such as a pipe."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._position = 0

    def writable(self) -> bool:
        """True: it is there to be written to."""
        return True

    def write(self, content: Any, /) -> int:
        """Write all of the content; return its length in bytes."""
        length = memoryview(content).nbytes
        self._sink.write(content)
        self._position += length
        return length

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._position


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
    return str(plain(value)) if isinstance(value, date | bytes | Decimal) else json.dumps(value, default=plain, ensure_ascii=False)
