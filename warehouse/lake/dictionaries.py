"""Rows whose strings stay dictionary-encoded while files are read, merged, reordered and written again.

Wide rows repeat nearly every string and label list. Here each distinct value is stored once and a row holds its number (its
code), so sorting millions of rows only moves numbers. The order of rows and the layout of files do not belong here.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

UNREPEATED = frozenset({"uuid", "trace_id"})
"""String columns that differ in every row: a dictionary of them costs more than it saves."""
BATCH_ROWS = 256 * 1024
_CODED = pa.dictionary(pa.int32(), pa.string())
_CODED_LIST = pa.list_(pa.field("element", _CODED))
_NULL = -1

Codes = npt.NDArray[np.int16] | npt.NDArray[np.int32]
Order = npt.NDArray[np.int64]


def coded_type(field: pa.Field) -> pa.DataType:
    """Return the type a column of the table's schema has here: strings and lists of strings become dictionaries."""
    if field.name in UNREPEATED:
        return field.type
    if pa.types.is_string(field.type):
        return _CODED
    if pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type):
        return _CODED_LIST
    return field.type


def encode(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of `rows` that are in `schema`, in the schema's order, with their `coded_type`s."""
    columns = dict(zip(rows.column_names, rows.columns, strict=True))
    fields = [field for field in coded_fields(schema) if field.name in columns]
    return pa.table([_as(columns[field.name], field.type) for field in fields], schema=pa.schema(fields))


@functools.lru_cache(maxsize=64)
def coded_fields(schema: pa.Schema) -> tuple[pa.Field, ...]:
    """Return the schema's fields with their `coded_type`s."""
    return tuple(pa.field(field.name, coded_type(field)) for field in schema)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The least and greatest value of a column in a row group."""

    least: Any
    greatest: Any
    has_null: bool


class CodedFile:
    """A Parquet file that is read one row group at a time, with strings as dictionaries."""

    def __init__(self, source: pa.NativeFile, schema: pa.Schema) -> None:
        """The caller remains responsible for closing `source`; only columns of `schema` are read."""
        self._source = source
        self._schema = schema
        self._file = pq.ParquetFile(source)
        self._metadata = self._file.metadata
        self._present = present_columns(self._metadata)
        leaves = self._metadata.schema
        self._places = {leaves.column(place).path: place for place in range(self._metadata.num_columns)}
        texts = [f.name for f in coded_fields(schema) if f.type == _CODED and f.name in self._places]
        lists = [path for f in coded_fields(schema) if f.type == _CODED_LIST and (path := f"{f.name}.list.element") in self._places]
        self._coded = pq.ParquetFile(source, metadata=self._metadata, read_dictionary=[*texts, *lists])

    @property
    def groups(self) -> range:
        """The numbers of the row groups."""
        return range(int(self._metadata.num_row_groups))

    @property
    def row_bytes(self) -> float:
        """The approximate size of a row in memory, in bytes."""
        size = sum(self._metadata.row_group(group).total_byte_size for group in self.groups)
        return float(4 * len(self._present) + size / max(1, self._metadata.num_rows))

    def bounds(self, group: int, name: str) -> Bounds | None:
        """Return a column's bounds in a row group; None if the file does not record them."""
        row_group = self._metadata.row_group(group)
        if name not in self._places:
            return None
        statistics = row_group.column(self._places[name]).statistics
        if statistics is None or not statistics.has_min_max:
            return None
        has_null = not statistics.has_null_count or statistics.null_count > 0
        return Bounds(least=statistics.min, greatest=statistics.max, has_null=has_null)

    def read(self, group: int, names: Collection[str] | None = None) -> pa.Table:
        """Return a row group, encoded as by `encode`, without columns that are all null in the file."""
        wanted = [name for name in self._schema.names if name in self._present and (names is None or name in names)]
        try:
            rows = self._coded.read_row_group(group, columns=wanted, use_threads=False)
        except (pa.ArrowException, OSError):  # some other engines write pages that pyarrow cannot read as dictionaries
            rows = self._file.read_row_group(group, columns=wanted, use_threads=False)
        return encode(rows, self._schema)


class CodedRows:
    """Rows in memory, with each repeated string or list stored as the number of its value."""

    def __init__(self, schema: pa.Schema, parts: Iterable[pa.Table]) -> None:
        """Concatenate tables returned by `encode` or `CodedFile`; a column that a table lacks is null in its rows.

        Tables are taken from `parts` one after the other and then released: the same rows take a fraction of the memory here.
        """
        self.schema = schema
        self._coded: dict[str, tuple[Codes, pa.Array]] = {}
        self._plain: dict[str, pa.Array] = {}
        batches = [_Batch(schema, tables) for tables in _batches(parts)]
        self.count: int = sum(batch.count for batch in batches)
        for field in schema:
            coded = [batch.coded.pop(field.name, None) for batch in batches]
            plain = [batch.plain.pop(field.name, None) for batch in batches]
            sizes = [batch.count for batch in batches]
            if any(coded):
                self._coded[field.name] = _merged(coded, sizes, coded_type(field))
            elif any(array is not None for array in plain):
                filled = [pa.nulls(size, field.type) if array is None else array for array, size in zip(plain, sizes, strict=True)]
                self._plain[field.name] = filled[0] if len(filled) == 1 else pa.concat_arrays(filled)

    def __len__(self) -> int:
        return self.count

    def codes(self, name: str) -> tuple[Codes, pa.Array]:
        """Return a string column's number in each row (-1 for null), and the strings by number."""
        return self._coded.get(name) or (np.full(self.count, _NULL, np.int32), pa.array([], pa.string()))

    def ranks(self, name: str) -> tuple[Order, list[str]]:
        """Return a string column as its rank in each row in alphabetical order, null last, and the strings in that order."""
        numbers, texts = self.codes(name)
        order = np.asarray(pc.array_sort_indices(texts))
        rank = np.empty(len(texts) + 1, np.int64)
        rank[order] = np.arange(len(texts))
        rank[_NULL] = len(texts)
        return rank[numbers], texts.take(pa.array(order)).to_pylist()

    def column(self, name: str) -> pa.Array | None:
        """Return a column that is not dictionary-encoded; None if it is all null."""
        return self._plain.get(name)

    def take(self, order: Order) -> pa.Table:
        """Return these rows, in this order, as a table of `coded_type`s whose dictionaries hold only the values used."""
        picked = pa.array(order)
        columns, fields = [], coded_fields(self.schema)
        for field in fields:
            if field.name in self._coded:
                numbers, values = self._coded[field.name]
                columns.append(_coded(numbers[order], values))
            elif field.name in self._plain:
                columns.append(self._plain[field.name].take(picked))
            else:
                columns.append(pa.nulls(len(order), field.type))
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))


class _Batch:
    """Concatenated tables, with strings and lists numbered."""

    def __init__(self, schema: pa.Schema, tables: Sequence[pa.Table]) -> None:
        self.count: int = sum(table.num_rows for table in tables)
        self.coded: dict[str, tuple[Codes, pa.Array]] = {}
        self.plain: dict[str, pa.Array] = {}
        given = [(table.num_rows, dict(zip(table.column_names, table.columns, strict=True))) for table in tables]
        for field in coded_fields(schema):
            chunks = [
                chunk
                for rows, columns in given
                for chunk in (columns[field.name].chunks if field.name in columns else [pa.nulls(rows, field.type)])
            ]
            column = pa.chunked_array(chunks, field.type)
            if column.null_count == len(column):
                continue
            if field.type in (_CODED, _CODED_LIST):
                self.coded[field.name] = _numbers(column) if field.type == _CODED else _list_numbers(column)
            else:
                self.plain[field.name] = column.combine_chunks()


def _batches(parts: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Yield the tables in batches of at least BATCH_ROWS rows, except for the last batch."""
    batch: list[pa.Table] = []
    for part in parts:
        batch.append(part)
        if sum(table.num_rows for table in batch) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _merged(batches: Sequence[tuple[Codes, pa.Array] | None], sizes: Sequence[int], type_: pa.DataType) -> tuple[Codes, pa.Array]:
    """Concatenate the numbered values of several batches, renumbered so that equal values share a number; None means all null."""
    given = [batch for batch in batches if batch is not None]
    if len(batches) == 1:
        return given[0]
    values = pa.chunked_array([_as_coded(batch[1]) for batch in given], type_)
    new, distinct = _numbers(values) if type_ == _CODED else _list_numbers(values)
    merged, place = [], 0
    for batch, size in zip(batches, sizes, strict=True):
        if batch is None:
            merged.append(np.full(size, _NULL, new.dtype))
            continue
        own = np.append(new[place : place + len(batch[1])], np.array([_NULL], new.dtype))
        merged.append(own[batch[0]])
        place += len(batch[1])
    return np.concatenate(merged), distinct


def _as_coded(values: pa.Array) -> pa.Array:
    return values if pa.types.is_list(values.type) else values.dictionary_encode()


def _smallest(numbers: npt.NDArray[np.int32], values: pa.Array) -> Codes:
    """Return the numbers as 16-bit integers if they fit."""
    return numbers.astype(np.int16) if len(values) <= np.iinfo(np.int16).max else numbers


def present_columns(metadata: pq.FileMetaData) -> set[str]:
    """Return the names of the columns that are not known to be all null."""
    found = set()
    for row_group in (metadata.row_group(group) for group in range(metadata.num_row_groups)):
        if not row_group.num_rows:
            continue  # an empty row group has no values
        for place in range(row_group.num_columns):
            chunk = row_group.column(place)
            statistics = chunk.statistics
            # An empty list counts as a null there.
            is_null = statistics is not None and statistics.has_null_count and statistics.null_count >= chunk.num_values
            if "." in chunk.path_in_schema or not is_null:
                found.add(chunk.path_in_schema.partition(".")[0])
    return found


def _as(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    """Return the column converted to a type."""
    if column.type == type_:
        return column
    if type_ == _CODED:
        return (column if pa.types.is_dictionary(column.type) else column.dictionary_encode()).cast(type_)
    if type_ == _CODED_LIST:
        return pa.chunked_array([_coded_list(chunk) for chunk in column.chunks], type_)
    return column.cast(type_)


def _coded_list(lists: pa.ListArray) -> pa.ListArray:
    values, offsets = lists.values, lists.offsets
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    if lists.null_count:  # from_arrays makes a list null if its offset is null
        offsets = pa.array(offsets.to_numpy(), mask=np.append(lists.is_null().to_numpy(zero_copy_only=False), False))
    return pa.ListArray.from_arrays(offsets, values.cast(_CODED), type=_CODED_LIST)


def _numbers(column: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Return each row's number, and the strings by number."""
    unified = column.unify_dictionaries()
    numbers = np.empty(len(column), np.int32)
    place = 0
    for chunk in unified.chunks:
        indices = chunk.indices
        numbers[place : place + len(chunk)] = (indices.fill_null(_NULL) if indices.null_count else indices).to_numpy()
        place += len(chunk)
    values = unified.chunk(0).dictionary
    return _smallest(numbers, values), values


def _list_numbers(column: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Return each row's number, and the distinct lists as lists of dictionary-encoded strings.

    The element numbers of a list are read as one binary value, so dictionary-encoding the binaries finds the distinct lists.
    """
    unified = column.unify_dictionaries()
    texts = unified.chunk(0).values.dictionary
    numbers = np.empty(len(column), np.int32)
    seen: dict[bytes, int] = {}
    place = 0
    for chunk in unified.chunks:
        elements = chunk.values.indices.fill_null(_NULL).to_numpy()
        offsets = (chunk.offsets.to_numpy().astype(np.int64) * 4).astype(np.int64)
        lists = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(chunk), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(elements))]
        )
        encoded = lists.dictionary_encode()
        known = np.array([seen.setdefault(content, len(seen)) for content in encoded.dictionary.to_pylist()], np.int32)
        own = known[encoded.indices.to_numpy()]
        if chunk.null_count:
            own[chunk.is_null().to_numpy(zero_copy_only=False)] = _NULL
        numbers[place : place + len(chunk)] = own
        place += len(chunk)
    flat = np.frombuffer(b"".join(seen), np.int32)
    ends = np.cumsum([0, *(len(content) // 4 for content in seen)], dtype=np.int32)
    elements = pa.DictionaryArray.from_arrays(pa.array(flat, mask=flat == _NULL), texts)
    values = pa.ListArray.from_arrays(pa.array(ends), elements, type=_CODED_LIST)
    return _smallest(numbers, values), values


def _coded(numbers: Codes, values: pa.Array) -> pa.Array:
    """Return numbered values as an array whose dictionary holds only the values that occur."""
    used = np.zeros(len(values) + 1, bool)
    used[numbers] = True
    has_null = bool(used[_NULL])
    used[_NULL] = False
    occurring = np.flatnonzero(used)
    place = np.zeros(len(values) + 1, np.int32)
    place[occurring] = np.arange(len(occurring), dtype=np.int32)
    indices = pa.array(place[numbers], mask=numbers == _NULL if has_null else None)
    some = values.take(pa.array(occurring))
    if not pa.types.is_list(values.type):
        return pa.DictionaryArray.from_arrays(indices, some)
    inner = some.values.indices.fill_null(_NULL).to_numpy()
    shrunk = pa.ListArray.from_arrays(some.offsets, _coded(inner, some.values.dictionary), type=_CODED_LIST)
    return shrunk.take(indices)
