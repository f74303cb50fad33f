"""Rows whose texts stay dictionary-encoded from one file to the next: read, put together, reordered, written again.

Wide rows repeat nearly every text and label list. Here each distinct one is held once and a row holds its number, so that
sorting millions of rows moves numbers. What order rows have, and what a file looks like, is others' work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

UNREPEATED = frozenset({"uuid", "trace_id"})
"""Texts that differ in every row: a dictionary of them costs more than it saves."""
BATCH_ROWS = 256 * 1024
_CODED = pa.dictionary(pa.int32(), pa.string())
_CODED_LIST = pa.list_(pa.field("element", _CODED))
_NULL = -1

Codes = npt.NDArray[np.int16] | npt.NDArray[np.int32]
Order = npt.NDArray[np.int64]


def coded_type(field: pa.Field) -> pa.DataType:
    """The type a column of the table's schema has here: texts and lists of texts as dictionaries, all else as it is."""
    if field.name in UNREPEATED:
        return field.type
    if pa.types.is_string(field.type):
        return _CODED
    if pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type):
        return _CODED_LIST
    return field.type


def encode(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns that `rows` has of `schema`, in its order, with their `coded_type`s."""
    names = [name for name in schema.names if name in rows.column_names]
    types = [pa.field(name, coded_type(schema.field(name))) for name in names]
    return pa.table([_as(rows[field.name], field.type) for field in types], schema=pa.schema(types))


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a column's values in a row group lie between."""

    least: Any
    greatest: Any
    has_null: bool


class CodedFile:
    """A Parquet file, read row group by row group with texts as dictionaries."""

    def __init__(self, source: pa.NativeFile, schema: pa.Schema) -> None:
        """`source` stays the caller's to close; of the columns only those of `schema` are read."""
        self._source = source
        self._schema = schema
        self._file = pq.ParquetFile(source)
        self._metadata = self._file.metadata
        self._present = _present(self._metadata)
        self._places = {self._file.schema.column(place).path: place for place in range(self._metadata.num_columns)}
        texts = [f.name for f in schema if coded_type(f) == _CODED and f.name in self._places]
        lists = [path for f in schema if coded_type(f) == _CODED_LIST and (path := f"{f.name}.list.element") in self._places]
        self._coded = pq.ParquetFile(source, metadata=self._metadata, read_dictionary=[*texts, *lists])

    @property
    def groups(self) -> range:
        """The numbers of its row groups."""
        return range(int(self._metadata.num_row_groups))

    @property
    def row_bytes(self) -> float:
        """About how many bytes a row takes in memory."""
        size = sum(self._metadata.row_group(group).total_byte_size for group in self.groups)
        return float(4 * len(self._present) + size / max(1, self._metadata.num_rows))

    def bounds(self, group: int, name: str) -> Bounds | None:
        """A column's bounds in a row group; None if the file does not say."""
        row_group = self._metadata.row_group(group)
        if name not in self._places:
            return None
        told = row_group.column(self._places[name]).statistics
        if told is None or not told.has_min_max:
            return None
        return Bounds(least=told.min, greatest=told.max, has_null=not told.has_null_count or told.null_count > 0)

    def read(self, group: int, names: Collection[str] | None = None) -> pa.Table:
        """A row group, as `encode` gives it, without columns that are all null in the file."""
        wanted = [name for name in self._schema.names if name in self._present and (names is None or name in names)]
        try:
            rows = self._coded.read_row_group(group, columns=wanted, use_threads=False)
        except (pa.ArrowException, OSError):  # pages that pyarrow cannot read so, as some other engines write them
            rows = self._file.read_row_group(group, columns=wanted, use_threads=False)
        return encode(rows, self._schema)


class CodedRows:
    """Rows in memory, each repeated text or list as the number of its value."""

    def __init__(self, schema: pa.Schema, parts: Iterable[pa.Table]) -> None:
        """Put tables together that `encode` or `CodedFile` gave; a column that a table does not have is null there.

        Tables are asked for as they are needed and not kept: what they hold takes a fraction of the memory here.
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
        """A text column's number in each row, -1 for null, and the texts by number."""
        return self._coded.get(name) or (np.full(self.count, _NULL, np.int32), pa.array([], pa.string()))

    def ranks(self, name: str) -> tuple[Order, list[str]]:
        """A text column as numbers in the texts' own order, null last, and the texts in that order."""
        numbers, texts = self.codes(name)
        order = np.asarray(pc.array_sort_indices(texts))
        rank = np.empty(len(texts) + 1, np.int64)
        rank[order] = np.arange(len(texts))
        rank[_NULL] = len(texts)
        return rank[numbers], texts.take(pa.array(order)).to_pylist()

    def column(self, name: str) -> pa.Array | None:
        """A column that is not of repeated texts; None if it is all null."""
        return self._plain.get(name)

    def take(self, order: Order) -> pa.Table:
        """Those rows, in that order, as a table of `coded_type`s whose dictionaries hold only what is used."""
        picked = pa.array(order)
        columns = []
        for field in self.schema:
            if field.name in self._coded:
                numbers, values = self._coded[field.name]
                columns.append(_coded(numbers[order], values))
            elif field.name in self._plain:
                columns.append(self._plain[field.name].take(picked))
            else:
                columns.append(pa.nulls(len(order), coded_type(field)))
        types = [pa.field(field.name, coded_type(field)) for field in self.schema]
        return pa.Table.from_arrays(columns, schema=pa.schema(types))


class _Batch:
    """Tables put together, texts and lists numbered."""

    def __init__(self, schema: pa.Schema, tables: Sequence[pa.Table]) -> None:
        self.count: int = sum(table.num_rows for table in tables)
        self.coded: dict[str, tuple[Codes, pa.Array]] = {}
        self.plain: dict[str, pa.Array] = {}
        for field in schema:
            type_ = coded_type(field)
            chunks = [
                chunk
                for table in tables
                for chunk in (table[field.name].chunks if field.name in table.column_names else [pa.nulls(table.num_rows, type_)])
            ]
            column = pa.chunked_array(chunks, type_)
            if column.null_count == len(column):
                continue
            if type_ in (_CODED, _CODED_LIST):
                self.coded[field.name] = _numbers(column) if type_ == _CODED else _list_numbers(column)
            else:
                self.plain[field.name] = column.combine_chunks()


def _batches(parts: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Tables by turns, at least BATCH_ROWS at a time but for the last."""
    batch: list[pa.Table] = []
    for part in parts:
        batch.append(part)
        if sum(table.num_rows for table in batch) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _merged(batches: Sequence[tuple[Codes, pa.Array] | None], sizes: Sequence[int], type_: pa.DataType) -> tuple[Codes, pa.Array]:
    """Numbered values of one batch after the other, equal values with one number; all null where there is None."""
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
    """The numbers in two bytes if they fit."""
    return numbers.astype(np.int16) if len(values) <= np.iinfo(np.int16).max else numbers


def _present(metadata: pq.FileMetaData) -> set[str]:
    """Names of the columns that are not known to be all null."""
    found = set()
    for row_group in (metadata.row_group(group) for group in range(metadata.num_row_groups)):
        if not row_group.num_rows:
            continue  # says nothing
        for place in range(row_group.num_columns):
            chunk = row_group.column(place)
            told = chunk.statistics
            # An empty list counts as a null there.
            if "." in chunk.path_in_schema or told is None or not told.has_null_count or told.null_count < chunk.num_values:
                found.add(chunk.path_in_schema.partition(".")[0])
    return found


def _as(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    """The column, of that type."""
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
    if lists.null_count:  # from_arrays takes a list for null where its offset is
        offsets = pa.array(offsets.to_numpy(), mask=np.append(lists.is_null().to_numpy(zero_copy_only=False), False))
    return pa.ListArray.from_arrays(offsets, values.cast(_CODED), type=_CODED_LIST)


def _numbers(column: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Each row's number, and the texts."""
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
    """Each row's number, and the distinct lists, as lists of dictionary-encoded texts.

    A list's element numbers, one after the other, are bytes, and distinct bytes are what a dictionary of binaries finds.
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
    """Numbered values as an array whose dictionary holds only those that occur."""
    used = np.zeros(len(values) + 1, bool)
    used[numbers] = True
    has_null = bool(used[_NULL])
    used[_NULL] = False
    kept = np.flatnonzero(used)
    place = np.zeros(len(values) + 1, np.int32)
    place[kept] = np.arange(len(kept), dtype=np.int32)
    indices = pa.array(place[numbers], mask=numbers == _NULL if has_null else None)
    some = values.take(pa.array(kept))
    if not pa.types.is_list(values.type):
        return pa.DictionaryArray.from_arrays(indices, some)
    inner = some.values.indices.fill_null(_NULL).to_numpy()
    shrunk = pa.ListArray.from_arrays(some.offsets, _coded(inner, some.values.dictionary), type=_CODED_LIST)
    return shrunk.take(indices)
