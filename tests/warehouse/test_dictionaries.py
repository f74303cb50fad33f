"""Dictionary-encoded rows: whatever goes in comes out, in the order asked for, with dictionaries of only what is used."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.lake import dictionaries
from warehouse.lake.dictionaries import CodedFile, CodedRows, coded_type, encode

SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("uuid", pa.string()),
        pa.field("pod", pa.string()),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("port", pa.int32()),
        pa.field("headers", pa.list_(pa.struct([pa.field("key", pa.string())]))),
        pa.field("never", pa.string()),
    ]
)
text = st.none() | st.sampled_from(["", "a", "b", "ü", "𠀀"])
row = st.fixed_dictionaries(
    {
        "time": st.integers(0, 10**15),
        "uuid": text,
        "pod": text,
        "labels": st.none() | st.lists(text, max_size=3),
        "port": st.none() | st.integers(0, 65_535),
        "headers": st.none() | st.lists(st.fixed_dictionaries({"key": text}), max_size=2),
    }
)
parts = st.lists(st.lists(row, max_size=6), min_size=1, max_size=4)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def plain(rows: pa.Table) -> list[dict[str, Any]]:
    """As Parquet readers see it."""
    file = io.BytesIO()
    pq.write_table(rows, file, store_schema=False)
    file.seek(0)
    return list(pq.read_table(file).cast(SCHEMA).to_pylist())


@pytest.mark.slow
@given(parts, st.randoms(use_true_random=False), st.sampled_from([1, 5, 1000]))
def test_rows_come_out_as_they_went_in_in_any_order(given_parts: list[list[dict[str, Any]]], chance: Any, batch: int) -> None:
    tables = [table(rows) for rows in given_parts]
    whole = pa.concat_tables(tables).to_pylist()
    order = list(range(len(whole)))
    chance.shuffle(order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dictionaries, "BATCH_ROWS", batch)
        coded = CodedRows(SCHEMA, (encode(part, SCHEMA) for part in tables))
    assert len(coded) == len(whole)
    taken = coded.take(np.array(order, np.int64))
    assert taken.schema.types == [coded_type(field) for field in SCHEMA]
    assert plain(taken) == [whole[place] for place in order]
    pods = taken["pod"].combine_chunks()
    assert set(pods.dictionary.to_pylist()) == {whole[place]["pod"] for place in order} - {None}


@pytest.mark.slow
@given(parts)
def test_a_file_is_read_row_group_by_row_group_without_columns_of_nulls(given_parts: list[list[dict[str, Any]]]) -> None:
    file = io.BytesIO()
    with pq.ParquetWriter(file, SCHEMA) as writer:
        for rows in given_parts:
            writer.write_table(table(rows))
    coded = CodedFile(pa.BufferReader(file.getvalue()), SCHEMA)
    read = [coded.read(group) for group in coded.groups]
    rows = CodedRows(SCHEMA, read)
    assert plain(rows.take(np.arange(len(rows)))) == [one for part in given_parts for one in table(part).to_pylist()]
    assert not len(rows) or all("never" not in part.column_names for part in read)


def test_pages_that_cannot_be_read_as_dictionaries_are_read_all_the_same() -> None:
    rows = table([{"time": n, "pod": f"p{n}", "labels": [f"l{n}", None], "uuid": None, "port": n, "headers": None} for n in range(100)])
    file = io.BytesIO()
    encodings = {"pod": "DELTA_BYTE_ARRAY", "labels.list.element": "DELTA_LENGTH_BYTE_ARRAY"}
    pq.write_table(rows, file, use_dictionary=False, column_encoding=encodings)
    coded = CodedFile(pa.BufferReader(file.getvalue()), SCHEMA)
    assert plain(CodedRows(SCHEMA, [coded.read(0)]).take(np.arange(100))) == rows.to_pylist()


def test_ranks_follow_the_order_of_the_texts_with_null_last() -> None:
    rows = table([{"pod": pod} for pod in ("b", None, "a", "b", "c")])
    ranks, texts = CodedRows(SCHEMA, [encode(rows, SCHEMA)]).ranks("pod")
    assert (ranks.tolist(), texts) == ([1, 3, 0, 1, 2], ["a", "b", "c"])


def test_no_rows_at_all_are_no_rows() -> None:
    rows = CodedRows(SCHEMA, [])
    assert len(rows) == 0
    assert rows.ranks("pod")[1] == []
    assert rows.take(np.arange(0)).num_rows == 0


@pytest.mark.slow
def test_many_distinct_texts_are_distinguished() -> None:
    rows = table([{"pod": f"p{number}", "labels": [f"l{number}", "x"]} for number in range(40_000)])
    coded = CodedRows(SCHEMA, [encode(rows, SCHEMA)])
    assert plain(coded.take(np.arange(40_000)[::-1])) == rows.to_pylist()[::-1]
