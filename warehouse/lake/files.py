"""Writes the lake's data files: Parquet, with the statistics that Delta uses for pruning.

This module knows the layout of a file but not the table's log; warehouse.lake.tables adds files to the log.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from warehouse.errors import LakeError
from warehouse.lake import remote
from warehouse.lake.dictionaries import UNREPEATED
from warehouse.schema import Table

ROW_GROUP_ROWS = 64 * 1024
SMALL_ROWS = 5_000
"""A file with fewer rows, and without a prefix, will soon be merged with others, so it is written as cheaply as possible."""
PAGE_BYTES = 8 * 1024 * 1024
BUFFER_BYTES = 1024 * 1024
"""A Parquet writer makes two small writes a column: gathered, a small file costs one system call instead of two hundred."""
SCATTERED = ("_port", "_lag_ms", "_latency_ns")
"""Name suffixes of numeric columns whose values repeat too seldom for a dictionary."""
LOOKED_UP_BY_NAME = frozenset({"source_pod_name", "destination_pod_name", "source_ip", "destination_ip"})
"""Columns with Bloom filters: a query for one value skips row groups, at a cost of about 0.01 bytes per row."""
DISTINCT = 4096
STATISTICS_CHARACTERS = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000
# Spark truncates timestamps in statistics to milliseconds, so a maximum may be that much too small.
_SLACK = 999
_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A Parquet file that has been written but is not yet in the table's log.

    `path` is relative to the table's folder, `size` is in bytes, `modified` in milliseconds since 1970,
    `statistics` is the JSON text of a Delta add action.
    """

    path: str
    partition: dict[str, str]
    size: int
    rows: int
    modified: int
    statistics: str


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file in the table's log. `first` and `last` bound its times; None if the log does not record them."""

    path: str
    partition: dict[str, str]
    size: int
    rows: int
    first: datetime | None
    last: datetime | None

    @property
    def name(self) -> str:
        """The file name without folders."""
        return self.path.rpartition("/")[2]


def write_files(table: Table, rows: pa.Table, filesystem: pafs.FileSystem, *, where: str, prefix: str = "") -> list[DataFile]:
    """Write `rows`, in the given order, as one file per partition below the root of `filesystem`; no rows give no file.

    File names start with `prefix`, so readers of the log can tell kinds of files apart.

    Raises LakeError naming `where`, the table's address, if the rows do not fit the table or cannot be stored; files
    that were already written are then deleted.
    """
    written: list[DataFile] = []
    try:
        fitting = rows if rows.schema.equals(table.schema) else rows.select(table.schema.names).cast(table.schema)
        for partition, part in _partitions(table, fitting):
            written += write_file(table, partition, _groups(part), filesystem, where=where, prefix=prefix)
    except BaseException as error:
        delete_files(filesystem, [file.path for file in written])
        if isinstance(error, pa.ArrowException | KeyError | ValueError):
            raise _unwritable(table, where, error) from error
        raise
    return written


def write_file(
    table: Table, partition: Mapping[str, str], groups: Iterable[pa.Table], filesystem: pafs.FileSystem, *, where: str, prefix: str = ""
) -> list[DataFile]:
    """Write the row groups of one partition, consumed one after the other, as one file; no rows give no file.

    Every group has the table's columns in order, without the partition columns, and the same types: those of the schema, or
    dictionaries of them. Raises LakeError as `write_files` does.
    """
    path = "/".join([f"{name}={quote(value, safe='')}" for name, value in partition.items()] + [f"{prefix}{uuid.uuid4()}.parquet"])
    statistics = Statistics(table.statistics_columns)
    try:
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with contextlib.ExitStack() as stack:
            sink = writer = None
            for group in groups:
                if not group.num_rows:
                    continue
                if writer is None:
                    sink = stack.enter_context(filesystem.open_output_stream(path, buffer_size=BUFFER_BYTES))
                    is_small = not prefix and group.num_rows < SMALL_ROWS
                    writer = stack.enter_context(pq.ParquetWriter(sink, group.schema, **_how(table, is_small=is_small)))
                writer.write_table(group, row_group_size=group.num_rows)
                statistics.add(group)
            if writer is None or sink is None:
                return []
            writer.close()
            size = int(sink.tell())  # asking an object store for the size would be two more requests
    except BaseException as error:
        delete_files(filesystem, [path])
        if isinstance(error, OSError | pa.ArrowException | KeyError | ValueError):
            raise _unwritable(table, where, error) from error
        raise
    modified = time.time_ns() // 1_000_000
    return [
        DataFile(path=path, partition=dict(partition), size=size, rows=statistics.rows, modified=modified, statistics=statistics.text())
    ]


def _groups(rows: pa.Table) -> Iterator[pa.Table]:
    """Yield the row groups of a file."""
    if rows.num_rows <= ROW_GROUP_ROWS:
        yield rows  # a slice of a wide table takes as long as writing a few of its columns
        return
    for begin in range(0, rows.num_rows, ROW_GROUP_ROWS):
        yield rows.slice(begin, ROW_GROUP_ROWS)


def delete_files(filesystem: pafs.FileSystem, paths: list[str]) -> None:
    """Delete files, ignoring errors: a file that remains is not in the log, so no reader sees it."""
    for path in paths:
        try:
            filesystem.delete_file(path)
        except Exception:  # noqa: BLE001, S112, PERF203, RUF100
            continue


class Statistics:
    """Delta's statistics of a file: the number of rows, and the null count, minimum and maximum of the first leaf columns.

    For columns that are all null, lists and bytes, only nulls are counted. All others get both bounds, because deltalake's
    reader treats a missing bound as one that excludes the file.
    """

    def __init__(self, most_leaves: int) -> None:
        self.rows = 0
        self._most_leaves = most_leaves
        self._nulls: dict[str, int] = {}
        self._bounds: dict[str, tuple[pa.Scalar, pa.Scalar]] = {}

    def add(self, rows: pa.Table) -> None:
        """Add rows of the file to the statistics."""
        self.rows += rows.num_rows
        leaves = 0
        for field, column in zip(rows.schema, rows.columns, strict=True):
            leaves += sum(1 for _ in _leaves(field))
            if leaves > self._most_leaves:
                break
            self._nulls[field.name] = self._nulls.get(field.name, 0) + column.null_count
            if column.null_count == len(column):
                continue
            if pa.types.is_dictionary(field.type):
                column = pa.chunked_array([chunk.dictionary.take(chunk.indices.unique().drop_null()) for chunk in column.chunks])
            if not _has_order(column.type):
                continue
            found = pc.min_max(column)
            known = self._bounds.get(field.name, (found["min"], found["max"]))
            self._bounds[field.name] = (
                min(known[0], found["min"], key=lambda bound: bound.as_py()),
                max(known[1], found["max"], key=lambda bound: bound.as_py()),
            )

    def text(self) -> str:
        """Return the statistics as the JSON text of an add action."""
        least = {name: _bound(bounds[0], upper=False) for name, bounds in self._bounds.items()}
        greatest = {name: _bound(bounds[1], upper=True) for name, bounds in self._bounds.items()}
        statistics = {"numRecords": self.rows, "minValues": least, "maxValues": greatest, "nullCount": self._nulls}
        # deltalake 1.6.6 reads \u escapes of U+20000 and other even planes as other characters, so none are written.
        return json.dumps(statistics, separators=(",", ":"), ensure_ascii=False)


def upper_bound(text: str) -> str:
    """Return `text` if it has at most 32 characters, else the smallest text of at most 32 that sorts after all with its prefix.

    The order is that of code points, which equals the order of UTF-8 bytes. If no such text exists, `text` is returned.
    """
    if len(text) <= STATISTICS_CHARACTERS:
        return text
    for end in range(STATISTICS_CHARACTERS - 1, -1, -1):
        code = ord(text[end])
        if code < _LAST_CHARACTER:
            return text[:end] + chr(_SURROGATES.stop if code + 1 in _SURROGATES else code + 1)
    return text


def _partitions(table: Table, rows: pa.Table) -> Iterator[tuple[dict[str, str], pa.Table]]:
    """Yield each partition's values and its rows, in order, without the partition columns."""
    names = list(table.partition_by)
    others = rows.drop_columns(names)
    numbers = np.zeros(rows.num_rows, np.int64)
    for name in names:
        values = pc.dictionary_encode(rows[name].combine_chunks(), null_encoding="encode")
        numbers = numbers * len(values.dictionary) + values.indices.to_numpy()
    _, firsts, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    for number in np.argsort(firsts):
        places = np.flatnonzero(inverse == number)
        first, last = int(places[0]), int(places[-1])
        keys = {name: rows[name][first].as_py() for name in names}
        if None in keys.values() or "" in keys.values():
            raise ValueError(f"{' and '.join(names)} must be given in every row, but a row has {keys}")
        # Rows that are contiguous, as in a collector's batches, are sliced instead of copied.
        part = others.slice(first, len(places)) if last - first + 1 == len(places) else others.take(pa.array(places))
        yield {name: value.isoformat() if isinstance(value, date) else str(value) for name, value in keys.items()}, part


@functools.lru_cache(maxsize=64)
def _how(table: Table, *, is_small: bool) -> dict[str, Any]:
    """Return the ParquetWriter options for a table's files."""
    encodings: dict[str, str] = {}
    dictionaries: list[str] = []
    for field in table.file_schema:
        if pa.types.is_timestamp(field.type):
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif field.name in UNREPEATED:
            encodings[field.name] = "DELTA_LENGTH_BYTE_ARRAY"
        elif field.name.endswith(SCATTERED) and pa.types.is_integer(field.type):
            encodings[field.name] = "PLAIN"  # BYTE_STREAM_SPLIT saves a thousandth, and some engines do not read it
        elif not pa.types.is_boolean(field.type):
            dictionaries.extend(_leaves(field))
    filtered = [name for name in table.schema.names if name in LOOKED_UP_BY_NAME]
    return {
        # For small files LZ4 costs half the CPU time of zstd and a seventh more bytes.
        "compression": "lz4" if is_small else "zstd",
        # Dictionaries are a sixth of the CPU time of a small file, and hardly make it smaller.
        "use_dictionary": False if is_small else dictionaries,
        "column_encoding": encodings,
        "data_page_size": PAGE_BYTES,
        "store_schema": False,
        "bloom_filter_options": None if is_small or not filtered else {name: {"ndv": DISTINCT, "fpp": 0.01} for name in filtered},
    }


def _unwritable(table: Table, where: str, error: BaseException) -> LakeError:
    return LakeError(f"table {table.name} at {where}: the rows cannot be written: {remote.explained(error)}")


def _leaves(field: pa.Field, prefix: str = "") -> Iterator[str]:
    """Yield the paths of the Parquet columns that a field is stored in."""
    path = prefix + field.name
    if pa.types.is_list(field.type):
        yield from _leaves(pa.field("element", field.type.value_type), f"{path}.list.")
    elif pa.types.is_struct(field.type):
        for child in field.type:
            yield from _leaves(child, f"{path}.")
    else:
        yield path


def _has_order(type_: pa.DataType) -> bool:
    kinds = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_string, pa.types.is_timestamp, pa.types.is_date)
    return any(kind(type_) for kind in kinds)


def _bound(scalar: pa.Scalar, *, upper: bool) -> bool | int | str:
    """Return a minimum or maximum as Delta writes it in JSON."""
    if pa.types.is_timestamp(scalar.type):
        value: datetime = scalar.as_py().astimezone(UTC)
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    value_: Any = scalar.as_py()
    if isinstance(value_, str):
        return upper_bound(value_) if upper else value_[:STATISTICS_CHARACTERS]
    if isinstance(value_, date):
        return value_.isoformat()
    return value_ if isinstance(value_, bool) else int(value_)
