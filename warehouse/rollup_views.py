"""Rollups as relations for questions: stored hours where they stand for the flows there are, the rest summed up from flows.

So an answer from a rollup is that of the flows, also in the hour that is open, in one that late flows reached, and where a
window cuts one. Scope and redaction stand above both kinds of rows and below every aggregate. Who is who, and what is asked,
are others' work.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from warehouse import config, engine, redaction, rollup_notes, rollup_sql
from warehouse.engine import Window, literal
from warehouse.files import StoredFile
from warehouse.rollup_notes import HOUR, SEALED, ClusterHour
from warehouse.schema import DNS_NAMES, EDGES_1H, FLOWS, LABEL_SETS, TIMELINE_1M, Table
from warehouse.tables import Lake

MINUTE = timedelta(minutes=1)
GRAIN = {EDGES_1H.name: HOUR, TIMELINE_1M.name: MINUTE, LABEL_SETS.name: HOUR, DNS_NAMES.name: HOUR}
"""The part of an hour that a table's row cannot be cut below."""

Span = tuple[datetime, datetime]
Spans = dict[str, list[Span]]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What someone may see: conditions in SQL over `cluster` and either side's namespace, true or false and never null."""

    source: str
    destination: str
    peer_detail: str

    def of(self, side: str) -> str:
        """The condition that a side is the person's own."""
        return self.source if side == "source" else self.destination


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A span of time in which one sees the same; without a sight, everything."""

    window: Window
    sight: Sight | None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What lets fewer flows be read. It changes no row of the relation that has both conditions."""

    clusters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    """Of either side."""


@dataclass(kw_only=True)
class Sources:
    """Where the rows of an answer come from."""

    rollup_files: int = 0
    flows_files: int = 0


@dataclass(kw_only=True)
class _Parts:
    """What of a window is read from where."""

    rollup_files: set[str] = field(default_factory=set)
    rollup: Spans = field(default_factory=dict)
    flows_files: set[str] = field(default_factory=set)
    flows: Spans = field(default_factory=dict)
    hours: Spans = field(default_factory=dict)
    """The whole hours that `flows` touches."""


def add_view(
    connection: Any,
    lake: Lake,
    table: Table,
    pieces: Sequence[Piece],
    wanted: Wanted,
    settings: config.Rollups,
    *,
    name: str | None = None,
) -> Sources:
    """A view `visible_<table>`, or `name`, with the table's columns but date: what is seen of it in the pieces. Raises LakeError.

    Parts of a window that are cut out of an hour whose flows are gone are not in it; `widened` says which window has them.
    """
    name, sources, seen = name or f"visible_{table.name}", Sources(), []
    for number, piece in enumerate(pieces):
        parts = _parts(lake, table, piece.window, wanted.clusters)
        columns = ", ".join(column for column in table.schema.names if column != "date")
        stored, fresh, whole = (f"{name}_{kind}_{number}" for kind in ("stored", "fresh", "whole"))
        engine.add_view_of_files(connection, lake, table, sorted(parts.rollup_files), stored)
        either = [f"SELECT {columns} FROM {stored} WHERE {_within(table.time_column, parts.rollup)}"]
        if parts.flows_files:
            _sum_up(connection, lake, table, parts, piece, wanted, settings, fresh)
            either.append(f"SELECT {columns} FROM {fresh}")
        connection.execute(f"CREATE VIEW {whole} AS {' UNION ALL '.join(either)}")
        seen.append(visible(table, whole, piece.sight))
        sources.rollup_files += len(parts.rollup_files)
        sources.flows_files += len(parts.flows_files)
    connection.execute(f"CREATE VIEW {name} AS {' UNION ALL '.join(seen)}")
    return sources


def source_text(table: Table, sources: Sequence[Sources]) -> str:
    """For people: `edges_1h`, `edges_1h and flows`, or `flows`."""
    rollup, flows = (any(getattr(source, name) for source in sources) for name in ("rollup_files", "flows_files"))
    return " and ".join([table.name] * (rollup or not flows) + [FLOWS.name] * flows)


def visible(table: Table, relation: str, sight: Sight | None) -> str:
    """The query that gives what is seen of a rollup's rows, with empty columns where the other side must not be known."""
    names = [name for name in table.schema.names if name != "date"]
    if sight is None:
        return f"SELECT {', '.join(names)} FROM {relation}"
    if table is DNS_NAMES:
        return _visible_names(relation, sight, names)

    def columns(peer: str) -> str:
        hidden = redaction.hidden_rollup_columns(table, peer, sight.peer_detail)
        foreign = f"({peer}_namespace IS NOT NULL AND NOT {sight.of(peer)})"
        return ", ".join(f"CASE WHEN {foreign} THEN NULL ELSE {name} END AS {name}" if name in hidden else name for name in names)

    return f"""SELECT {columns("destination")} FROM {relation} WHERE {sight.source}
        UNION ALL
        SELECT {columns("source")} FROM {relation} WHERE {sight.destination} AND NOT {sight.source}"""


def widened(lake: Lake, table: Table, window: Window, clusters: Sequence[str]) -> Window:
    """The window, or a wider one where it cuts an hour (or minute) of which only the rollup is left. Raises LakeError."""
    if window.since is None or window.until is None:
        return window
    grain, notes, flows = GRAIN[table.name], _notes(lake, table, window, clusters), _flows(lake, window, clusters)
    left = {hour for (cluster, hour), (_, note) in notes.items() if note == SEALED or (cluster, hour) not in flows}
    since, until = window.since, window.until
    if _floor(since, HOUR) in left:
        since = _floor(since, grain)
    if _floor(until, HOUR) in left and _floor(until, grain) != until:
        until = _floor(until, grain) + grain
    return replace(window, since=since, until=until)


def _visible_names(relation: str, sight: Sight, names: Sequence[str]) -> str:
    """A name is seen by who could read it on a flow: the flow is hers, and its other side nobody's, hers, or shown in full."""
    own, others = "own_side", "other_side"
    either = f"({own} OR {others})"
    both = "true" if sight.peer_detail == "full" else f"({own} OR source_namespace IS NULL) AND ({others} OR destination_namespace IS NULL)"
    return f"""SELECT {", ".join(names)} FROM (
            SELECT *, {sight.source} AS {own}, {sight.destination} AS {others}
            FROM (SELECT *, namespace AS source_namespace, peer_namespace AS destination_namespace FROM {relation})
        ) WHERE {either} AND {both}"""


def _sum_up(
    connection: Any, lake: Lake, table: Table, parts: _Parts, piece: Piece, wanted: Wanted, settings: config.Rollups, name: str
) -> None:
    """A table of the rollup's rows of those flows that are not rolled up."""
    files, hours = f"{name}_files", f"{name}_hours"
    engine.add_view_of_files(connection, lake, FLOWS, sorted(parts.flows_files), files)
    connection.execute(f"CREATE VIEW {hours} AS SELECT * FROM {files} WHERE {_within('time', parts.hours)}")
    flows = f"{name}_flows"
    connection.execute(f"CREATE VIEW {flows} AS {_two_scans(files, _within('time', parts.flows), piece.sight, wanted.namespaces)}")
    if table is EDGES_1H:
        query = rollup_sql.edges(connection, flows, hours, settings, labels=False)
    else:
        query = {TIMELINE_1M.name: rollup_sql.timeline, DNS_NAMES.name: rollup_sql.dns_names}[table.name](flows)
    connection.execute(f"CREATE TEMP TABLE {name} AS {query}")


def _two_scans(relation: str, within: str, sight: Sight | None, namespaces: Sequence[str]) -> str:
    """The flows that can matter. Two scans and no OR over both sides: only so DuckDB can leave out what cannot match."""
    owned = None if sight is None else (sight.source, sight.destination)
    if namespaces:
        listed = ", ".join(literal(name) for name in namespaces)
        first, second = (f"coalesce({side}_namespace IN ({listed}), false)" for side in ("source", "destination"))
        allowed = "true" if owned is None else f"({owned[0]} OR {owned[1]})"
    elif owned is not None:
        (first, second), allowed = owned, "true"
    else:
        return f"SELECT * FROM {relation} WHERE {within}"
    return f"""SELECT * FROM {relation} WHERE {within} AND {first} AND {allowed}
        UNION ALL
        SELECT * FROM {relation} WHERE {within} AND {second} AND NOT {first} AND {allowed}"""


def _parts(lake: Lake, table: Table, window: Window, clusters: Sequence[str]) -> _Parts:
    """Hour by hour: the rollup where it stands for the flows there are, else the flows."""
    notes, flows = _notes(lake, table, window, clusters), _flows(lake, window, clusters)
    if table is not EDGES_1H:  # a day without a row of a table has no file: the edges, which every day with flows has, tell
        days = {(file.partition["cluster"], rollup_notes.day_of(file)) for file in lake.contents(table)}
        for (cluster, hour), (_, written) in _notes(lake, EDGES_1H, window, clusters).items():
            if (cluster, hour.replace(hour=0)) not in days:
                notes[cluster, hour] = ("", written)
    parts, grain = _Parts(), GRAIN[table.name]
    for cluster, hour in sorted({*notes, *flows}):
        first, last = max(window.since or hour, hour), min(window.until or hour + HOUR, hour + HOUR)
        if first >= last:
            continue
        path, written = notes.get((cluster, hour), ("", ""))
        files = flows.get((cluster, hour))
        stands = bool(written) and (files is None or written in (SEALED, rollup_notes.note(files)))
        begin, end = (_floor(first + grain - _MICROSECOND, grain), _floor(last, grain)) if stands else (last, last)
        if begin < end:
            if path:
                parts.rollup_files.add(f"{lake.address(table)}/{path}")
            _add(parts.rollup, cluster, (begin, end))
        else:
            begin = end = last
        for span in ((first, begin), (end, last)):
            if span[0] < span[1] and files and written != SEALED:
                parts.flows_files |= {f"{lake.address(FLOWS)}/{file.path}" for file in files}
                _add(parts.flows, cluster, span)
                if parts.hours.get(cluster, [(hour, hour)])[-1][1] < hour + HOUR or cluster not in parts.hours:
                    _add(parts.hours, cluster, (hour, hour + HOUR))
    return parts


def _notes(lake: Lake, table: Table, window: Window, clusters: Collection[str]) -> dict[ClusterHour, tuple[str, str]]:
    """Path and note of each stored hour."""
    return {
        (file.partition["cluster"], hour): (file.path, written)
        for file in rollup_notes.within(lake.contents(table), window, clusters)
        for hour, written in rollup_notes.notes(file).items()
    }


def _flows(lake: Lake, window: Window, clusters: Collection[str]) -> dict[ClusterHour, list[StoredFile]]:
    return rollup_notes.by_hour(rollup_notes.within(lake.contents(FLOWS), window, clusters))


def _add(spans: Spans, cluster: str, span: Span) -> None:
    """Add a span that is not before the last one, joined to it where they touch."""
    there = spans.setdefault(cluster, [])
    if there and there[-1][1] == span[0]:
        span = (there.pop()[0], span[1])
    there.append(span)


def _within(column: str, spans: Spans) -> str:
    """The condition that a row's time is in one of its cluster's spans; bounds of all of them first, which prune."""
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


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _floor(moment: datetime, grain: timedelta) -> datetime:
    return _EPOCH + (moment - _EPOCH) // grain * grain
