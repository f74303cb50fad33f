"""The order of rows in compacted files: which rows lie together, so that questions read little and files are small.

A closed day is cut into bands of source namespaces, and a band is sorted by destination namespace: a question about
either side finds its rows in a few row groups. docs/layout.md describes the alternatives that were tried. It does no I/O.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from warehouse.lake.dictionaries import CodedRows, Order
from warehouse.lake.files import ROW_GROUP_ROWS
from warehouse.schema import COVERAGE, FLOWS

DAY_GROUP_ROWS = 4 * ROW_GROUP_ROWS
"""Row groups of a day are larger, because a question over many days pays for each of them in every footer."""
Pair = tuple[str | None, str | None]
"""Source and destination namespace."""
SOURCE, DESTINATION = "source_namespace", "destination_namespace"
_PODS = ("source_pod_name", "destination_pod_name")
_KIND = ("node_name", "traffic_direction", "event_type", "is_reply", "summary")
"""Rows that are equal in these columns differ in little but time, port and uuid."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table's sort keys, followed by time."""

    hour: tuple[str, ...]
    day: tuple[str, ...]
    """Columns that order the rows within a band."""


LAYOUTS: Mapping[str, Layout] = {
    FLOWS.name: Layout(hour=(SOURCE, DESTINATION, *_PODS, *_KIND), day=(DESTINATION, SOURCE, *_PODS, *_KIND)),
    COVERAGE.name: Layout(hour=("node_name",), day=("node_name",)),
}


@dataclass(frozen=True, kw_only=True)
class Band:
    """Rows whose pair sorts at or after `first` and before `end`; None means unbounded."""

    first: Pair | None
    end: Pair | None
    rows: int


EVERYTHING = Band(first=None, end=None, rows=0)


def cut(pairs: Mapping[Pair, int]) -> list[Band]:
    """Return a day's bands of about equal size, as many as give both sides an equal share of the row groups."""
    total = sum(pairs.values())
    bands = max(1, round(math.sqrt(total / DAY_GROUP_ROWS)))
    ordered_pairs = sorted(pairs, key=sort_key)
    firsts: list[Pair | None] = [None]
    sizes = [0]
    for pair in ordered_pairs:
        if sizes[-1] and sum(sizes) + pairs[pair] / 2 > total * len(sizes) / bands:
            firsts.append(pair)
            sizes.append(0)
        sizes[-1] += pairs[pair]
    return [Band(first=first, end=end, rows=rows) for first, end, rows in zip(firsts, [*firsts[1:], None], sizes, strict=True)]


def together(bands: Iterable[Band], rows: int) -> list[list[Band]]:
    """Group adjacent bands so that no group has more rows than given, but for a single band that has."""
    groups: list[list[Band]] = []
    for band in bands:
        if groups and sum(one.rows for one in groups[-1]) + band.rows <= rows:
            groups[-1].append(band)
        else:
            groups.append([band])
    return groups


def count_pairs(rows: CodedRows) -> dict[Pair, int]:
    """How many rows have each pair of namespaces."""
    source_ranks, sources = rows.ranks(SOURCE)
    destination_ranks, destinations = rows.ranks(DESTINATION)
    width = len(destinations) + 1
    found, counts = np.unique(source_ranks * width + destination_ranks, return_counts=True)
    names: tuple[list[str | None], list[str | None]] = ([*sources, None], [*destinations, None])
    return {(names[0][pair // width], names[1][pair % width]): count for pair, count in zip(found.tolist(), counts.tolist(), strict=True)}


def sort_key(pair: Pair) -> tuple[bool, str, bool, str]:
    """Return the pairs in the order of their names, None last."""
    source, destination = pair
    return source is None, source or "", destination is None, destination or ""


def places(rows: CodedRows, bounds: Sequence[Pair]) -> npt.NDArray[np.int64]:
    """Return how many of the sorted `bounds` are at or before each row's pair."""
    source_ranks, sources = rows.ranks(SOURCE)
    destination_ranks, destinations = rows.ranks(DESTINATION)
    width = len(destinations) + 2
    marks = []
    for source, destination in bounds:
        place = len(sources) if source is None else bisect.bisect_left(sources, source)
        # No row has this source: use the position where the next source begins.
        known = source is None or (place < len(sources) and sources[place] == source)
        column = len(destinations) if destination is None else bisect.bisect_left(destinations, destination)
        marks.append(place * width + (column if known else 0))
    own = source_ranks * width + destination_ranks
    return np.searchsorted(np.array(marks, np.int64), own, side="right")


def ordered(rows: CodedRows, keys: Sequence[str], time_column: str, lead: npt.NDArray[np.int64] | None = None) -> Order:
    """Return the order of rows by `lead` if given, by these columns, null last, and then by time."""
    packed: list[npt.NDArray[np.uint64]] = []
    free = 0
    leading = [(lead, int(lead.max(initial=0)))] if lead is not None else []
    for numbers, greatest in [*leading, *(_numbered(rows, name) for name in keys)]:
        bits = max(1, greatest.bit_length())
        if bits > free:
            packed.append(np.zeros(len(rows), np.uint64))
            free = 64
        packed[-1] = packed[-1] << np.uint64(bits) | numbers.astype(np.uint64)
        free -= bits
    time = rows.column(time_column)
    last = [] if time is None else [time.cast(pa.int64()).to_numpy(zero_copy_only=False)]
    return np.lexsort([*last, *reversed(packed)]) if len(rows) else np.empty(0, np.int64)


def row_groups(order: Order, group_rows: int, lead: npt.NDArray[np.int64] | None = None) -> Iterator[Order]:
    """Yield the rows of each row group, about equally large, none with two values of `lead`, by which the rows are ordered."""
    ends = [len(order)] if lead is None else [*(np.flatnonzero(np.diff(lead[order])) + 1).tolist(), len(order)]
    begin = 0
    for end in ends:
        if end > begin:
            yield from np.array_split(order[begin:end], -(-(end - begin) // group_rows))
        begin = end


def _numbered(rows: CodedRows, name: str) -> tuple[npt.NDArray[np.int64], int]:
    """Return a column as ranks from 0 in its own order, null last, and the greatest rank."""
    plain = rows.column(name)
    if plain is None:
        ranks, texts = rows.ranks(name)
        return ranks, len(texts)
    codes = plain.dictionary_encode()
    rank = np.empty(len(codes.dictionary) + 1, np.int64)
    rank[np.argsort(codes.dictionary.to_numpy(zero_copy_only=False))] = np.arange(len(codes.dictionary))
    rank[-1] = len(codes.dictionary)
    return rank[codes.indices.fill_null(-1).to_numpy()], len(codes.dictionary)
