"""Sums of ten-minute parts of the hours that no stored rollup covers: each part is summed up once by a process, and then remembered.

The open hour, and hours that a window covers only in part, are aggregated from flows when a question is asked. Of those, this module
remembers what does not depend on the question or its principal: rows from which rollups follow, before scope, redaction and names.
What is remembered of a part is used only while no row of the part has changed (warehouse.lake.changes), so late flows, erasure and
retention make it be summed up again, and merging files does not. Nothing is written.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse import table_views
from warehouse.engine import literal
from warehouse.lake.changes import SPAN
from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.lake.time_travel import AsOf
from warehouse.questions import edge_rule, rollup_sql
from warehouse.schema import FLOWS

MOST_BYTES = 96 * 1024**2
"""The memory for what is remembered; the parts that have not been asked for the longest are forgotten first."""
MOST_PARTS = 1_000
"""If a question needs more parts, the flows themselves are aggregated: a long time has not been rolled up."""
FEW_FLOWS = 500_000
"""A question about few namespaces does not sum up parts with more flows than this for everybody: it reads its own flows only."""

Span = tuple[datetime, datetime]
Spans = dict[str, list[Span]]
Part = tuple[str, datetime]
"""A cluster, and the start of ten minutes."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PART_US = SPAN // timedelta(microseconds=1)
_PART = f"""epoch_us("time") // {_PART_US} AS part"""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Something that is summed up from flows."""

    name: str
    of: Callable[[str], str]
    """Returns the query for the sums of a relation of flows."""
    by_part: Callable[[str], str]
    """The same, by parts: with the column `part`."""


def _timeline_by_part(flows: str) -> str:
    return f"SELECT *, epoch_us(minute) // {_PART_US} AS part FROM ({rollup_sql.timeline(flows)})"


def _edge_parts_by_part(flows: str) -> str:
    return f"SELECT * EXCLUDE (source_labels, destination_labels) FROM ({rollup_sql.edge_parts(flows, labels=False, part=_PART)})"


TIMELINE = Kind(name="timeline", of=rollup_sql.timeline, by_part=_timeline_by_part)
EDGE_PARTS = Kind(name="edge_parts", of=lambda flows: rollup_sql.edge_parts(flows, labels=False), by_part=_edge_parts_by_part)
PODS = Kind(name="pods", of=edge_rule.pods_seen, by_part=lambda flows: edge_rule.pods_seen(flows, _PART))


class _Memory:
    """Sums by lake, kind and part, each with the number of the part's last change. Used by all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, Part], tuple[int, pa.Table]] = OrderedDict()
        self._bytes = 0

    def find(self, key: tuple[str, str, Part], number: int) -> pa.Table | None:
        with self._lock:
            found = self._kept.get(key)
            if found is None or found[0] != number:
                return None
            self._kept.move_to_end(key)
            return found[1]

    def put(self, key: tuple[str, str, Part], number: int, rows: pa.Table) -> None:
        with self._lock:
            self._drop(key)
            self._kept[key] = number, rows
            self._bytes += _size(rows)
            while self._bytes > MOST_BYTES:
                self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _drop(self, key: tuple[str, str, Part]) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._bytes -= _size(old[1])


def _size(rows: pa.Table) -> int:
    """Return about how many bytes an entry takes; also an empty one takes some."""
    return int(rows.nbytes) + 1_000


_MEMORY = _Memory()


def forget() -> None:
    """Forget all sums of this process."""
    _MEMORY.clear()


@dataclass(frozen=True, kw_only=True)
class Flows:
    """Flows of a lake in some spans of time, read at one moment."""

    lake: Lake
    spans: Spans
    files: Collection[StoredFile]
    """All files that may have flows of the spans."""
    last_change: Callable[[Mapping[str, str], datetime, datetime], int]
    """From `Lake.last_change`, asked before the files were."""
    as_of: AsOf | None = None
    """Only flows that the lake knew then, if given."""

    def within(self, spans: Spans) -> Flows:
        """Return the flows of some of the spans."""
        files = [file for file in self.files if _overlaps(file, spans.get(file.partition["cluster"], ()))]
        return replace(self, spans=spans, files=files)

    def add_view(self, connection: Any, name: str) -> None:
        """Create a view of the flows."""
        paths = sorted(f"{self.lake.address(FLOWS)}/{file.path}" for file in self.files)
        rows = table_views.query_of(connection, self.lake, FLOWS, paths, f"{name}_files", as_of=self.as_of)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM ({rows}) WHERE {within('time', self.spans)}")

    def number(self, part: Part) -> int:
        """Return the number of the last change of a part's flows."""
        cluster, begin = part
        return self.last_change({"cluster": cluster, "date": f"{begin:%Y-%m-%d}"}, begin, begin + SPAN)


def recall(connection: Any, flows: Flows, kind: Kind, name: str, *, few: bool = False) -> tuple[Spans, bool]:
    """Create a relation `name` of the sums of the parts that are remembered, and return the spans that it lacks, and if it has rows.

    Parts that are not remembered are summed up first. For a question about `few` namespaces they are only if they have few flows.
    """
    parts = list(_whole_parts(flows.spans))
    if not 0 < len(parts) <= MOST_PARTS:
        return flows.spans, False
    numbers = {part: flows.number(part) for part in parts}
    key = flows.lake.address(FLOWS), f"{kind.name} {flows.as_of or ''}"
    known = {part: found for part, number in numbers.items() if (found := _MEMORY.find((*key, part), number)) is not None}
    lacking = flows.within(_spans_of(part for part in parts if part not in known))
    if lacking.spans and not (few and sum(file.rows for file in lacking.files) > FEW_FLOWS):
        for part, rows in _summed_up(connection, lacking, kind, f"{name}_lacking").items():
            known[part] = rows
            _MEMORY.put((*key, part), numbers[part], rows)
    rows = [table for table in known.values() if table.num_rows]
    if rows:
        connection.register(name, pa.concat_tables(rows))
    return _without(flows.spans, known), bool(rows)


def _summed_up(connection: Any, flows: Flows, kind: Kind, name: str) -> dict[Part, pa.Table]:
    """Sum up the parts of some flows."""
    flows.add_view(connection, name)
    rows = connection.sql(kind.by_part(name)).to_arrow_table()
    found = {}
    for cluster, spans in flows.spans.items():
        of_cluster = rows.filter(pc.equal(rows["cluster"], cluster))
        for _, begin in _whole_parts({cluster: spans}):
            found[cluster, begin] = of_cluster.filter(pc.equal(of_cluster["part"], (begin - _EPOCH) // SPAN)).combine_chunks()
    return found


def _whole_parts(spans: Spans) -> Iterator[Part]:
    """Yield the parts that lie wholly in the spans, in order."""
    for cluster, listed in spans.items():
        for since, until in listed:
            begin = _EPOCH + -(-(since - _EPOCH) // SPAN) * SPAN
            while begin + SPAN <= until:
                yield cluster, begin
                begin += SPAN


def _spans_of(parts: Iterable[Part]) -> Spans:
    spans: Spans = {}
    for cluster, begin in parts:
        add(spans, cluster, (begin, begin + SPAN))
    return spans


def _without(spans: Spans, parts: Collection[Part]) -> Spans:
    """Return the spans without these parts."""
    rest: Spans = {}
    for cluster, listed in spans.items():
        for since, until in listed:
            for _, begin in _whole_parts({cluster: [(since, until)]}):
                if (cluster, begin) in parts:
                    if since < begin:
                        add(rest, cluster, (since, begin))
                    since = begin + SPAN
            if since < until:
                add(rest, cluster, (since, until))
    return rest


def _overlaps(file: StoredFile, spans: Iterable[Span]) -> bool:
    slack = timedelta(milliseconds=1)  # some engines truncate the times in a file's statistics to milliseconds
    return any((file.first is None or file.first < until) and (file.last is None or file.last + slack >= since) for since, until in spans)


def add(spans: Spans, cluster: str, span: Span) -> None:
    """Append a span that does not precede the last one, merging the two if they touch."""
    there = spans.setdefault(cluster, [])
    if there and there[-1][1] == span[0]:
        span = (there.pop()[0], span[1])
    there.append(span)


def as_key(spans: Spans) -> Hashable:
    """Return spans as a value that can be compared and hashed."""
    return frozenset((cluster, tuple(listed)) for cluster, listed in spans.items())


def within(column: str, spans: Spans) -> str:
    """Return the condition that a row's time is in one of its cluster's spans, preceded by the overall bounds, which allow pruning."""
    if not spans:
        return "false"
    alike: dict[tuple[Span, ...], list[str]] = {}
    for cluster, listed in spans.items():
        alike.setdefault(tuple(listed), []).append(cluster)
    every = [span for listed in spans.values() for span in listed]
    bounds = _between(column, (min(span[0] for span in every), max(span[1] for span in every)))
    some = [
        f"(cluster IN ({', '.join(literal(name) for name in names)}) AND ({' OR '.join(_between(column, span) for span in listed)}))"
        for listed, names in alike.items()
    ]
    return f"({bounds} AND ({' OR '.join(some)}))"


def _between(column: str, span: Span) -> str:
    first, last = (literal(moment.isoformat()) for moment in span)
    return f'("{column}" >= {first}::TIMESTAMPTZ AND "{column}" < {last}::TIMESTAMPTZ)'
