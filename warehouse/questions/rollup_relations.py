"""Rollups as relations for questions: stored hours where they match the current flows, all other hours aggregated from flows.

An answer from a rollup therefore equals the answer from the flows, also in the current hour, in an hour with late flows, and
where the window starts or ends within an hour. Scope and redaction are applied to both kinds of rows, before any aggregate.
Working out scopes and building questions do not belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from warehouse import config, table_views
from warehouse.access import scoping
from warehouse.access.principals import Grant, Scope, is_plain
from warehouse.access.sight import Sight
from warehouse.engine import Window, literal
from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.lake.time_travel import AsOf
from warehouse.questions import known_hours, part_sums, rollup_notes, rollup_sql
from warehouse.questions.part_sums import Flows, Spans
from warehouse.questions.rollup_notes import HOUR, SEALED, ClusterHour
from warehouse.schema import DNS_NAMES, EDGES_1H, FLOWS, LABEL_SETS, TIMELINE_1M, Table

MINUTE = timedelta(minutes=1)
_Notes = dict[ClusterHour, tuple[str, str]]
"""The path and note of each stored hour."""
GRAIN = {EDGES_1H.name: HOUR, TIMELINE_1M.name: MINUTE, LABEL_SETS.name: HOUR, DNS_NAMES.name: HOUR}
"""The time span of one row of each rollup, which cannot be divided further."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A span of time in which what the principal may see does not change."""

    window: Window
    scope: Scope
    """The scope in this span; its grants have no time bounds."""


@dataclass(frozen=True, kw_only=True)
class RollupRelation:
    """A rollup as a relation that a question reads."""

    table: Table
    name: str
    """The name of the relation, and the prefix of everything created for it on the connection."""
    namespaces: tuple[str, ...] = ()
    """The only namespaces, on either side, that the question reads. This is a hint that does not change any row of them."""
    stored_only: bool = False
    """True to skip hours that are not rolled up."""
    by_hour: bool = False
    """True if timeline_1m may report a whole hour at its start; it is then read from edges_1h, which has far fewer rows."""
    labels: bool = False
    """True if edges_1h must name the label sets of its ends also in hours that are aggregated from flows, which takes longer."""


@dataclass(kw_only=True)
class Sources:
    """Where the rows of an answer come from."""

    hourly_files: int = 0
    """Files of edges_1h that were read in place of timeline_1m."""
    rollup_files: int = 0
    flows_files: int = 0

    @property
    def files(self) -> int:
        """The number of files."""
        return self.hourly_files + self.rollup_files + self.flows_files


@dataclass(kw_only=True)
class SummedUp:
    """Which flows `rollup_sql.edges` last summed up on a connection: two relations of a question may need the same sums."""

    of: Hashable = None


@dataclass(kw_only=True)
class _Parts:
    """Which parts of a window are read from which files."""

    hourly_files: set[str] = field(default_factory=set)
    hourly: Spans = field(default_factory=dict)
    rollup_files: set[str] = field(default_factory=set)
    rollup: Spans = field(default_factory=dict)
    last_change: Callable[[Mapping[str, str], datetime, datetime], int]
    """Of flows, asked before their files were."""
    flows_files: dict[str, StoredFile] = field(default_factory=dict)
    flows: Spans = field(default_factory=dict)
    hours: Spans = field(default_factory=dict)
    """The whole hours that `flows` overlaps."""
    as_of: AsOf | None = None
    """Only what the lake knew then is read, if given."""


def query(
    connection: Any, sight: Sight, relation: RollupRelation, settings: config.Rollups, summed_up: SummedUp | None = None
) -> tuple[str, Sources]:
    """Return the query for what a principal sees of a rollup, with the table's columns, and where its rows come from.

    Pass the same `summed_up` for each relation of a question on the connection, so that their flows are summed up once.
    If the window starts or ends within an hour whose flows have been deleted, that hour is missing; `widened` returns a window that
    includes it. Raises LakeError.
    """
    lake, table = sight.lake, relation.table
    sources, seen = Sources(), []
    columns = ", ".join(table.schema.names)
    for number, piece in enumerate(pieces(sight.scope, sight.window)):
        parts = _parts(connection, sight, relation, piece)
        stored = table_views.query_of(connection, lake, table, sorted(parts.rollup_files), f"{relation.name}_stored_{number}")
        either = [f"SELECT {columns} FROM ({stored}) WHERE {part_sums.within(table.time_column, parts.rollup)}"]
        if parts.hourly_files:
            hours = table_views.query_of(connection, lake, EDGES_1H, sorted(parts.hourly_files), f"{relation.name}_hourly_{number}")
            of_hour = columns.replace(TIMELINE_1M.time_column, f"{EDGES_1H.time_column} AS {TIMELINE_1M.time_column}")
            either.append(f"SELECT {of_hour} FROM ({hours}) WHERE {part_sums.within(EDGES_1H.time_column, parts.hourly)}")
        if parts.flows_files and not relation.stored_only:
            fresh = f"{relation.name}_fresh_{number}"
            _sum_up(connection, lake, replace(relation, name=fresh), parts, piece.scope, settings, summed_up or SummedUp())
            either.append(f"SELECT {columns} FROM {fresh}")
        whole = f"{relation.name}_whole_{number}"
        # A row may start before the piece although it covers only flows of the piece: the rows are already limited to the window.
        seen_of = {*parts.hourly, *parts.rollup, *parts.flows}
        shown = scoping.visible(piece.scope, replace(table, name=whole), Window(), seen_of, peer_detail=sight.peer_detail, ends_apart=False)
        seen.append(f"(WITH {table_views.relation(whole, ' UNION ALL '.join(either))} {shown})")
        sources.hourly_files += len(parts.hourly_files)
        sources.rollup_files += len(parts.rollup_files)
        sources.flows_files += 0 if relation.stored_only else len(parts.flows_files)
    return " UNION ALL ".join(seen), sources


def pieces(scope: Scope, window: Window) -> list[Piece]:
    """Split the window where what a scope shows changes: a rollup row cannot be divided there, so flows are aggregated instead."""
    decided = (*scope.grants, *scope.denials)
    moments = {moment for grant in decided for moment in (grant.since, grant.until, *(cut for _, _, cut in grant.not_before)) if moment}
    inside = sorted(moment for moment in moments if window.since and window.until and window.since < moment < window.until)
    bounds = [window.since, *inside, window.until]
    return [
        Piece(window=Window(since=since, until=until), scope=_at(scope, since or datetime.min.replace(tzinfo=UTC)))
        for since, until in pairwise(bounds)
    ]


def _at(scope: Scope, moment: datetime) -> Scope:
    """Return what a scope shows from a moment until its next change, as grants without time bounds."""

    def holding(grants: Sequence[Grant]) -> tuple[Grant, ...]:
        return tuple(
            replace(grant, since=None, until=None, not_before=tuple(cut for cut in grant.not_before if moment < cut[2]))
            for grant in grants
            if grant.holds(moment)
        )

    return Scope(grants=holding(scope.grants), denials=holding(scope.denials))


def source_text(table: Table, sources: Sequence[Sources]) -> str:
    """Return the sources in words for the user: `edges_1h`, `edges_1h and flows`, or `flows`."""
    hourly, rollup, flows = (any(getattr(source, f"{name}_files") for source in sources) for name in ("hourly", "rollup", "flows"))
    return " and ".join([EDGES_1H.name] * hourly + [table.name] * (rollup or not (hourly or flows)) + [FLOWS.name] * flows)


def widened(sight: Sight, table: Table) -> Window:
    """Return the window, extended if it starts or ends within an hour (or minute) of which only the rollup is left.

    A window as of a moment is not extended: what only the rollup has left is missing there. Raises LakeError.
    """
    window = sight.window
    if window.since is None or window.until is None or window.as_of is not None:
        return window
    grain, notes, flows = GRAIN[table.name], _notes(sight, table, window), _flows(sight, window)
    left = {hour for (cluster, hour), (_, note) in notes.items() if note == SEALED or (cluster, hour) not in flows}
    since, until = window.since, window.until
    if _floor(since, HOUR) in left:
        since = _floor(since, grain)
    if _floor(until, HOUR) in left and _floor(until, grain) != until:
        until = _floor(until, grain) + grain
    return replace(window, since=since, until=until)


def _sum_up(
    connection: Any, lake: Lake, relation: RollupRelation, parts: _Parts, scope: Scope, settings: config.Rollups, summed_up: SummedUp
) -> None:
    """Create a table with the relation's name that holds the rollup rows of the flows that are not rolled up."""
    table, names = relation.table, _names(scope, relation.namespaces)
    flows = Flows(lake=lake, spans=parts.flows, files=tuple(parts.flows_files.values()), last_change=parts.last_change, as_of=parts.as_of)
    if table is TIMELINE_1M:
        query = _with_remembered(connection, flows, part_sums.TIMELINE, names, relation.name)
    elif table is DNS_NAMES:
        query = rollup_sql.dns_names(_two_scans(connection, flows, names, f"{relation.name}_flows"))
    elif table is LABEL_SETS and summed_up.of == (names, part_sums.as_key(parts.flows)):
        query = rollup_sql.label_sets()
    else:
        query = _edges(connection, flows, relation, names, parts.hours, settings)
        if relation.labels or table is LABEL_SETS:
            summed_up.of = names, part_sums.as_key(parts.flows)
    connection.execute(f"CREATE TEMP TABLE {relation.name} AS SELECT *, {table.time_column}::DATE AS date FROM ({query})")


def _edges(
    connection: Any, flows: Flows, relation: RollupRelation, names: frozenset[str] | None, hours: Spans, settings: config.Rollups
) -> str:
    """Sum up the edges of flows, and return the query for their rows of edges_1h, or of label_sets."""
    pods = _with_remembered(connection, replace(flows, spans=hours), part_sums.PODS, None, f"{relation.name}_pods")
    if relation.labels or relation.table is LABEL_SETS:
        sums = rollup_sql.edge_parts(_two_scans(connection, flows, names, f"{relation.name}_flows"), labels=True)
    else:
        sums = _with_remembered(connection, flows, part_sums.EDGE_PARTS, names, relation.name)
    query = rollup_sql.edges(connection, sums, pods, settings, lake=flows.lake, as_of=flows.as_of)
    return rollup_sql.label_sets() if relation.table is LABEL_SETS else query


def _with_remembered(connection: Any, flows: Flows, kind: part_sums.Kind, names: frozenset[str] | None, name: str) -> str:
    """Return the query for the sums of flows: those of whole parts as remembered, the others from flows of these namespaces."""
    rest, is_known = part_sums.recall(connection, flows, kind, f"{name}_known", few=names is not None)
    query = kind.of(_two_scans(connection, flows.within(rest), names, f"{name}_rest"))
    return f"{query} UNION ALL BY NAME SELECT * EXCLUDE (part) FROM {name}_known" if is_known else query


def _names(scope: Scope, namespaces: Sequence[str]) -> frozenset[str] | None:
    """Return the namespaces of which a relevant flow has one on either side; None if they cannot be listed."""
    if namespaces:
        return frozenset(namespaces)
    given = [grant.namespace for grant in scope.grants]
    return None if any(name is None or not is_plain(name) for name in given) else frozenset(name for name in given if name)


def _two_scans(connection: Any, flows: Flows, names: frozenset[str] | None, view: str) -> str:
    """Create a view of the relevant flows and return its name. It has two scans without an OR over both sides: only so can DuckDB prune."""
    if names is None:
        flows.add_view(connection, view)
        return view
    flows.add_view(connection, f"{view}_all")
    listed = ", ".join(literal(name) for name in sorted(names)) or "NULL"
    first, second = (f"coalesce({side}_namespace IN ({listed}), false)" for side in scoping.SIDES)
    connection.execute(
        f"""CREATE TEMP VIEW {view} AS SELECT * FROM {view}_all WHERE {first}
        UNION ALL
        SELECT * FROM {view}_all WHERE {second} AND NOT {first}"""
    )
    return view


def _parts(connection: Any, sight: Sight, relation: RollupRelation, piece: Piece) -> _Parts:
    """Choose the source of each hour: the rollup if it matches the current flows, otherwise the flows."""
    lake, table, window, as_of = sight.lake, relation.table, piece.window, sight.window.as_of
    parts, grain = _Parts(last_change=lake.last_change(FLOWS), as_of=as_of), GRAIN[table.name]
    notes, flows = _notes(sight, table, window), _flows(sight, window)
    hourly = _notes(sight, EDGES_1H, window) if relation.by_hour else {}
    if as_of is not None:
        notes, hourly = (_known(connection, lake, found, flows, as_of) for found in (notes, hourly))
    for cluster, hour in sorted({*notes, *flows}):
        first, last = max(window.since or hour, hour), min(window.until or hour + HOUR, hour + HOUR)
        if first >= last or not piece.scope.sees_cluster(cluster):
            continue
        files = flows.get((cluster, hour))
        if (cluster, hour) in hourly and last - first == HOUR and _is_valid(hourly[cluster, hour][1], files):
            parts.hourly_files.add(f"{lake.address(EDGES_1H)}/{hourly[cluster, hour][0]}")
            part_sums.add(parts.hourly, cluster, (first, last))
            continue
        path, written = notes.get((cluster, hour), ("", ""))
        begin, end = last, last  # the part that the rollup covers
        if path and _is_valid(written, files):
            whole = _floor(first + grain - _MICROSECOND, grain), _floor(last, grain)
            if whole[0] < whole[1]:
                begin, end = whole
                parts.rollup_files.add(f"{lake.address(table)}/{path}")
                part_sums.add(parts.rollup, cluster, whole)
        rest = [span for span in ((first, begin), (end, last)) if span[0] < span[1]]
        if rest and files and written != SEALED:
            parts.flows_files |= {file.path: file for file in files}
            for span in rest:
                part_sums.add(parts.flows, cluster, span)
            part_sums.add(parts.hours, cluster, (hour, hour + HOUR))
    return parts


def _known(connection: Any, lake: Lake, notes: _Notes, flows: Mapping[ClusterHour, list[StoredFile]], as_of: AsOf) -> _Notes:
    """Return the stored hours that hold exactly what the lake knew then, which those that are sealed may not."""
    same = {hour: flows[hour] for hour, (_, written) in notes.items() if hour in flows and written == rollup_notes.note(flows[hour])}
    known = known_hours.known_by(connection, lake, same, as_of.instant)
    return {hour: found for hour, found in notes.items() if hour in known}


def _is_valid(written: str, files: list[StoredFile] | None) -> bool:
    """Whether a stored hour matches the flows that are in these files."""
    return files is None or written in (SEALED, rollup_notes.note(files))


def _notes(sight: Sight, table: Table, window: Window) -> _Notes:
    """Return the path and note of each stored hour."""
    return {
        (file.partition["cluster"], hour): (file.path, written)
        for file in sight.lake.contents(table, clusters=sight.clusters or None, since=window.since, until=window.until)
        for hour, written in rollup_notes.notes(file).items()
    }


def _flows(sight: Sight, window: Window) -> dict[ClusterHour, list[StoredFile]]:
    return rollup_notes.by_hour(sight.lake.contents(FLOWS, clusters=sight.clusters or None, since=window.since, until=window.until))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _floor(moment: datetime, grain: timedelta) -> datetime:
    return _EPOCH + (moment - _EPOCH) // grain * grain
